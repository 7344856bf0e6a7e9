"""What happens to one record of the events topic, from its bytes to its published result.

A stage only raises what the delivery must decide about: wait and try again, stop, or leave the record to another member.
"""

import logging
from collections.abc import Callable
from dataclasses import replace
from functools import partial

from keycloak_bridge.delivery.results import ResultPublisher
from keycloak_bridge.domain.errors import (
    BridgeError,
    Dependency,
    EventContext,
    EventError,
    HoldError,
    KeycloakError,
    ParkedError,
)
from keycloak_bridge.domain.events import (
    COMPLETE_TYPES,
    URGENT_TYPES,
    USER_DELETED,
    USER_UPDATED,
    CloudEvent,
    Outcome,
    Record,
    Result,
    UserEvent,
)
from keycloak_bridge.domain.future import Future, completed, then
from keycloak_bridge.domain.ports import Handled
from keycloak_bridge.domain.users import DesiredUser
from keycloak_bridge.events.decode import peek
from keycloak_bridge.messages.bridge_headers import record_digest
from keycloak_bridge.messages.dead_letters import given_up, is_replay
from keycloak_bridge.messages.results import rejected
from keycloak_bridge.ops.logs import log_event
from keycloak_bridge.pipeline.interpret import Interpreter, Skipped
from keycloak_bridge.planning.plan import UNKNOWN_USER
from keycloak_bridge.provisioning.provisioner import Provisioned
from keycloak_bridge.provisioning.writer import Write, Writer
from keycloak_bridge.threads.bounded_dict import BoundedDict

logger = logging.getLogger(__name__)

_WRITTEN = frozenset({"created", "updated", "deleted"})
_NOTHING_KNOWN = Result(Outcome.REJECTED)


class ProvisionStage:
    """Takes a record of the events topic from bytes to a user in Keycloak."""

    def __init__(
        self,
        *,
        interpreter: Interpreter,
        after_dead_letter: str = "park",
        writer: Writer,
        publisher: ResultPublisher,
    ) -> None:
        """Create a stage.

        `after_dead_letter` says what happens to later events of a user after one of its events became a dead letter:
        `park`, `continue` or `stop`. An event with the complete user depends on no earlier one and always continues.
        """
        self._interpreter = interpreter
        self._after_dead_letter = after_dead_letter
        self._writer = writer
        self._publisher = publisher
        self._dead_lettered = publisher.context.dead_lettered_users
        self._stopped_at: BoundedDict[bytes, None] = BoundedDict()

    def ordering_key(self, record: Record) -> bytes:
        """Return the user whom the key names, else the key; without one the subject, and without that a key of its own."""
        try:
            user = self._interpreter.rules.keys.user(record)
        except EventError:
            return record.key or b""
        if user is not None:
            return user.encode()
        _, _, subject = peek(record, self._interpreter.rules)
        return subject.encode("utf-8", "surrogatepass") if subject else f"@{record.offset}".encode()

    def handle(self, record: Record) -> Future[Handled]:
        """Interpret the record, write its user, publish the result; return the future of what must be acknowledged.

        Raises BridgeError, or has the future raise it, only with a disposition other than DEAD_LETTER and REPLAN.
        """
        handled = self._handle(record)
        works = self._interpreter.known_to_work
        return then(handled, partial(_with_dependency, works)) if works else handled

    def _handle(self, record: Record) -> Future[Handled]:
        since_s = self._publisher.context.clock.monotonic()
        record = self._publisher.without_forged_headers(record)
        try:
            prepared = self._interpreter.interpret(
                record, accept=partial(self._refuse_dependent, record)
            )
        except EventError as error:
            context = error.context or EventContext("decode")
            return completed(self._reject(record, error, _known(context), context.step, since_s))
        if isinstance(prepared, Skipped):
            return completed(self._skip(record, prepared, since_s))
        write = Write(record, prepared.event, prepared.desired)
        conclude = partial(self._conclude, write, prepared.mapping, since_s)
        return self._after_write(self._writer.write(write), conclude)

    def give_up(self, record: Record, error: BridgeError) -> Handled:
        """Publish a dead letter for a record that keeps failing while others succeed."""
        since_s = self._publisher.context.clock.monotonic()
        record = self._publisher.without_forged_headers(record)
        return self._reject(record, given_up(error), _NOTHING_KNOWN, "keycloak", since_s)

    def _after_write(
        self, written: Future[Provisioned], conclude: Callable[[Future[Provisioned]], Handled]
    ) -> Future[Handled]:
        """Return what `conclude` makes of a write; the brake is told where that comes later than the records after it."""
        if written.done():
            return then(written, conclude)
        brake = self._publisher.context.brake
        brake.begin_batched()
        handled = then(written, conclude)
        handled.add_done_callback(lambda _: brake.end_batched())
        return handled

    def _conclude(
        self, write: Write, mapping: str, since_s: float, written: Future[Provisioned]
    ) -> Handled:
        """Publish the result, or the dead letter, of what was written; `mapping` is the fingerprint."""
        try:
            provisioned = written.result()
            self._refuse_premature_deletion(write, provisioned)
            return self._publish_result(write, mapping, since_s, provisioned)
        except BridgeError as error:
            if not error.is_final:
                raise
            known = _known_of(write.event, mapping)
            return self._reject(write.record, error, known, "keycloak", since_s)

    def _publish_result(
        self, write: Write, mapping: str, since_s: float, provisioned: Provisioned
    ) -> Handled:
        record = write.record
        # an urgent event is applied although the dead letter before it is still missing
        if write.event.type not in URGENT_TYPES:
            self._dead_lettered.forget(record.topic_partition, self.ordering_key(record))
        if provisioned.overruled:
            self._report_overruled(write)
        result = replace(provisioned.result, mapping=mapping)
        if result.action in _WRITTEN:
            self._publisher.arrived(record, write.event.waiting_since)
        return Handled(
            (*provisioned.acknowledgements, self._publisher.publish(record, result, since_s)),
            Dependency.KEYCLOAK if isinstance(write.desired, DesiredUser) else Dependency.NONE,
        )

    def _refuse_premature_deletion(self, write: Write, provisioned: Provisioned) -> None:
        """Raise ParkedError for a deletion of a user that is not there, perhaps because the event that creates it is a dead letter.

        A replay of that dead letter alone would bring a user to life whose deletion nobody would hear of any more.
        """
        record, event = write.record, write.event
        nothing_deleted = provisioned.result.reason == UNKNOWN_USER and event.type == USER_DELETED
        if not nothing_deleted or self._after_dead_letter != "park" or is_replay(record):
            return
        if self._dead_lettered.knows(record.topic_partition, self.ordering_key(record)):
            raise ParkedError(
                "an earlier event of this user became a dead letter, and may be the one that creates it",
                remedy="replay both, so that they keep their order; or neither, as the user is deleted",
            )

    def _report_overruled(self, write: Write) -> None:
        """Say that somebody stays in whom an event was to put out: its time, or that of the newer event, may be wrong."""
        self._publisher.context.metrics.overruled()
        log_event(
            logger,
            "event-overruled",
            level=logging.WARNING,
            message="a disable or deletion has no effect, because a newer event lets the user in",
            topic=write.record.topic,
            partition=write.record.partition,
            offset=write.record.offset,
            event_id=write.event.id,
            event_type=write.event.type,
        )

    def _skip(self, record: Record, skipped: Skipped, since_s: float) -> Handled:
        """Publish that a tombstone was skipped; an ignored type has no result, since it is not about users."""
        if skipped.event is not None:
            return Handled()
        user_id = self._interpreter.rules.user_of_key(record)
        result = Result(Outcome.SKIPPED, reason=skipped.reason, user_id=user_id)
        return Handled((self._publisher.publish(record, result, since_s),))

    def _refuse_dependent(self, record: Record, event: CloudEvent) -> None:
        """Raise ParkedError for an event that may depend on one that became a dead letter.

        A replay is accepted: it brings the dead letter itself.
        """
        if _is_complete(event) or event.type in URGENT_TYPES:
            return
        if self._after_dead_letter == "continue":
            return
        if is_replay(record) or not self._dead_lettered.knows(
            record.topic_partition, self.ordering_key(record)
        ):
            return
        if self._after_dead_letter == "stop":
            self._stop_at(record)
            return
        raise ParkedError(
            "an earlier event of this user became a dead letter, and this one may depend on it",
            remedy="replay the user's earlier dead letter and this one; they keep their order",
        )

    def _stop_at(self, record: Record) -> None:
        """Engage the brake; the second time the event may continue, since the operator has released it."""
        digest = record_digest(record)
        if digest in self._stopped_at:
            return
        self._stopped_at.put(digest, None)
        self._publisher.context.brake.engage(
            "an event follows one of the same user that became a dead letter"
        )
        raise HoldError("an earlier event of this user was lost", wait_s=0.1, code="brake")

    def _reject(
        self, record: Record, error: BridgeError, known: Result, step: str, since_s: float
    ) -> Handled:
        if known.event_id is None:
            event_id, event_type, subject = peek(record, self._interpreter.rules)
            known = replace(
                _NOTHING_KNOWN, event_id=event_id, event_type=event_type, user_id=subject
            )
        acknowledgements = self._publisher.dead_letter(
            record, error, step=step, result=rejected(known, error), since_s=since_s
        )
        if record.key or known.user_id:  # without both, the user is unknown
            self._dead_lettered.note(record.topic_partition, self.ordering_key(record))
        answered = isinstance(error, KeycloakError) and error.status is not None
        return Handled(acknowledgements, Dependency.KEYCLOAK if answered else Dependency.NONE)


def _with_dependency(works: Dependency, handled: Future[Handled]) -> Handled:
    shown = handled.result()
    return replace(shown, dependency=shown.dependency | works)


def _is_complete(event: CloudEvent) -> bool:
    """Say whether the event depends on no earlier one; its data is not validated yet."""
    data = event.data if isinstance(event.data, dict) else {}
    complete_update = event.type == USER_UPDATED and data.get("complete") is True
    return event.type in COMPLETE_TYPES or complete_update


def _known_of(event: UserEvent, mapping: str) -> Result:
    context = EventContext(
        "keycloak",
        event.id,
        event.type,
        event.subject,
        event.schema_id,
        mapping,
        event.identity_for_results,
    )
    return _known(context)


def _known(context: EventContext) -> Result:
    return replace(
        _NOTHING_KNOWN,
        event_id=context.event_id,
        event_type=context.event_type,
        user_id=context.user_id,
        schema_id=context.schema_id,
        mapping=context.mapping,
        identity=context.identity,
    )
