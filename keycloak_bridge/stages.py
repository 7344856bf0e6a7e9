"""What a stage does with one record: results for what worked, dead letters for what never can.

A stage raises only what the worker must decide about: wait and try again, stop, or abandon.
"""

import contextlib
import logging
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, replace

from keycloak_bridge import __version__
from keycloak_bridge.core.contracts import (
    dead_letter_message,
    read_invitation,
    result_message,
)
from keycloak_bridge.core.errors import (
    BridgeError,
    BrokerAccessError,
    DeadLetterError,
    TombstoneError,
)
from keycloak_bridge.core.events import EnvelopeRules, decode, peek
from keycloak_bridge.core.mapping import AttributeMapping
from keycloak_bridge.core.model import CloudEvent, Outcome, Record, Result
from keycloak_bridge.core.ports import Acknowledgement, Clock, MessageSink
from keycloak_bridge.core.validation import SchemaCatalog
from keycloak_bridge.inviter import Inviter
from keycloak_bridge.logs import log_event
from keycloak_bridge.provisioner import Provisioner, is_final

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Outlets:
    """Where a stage publishes what became of a record."""

    sink: MessageSink
    clock: Clock
    results_topic: str
    dead_letters_topic: str
    group_id: str

    def tell(self, record: Record, result: Result, since_s: float) -> Acknowledgement:
        """Publish `result` and log it as the one line of this record, which was begun at `since_s`."""
        log_event(
            logger,
            result.outcome.value,
            topic=record.topic,
            partition=record.partition,
            offset=record.offset,
            event_id=result.event_id,
            event_type=result.event_type,
            user_id=result.user_id,
            keycloak_id=result.keycloak_id,
            operation=result.action,
            reason=result.reason,
            duration_ms=round((self.clock.monotonic() - since_s) * 1000, 1),
        )
        message = result_message(
            result,
            topic=self.results_topic,
            time=self.clock.now(),
            position=f"{record.topic}/{record.partition}/{record.offset}",
        )
        return self.sink.publish(message)

    def dead_letter(
        self, record: Record, error: BridgeError, *, stage: str, result: Result, since_s: float
    ) -> tuple[Acknowledgement, ...]:
        """Publish the untouched record with its reason, and the news of it."""
        message = dead_letter_message(
            record,
            error,
            topic=self.dead_letters_topic,
            stage=stage,
            group=self.group_id,
            schema_id=result.schema_id,
            event_id=result.event_id,
            time=self.clock.now(),
            bridge_version=__version__,
        )
        with _must_be_written(record):
            letter = _DeadLetterAcknowledgement(self.sink.publish(message), record)
        return (letter, self.tell(record, result, since_s))


class _DeadLetterAcknowledgement:
    """Raises DeadLetterError where Kafka refuses the letter for good."""

    def __init__(self, acknowledgement: Acknowledgement, record: Record) -> None:
        self._acknowledgement = acknowledgement
        self._record = record

    def wait(self, timeout_s: float) -> None:
        with _must_be_written(self._record):
            self._acknowledgement.wait(timeout_s)


@contextlib.contextmanager
def _must_be_written(record: Record) -> Iterator[None]:
    try:
        yield
    except BrokerAccessError as error:
        raise DeadLetterError(
            f"the dead letter for {record.topic}/{record.partition}@{record.offset} "
            f"could not be written: {error.message}",
            remedy=error.remedy,
        ) from error


@dataclass(frozen=True, slots=True)
class EventPolicy:
    """What is passed over without a user: types of other systems, records without a value."""

    ignored_types: Collection[str] = frozenset()
    ignore_tombstones: bool = True


class ProvisionStage:
    """Takes a record of the events topic from bytes to a user in Keycloak."""

    def __init__(
        self,
        *,
        rules: EnvelopeRules,
        catalog: SchemaCatalog,
        mapping: AttributeMapping,
        policy: EventPolicy,
        provisioner: Provisioner,
        outlets: Outlets,
    ) -> None:
        self._rules = rules
        self._catalog = catalog
        self._mapping = mapping
        self._policy = policy
        self._provisioner = provisioner
        self._outlets = outlets

    def handle(self, record: Record) -> Sequence[Acknowledgement]:
        """Return what must be acknowledged before `record` counts as done.

        Raises BridgeError only with a disposition other than DEAD_LETTER and REPLAN.
        """
        since_s = self._outlets.clock.monotonic()
        known = Result(Outcome.REJECTED)
        stage = "decode"
        try:
            cloud_event = decode(record, self._rules)
            known = _known_from(cloud_event)
            if cloud_event.type in self._policy.ignored_types:
                return ()
            stage = "schema"
            schema_id = self._catalog.schema_id(cloud_event.type, cloud_event.dataschema)
            known = replace(known, schema_id=schema_id)
            event = self._catalog.validate(cloud_event)
            stage = "map"
            desired = self._mapping.apply(event)
            stage = "keycloak"
            provisioned = self._provisioner.provision(event, desired)
        except TombstoneError as error:
            return self._tombstone(record, error, since_s)
        except BridgeError as error:
            if not is_final(error):
                raise
            return self._reject(record, error, known, stage, since_s)
        return (
            *provisioned.acknowledgements,
            self._outlets.tell(record, provisioned.result, since_s),
        )

    def _tombstone(
        self, record: Record, error: TombstoneError, since_s: float
    ) -> Sequence[Acknowledgement]:
        if not self._policy.ignore_tombstones:
            return self._reject(record, error, Result(Outcome.REJECTED), "decode", since_s)
        result = Result(Outcome.SKIPPED, reason="tombstone", user_id=_text_key(record))
        return (self._outlets.tell(record, result, since_s),)

    def _reject(
        self, record: Record, error: BridgeError, known: Result, stage: str, since_s: float
    ) -> Sequence[Acknowledgement]:
        if known.event_id is None:
            event_id, event_type, subject = peek(record, self._rules)
            known = Result(
                Outcome.REJECTED, event_id=event_id, event_type=event_type, user_id=subject
            )
        result = _rejected(known, error)
        return self._outlets.dead_letter(record, error, stage=stage, result=result, since_s=since_s)


class InviteStage:
    """Takes a record of the invitations topic to a mail."""

    def __init__(self, *, catalog: SchemaCatalog, inviter: Inviter, outlets: Outlets) -> None:
        self._catalog = catalog
        self._inviter = inviter
        self._outlets = outlets

    def handle(self, record: Record) -> Sequence[Acknowledgement]:
        """Return what must be acknowledged before `record` counts as done; raises as the other stage."""
        since_s = self._outlets.clock.monotonic()
        known = Result(Outcome.REJECTED)
        try:
            invitation = read_invitation(record, self._catalog)
            known = Result(
                Outcome.REJECTED,
                event_id=invitation.event_id,
                user_id=invitation.user_id,
                keycloak_id=invitation.keycloak_id,
            )
            result = self._inviter.invite(invitation)
        except BridgeError as error:
            if not is_final(error):
                raise
            return self._outlets.dead_letter(
                record, error, stage="invite", result=_rejected(known, error), since_s=since_s
            )
        return (self._outlets.tell(record, result, since_s),)


def _known_from(event: CloudEvent) -> Result:
    return Result(Outcome.REJECTED, event_id=event.id, event_type=event.type, user_id=event.subject)


def _rejected(known: Result, error: BridgeError) -> Result:
    return Result(
        Outcome.REJECTED,
        reason=error.code,
        message=error.message,
        event_id=known.event_id,
        event_type=known.event_type,
        user_id=known.user_id,
        keycloak_id=known.keycloak_id,
        schema_id=known.schema_id,
        violations=error.violations,
    )


def _text_key(record: Record) -> str | None:
    return record.key.decode("utf-8", errors="replace") if record.key else None
