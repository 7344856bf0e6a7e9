"""Every error of the bridge, each with a stable code and what the worker does about it.

```
BridgeError                     disposition
├ ConfigError                   STOP         before anything is consumed
├ EventError                    DEAD_LETTER  this record can never succeed
│ ├ EventDecodeError            not-json, wrong-encoding, too-large, too-deep, not-a-cloudevent, ...
│ ├ KeyMismatchError            key-mismatch, subject-mismatch
│ ├ TimeAheadError              time-ahead
│ ├ TombstoneError              tombstone
│ ├ UnknownSchemaError          unknown-type, unknown-schema, unknown-schema-id
│ ├ RegisteredSchemaError       unsupported-schema-type, unusable-schema
│ ├ EventValidationError        schema-violation
│ ├ MappingError                mapping-failed, invalid-username, role-not-allowed, ...
│ ├ ConflictError               conflict, ambiguous, reserved-user, protected-user, identity-taken, foreign-user
│ ├ UnknownUserError            unknown-user
│ ├ DroppedError                dropped-by-keycloak
│ ├ ParkedError                 parked: an earlier event of the user is among the dead letters
│ └ GivenUpError                given-up: it kept failing while others succeeded
├ KeycloakError                 status, method and path of the call
│ ├ KeycloakUnavailableError    RETRY        timeouts, refused connections, 5xx, 429
│ │ └ MailDeliveryError         RETRY        the SMTP server did not take the mail
│ ├ KeycloakConflictError       REPLAN       409, once; then DEAD_LETTER
│ ├ KeycloakNotFoundError       REPLAN       404, once; then DEAD_LETTER
│ ├ KeycloakAuthError           RETRY        401 after renewal, 403: every event would fail
│ └ KeycloakRejectedError       DEAD_LETTER  any other 4xx
├ RegistryUnavailableError      RETRY        the schema registry: timeouts, refused connections, 5xx, what is no registry
│ └ RegistryAccessError         RETRY        401, 403, and credentials that cannot be sent
├ HoldError                     WAIT         nothing failed: a limit or the brake delays the record
├ BrakeError                    STOP         the brake is engaged, and this run does not wait for its release
├ UndecidedMailError            STOP         nothing tells refused mails from an outage, and this run does not wait
├ InternalError                 RETRY        a fault of the bridge itself; DEAD_LETTER after the limit
├ BusyError                     STOP         a request of the page, not of a record: another user's timeline is being read
└ BrokerError
  ├ BrokerUnavailableError      RETRY
  │ └ BrokerRefusedError        RETRY        TLS or the login fails; STOP at start
  ├ PartitionRevokedError       ABANDON      another member will get the record
  ├ BrokerAccessError           STOP
  └ DeadLetterError             STOP         never commit past a record that is nowhere
```

Messages say what, where and what to do; they never carry a value of the event or a secret.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Flag, StrEnum
from typing import ClassVar


class Disposition(StrEnum):
    """What the worker does with the record whose handling raised."""

    STOP = "stop"
    RETRY = "retry"
    WAIT = "wait"
    REPLAN = "replan"
    DEAD_LETTER = "dead-letter"
    ABANDON = "abandon"


class Dependency(Flag):
    """The services that the bridge depends on."""

    NONE = 0
    KAFKA = 1
    KEYCLOAK = 2
    MAIL = 4
    REGISTRY = 8


@dataclass(frozen=True, slots=True)
class Violation:
    """One broken rule: where (JSON pointer into the event), which keyword, and why, without the value."""

    pointer: str
    keyword: str
    message: str


class BridgeError(Exception):
    """Base of all errors; `code` is stable and safe to alert on.

    `dependency` is what must work again before the failure is over; after one without any success will do.
    """

    disposition: ClassVar[Disposition] = Disposition.STOP
    dependency: ClassVar[Dependency] = Dependency.NONE
    default_code: ClassVar[str] = "error"
    may_have_taken_effect: bool = False
    """Whether the write that failed may be done all the same, because its answer was lost."""

    def __init__(
        self,
        message: str,
        *,
        code: str | None = None,
        remedy: str | None = None,
        violations: Sequence[Violation] = (),
    ) -> None:
        super().__init__(message)
        self.message = message
        self.code = code or self.default_code
        self.remedy = remedy
        self.violations = tuple(violations)

    @property
    def is_final(self) -> bool:
        """Whether the record that raised this goes to the dead letters."""
        return self.disposition in (Disposition.DEAD_LETTER, Disposition.REPLAN)


class ConfigError(BridgeError):
    """Settings, schemas, mapping or access are wrong; nothing was consumed."""

    default_code = "configuration"


@dataclass(frozen=True, slots=True)
class EventContext:
    """The step that refused an event (decode, schema, map), and what was known by then."""

    step: str
    event_id: str | None = None
    event_type: str | None = None
    user_id: str | None = None
    schema_id: str | None = None
    mapping: str | None = None
    identity: str | None = None


class EventError(BridgeError):
    """The record can never succeed as it is; `context` is set once it was decoded."""

    disposition = Disposition.DEAD_LETTER
    default_code = "event"
    context: EventContext | None = None


class EventDecodeError(EventError):
    """The bytes are not an event."""

    default_code = "not-a-cloudevent"


class KeyMismatchError(EventError):
    """The record key, the subject and the user's id do not name the same user."""

    default_code = "key-mismatch"


class TimeAheadError(EventError):
    """The event's time lies too far in the future."""

    default_code = "time-ahead"


class TombstoneError(EventError):
    """The record has no value, and policy does not say to ignore it."""

    default_code = "tombstone"


class UnknownSchemaError(EventError):
    """No schema is known for the event's type or `dataschema`."""

    default_code = "unknown-schema"


class RegisteredSchemaError(EventError):
    """The schema that the event names in the registry cannot check it."""

    default_code = "unusable-schema"


class EventValidationError(EventError):
    """The data breaks its schema; `violations` holds every broken rule."""

    default_code = "schema-violation"


class MappingError(EventError):
    """The mapping cannot make a user out of this event."""

    default_code = "mapping-failed"


class ConflictError(EventError):
    """The event would touch an account that is not its own."""

    default_code = "conflict"


class UnknownUserError(EventError):
    """The event is about a user that Keycloak does not have, and may not create it."""

    default_code = "unknown-user"


class DroppedError(EventError):
    """Keycloak accepted the user and did not store all of it; `violations` point at what is missing."""

    default_code = "dropped-by-keycloak"


class ParkedError(EventError):
    """The event may build on an earlier one of the same user that became a dead letter."""

    default_code = "parked"


class GivenUpError(EventError):
    """The record kept failing while others succeeded; `status` is Keycloak's last answer, if there was one."""

    default_code = "given-up"

    def __init__(
        self, message: str, *, remedy: str | None = None, status: int | None = None
    ) -> None:
        super().__init__(message, remedy=remedy)
        self.status = status


class KeycloakError(BridgeError):
    """An Admin REST call failed; `path` is a template without ids of users."""

    dependency = Dependency.KEYCLOAK
    default_code = "keycloak"

    def __init__(
        self,
        message: str,
        *,
        code: str | None = None,
        remedy: str | None = None,
        violations: Sequence[Violation] = (),
        status: int | None = None,
        method: str | None = None,
        path: str | None = None,
        retry_after_s: float | None = None,
    ) -> None:
        super().__init__(message, code=code, remedy=remedy, violations=violations)
        self.status = status
        self.method = method
        self.path = path
        self.retry_after_s = retry_after_s

    @property
    def may_be_one_users_fault(self) -> bool:
        """Whether the user that was to be written may have caused it, which says nothing about Keycloak's load."""
        return self.is_final


class KeycloakUnavailableError(KeycloakError):
    """Keycloak cannot answer now: refused, timed out, 5xx or 429."""

    disposition = Disposition.RETRY
    default_code = "keycloak-unavailable"
    may_have_taken_effect = True  # unless the adapter knows better

    @property
    def may_be_one_users_fault(self) -> bool:
        """Keycloak mostly answers with a bare 500 then."""
        return self.status == 500


class MailDeliveryError(KeycloakUnavailableError):
    """Keycloak could not hand the mail to the SMTP server; the user itself is fine.

    `server_greets` says whether the server was seen to take connections right afterwards, None where nobody could look.
    """

    dependency = Dependency.MAIL
    default_code = "mail-not-sent"
    may_have_taken_effect = False
    server_greets: bool | None = None


class KeycloakConflictError(KeycloakError):
    """Another user holds the username or e-mail (409)."""

    disposition = Disposition.REPLAN
    default_code = "conflict"


class KeycloakNotFoundError(KeycloakError):
    """The user, group or role is gone (404)."""

    disposition = Disposition.REPLAN
    default_code = "not-found"


class KeycloakAuthError(KeycloakError):
    """The service account is refused (401 after a fresh token, or 403)."""

    disposition = Disposition.RETRY
    default_code = "keycloak-access"


ID_REFUSED = "id-refused"
"""The code for a user whose id in user management cannot be its username, where the mapping makes it that."""

READ_ONLY = "error-user-attribute-read-only"
"""Keycloak's word for a field that nobody may write: a username, or all of a user whose directory is read-only."""


class KeycloakRejectedError(KeycloakError):
    """Keycloak refuses this user (400, 422 ...); `violations` point at the representation."""

    disposition = Disposition.DEAD_LETTER
    default_code = "keycloak-rejected"


class RegistryUnavailableError(BridgeError):
    """The schema registry cannot say which schema an event means."""

    disposition = Disposition.RETRY
    dependency = Dependency.REGISTRY
    default_code = "registry-unavailable"


class RegistryAccessError(RegistryUnavailableError):
    """The schema registry refuses the bridge, so that every event would fail."""

    default_code = "registry-access"


class HoldError(BridgeError):
    """Nothing failed; the record is handled again after `wait_s` seconds, which counts as no attempt."""

    disposition = Disposition.WAIT
    default_code = "held"

    def __init__(self, message: str, *, wait_s: float, code: str | None = None) -> None:
        super().__init__(message, code=code)
        self.wait_s = wait_s


class BrakeError(BridgeError):
    """The brake is engaged, and this run does not wait for its release."""

    default_code = "brake-engaged"


class UndecidedMailError(BridgeError):
    """Mails fail that may be refused as well as held up by an outage, and this run does not wait for a sign."""

    default_code = "mails-undecided"


class BusyError(BridgeError):
    """The page reads one user's timeline at a time, and not for long."""

    default_code = "busy"


class InternalError(BridgeError):
    """The bridge itself failed on this record; it is retried, then given up as any record that keeps failing."""

    disposition = Disposition.RETRY
    default_code = "internal-error"


class BrokerError(BridgeError):
    """Kafka failed."""

    dependency = Dependency.KAFKA
    default_code = "kafka"


class BrokerUnavailableError(BrokerError):
    """Kafka cannot answer now."""

    disposition = Disposition.RETRY
    default_code = "kafka-unavailable"


class BrokerRefusedError(BrokerUnavailableError):
    """There is no connection to Kafka, and settings, certificates or credentials have to change.

    At start that is an error of configuration. A running bridge waits, since they may be just being replaced.
    """

    default_code = "kafka-refused"


class PartitionRevokedError(BrokerError):
    """The partition belongs to another member now."""

    disposition = Disposition.ABANDON
    default_code = "partition-revoked"


RECORD_TOO_LARGE = "record-too-large"
"""Code of the BrokerAccessError for a record that is larger than its topic, or the producer, takes."""


class BrokerAccessError(BrokerError):
    """Kafka refuses the client: credentials, ACLs or a fenced member."""

    default_code = "kafka-access"


class DeadLetterError(BrokerError):
    """A dead letter could not be written, so the offset of its record must not be committed."""

    default_code = "dead-letter-not-written"
