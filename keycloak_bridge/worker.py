"""Poll one topic, have each record handled in order, commit what is done.

One record at a time: parallel lanes are a matter of this module alone, since a stage promises only that a record is
done when its acknowledgements are in.
"""

import contextlib
import logging
import random
import threading
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from typing import Protocol

from keycloak_bridge.core.errors import (
    BridgeError,
    BrokerError,
    BrokerUnavailableError,
    Disposition,
    KeycloakError,
    PartitionRevokedError,
)
from keycloak_bridge.core.model import Record, TopicPartition
from keycloak_bridge.core.ports import Acknowledgement, Clock, EventSource
from keycloak_bridge.core.retry import RetryPolicy, delay_s
from keycloak_bridge.core.status import Status
from keycloak_bridge.logs import log_event

logger = logging.getLogger(__name__)

JOINING = "joining the consumer group"
"""Why a stage is not ready before Kafka has settled its group."""

_POLL_S = 0.5
_ACKNOWLEDGE_S = 60.0
_LAST_ACKNOWLEDGE_S = 5.0
"""How long the end waits for what is on its way; what does not arrive is handled again by the next run."""
_IDLE_CHECK_S = 5.0
_SLICE_S = 2.0
"""How long records are handled before the next poll, well below any max.poll.interval."""


Until = Callable[[], Mapping[TopicPartition, int] | None]
"""Answers the offsets to reach, or None while they are not known yet."""


class RecordHandler(Protocol):
    """A stage."""

    def handle(self, record: Record) -> Sequence[Acknowledgement]:
        """Return what must be acknowledged before `record` counts as done."""
        ...


class Worker:
    """Runs one stage until it is told to stop or has caught up."""

    def __init__(
        self,
        name: str,
        source: EventSource,
        handler: RecordHandler,
        *,
        clock: Clock,
        status: Status,
        retry: RetryPolicy,
        jitter: Callable[[], float] = random.random,
    ) -> None:
        self.name = name
        self._source = source
        self._handler = handler
        self._clock = clock
        self._status = status
        self._retry = retry
        self._jitter = jitter
        self._pending: deque[Record] = deque()
        self._unacknowledged: deque[tuple[Record, Sequence[Acknowledgement]]] = deque()
        self._done: dict[TopicPartition, int] = {}
        self._committed: dict[TopicPartition, int] = {}
        self._to_rewind: dict[TopicPartition, int] = {}
        self._attempt = 0
        self._resume_at = 0.0
        self._check_at = 0.0

    def run(self, stop: threading.Event, until: Until | None = None) -> None:
        """Handle records until `stop` is set, or until the group's commits reach the offsets of `until`.

        `until` is asked after each turn and answers None while the end is not known yet. Whatever is done when the run
        ends is committed, whatever came later is left to the next run. Raises BridgeError when the flow must stop.
        """
        self._status.set_problem(self.name, JOINING)
        try:
            while not stop.is_set():
                self._turn(stop)
                if until is not None and self._caught_up(until):
                    break
        finally:
            self._finish()

    def _turn(self, stop: threading.Event) -> None:
        self._status.beat(self.name, self._clock.monotonic())
        try:
            self._drop_revoked()
            self._rewind()
            self._fetch()
            if self._pending and self._clock.monotonic() >= self._resume_at:
                self._handle_slice(stop)
            self._settle()
            self._step_over_markers()
            self._check_while_idle()
        except PartitionRevokedError as error:
            log_event(logger, "rebalancing", level=logging.DEBUG, reason=error.code)
        except BrokerUnavailableError as error:
            self._hand_back()
            self._back_off(error)
        else:
            self._tell_when_ready()

    def _tell_when_ready(self) -> None:
        if self._attempt or not self._source.joined():
            return
        if self._status.set_problem(self.name, None):
            log_event(logger, "ready", stage=self.name)

    def _fetch(self) -> None:
        """Poll: for records when there is nothing in hand, else only to stay a member of the group."""
        waiting_s = max(self._resume_at - self._clock.monotonic(), 0.0)
        self._source.set_paused(bool(self._pending))
        self._pending.extend(
            self._source.poll(min(_POLL_S, waiting_s) if self._pending else _POLL_S)
        )

    def _handle_slice(self, stop: threading.Event) -> None:
        """Handle pending records for a while; an error that can pass leaves its record at the head."""
        until_s = self._clock.monotonic() + _SLICE_S
        while self._pending and not stop.is_set() and self._clock.monotonic() < until_s:
            record = self._pending[0]
            try:
                acknowledgements = self._handler.handle(record)
            except BridgeError as error:
                if error.disposition is not Disposition.RETRY:
                    raise
                self._back_off(error)
                return
            self._pending.popleft()
            self._unacknowledged.append((record, acknowledgements))
            self._attempt = 0

    def _settle(self, wait_s: float = _ACKNOWLEDGE_S) -> None:
        """Wait for what was published, then commit the records it belongs to."""
        while self._unacknowledged:
            record, acknowledgements = self._unacknowledged[0]
            for acknowledgement in acknowledgements:
                acknowledgement.wait(wait_s)
            self._unacknowledged.popleft()
            self._done[record.topic_partition] = record.offset + 1
        self._commit(self._done)
        self._done = {}

    def _step_over_markers(self) -> None:
        """With nothing in hand, commit positions: no record ever stands for a transaction's marker."""
        if not self._pending:
            self._commit(self._source.positions())

    def _check_while_idle(self) -> None:
        """Ask Kafka something now and then: a poll that brings nothing would never tell that it is gone."""
        now_s = self._clock.monotonic()
        if self._pending or now_s < max(self._resume_at, self._check_at):
            return
        self._check_at = now_s + _IDLE_CHECK_S
        self._source.end_offsets()
        self._attempt = 0

    def _commit(self, offsets: Mapping[TopicPartition, int]) -> None:
        news = {at: offset for at, offset in offsets.items() if self._committed.get(at) != offset}
        if news:
            self._source.commit(news)
            self._committed.update(news)

    def _drop_revoked(self) -> None:
        """Forget everything of partitions that were taken away.

        One that came back meanwhile is read again from the first record forgotten: its position may stand behind
        records that the last poll brought, and nothing else would ever bring them again.
        """
        revoked = self._source.take_revoked()
        if not revoked:
            return
        unfinished = [*(record for record, _ in self._unacknowledged), *self._pending]
        first: dict[TopicPartition, int] = {}
        for record in unfinished:
            at = record.topic_partition
            if at in revoked:
                first[at] = min(record.offset, first.get(at, record.offset))
        self._pending = deque(r for r in self._pending if r.topic_partition not in revoked)
        self._unacknowledged = deque(
            pair for pair in self._unacknowledged if pair[0].topic_partition not in revoked
        )
        for partition in revoked:
            self._done.pop(partition, None)
            self._committed.pop(partition, None)
        for at, offset in first.items():
            self._to_rewind[at] = min(offset, self._to_rewind.get(at, offset))

    def _rewind(self) -> None:
        """Go back to what was forgotten; tried again next turn when it fails, before anything is fetched."""
        if self._to_rewind:
            self._source.rewind(self._to_rewind)
            self._to_rewind = {}

    def _hand_back(self) -> None:
        """Handle again what was not acknowledged: every write is idempotent."""
        self._pending.extendleft(record for record, _ in reversed(self._unacknowledged))
        self._unacknowledged.clear()

    def _back_off(self, error: BridgeError) -> None:
        self._attempt += 1
        retry_after_s = error.retry_after_s if isinstance(error, KeycloakError) else None
        wait_s = delay_s(self._retry, self._attempt, self._jitter(), retry_after_s)
        self._resume_at = self._clock.monotonic() + wait_s
        news = self._status.set_problem(self.name, error.message)
        log_event(
            logger,
            "waiting",
            level=logging.WARNING if news else logging.DEBUG,
            message=f"{error.message}; trying again until it works",
            stage=self.name,
            reason=error.code,
            attempt=self._attempt,
        )

    def _caught_up(self, until: Until) -> bool:
        if self._attempt or self._unacknowledged or self._done or not self._source.joined():
            return False
        try:
            targets = until()
            if targets is None:
                return False
            if any(self._committed.get(at, offset) < offset for at, offset in targets.items()):
                return False
            # partitions of other members count too, so the group's commits are asked for, not ours
            committed = self._source.committed()
        except PartitionRevokedError:
            return False
        except BrokerUnavailableError as error:
            self._back_off(error)
            return False
        return all(committed.get(at, 0) >= offset for at, offset in targets.items())

    def _finish(self) -> None:
        """Commit what is done and leave; what cannot be committed is handled again by the next member."""
        try:
            self._settle(_LAST_ACKNOWLEDGE_S)
        except BrokerError as error:
            log_event(logger, "commit-failed", level=logging.WARNING, reason=error.code)
        self._status.forget(self.name)
        with contextlib.suppress(BrokerError):
            self._source.close()
