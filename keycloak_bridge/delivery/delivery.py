"""The records of one stage in hand: which may be worked on, which are done, what may be committed.

Three kinds of threads meet here, under one lock: the poll thread brings records and commits, the workers take tasks and
report what became of them, and kafka-python's own thread asks for partitions back.
"""

import random
import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

from keycloak_bridge.delivery.backpressure import Backpressure
from keycloak_bridge.delivery.breaker import BreakerState, RetryPolicy
from keycloak_bridge.delivery.failures import FailurePolicy
from keycloak_bridge.delivery.fencing import Lease
from keycloak_bridge.delivery.key_queues import KeyQueues, Task
from keycloak_bridge.delivery.offsets import OffsetTracker, PartitionStates
from keycloak_bridge.delivery.stage_context import StageContext
from keycloak_bridge.domain.errors import BridgeError, Dependency
from keycloak_bridge.domain.events import Commit, Record, TopicPartition
from keycloak_bridge.domain.ports import Acknowledgement, Handled
from keycloak_bridge.threads.brief_lock import BriefLock, condition


@dataclass(frozen=True, slots=True)
class DeliveryPolicy:
    """How much may be in hand, how often a record may fail, how long giving up a partition may take."""

    retry: RetryPolicy
    max_records: int = 1000
    max_bytes: int = 32 * 1024 * 1024
    max_attempts: int = 8
    release_s: float = 2.0


@dataclass(frozen=True, slots=True)
class InHand:
    """A look at the delivery, for the poll thread and for metrics.

    `finished` counts since the last commit, `done` since the start; `oldest_s` is how long one record has held up the slowest
    partition; `held` counts the records that wait although nothing failed, by the code of their HoldError.
    """

    records: int
    size_bytes: int
    running: int
    finished: int
    done: int
    oldest_s: float
    full: bool
    breaker: BreakerState
    problem: BridgeError | None
    held: Mapping[str, int]


class Delivery:
    """The records of one stage between being read and being committed. Safe to share between threads."""

    def __init__(
        self,
        policy: DeliveryPolicy,
        lease: Lease,
        context: StageContext,
        jitter: Callable[[], float] = random.random,
    ) -> None:
        self._policy = policy
        self._lease = lease
        self._clock = context.clock
        self._brake = context.brake
        self._retried = partial(context.metrics.retried, context.name)
        self._jitter = jitter
        self._changed = BriefLock()
        self._work = condition(self._changed)  # there may be more to begin
        self._idle = condition(self._changed)  # less is running
        self._key_queues = KeyQueues()
        self._partition_states = PartitionStates(context.dead_lettered_users, context.stamp)
        self._failures = FailurePolicy(policy.retry, policy.max_attempts)
        self._running: dict[Task, OffsetTracker] = {}
        self._backpressure = Backpressure(policy.max_records, policy.max_bytes)
        self._stopping = False
        self._ended = False
        self._finished = self._done_in_all = 0
        self._fatal: BaseException | None = None

    # the poll thread

    def partitions(self) -> frozenset[TopicPartition]:
        """Return the partitions that were started and not released."""
        with self._changed:
            return self._partition_states.partitions()

    def start(self, partition: TopicPartition, commit: Commit, topic_id: str | None = None) -> None:
        """Begin with a partition from what the group committed for it, in the topic with this id."""
        with self._changed:
            self._partition_states.start(partition, commit, topic_id)

    def accept(self, records: Iterable[tuple[Record, bytes]]) -> None:
        """Take records, each with its ordering key, in the order of their offsets.

        One of a partition that was not started is left out; it must be read again after `start`.
        """
        with self._changed:
            for record, ordering_key in records:
                partition = record.topic_partition
                if self._partition_states.restarts(partition, record.offset):
                    self._key_queues.drop(partition)
                    self._partition_states.restart(partition, record.offset)
                tracker = self._partition_states.tracker(partition)
                if tracker is not None and tracker.deliver(record.offset):
                    self._key_queues.add(record, ordering_key)
            if self._key_queues.records:  # idle workers would wake at every poll for nothing
                # one more than needed: it sees what changes without a notification, such as a released brake
                self._work.notify(self._key_queues.ready + 1)

    def held(self, partition: TopicPartition) -> bool:
        """Say whether nothing more should be fetched of `partition` for now; nothing is before its start."""
        with self._changed:
            if self._stopping or self._brake.reason is not None:
                return True
            if self._partition_states.tracker(partition) is None:
                return True
            key_queues = self._key_queues
            untried = key_queues.keys > self._failures.failing
            if self._failures.breaker.state is not BreakerState.CLOSED and untried:
                return True  # where all in hand has failed, only another record can show that the service works
            of_it = key_queues.records_of(partition)
            return not self._backpressure.admits(key_queues.records, key_queues.size_bytes, of_it)

    def commits(
        self, positions: Mapping[TopicPartition, int], *, unchanged: bool = False
    ) -> Mapping[TopicPartition, Commit]:
        """Return what may be committed now; what was committed as it is already only where `unchanged` asks for it.

        `positions` let a partition with nothing in hand step over transaction markers.
        """
        with self._changed:
            self._finished = 0
            return self._partition_states.commits(positions, unchanged=unchanged)

    def committed(self, commits: Mapping[TopicPartition, Commit], asked_at_s: float) -> None:
        """Note what Kafka has confirmed, which also proves the membership as of second `asked_at_s`."""
        with self._changed:
            self._partition_states.committed(commits)
            self._lease.renew(asked_at_s)
            if self._key_queues.records:
                self._work.notify_all()

    def offsets(self) -> Mapping[TopicPartition, int]:
        """Return what was committed last of each partition in hand."""
        with self._changed:
            return self._partition_states.offsets()

    def next_offsets(self) -> Mapping[TopicPartition, int]:
        """Return the offset of each partition in hand that comes after the last one that was accepted."""
        with self._changed:
            return self._partition_states.next_offsets()

    def look(self) -> InHand:
        """Return what is in hand; raises the error of a worker that stops the flow."""
        with self._changed:
            if self._fatal is not None:
                raise self._fatal
            return InHand(
                records=self._key_queues.records,
                size_bytes=self._key_queues.size_bytes,
                running=self._key_queues.running(),
                finished=self._finished,
                done=self._done_in_all,
                oldest_s=self._partition_states.oldest_s(self._clock.monotonic()),
                full=self._backpressure.full,
                breaker=self._failures.breaker.state,
                problem=self._failures.problem,
                held=self._failures.held,
            )

    def undecided_mails(self) -> int:
        """Return how many mails are all that is left in hand, none of which can be told from an outage; else 0."""
        with self._changed:
            undecided = self._failures.undecided
            if not undecided or self._key_queues.running():
                return 0
            heads = list(self._key_queues.heads())
            return len(heads) if all(head in undecided for head in heads) else 0

    def running(self) -> int:
        """Return how many records are being worked on, or on their way to Kafka."""
        with self._changed:
            return self._key_queues.running()

    def wait_idle(self, timeout_s: float) -> None:
        """Wait until nothing is running, for `timeout_s` seconds at most."""
        with self._changed:
            self._idle.wait_for(lambda: not self._key_queues.running(), timeout_s)

    def stop(self, *, dismiss: bool = False) -> None:
        """Begin nothing new; what is running may end. With `dismiss`, let the workers end as well."""
        with self._changed:
            self._stopping = True
            self._ended = self._ended or dismiss
            self._work.notify_all()

    # kafka-python's thread

    def release(
        self, partitions: frozenset[TopicPartition], lost: bool
    ) -> Mapping[TopicPartition, Commit]:
        """Give up `partitions`: wait for what is running of them, forget the rest, return what to commit.

        Waits `release_s` seconds at most. What runs on after that is fenced off and does not count.
        """
        with self._changed:
            for partition in partitions:
                self._key_queues.drop(partition)
            if not lost:
                self._idle.wait_for(
                    lambda: not any(map(self._key_queues.running, partitions)),
                    self._policy.release_s,
                )
            commits = self._partition_states.release(partitions)
            self._work.notify_all()
        return {} if lost else commits

    # the workers

    def take(self) -> Task | None:
        """Wait for a record that may be worked on; None when the worker should end."""
        with self._changed:
            while not self._ended:
                task = self._take()
                if task is not None:
                    self._relay()
                    return task
                self._work.wait(self._pause_s())
            return None

    def may_write(self, task: Task) -> bool:
        """Say whether the record is still this member's, and the membership is proven."""
        with self._changed:
            return self._may_write(task)

    def settle(self, task: Task, handled: Handled) -> None:
        """Count `task` as done once everything it published has arrived."""
        if not handled.acknowledgements:
            self._done(task, handled.dependency)
            return

        def arrived(error: BridgeError | None) -> None:
            try:
                if error is None:
                    self._done(task, handled.dependency | Dependency.KAFKA)
                else:
                    self._retried(error.code)
                    self.postpone(task, error)
            except BaseException as fault:  # noqa: BLE001 # the poll thread raises it
                self.fail(fault)

        when_all(handled.acknowledgements, arrived)

    def failed(self, task: Task, error: BridgeError) -> bool:
        """Note a failure; True when the record is to be given up, else it is tried again later."""
        with self._changed:
            # another member that has the record by now may well succeed with it
            if self._failures.count_failure(task, error) and self._may_write(task):
                return True
        self.postpone(task, error)
        return False

    def postpone(self, task: Task, error: BridgeError) -> None:
        """Have the record tried again later, or the flow stop, as the error wants it."""
        with self._changed:
            now_s = self._clock.monotonic()
            until_s = self._failures.failed(task, error, now_s, self._jitter())
            if until_s is None:
                self._fail(error)
            self._running.pop(task, None)
            self._key_queues.put_back(task, now_s if until_s is None else until_s)
            self._work.notify()
            self._idle.notify_all()

    def fail(self, error: BaseException) -> None:
        """Stop the flow: the poll thread raises `error` at its next look."""
        with self._changed:
            self._fail(error)

    def _done(self, task: Task, dependency: Dependency) -> None:
        with self._changed:
            failing = self._failures.breaker.state is not BreakerState.CLOSED
            self._failures.worked(dependency, task)
            tracker = self._running.pop(task, None)
            if tracker is not None:
                tracker.finish(task.record.offset)
            before = self._key_queues.ready
            self._key_queues.finish(task)
            self._finished += 1
            self._done_in_all += 1
            if failing:
                self._work.notify_all()
            elif self._key_queues.ready > before:
                self._work.notify()
            self._idle.notify_all()

    # with the lock held

    def _take(self) -> Task | None:
        now_s = self._clock.monotonic()
        if self._stopping or self._brake.reason is not None or not self._lease.holds(now_s):
            return None
        if not self._key_queues.has_ready(now_s) or not self._failures.breaker.admits(now_s):
            return None
        task = self._key_queues.take(now_s)
        if task is not None:
            tracker = self._partition_states.tracker(task.record.topic_partition)
            if tracker is not None:
                self._running[task] = tracker
        return task

    def _may_write(self, task: Task) -> bool:
        tracker = self._partition_states.tracker(task.record.topic_partition)
        mine = tracker is not None and self._running.get(task) is tracker
        return mine and self._lease.holds(self._clock.monotonic())

    def _fail(self, error: BaseException) -> None:
        self._fatal = self._fatal or error
        self._stopping = True
        self._work.notify_all()

    def _relay(self) -> None:
        """Wake another worker: the one that leaves with a task may have been the only one to know of more work."""
        if self._key_queues.ready or self._pause_s() is not None:
            self._work.notify()

    def _pause_s(self) -> float | None:
        """Return how long nothing can change by itself; None: only a notification can change it."""
        now_s = self._clock.monotonic()
        moments = (self._key_queues.next_at_s(), self._failures.breaker.probe_at_s)
        return min((at - now_s for at in moments if at is not None and at > now_s), default=None)


def when_all(
    acknowledgements: Sequence[Acknowledgement], done: Callable[[BridgeError | None], None]
) -> None:
    """Call `done` once all of `acknowledgements` have arrived, with the first error if any; holds no thread.

    `done` runs in the thread of the last one, at once where there is nothing to wait for.
    """
    lock = threading.Lock()
    errors: list[BridgeError | None] = []

    def arrived(error: BridgeError | None) -> None:
        with lock:
            errors.append(error)
            last = len(errors) == len(acknowledgements)
        if last:
            done(next(filter(None, errors), None))

    for acknowledgement in acknowledgements:
        acknowledgement.then(arrived)
    if not acknowledgements:
        done(None)
