"""The words of the bridge as frozen data."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Any, NamedTuple, TypedDict

from keycloak_bridge.core.errors import Violation

EVENT_ID_ATTRIBUTE = "bridgeEventId"
EVENT_TIME_ATTRIBUTE = "bridgeEventTime"
INVITATION_ATTRIBUTE = "bridgeInvitation"
BOOKKEEPING_ATTRIBUTES = (EVENT_ID_ATTRIBUTE, EVENT_TIME_ATTRIBUTE, INVITATION_ATTRIBUTE)
"""User attributes that the bridge itself writes; the realm's user profile must know them."""

USER_CREATED = "user.created"
COMPLETE_TYPES = frozenset({USER_CREATED})
"""Event types that say everything about the user, so that they do not depend on any event before them."""

RESULT = "user.provisioning.result"
INVITATION_DUE = "user.invitation.due"
DEAD_LETTER = "dead-letter"
DEAD_LETTER_REPLAYED = "dead-letter.replayed"


class UserRepresentation(TypedDict, total=False):
    """Keycloak's UserRepresentation, as far as the bridge touches it; keys keep Keycloak's spelling."""

    id: str
    username: str
    email: str
    emailVerified: bool
    enabled: bool
    firstName: str
    lastName: str
    attributes: dict[str, list[str]]
    groups: list[str]
    requiredActions: list[str]
    serviceAccountClientId: str
    createdTimestamp: int


class TopicPartition(NamedTuple):
    """A partition of a topic."""

    topic: str
    partition: int


class Commit(NamedTuple):
    """What a group remembers of a partition: the next offset to read, and a note of up to 4,096 characters."""

    offset: int
    metadata: str = ""


@dataclass(frozen=True, slots=True)
class Record:
    """A Kafka record as it was read: key, value and headers are the untouched bytes."""

    topic: str
    partition: int
    offset: int
    timestamp_ms: int
    key: bytes | None
    value: bytes | None
    headers: tuple[tuple[str, bytes | None], ...] = ()

    @property
    def topic_partition(self) -> TopicPartition:
        """The partition that this record was read from."""
        return TopicPartition(self.topic, self.partition)


@dataclass(frozen=True, slots=True)
class CloudEvent:
    """An event whose envelope is sound; `data` is parsed JSON that no schema has seen yet.

    `time` is aware; `dataschema` is the schema's `$id` when the producer named one.
    """

    id: str
    source: str
    type: str
    subject: str | None
    time: datetime | None
    dataschema: str | None
    data: Any


@dataclass(frozen=True, slots=True)
class UserEvent:
    """A validated event: `data` holds what the schema `schema_id` promises."""

    id: str
    source: str
    type: str
    subject: str | None
    time: datetime | None
    schema_id: str
    data: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class MatchCriterion:
    """One way to find the user: `target` is `username`, `email` or `attributes.<name>`."""

    target: str
    value: str


@dataclass(frozen=True, slots=True)
class InvitationTerms:
    """What the mail asks for: required actions, how long the link lives, where it leads back to."""

    actions: tuple[str, ...]
    lifespan_s: int
    client_id: str | None = None
    redirect_uri: str | None = None


class LinkPolicy(StrEnum):
    """When an event may take on a user that carries no external id yet."""

    NEVER = "never"
    VERIFIED_EMAIL = "verified-email"
    MATCHING_ATTRIBUTE = "matching-attribute"


@dataclass(frozen=True, slots=True)
class DesiredUser:
    """What the mapping makes of an event.

    `representation` is normalised as Keycloak stores it (lower-case username and e-mail, no empty values) and holds no
    bookkeeping attributes and no groups. `create_only` names targets (`firstName`, `attributes.department`,
    `requiredActions`) that are written when the user is created and left alone afterwards. `matching` is in order of
    precedence, its first entry is the external id.
    """

    representation: UserRepresentation
    matching: tuple[MatchCriterion, ...]
    create_only: frozenset[str] = frozenset()
    groups: tuple[str, ...] = ()
    realm_roles: tuple[str, ...] = ()
    link: LinkPolicy = LinkPolicy.NEVER
    invitation: InvitationTerms | None = None


@dataclass(frozen=True, slots=True)
class OutOfScope:
    """The mapping's `when` filter says that this event is not for Keycloak."""

    expression: str


@dataclass(frozen=True, slots=True)
class FoundUser:
    """A user as Keycloak holds it; `matched_by` is the target that found it.

    `groups` (paths) and `realm_roles` (names) are filled only when the search asked for them.
    """

    user_id: str
    representation: UserRepresentation
    matched_by: str
    groups: frozenset[str] = frozenset()
    realm_roles: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class Change:
    """One field that an operation changes; `before` is None where nothing was stored."""

    target: str
    before: Any
    after: Any


@dataclass(frozen=True, slots=True)
class CreateUser:
    """POST this representation, group paths included."""

    representation: UserRepresentation


@dataclass(frozen=True, slots=True)
class UpdateUser:
    """PUT this whole representation; it holds everything found that the mapping does not own."""

    representation: UserRepresentation
    changes: tuple[Change, ...]


@dataclass(frozen=True, slots=True)
class JoinGroups:
    """Make the user a member of these groups (paths)."""

    paths: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class GrantRealmRoles:
    """Map these realm roles to the user."""

    names: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class RequestInvitation:
    """Put an invitation on the invitations topic; the invite stage decides about the mail."""

    terms: InvitationTerms


Operation = CreateUser | UpdateUser | JoinGroups | GrantRealmRoles | RequestInvitation


@dataclass(frozen=True, slots=True)
class Plan:
    """The fewest operations that bring the user to the desired state, in the order to do them.

    `user_id` is the found user's; None means that the first operation creates it. `skipped` says why nothing is written
    although the user may differ (`stale`).
    """

    user_id: str | None
    operations: tuple[Operation, ...] = ()
    skipped: str | None = None


class Outcome(StrEnum):
    """What became of an event or an invitation, as told on the results topic."""

    PROVISIONED = "provisioned"
    SKIPPED = "skipped"
    REJECTED = "rejected"
    INVITED = "invited"


@dataclass(frozen=True, slots=True)
class Result:
    """One line of news for user management; never holds personal data.

    `action` is `created`, `updated`, `unchanged` or None; `reason` is a stable code for skipped and rejected.
    """

    outcome: Outcome
    action: str | None = None
    reason: str | None = None
    message: str | None = None
    event_id: str | None = None
    event_type: str | None = None
    user_id: str | None = None
    keycloak_id: str | None = None
    schema_id: str | None = None
    violations: tuple[Violation, ...] = ()


@dataclass(frozen=True, slots=True)
class Invitation:
    """An invitation that is due: for which Keycloak user, caused by which event.

    `confirm_only` asks for the mark of a mail that was asked for before, and for no mail.
    """

    id: str
    event_id: str
    user_id: str
    keycloak_id: str
    terms: InvitationTerms
    time: datetime
    confirm_only: bool = False


@dataclass(frozen=True, slots=True)
class Message:
    """A record to be produced: headers in order, key and value as bytes."""

    topic: str
    key: bytes | None
    value: bytes | None
    headers: tuple[tuple[str, bytes | None], ...] = field(default=())
    timestamp_ms: int | None = None
