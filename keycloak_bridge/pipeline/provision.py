"""What becomes of one record of the events topic, from its bytes to what is published about it.

A stage raises only what the delivery must decide about: wait and try again, stop, or abandon.
"""

from collections.abc import Callable
from functools import partial

from keycloak_bridge.delivery.dead_letters import DeadLetteredUsers
from keycloak_bridge.delivery.results import ResultPublisher
from keycloak_bridge.domain.errors import (
    BridgeError,
    EventError,
    HoldError,
    KeycloakError,
    ParkedError,
)
from keycloak_bridge.domain.events import (
    COMPLETE_TYPES,
    URGENT_TYPES,
    USER_UPDATED,
    CloudEvent,
    Outcome,
    Record,
    Result,
    TopicPartition,
)
from keycloak_bridge.domain.ports import Dependency, Handled
from keycloak_bridge.domain.users import DesiredUser
from keycloak_bridge.events.decode import peek
from keycloak_bridge.messages.dead_letters import given_up, is_replay
from keycloak_bridge.messages.results import rejected
from keycloak_bridge.pipeline.interpret import Interpreter, Skipped
from keycloak_bridge.provisioning.bulk_writer import PendingWrite, WriteRouter
from keycloak_bridge.provisioning.provisioner import Provisioned


class ProvisionStage:
    """Takes a record of the events topic from bytes to a user in Keycloak."""

    def __init__(
        self,
        *,
        interpreter: Interpreter,
        after_dead_letter: str = "park",
        router: WriteRouter,
        publisher: ResultPublisher,
        lost: DeadLetteredUsers,
    ) -> None:
        """Put a stage together.

        `after_dead_letter` says what becomes of later events of a user one of whose events became a dead letter:
        `park`, `continue` or `stop`. An event that says everything about its user depends on none before it and always
        goes on.
        """
        self._interpreter = interpreter
        self._after_dead_letter = after_dead_letter
        self._router = router
        self._publisher = publisher
        self._lost = lost
        self._stopped_at: set[tuple[TopicPartition, int]] = set()

    def ordering_key(self, record: Record) -> bytes:
        """Return the record key; without one, the subject, and without that, a lane of its own."""
        if record.key:
            return record.key
        _, _, subject = peek(record, self._interpreter.rules)
        return subject.encode("utf-8", "surrogatepass") if subject else f"@{record.offset}".encode()

    def handle(self, record: Record) -> Handled:
        """Return what must be acknowledged before `record` counts as done.

        Raises BridgeError only with a disposition other than DEAD_LETTER and REPLAN.
        """
        since_s = self._publisher.context.clock.monotonic()
        try:
            prepared = self._interpreter.interpret(
                record, accept=partial(self._refuse_dependent, record)
            )
        except EventError as error:
            return self._reject(record, error, _known_of(error), _step_of(error), since_s)
        if isinstance(prepared, Skipped):
            return self._skip(record, prepared, since_s)
        event = prepared.event
        known = Result(
            Outcome.REJECTED,
            event_id=event.id,
            event_type=event.type,
            user_id=event.subject,
            schema_id=event.schema_id,
            mapping=prepared.mapping,
        )
        taken = PendingWrite(record, event, prepared.desired, known, since_s)
        return self._guarded(taken, lambda: self._bring(taken))

    def _bring(self, taken: PendingWrite) -> Handled:
        return self._router.bring(taken, partial(self._conclude, taken))

    def _conclude(self, taken: PendingWrite, provision: Callable[[], Provisioned]) -> Handled:
        return self._guarded(taken, lambda: self._tell(taken, provision()))

    def _guarded(self, taken: PendingWrite, work: Callable[[], Handled]) -> Handled:
        """Return what `work` returns; what can never succeed becomes a dead letter."""
        try:
            return work()
        except BridgeError as error:
            if not error.is_final:
                raise
            return self._reject(taken.record, error, taken.known, "keycloak", taken.since_s)

    def _tell(self, taken: PendingWrite, provisioned: Provisioned) -> Handled:
        record = taken.record
        if taken.event.type not in URGENT_TYPES:  # what was lost before it still is
            self._lost.forget(record.topic_partition, self.ordering_key(record))
        reached = isinstance(taken.desired, DesiredUser)
        return Handled(
            (
                *provisioned.acknowledgements,
                self._publisher.publish(record, provisioned.result, taken.since_s),
            ),
            Dependency.KEYCLOAK if reached else Dependency.NONE,
        )

    def _skip(self, record: Record, skipped: Skipped, since_s: float) -> Handled:
        """Tell of a tombstone; an ignored type is none of user management's news."""
        if skipped.event is not None:
            return Handled()
        result = Result(Outcome.SKIPPED, reason=skipped.reason, user_id=_text_key(record))
        return Handled((self._publisher.publish(record, result, since_s),))

    def give_up(self, record: Record, error: BridgeError) -> Handled:
        """Make a dead letter of a record that keeps failing while others succeed."""
        since_s = self._publisher.context.clock.monotonic()
        return self._reject(record, given_up(error), Result(Outcome.REJECTED), "keycloak", since_s)

    def _refuse_dependent(self, record: Record, event: CloudEvent) -> None:
        """Raise ParkedError for an event that may build on one that was lost; a replay brings the lost one itself."""
        if _says_everything(event) or event.type in URGENT_TYPES:
            return
        if self._after_dead_letter == "continue":
            return
        if is_replay(record) or not self._lost.knows(
            record.topic_partition, self.ordering_key(record)
        ):
            return
        if self._after_dead_letter == "stop":
            self._stop_at(record)
            return
        raise ParkedError(
            "an earlier event of this user became a dead letter, and this one may build on it",
            remedy="replay the user's earlier dead letter and this one; they keep their order",
        )

    def _stop_at(self, record: Record) -> None:
        """Engage the brake; the second time the event may go on, since somebody has looked and released it."""
        place = (record.topic_partition, record.offset)
        if place in self._stopped_at:
            return
        self._stopped_at.add(place)
        self._publisher.context.brake.engage(
            "an event follows one of the same user that became a dead letter"
        )
        raise HoldError("an earlier event of this user was lost", wait_s=0.1, code="brake")

    def _reject(
        self, record: Record, error: BridgeError, known: Result, step: str, since_s: float
    ) -> Handled:
        if known.event_id is None:
            event_id, event_type, subject = peek(record, self._interpreter.rules)
            known = Result(
                Outcome.REJECTED, event_id=event_id, event_type=event_type, user_id=subject
            )
        acknowledgements = self._publisher.dead_letter(
            record, error, step=step, result=rejected(known, error), since_s=since_s
        )
        if record.key or known.user_id:  # else nobody knows whose event it was
            self._lost.note(record.topic_partition, self.ordering_key(record))
        answered = isinstance(error, KeycloakError) and error.status is not None
        return Handled(acknowledgements, Dependency.KEYCLOAK if answered else Dependency.NONE)


def _says_everything(event: CloudEvent) -> bool:
    """Say whether the event depends on none before it; no schema has seen its data yet."""
    data = event.data if isinstance(event.data, dict) else {}
    complete_update = event.type == USER_UPDATED and data.get("complete") is True
    return event.type in COMPLETE_TYPES or complete_update


def _known_of(error: EventError) -> Result:
    context = error.context
    if context is None:
        return Result(Outcome.REJECTED)
    return Result(
        Outcome.REJECTED,
        event_id=context.event_id,
        event_type=context.event_type,
        user_id=context.user_id,
        schema_id=context.schema_id,
        mapping=context.mapping,
    )


def _step_of(error: EventError) -> str:
    return "decode" if error.context is None else error.context.step


def _text_key(record: Record) -> str | None:
    return record.key.decode("utf-8", errors="replace") if record.key else None
