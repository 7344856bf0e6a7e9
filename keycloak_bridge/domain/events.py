"""Records, events, invitations and results as frozen data."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Any, NamedTuple

from keycloak_bridge.domain.errors import Violation
from keycloak_bridge.domain.users import InvitationTerms

EVENT_ID_ATTRIBUTE = "bridgeEventId"
EVENT_TIME_ATTRIBUTE = "bridgeEventTime"
INVITATION_ATTRIBUTE = "bridgeInvitation"
BOOKKEEPING_ATTRIBUTES = (EVENT_ID_ATTRIBUTE, EVENT_TIME_ATTRIBUTE, INVITATION_ATTRIBUTE)
"""User attributes that the bridge itself writes; the realm's user profile must know them."""

USER_CREATED = "user.created"
USER_UPDATED = "user.updated"
USER_DISABLED = "user.disabled"
USER_ENABLED = "user.enabled"
USER_DELETED = "user.deleted"
INVITATION_REQUESTED = "user.invitation.requested"
USER_EVENTS = (
    USER_CREATED,
    USER_UPDATED,
    USER_DISABLED,
    USER_ENABLED,
    USER_DELETED,
    INVITATION_REQUESTED,
)
"""Event types that the bridge understands."""

COMPLETE_TYPES = frozenset({USER_CREATED, USER_DELETED})
"""Event types that say everything about the user, so that they depend on no event before them."""

URGENT_TYPES = frozenset({USER_DISABLED})
"""Event types that wait for no event before them: a disabled user is locked out at once, even if earlier events failed."""

RESULT = "user.provisioning.result"
INVITATION_DUE = "user.invitation.due"
DEAD_LETTER = "dead-letter"
DEAD_LETTER_REPLAYED = "dead-letter.replayed"


class TopicPartition(NamedTuple):
    """A partition of a topic."""

    topic: str
    partition: int


class Commit(NamedTuple):
    """What a consumer group has committed for a partition: the next offset to read, and a note of up to 4,096 characters."""

    offset: int
    metadata: str = ""


@dataclass(frozen=True, slots=True)
class Record:
    """A Kafka record as it was read: key, value and headers are the untouched bytes.

    `parsed` is where `parse_value` keeps what it made of the value, so that a record is parsed once while it is in hand.
    """

    topic: str
    partition: int
    offset: int
    timestamp_ms: int
    key: bytes | None
    value: bytes | None
    headers: tuple[tuple[str, bytes | None], ...] = ()
    parsed: dict[Any, Any] = field(default_factory=dict, init=False, repr=False, compare=False)

    @property
    def topic_partition(self) -> TopicPartition:
        """The partition that this record was read from."""
        return TopicPartition(self.topic, self.partition)


@dataclass(frozen=True, slots=True)
class CloudEvent:
    """An event whose envelope is valid; `data` is parsed JSON that is not validated yet.

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


class Purpose(StrEnum):
    """Why a mail is due: the user's first invitation, another one that was asked for, or a changed e-mail address."""

    INVITE = "invite"
    RESEND = "resend"
    VERIFY_EMAIL = "verify-email"


class Outcome(StrEnum):
    """The outcome of an event or an invitation, as published to the results topic."""

    PROVISIONED = "provisioned"
    SKIPPED = "skipped"
    REJECTED = "rejected"
    INVITED = "invited"


@dataclass(frozen=True, slots=True)
class Result:
    """What the bridge reports to user management about one record; never holds personal data.

    `action` is `created`, `updated`, `deleted`, `unchanged` or None; `reason` is a stable code for skipped and rejected,
    and for what Keycloak did not take of one that was provisioned.
    `changed` names the targets that were written (`email`, `attributes.department`, `groups`), without values; `mapping` is
    the fingerprint of the mapping.
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
    changed: tuple[str, ...] = ()
    mapping: str | None = None


@dataclass(frozen=True, slots=True)
class Invitation:
    """An invitation that is due: for which Keycloak user, caused by which event.

    `terms` are those of the settings and the mapping that serves events of `event_type` and `schema_id` (None where the
    record does not say); they are never read from the invitations topic, which anybody may have written to. `confirm_only` asks for the mark of a mail that was requested before, and for no mail. `purpose` decides when no
    mail is sent: a user who has a password needs no first invitation, but may have to verify a changed address.
    """

    id: str
    event_id: str
    user_id: str
    keycloak_id: str
    terms: InvitationTerms
    time: datetime
    confirm_only: bool = False
    purpose: Purpose = Purpose.INVITE
    event_type: str | None = None
    schema_id: str | None = None
    event_time: datetime | None = None


@dataclass(frozen=True, slots=True)
class Message:
    """A record to be produced: headers in order, key and value as bytes."""

    topic: str
    key: bytes | None
    value: bytes | None
    headers: tuple[tuple[str, bytes | None], ...] = field(default=())
    timestamp_ms: int | None = None
