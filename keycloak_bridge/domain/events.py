"""Records, events, invitations and results as frozen data."""

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any, NamedTuple
from uuid import UUID

from keycloak_bridge.domain.errors import Violation
from keycloak_bridge.domain.times import format_time
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
class Unreadable:
    """Why a record cannot be read, as the end of a sentence that never holds any of its bytes.

    `is_whole` says that key, value and headers are there all the same, but for what is not UTF-8 in the name of a header.
    Else the record is known by its position only, and by its size where `size_bytes` says it.
    """

    reason: str
    is_whole: bool = False
    size_bytes: int | None = None


@dataclass(frozen=True, slots=True)
class Record:
    """A Kafka record as it was read: key, value and headers are the untouched bytes, unless it is `unreadable`.

    `parsed` is where `parse_value` keeps what it made of the value, so that a record is parsed once while it is in hand.
    """

    topic: str
    partition: int
    offset: int
    timestamp_ms: int
    key: bytes | None
    value: bytes | None
    headers: tuple[tuple[str, bytes | None], ...] = ()
    unreadable: Unreadable | None = None
    parsed: dict[Any, Any] = field(default_factory=dict, init=False, repr=False, compare=False)

    @property
    def topic_partition(self) -> TopicPartition:
        """The partition that this record was read from."""
        return TopicPartition(self.topic, self.partition)


class IdKind(StrEnum):
    """What the id of a registered schema is: one of the Confluent-compatible API, a global one of Apicurio, or a GUID."""

    CONTENT = "content"
    GLOBAL = "global"
    GUID = "guid"


@dataclass(frozen=True, slots=True)
class SchemaReference:
    """The id by which a record names the schema of its value in a registry."""

    kind: IdKind
    value: int | UUID

    def __str__(self) -> str:
        what = "schema with the global id" if self.kind is IdKind.GLOBAL else "schema"
        return f"{what} {self.value} of the registry"

    @property
    def name(self) -> str:
        """The schema's name in results and dead letters."""
        return f"registry:{'global:' if self.kind is IdKind.GLOBAL else ''}{self.value}"


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


_BACKFILLED_AFTER = timedelta(hours=1)
_DIGEST_LENGTH = 24
_OCCURRENCE_LENGTH = 16
_LONGEST_SHOWN = 230
_IDENTITY = re.compile(rf"(?P<id>.*)~[0-9a-f]{{{_DIGEST_LENGTH}}}", re.DOTALL)


def event_identity(event_id: str, source: str, event_type: str, user_id: str | None) -> str:
    """Return the text by which the bridge knows an event: its id for people, and a digest of all that makes it one event.

    An id is unique within its source only, and some exports give one id to all their events. So what is remembered,
    counted and published under an id is so under this text, which has at most 255 UTF-16 code units: what the shipped user
    profile lets an attribute have.
    """
    parts = json.dumps([event_id, source, event_type, user_id])
    digest = hashlib.sha256(parts.encode()).hexdigest()[:_DIGEST_LENGTH]
    shown = event_id.encode(errors="replace").decode().strip()
    if len(shown.encode("utf-16-le")) // 2 > _LONGEST_SHOWN:
        shown = shown[: _LONGEST_SHOWN // 2]
    return f"{shown}~{digest}"


def event_occurrence(identity: str, time: datetime | None) -> str:
    """Return what tells the event from another with the same identity; a producer may give one id to all events of a user."""
    text = identity if time is None else f"{identity} {format_time(time)}"
    return hashlib.sha256(text.encode()).hexdigest()[:_OCCURRENCE_LENGTH]


def event_id_in(identity: str) -> str:
    """Return the id of the event that `identity` stands for, as people know it; a bare id stands for itself."""
    match = _IDENTITY.fullmatch(identity)
    return identity if match is None else match["id"]


def is_identity(text: str) -> bool:
    """Say whether `text` is one that `event_identity` made; earlier versions of the bridge wrote the bare id."""
    return _IDENTITY.fullmatch(text) is not None


@dataclass(frozen=True, slots=True)
class UserEvent:
    """A validated event: `data` holds what the schema `schema_id` promises.

    `user_id` is the user's id in user management as the mapping reads it, once it has. `time` is never later than the
    record; where the producer's time was, `stated_time` is that. `clamped` says that it was so far ahead that nobody
    knows when the event happened. `recorded` is when its record was written, as far as that is known.
    """

    id: str
    source: str
    type: str
    subject: str | None
    time: datetime | None
    schema_id: str
    data: Mapping[str, Any]
    user_id: str | None = None
    stated_time: datetime | None = None
    clamped: bool = False
    recorded: datetime | None = None
    _identity: str | None = field(default=None, init=False, repr=False, compare=False)

    @property
    def waiting_since(self) -> datetime | None:
        """Since when somebody waits for what this event brings, None where its time does not say that.

        It does not where nobody knows when it happened, and where it was published more than an hour later, as a backfill is.
        """
        if self.time is None or self.recorded is None or self.clamped:
            return None
        return self.time if self.recorded - self.time <= _BACKFILLED_AFTER else None

    @property
    def occurrence(self) -> str:
        """What tells this event from every other, even from another time that its identity was used."""
        return event_occurrence(self.identity, self.stated_time or self.time)

    @property
    def identity(self) -> str:
        """What tells this event from every other; two records with the same identity are the same event."""
        if self._identity is None:  # it is asked for a dozen times, and made of the event alone
            found = event_identity(self.id, self.source, self.type, self.user_id or self.subject)
            object.__setattr__(self, "_identity", found)
            return found
        return self._identity

    @property
    def identity_for_results(self) -> str | None:
        """The identity, None where it does not say which user the event is about."""
        return self.identity if self.user_id or self.subject else None


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
    ACTIVATED = "activated"
    INVITATION_EXPIRED = "invitation-expired"


@dataclass(frozen=True, slots=True)
class Result:
    """What the bridge reports to user management about one record; never holds personal data.

    `action` is `created`, `updated`, `deleted`, `unchanged` or None; `reason` is a stable code for skipped and rejected,
    and for what Keycloak did not take of one that was provisioned.
    `changed` names the targets that were written (`email`, `attributes.department`, `groups`), without values; `mapping` is
    the fingerprint of the mapping. `identity` tells the event from every other, also from those with the same id; without
    it, only the place of its record does.
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
    identity: str | None = None


@dataclass(frozen=True, slots=True)
class Invitation:
    """An invitation that is due: for which Keycloak user, caused by which event.

    `event_id` is what the user's mark names the event by: its identity, or its bare id where an earlier version of the
    bridge wrote the mark. `caused_by` is the id by which its producer knows it. `terms` are those of the settings and the
    mapping that serves events of `event_type` and `schema_id` (None where the record does not say); they are never read
    from the invitations topic, which anybody may have written to.

    `waiting_since` is that of the event, None where nobody waits or since when is unknown.

    `confirm_only` asks for the mark of a mail that was requested before, and for no mail. `purpose` decides when no
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
    caused_by: str | None = None
    waiting_since: datetime | None = None

    @property
    def shown_event_id(self) -> str:
        """The id of the event as its producer knows it."""
        return self.caused_by or event_id_in(self.event_id)


@dataclass(frozen=True, slots=True)
class Message:
    """A record to be produced: headers in order, key and value as bytes."""

    topic: str
    key: bytes | None
    value: bytes | None
    headers: tuple[tuple[str, bytes | None], ...] = field(default=())
    timestamp_ms: int | None = None
