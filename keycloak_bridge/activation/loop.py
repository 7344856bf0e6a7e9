"""Read the invitations topic as a group of its own, and have the ledger watch what is open in the partitions in hand.

The group's commits are all that is kept: the offset of the first open invitation, and a note (open_invitations.py). After a
restart or a rebalance the records from there on are read again, and that is the whole state. Nothing here stops the flow: an
outage is waited for, and what cannot work at all ends this loop alone, with a line in the log and a note in `/ready`.
"""

import contextlib
import logging
import threading
import time
from collections.abc import Mapping

from keycloak_bridge.activation.ledger import STAGE, Ledger
from keycloak_bridge.delivery.fencing import Lease
from keycloak_bridge.delivery.group_position import is_of_another_topic
from keycloak_bridge.delivery.group_stamp import GroupStamp, notes_of
from keycloak_bridge.domain.errors import (
    BridgeError,
    BrokerError,
    BrokerUnavailableError,
    PartitionRevokedError,
)
from keycloak_bridge.domain.events import Commit, TopicPartition
from keycloak_bridge.domain.ports import Clock, RecordConsumer
from keycloak_bridge.ops.logs import log_event
from keycloak_bridge.ops.metrics import Metrics
from keycloak_bridge.ops.status import Status

logger = logging.getLogger(__name__)

_POLL_S, _BUSY_POLL_S = 1.0, 0.05
_WORK_S = 1.0
"""Longest time between two polls, but for one slow call: a rebalance waits for the next poll."""

_COMMIT_EVERY_S = 5.0
_ENDS_EVERY_S = 5.0
_PAUSE_S = 0.5
_DRAIN_S = 2.0
"""How long the end waits for what was published, so that it need not be published again."""


class ActivationLoop:
    """Runs the ledger until it is stopped."""

    def __init__(
        self,
        source: RecordConsumer,
        ledger: Ledger,
        clock: Clock,
        status: Status,
        metrics: Metrics,
        stamp: GroupStamp,
        session_s: float = 6.0,
    ) -> None:
        self._source = source
        self._ledger = ledger
        self._clock = clock
        self._status = status
        self._metrics = metrics
        self._stamp = stamp
        self._lease = Lease(session_s / 2)
        self._topic_id: str | None = None
        self._committed: dict[TopicPartition, Commit] = {}
        self._ends: Mapping[TopicPartition, int] = {}
        self._commit_at_s = self._ends_at_s = float("-inf")

    def run(self, stop: threading.Event) -> None:
        """Watch until `stop` is set; raises nothing but what is a fault of the bridge."""
        self._source.when_revoked(self._release)
        try:
            while not stop.is_set():
                try:
                    self.turn()
                except PartitionRevokedError:
                    continue  # the next poll resolves it
                except BrokerUnavailableError:
                    stop.wait(_PAUSE_S)
        except BridgeError as error:
            give_up(self._status, self._metrics, error)
        finally:
            deadline_s = self._clock.monotonic() + _DRAIN_S
            while self._ledger.is_waiting() and self._clock.monotonic() < deadline_s:
                time.sleep(_BUSY_POLL_S)
            with contextlib.suppress(BrokerError):
                self._commit()
            with contextlib.suppress(BrokerError):
                self._source.close()

    def turn(self) -> None:
        """Read what is new, look at people, commit what is due; raises BrokerError or ConfigError."""
        self._start_assigned()
        timeout_s = _BUSY_POLL_S if self._ledger.is_busy() else _POLL_S
        records = self._source.poll(timeout_s, lambda at: at not in self._ledger.partitions())
        self._source.take_offset_resets()  # an offset that is gone: what is read next comes from the beginning
        for record in records:
            self._ledger.accept(record)
        until_s = self._clock.monotonic() + _WORK_S
        self._ledger.work(self._read_to_end(), until_s, self._may_write)
        if self._clock.monotonic() >= self._commit_at_s:
            self._commit()

    def _start_assigned(self) -> None:
        topic_id = self._source.topic_id()
        if topic_id is not None and topic_id != self._topic_id:
            if self._topic_id is not None:
                self._ledger.release(self._ledger.partitions())  # the topic was made anew
            self._topic_id = topic_id
        assigned = self._source.assigned()
        gone = self._ledger.partitions() - assigned
        if gone:
            self._ledger.release(gone)
        new = assigned - self._ledger.partitions()
        if not new:
            return
        commits = self._source.commits(new)
        self._stamp.mapping_of(commit.metadata for commit in commits.values())
        begins = self._source.begin_offsets(new)
        for partition in new:
            begin = begins.get(partition, 0)
            commit = commits.get(partition, Commit(begin))
            if is_of_another_topic(commit, self._topic_id):
                commit = Commit(begin)
            self._committed[partition] = commit
            self._source.seek(partition, max(commit.offset, begin))
            self._ledger.start(partition, commit, notes_of(commit.metadata))

    def _read_to_end(self) -> frozenset[TopicPartition]:
        """Return the partitions that were read to the end that they had a few seconds ago."""
        now_s = self._clock.monotonic()
        if now_s >= self._ends_at_s:
            self._ends = self._source.end_offsets()
            self._ends_at_s = now_s + _ENDS_EVERY_S
        positions = self._source.positions()
        return frozenset(
            at for at, offset in positions.items() if offset >= self._ends.get(at, offset + 1)
        )

    def _may_write(self) -> bool:
        """Say whether the partitions are still this member's, as a commit proves."""
        if not self._lease.holds(self._clock.monotonic()):
            self._commit(unchanged=True)
        return self._lease.holds(self._clock.monotonic())

    def _commit(self, *, unchanged: bool = False) -> None:
        asked_at_s = self._clock.monotonic()
        self._commit_at_s = asked_at_s + _COMMIT_EVERY_S
        commits = {
            at: self._stamped(commit)
            for at, commit in self._ledger.commits().items()
            if at in self._source.assigned()
        }
        due = {
            at: one for at, one in commits.items() if unchanged or self._committed.get(at) != one
        }
        if due:
            self._source.commit(due)
            self._committed.update(due)
            self._lease.renew(asked_at_s)

    def _release(
        self, partitions: frozenset[TopicPartition], lost: bool
    ) -> Mapping[TopicPartition, Commit]:
        commits = self._ledger.release(partitions)
        return {} if lost else {at: self._stamped(one) for at, one in commits.items()}

    def _stamped(self, commit: Commit) -> Commit:
        return Commit(commit.offset, self._stamp.on(commit.metadata, self._topic_id))


def give_up(status: Status, metrics: Metrics, error: BridgeError) -> None:
    """Report that nobody is watched by this process until it is started again."""
    metrics.activation_off()
    status.note(
        STAGE, f"results activated and invitation-expired are not published: {error.message}"
    )
    log_event(
        logger,
        "activation-off",
        level=logging.ERROR,
        message=f"{error.message}; results activated and invitation-expired are not published by this process",
        stage=STAGE,
        reason=error.code,
    )
