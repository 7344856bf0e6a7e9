"""What is in hand of one stage: which record may be worked on, which is done, what may be committed.

Three kinds of threads meet here, under one lock: the poll thread brings records and commits, the crew takes tasks and
says what became of them, and kafka-python's own thread asks for partitions back.
"""

import random
import threading
from collections.abc import Callable, Iterable, Mapping

from keycloak_bridge.arrivals import Arrivals
from keycloak_bridge.core.brake import Brake
from keycloak_bridge.core.breaker import BreakerState
from keycloak_bridge.core.errors import BridgeError
from keycloak_bridge.core.handled import Handled
from keycloak_bridge.core.holdings import Holdings
from keycloak_bridge.core.in_hand import DeliveryPolicy, InHand
from keycloak_bridge.core.lanes import Lanes, Task
from keycloak_bridge.core.lease import Lease
from keycloak_bridge.core.lost_users import LostUsers
from keycloak_bridge.core.model import Commit, Record, TopicPartition
from keycloak_bridge.core.offsets import OffsetTracker
from keycloak_bridge.core.ports import Clock
from keycloak_bridge.core.proof import Proof
from keycloak_bridge.core.room import Room
from keycloak_bridge.core.standstill import Standstill
from keycloak_bridge.core.trouble import Trouble

__all__ = ["Delivery", "DeliveryPolicy", "InHand"]


class Delivery:
    """The records of one stage between being read and being committed. Safe to share between threads."""

    def __init__(
        self,
        policy: DeliveryPolicy,
        lease: Lease,
        *,
        clock: Clock,
        brake: Brake,
        lost: LostUsers,
        jitter: Callable[[], float] = random.random,
    ) -> None:
        self._policy = policy
        self._lease = lease
        self._clock = clock
        self._brake = brake
        self._jitter = jitter
        self._changed = threading.RLock()
        self._work = threading.Condition(self._changed)  # there may be more to begin
        self._rest = threading.Condition(self._changed)  # less is running
        self._lanes = Lanes()
        self._holdings = Holdings(lost)
        self._trouble = Trouble(policy.retry, policy.max_attempts)
        self._running: dict[Task, OffsetTracker] = {}
        self._standstill = Standstill()
        self._room = Room(policy.max_records, policy.max_bytes)
        self._stopping = False
        self._ended = False
        self._finished = 0
        self._fatal: BaseException | None = None

    # the poll thread

    def partitions(self) -> frozenset[TopicPartition]:
        """Return the partitions that were started and not released."""
        with self._changed:
            return self._holdings.partitions()

    def start(self, partition: TopicPartition, commit: Commit) -> None:
        """Begin with a partition from what the group committed for it."""
        with self._changed:
            self._holdings.start(partition, commit)

    def accept(self, records: Iterable[tuple[Record, bytes]]) -> None:
        """Take records, each with its lane, in the order of their offsets.

        One of a partition that was not started is left out; it must be read again after `start`.
        """
        with self._changed:
            for record, lane in records:
                partition = record.topic_partition
                if self._holdings.begins_anew(partition, record.offset):
                    self._lanes.drop(partition)
                    self._holdings.start(partition, Commit(record.offset))
                tracker = self._holdings.tracker(partition)
                if tracker is not None and tracker.deliver(record.offset):
                    self._lanes.add(record, lane)
            if self._lanes.records:  # a crew at rest would wake at every poll for nothing
                # one more than needed: it sees what changes without a word, such as a released brake
                self._work.notify(self._lanes.ready + 1)

    def held(self, partition: TopicPartition) -> bool:
        """Say whether nothing more should be fetched of `partition` for now; nothing is before its start."""
        with self._changed:
            if self._stopping or self._brake.reason is not None:
                return True
            if self._holdings.tracker(partition) is None:
                return True
            lanes = self._lanes
            if self._trouble.state is not BreakerState.CLOSED and lanes.records:
                return True  # with nothing in hand, nothing could ever probe
            of_it = lanes.records_of(partition)
            return not self._room.has(lanes.records, lanes.size_bytes, of_it)

    def commits(
        self, positions: Mapping[TopicPartition, int], *, unchanged: bool = False
    ) -> Mapping[TopicPartition, Commit]:
        """Return what may be committed now; what was committed as it is already only where `unchanged` asks for it.

        `positions` let a partition with nothing in hand step over transaction markers.
        """
        with self._changed:
            self._finished = 0
            return self._holdings.commits(positions, unchanged=unchanged)

    def committed(self, commits: Mapping[TopicPartition, Commit], asked_at_s: float) -> None:
        """Note what Kafka has confirmed, which also proves the membership as of second `asked_at_s`."""
        with self._changed:
            self._holdings.committed(commits)
            self._lease.renew(asked_at_s)
            if self._lanes.records:
                self._work.notify_all()

    def offsets(self) -> Mapping[TopicPartition, int]:
        """Return what was committed last of each partition in hand."""
        with self._changed:
            return self._holdings.offsets()

    def look(self) -> InHand:
        """Return what is in hand; raises what the crew found to be a reason to stop."""
        with self._changed:
            if self._fatal is not None:
                raise self._fatal
            return InHand(
                records=self._lanes.records,
                size_bytes=self._lanes.size_bytes,
                running=self._lanes.running(),
                finished=self._finished,
                oldest_s=self._standstill.oldest_s(
                    self._holdings.first_unfinished(), self._clock.monotonic()
                ),
                full=self._room.full,
                breaker=self._trouble.state,
                problem=self._trouble.problem,
            )

    def running(self) -> int:
        """Return how many records are being worked on, or on their way to Kafka."""
        with self._changed:
            return self._lanes.running()

    def wait_idle(self, timeout_s: float) -> None:
        """Wait until nothing is running, for `timeout_s` seconds at most."""
        with self._changed:
            self._rest.wait_for(lambda: not self._lanes.running(), timeout_s)

    def stop(self, *, dismiss: bool = False) -> None:
        """Begin nothing new; what is running may end. With `dismiss`, send the crew home as well."""
        with self._changed:
            self._stopping = True
            self._ended = self._ended or dismiss
            self._work.notify_all()

    # kafka-python's thread

    def release(
        self, partitions: frozenset[TopicPartition], lost: bool
    ) -> Mapping[TopicPartition, Commit]:
        """Give up `partitions`: wait for what is running of them, forget the rest, say what to commit.

        Waits `release_s` seconds at most. What runs on after that is fenced off and does not count.
        """
        with self._changed:
            for partition in partitions:
                self._lanes.drop(partition)
            if not lost:
                self._rest.wait_for(
                    lambda: not any(map(self._lanes.running, partitions)), self._policy.release_s
                )
            commits = self._holdings.release(partitions)
            self._work.notify_all()
        return {} if lost else commits

    # the crew

    def take(self) -> Task | None:
        """Wait for a record that may be worked on; None when the crew may go home."""
        with self._changed:
            while not self._ended:
                task = self.try_take()
                if task is not None:
                    self._relay()
                    return task
                self._work.wait(self._pause_s())
            return None

    def try_take(self) -> Task | None:
        """Return a record that may be worked on at once, or None."""
        with self._changed:
            now_s = self._clock.monotonic()
            if self._stopping or self._brake.reason is not None or not self._lease.holds(now_s):
                return None
            if not self._lanes.has_ready(now_s) or not self._trouble.admits(now_s):
                return None
            task = self._lanes.take(now_s)
            tracker = None if task is None else self._holdings.tracker(task.record.topic_partition)
            if task is not None and tracker is not None:
                self._running[task] = tracker
            return task

    def may_write(self, task: Task) -> bool:
        """Say whether the record is still this member's, and the membership is proven."""
        with self._changed:
            tracker = self._holdings.tracker(task.record.topic_partition)
            mine = tracker is not None and self._running.get(task) is tracker
            return mine and self._lease.holds(self._clock.monotonic())

    def settle(self, task: Task, handled: Handled) -> None:
        """Count `task` as done once everything it published has arrived."""
        if not handled.acknowledgements:
            self._done(task, handled.proof)
            return

        def arrived(error: BridgeError | None) -> None:
            if error is None:
                self._done(task, handled.proof | Proof.KAFKA)
            else:
                self.postpone(task, error)

        arrivals = Arrivals(len(handled.acknowledgements), arrived)
        for acknowledgement in handled.acknowledgements:
            acknowledgement.then(arrivals.note)

    def failed(self, task: Task, error: BridgeError) -> bool:
        """Note a failure; True when the record is to be given up, else it is tried again later."""
        with self._changed:
            # whoever has the record now may well succeed with it
            if self._trouble.gives_up(task, error) and self.may_write(task):
                return True
        self.postpone(task, error)
        return False

    def postpone(self, task: Task, error: BridgeError) -> None:
        """Have the record tried again later, or the flow stop, as the error wants it."""
        with self._changed:
            now_s = self._clock.monotonic()
            until_s = self._trouble.failed(task, error, now_s, self._jitter())
            if until_s is None:
                self.fail(error)
            self._running.pop(task, None)
            self._lanes.put_back(task, now_s if until_s is None else until_s)
            self._work.notify()
            self._rest.notify_all()

    def fail(self, error: BaseException) -> None:
        """Stop the flow: the poll thread raises `error` at its next look."""
        with self._changed:
            self._fatal = self._fatal or error
            self._stopping = True
            self._work.notify_all()

    def _done(self, task: Task, proof: Proof) -> None:
        with self._changed:
            troubled = self._trouble.state is not BreakerState.CLOSED
            self._trouble.worked(proof)
            tracker = self._running.pop(task, None)
            if tracker is not None:
                tracker.finish(task.record.offset)
            before = self._lanes.ready
            self._lanes.finish(task)
            self._finished += 1
            if troubled:
                self._work.notify_all()
            elif self._lanes.ready > before:
                self._work.notify()
            self._rest.notify_all()

    def _relay(self) -> None:
        """Wake another of the crew: whoever leaves for work may have been the only one to know of more, or when to look."""
        if self._lanes.ready or self._pause_s() is not None:
            self._work.notify()

    def _pause_s(self) -> float | None:
        """Return how long nothing can change by itself; None: only a notification can change it."""
        now_s = self._clock.monotonic()
        moments = (self._lanes.next_at_s(), self._trouble.probe_at_s)
        return min((at - now_s for at in moments if at is not None and at > now_s), default=None)
