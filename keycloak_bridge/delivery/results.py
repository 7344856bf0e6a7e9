"""Where a stage publishes what became of a record: news of everything, dead letters for what never can succeed.

Which records may have become a dead letter already, without this process knowing.
"""

import contextlib
import logging
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from keycloak_bridge import __version__
from keycloak_bridge.delivery.bounded import BoundedDict
from keycloak_bridge.delivery.guards import Brake
from keycloak_bridge.domain.errors import (
    BridgeError,
    BrokerAccessError,
    DeadLetterError,
    HoldError,
    ParkedError,
)
from keycloak_bridge.domain.events import Outcome, Record, Result, TopicPartition
from keycloak_bridge.domain.ports import Acknowledgement, Clock, DeadLetterArchive, MessageProducer
from keycloak_bridge.messages.published import dead_letter_message, result_message
from keycloak_bridge.ops.logs import log_event
from keycloak_bridge.ops.metrics import Metrics


class SentDeadLetters:
    """Remembers where an earlier owner may have been, and which letters were sent. Safe to share between threads.

    An earlier owner had at most `reach` records in hand above its commit; offsets have gaps, so `reach` is generous.
    """

    def __init__(self, reach: int) -> None:
        self._reach = reach
        self._lock = threading.Lock()
        self._until: dict[TopicPartition, int] = {}
        self._sent: BoundedDict[tuple[TopicPartition, int], None] = BoundedDict()

    def begin(self, partition: TopicPartition, committed: int) -> None:
        """Note that a partition is read from its commit on, perhaps after somebody else."""
        with self._lock:
            self._until[partition] = committed + self._reach

    def note(self, record: Record) -> None:
        """Note that a dead letter of `record` is on its way; what becomes of it may stay unknown."""
        self._sent.put((record.topic_partition, record.offset), None)

    def sent(self, record: Record) -> bool:
        """Say whether this process sent a dead letter of `record` before, as far as it remembers."""
        return (record.topic_partition, record.offset) in self._sent

    def covers(self, record: Record) -> bool:
        """Say whether the dead letters must be looked through before one is written of `record`."""
        at = record.topic_partition
        with self._lock:
            until = self._until.get(at, 0)
        return record.offset < until or self.sent(record)


logger = logging.getLogger(__name__)

_BRAKED_S = 0.1
"""The brake itself holds the flow; this only keeps the record from being the very first to go on."""


@dataclass(frozen=True, slots=True)
class ResultPublisher:
    """Where a stage publishes what became of a record.

    `letters` must send nothing twice by itself; where it cannot say whether a letter arrived, the archive is asked.
    """

    sink: MessageProducer
    letters: MessageProducer
    archive: DeadLetterArchive
    sent_dead_letters: SentDeadLetters
    clock: Clock
    results_topic: str
    dead_letters_topic: str
    group_id: str
    stage: str
    brake: Brake
    metrics: Metrics

    def tell(self, record: Record, result: Result, since_s: float) -> Acknowledgement:
        """Publish `result` and log it as the one line of this record, which was begun at `since_s`."""
        duration_s = self.clock.monotonic() - since_s
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
            duration_ms=round(duration_s * 1000, 1),
        )
        self.metrics.handled(self.stage, result.outcome.value, result.reason, duration_s)
        if result.outcome is not Outcome.REJECTED:
            self.brake.good()
        message = result_message(
            result,
            topic=self.results_topic,
            time=self.clock.now(),
            origin=record,
        )
        return self.sink.publish(message)

    def dead_letter(
        self, record: Record, error: BridgeError, *, step: str, result: Result, since_s: float
    ) -> tuple[Acknowledgement, ...]:
        """Publish the untouched record with its reason, and the news of it; only the news where the letter is there.

        `step` is where it failed: decode, schema, map, keycloak or invite. Raises HoldError while the brake is engaged.
        """
        if self.sent_dead_letters.covers(record) and self.archive.holds(record):
            return (self.tell(record, result, since_s),)
        again = self.sent_dead_letters.sent(record)
        # a parked event is the consequence of a letter that was counted
        counts = not again and not isinstance(error, ParkedError)
        if counts and not self.brake.admits():
            raise HoldError("too much became a dead letter", wait_s=_BRAKED_S, code="brake")
        message = dead_letter_message(
            record,
            error,
            topic=self.dead_letters_topic,
            stage=step,
            group=self.group_id,
            schema_id=result.schema_id,
            event_id=result.event_id,
            time=self.clock.now(),
            bridge_version=__version__,
        )
        with _must_be_written(record):
            letter = _DeadLetterAcknowledgement(self.letters.publish(message), record)
        # even where it arrives, the record comes again if the news of it does not
        self.sent_dead_letters.note(record)
        if not again:
            self.metrics.dead_letter(self.stage, error.code)
        return (letter, self.tell(record, result, since_s))


class _DeadLetterAcknowledgement:
    """Turns it into DeadLetterError where Kafka refuses the letter for good."""

    def __init__(self, acknowledgement: Acknowledgement, record: Record) -> None:
        self._acknowledgement = acknowledgement
        self._record = record

    def then(self, done: Callable[[BridgeError | None], None]) -> None:
        def arrived(error: BridgeError | None) -> None:
            refused = isinstance(error, BrokerAccessError)
            done(_not_written(self._record, error) if error and refused else error)

        self._acknowledgement.then(arrived)


@contextlib.contextmanager
def _must_be_written(record: Record) -> Iterator[None]:
    try:
        yield
    except BrokerAccessError as error:
        raise _not_written(record, error) from error


def _not_written(record: Record, error: BridgeError) -> DeadLetterError:
    return DeadLetterError(
        f"the dead letter for {record.topic}/{record.partition}@{record.offset} "
        f"could not be written: {error.message}",
        remedy=error.remedy,
    )
