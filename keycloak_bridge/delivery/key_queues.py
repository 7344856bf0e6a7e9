"""The order of work: records of one key run one after the other, records of different keys at the same time."""

import heapq
from collections import OrderedDict
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import count

from keycloak_bridge.delivery.breaker import Snapshot
from keycloak_bridge.domain.events import Record, TopicPartition


@dataclass(slots=True, eq=False, weakref_slot=True)
class Task:
    """A record that was begun, and how it fared so far; the same object until the record is finished.

    `failures` is for the back-off, `attempts` are those failures that count towards the limit, `seen` is the tally at
    the last failure. Of the last failure, `blamed` says that it counts, `alone` that no other record proved it to.
    `dropped` says that the record is not this member's any more.
    """

    record: Record
    ordering_key: bytes
    failures: int = 0
    attempts: int = 0
    seen: Snapshot | None = None
    blamed: bool = False
    alone: bool = False
    dropped: bool = False


@dataclass(slots=True, eq=False)
class _KeyQueue:
    partition: TopicPartition
    key: bytes
    records: list[Record] = field(default_factory=list)  # short: most keys have one record in all
    head: Task | None = None  # begun already: running, or waiting for its next attempt
    dropped: bool = False


@dataclass(slots=True, eq=False)
class _Partition:
    queues: dict[bytes, _KeyQueue] = field(default_factory=dict)
    records: int = 0
    size_bytes: int = 0


class KeyQueues:
    """Hands out records so that those of one ordering key never overlap and never overtake each other.

    An ordering key counts within its partition. A queue with work is ready, running or waiting.
    """

    def __init__(self) -> None:
        self._partitions: dict[TopicPartition, _Partition] = {}
        self._ready: OrderedDict[_KeyQueue, None] = OrderedDict()
        # a heap; a queue that is dropped stays in it until it comes up
        self._waiting: list[tuple[float, int, _KeyQueue]] = []
        self._order = count()
        self._running: dict[TopicPartition, dict[bytes, Task]] = {}
        self.records = 0
        """How many records are neither finished nor dropped."""
        self.size_bytes = 0
        """How large these records are: keys, values and headers."""

    @property
    def ready(self) -> int:
        """How many queues have a record that may begin; those that wait count once `take` has seen them due."""
        return len(self._ready)

    @property
    def keys(self) -> int:
        """How many keys have a record that is neither finished nor dropped."""
        return sum(len(state.queues) for state in self._partitions.values())

    def records_of(self, partition: TopicPartition) -> int:
        """Return how many records of `partition` are neither finished nor dropped."""
        state = self._partitions.get(partition)
        return state.records if state else 0

    def running(self, partition: TopicPartition | None = None) -> int:
        """Return how many tasks were handed out and not given back, dropped ones included."""
        if partition is None:
            return sum(map(len, self._running.values()))
        return len(self._running.get(partition, ()))

    def heads(self) -> Iterator[Task | None]:
        """Yield of each key the record that was begun and not finished; None where none was."""
        for state in self._partitions.values():
            for queue in state.queues.values():
                yield queue.head

    def next_at_s(self) -> float | None:
        """Return when the first waiting queue is due (maybe in the past), or None when none waits."""
        while self._waiting and self._waiting[0][2].dropped:
            heapq.heappop(self._waiting)
        return self._waiting[0][0] if self._waiting else None

    def has_ready(self, now_s: float) -> bool:
        """Say whether `take` would return a task."""
        return bool(self._ready) or self._is_due(now_s)

    def add(self, record: Record, ordering_key: bytes) -> None:
        """Queue `record` behind all others of its key."""
        partition = record.topic_partition
        state = self._partitions.setdefault(partition, _Partition())
        queue = state.queues.get(ordering_key)
        if queue is None:
            queue = state.queues[ordering_key] = _KeyQueue(partition, ordering_key)
            # a dropped task of the same key may still run, when the partition went and came back
            if ordering_key not in self._running.get(partition, ()):
                self._ready[queue] = None
        queue.records.append(record)
        self._count(state, 1, _size_of(record))

    def take(self, now_s: float) -> Task | None:
        """Return the head of the queue that has been ready longest, or None; its queue then runs."""
        while self._is_due(now_s):
            self._ready[heapq.heappop(self._waiting)[2]] = None
        if not self._ready:
            return None
        queue, _ = self._ready.popitem(last=False)
        if queue.head is None:
            queue.head = Task(queue.records.pop(0), queue.key)
        self._running.setdefault(queue.partition, {})[queue.key] = queue.head
        return queue.head

    def finish(self, task: Task) -> None:
        """Forget `task` and let its queue go on; of one that was dropped only the run ends."""
        queue = self._give_back(task)
        if queue is None:
            return
        state = self._partitions[queue.partition]
        queue.head = None
        self._count(state, -1, -_size_of(task.record))
        if queue.records:
            self._ready[queue] = None
            return
        del state.queues[queue.key]
        if not state.queues:
            del self._partitions[queue.partition]

    def put_back(self, task: Task, until_s: float) -> None:
        """Keep `task` at the head of its queue, which waits until then; of one that was dropped only the run ends."""
        queue = self._give_back(task)
        if queue is not None:
            heapq.heappush(self._waiting, (until_s, next(self._order), queue))

    def drop(self, partition: TopicPartition) -> None:
        """Forget all records of `partition`; its running tasks become `dropped` and must still be given back."""
        state = self._partitions.pop(partition, None)
        if state is None:
            return
        for queue in state.queues.values():
            queue.dropped = True
            self._ready.pop(queue, None)
            queue.records.clear()
            if queue.head is not None:
                queue.head.dropped = True
                queue.head = None
        self._count(state, -state.records, -state.size_bytes)

    def _give_back(self, task: Task) -> _KeyQueue | None:
        """End the run of `task`; return its queue unless the task was dropped."""
        partition = task.record.topic_partition
        tasks = self._running.get(partition, {})
        if tasks.get(task.ordering_key) is not task:
            return None
        del tasks[task.ordering_key]
        if not tasks:
            del self._running[partition]
        state = self._partitions.get(partition)
        queue = state.queues.get(task.ordering_key) if state else None
        if not task.dropped:
            return queue
        if queue is not None:
            self._ready[queue] = None  # it came after the drop and could not start before
        return None

    def _is_due(self, now_s: float) -> bool:
        due_s = self.next_at_s()
        return due_s is not None and due_s <= now_s

    def _count(self, state: _Partition, records: int, size_bytes: int) -> None:
        state.records += records
        state.size_bytes += size_bytes
        self.records += records
        self.size_bytes += size_bytes


def _size_of(record: Record) -> int:
    headers = sum(len(name) + len(value or b"") for name, value in record.headers)
    return len(record.key or b"") + len(record.value or b"") + headers
