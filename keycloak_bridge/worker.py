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

_POLL_S = 0.5
_ACKNOWLEDGE_S = 60.0
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
        self._attempt = 0
        self._resume_at = 0.0

    def run(self, stop: threading.Event, until: Until | None = None) -> None:
        """Handle records until `stop` is set, or until the group's commits reach the offsets of `until`.

        `until` is asked on idle turns and answers None while the end is not known yet. Whatever is done when the run
        ends is committed. Raises BridgeError when the flow must stop.
        """
        self._status.set_problem(self.name, "joining the consumer group")
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
            self._fetch()
            if self._pending and self._clock.monotonic() >= self._resume_at:
                self._handle_slice(stop)
            self._settle()
            self._step_over_markers()
        except PartitionRevokedError as error:
            log_event(logger, "rebalancing", level=logging.DEBUG, reason=error.code)
        except BrokerUnavailableError as error:
            self._hand_back()
            self._back_off(error)
        else:
            self._tell_when_ready()

    def _tell_when_ready(self) -> None:
        if not self._pending:
            # a whole turn went well and no record waits for another attempt: the outage is over
            self._attempt = 0
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

    def _settle(self) -> None:
        """Wait for what was published, then commit the records it belongs to."""
        while self._unacknowledged:
            record, acknowledgements = self._unacknowledged[0]
            for acknowledgement in acknowledgements:
                acknowledgement.wait(_ACKNOWLEDGE_S)
            self._unacknowledged.popleft()
            self._done[record.topic_partition] = record.offset + 1
        self._commit(self._done)
        self._done = {}

    def _step_over_markers(self) -> None:
        """With nothing in hand, commit positions: no record ever stands for a transaction's marker."""
        if not self._pending:
            self._commit(self._source.positions())

    def _commit(self, offsets: Mapping[TopicPartition, int]) -> None:
        news = {at: offset for at, offset in offsets.items() if self._committed.get(at) != offset}
        if news:
            self._source.commit(news)
            self._committed.update(news)

    def _drop_revoked(self) -> None:
        """Forget everything of partitions that another member reads now."""
        revoked = self._source.take_revoked()
        if not revoked:
            return
        self._pending = deque(r for r in self._pending if r.topic_partition not in revoked)
        self._unacknowledged = deque(
            pair for pair in self._unacknowledged if pair[0].topic_partition not in revoked
        )
        for partition in revoked:
            self._done.pop(partition, None)
            self._committed.pop(partition, None)

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
        if self._pending or self._attempt or self._unacknowledged or self._done:
            return False
        try:
            targets = until()
            if targets is None:
                return False
            # partitions of other members count too, so the group's commits are asked for, not ours
            committed = self._source.committed()
        except BrokerUnavailableError as error:
            self._back_off(error)
            return False
        return all(committed.get(at, 0) >= offset for at, offset in targets.items())

    def _finish(self) -> None:
        """Commit what is done and leave; what cannot be committed is handled again by the next member."""
        try:
            self._settle()
        except BrokerError as error:
            log_event(logger, "commit-failed", level=logging.WARNING, reason=error.code)
        self._status.forget(self.name)
        with contextlib.suppress(BrokerError):
            self._source.close()
