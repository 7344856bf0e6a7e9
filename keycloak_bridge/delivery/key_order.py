"""The order of work: records of a lane run one after the other, lanes run side by side."""

import heapq
from collections import OrderedDict
from dataclasses import dataclass, field
from itertools import count

from keycloak_bridge.delivery.retry import Snapshot
from keycloak_bridge.domain.events import Record, TopicPartition


@dataclass(slots=True, eq=False)
class Task:
    """A record taken up, and how it fared so far; the same object until the record is finished.

    `failures` is for the back-off, `attempts` are those failures that count towards the limit, `seen` is the tally at
    the last failure. `dropped` says that the record is not ours any more.
    """

    record: Record
    ordering_key: bytes
    failures: int = 0
    attempts: int = 0
    seen: Snapshot | None = None
    dropped: bool = False


@dataclass(slots=True, eq=False)
class _Lane:
    partition: TopicPartition
    name: bytes
    queue: list[Record] = field(default_factory=list)  # short; most lanes hold one record in all
    head: Task | None = None  # taken up already: running, or waiting to be taken again
    dropped: bool = False


@dataclass(slots=True, eq=False)
class _Holding:
    """What is held of one partition."""

    key_queues: dict[bytes, _Lane] = field(default_factory=dict)
    records: int = 0
    size_bytes: int = 0


class KeyQueues:
    """Hands out records so that those of a lane never overlap and never overtake each other.

    A lane is a name within a partition. A lane with work is ready, running or waiting.
    """

    def __init__(self) -> None:
        self._partition_states: dict[TopicPartition, _Holding] = {}
        self._ready: OrderedDict[_Lane, None] = OrderedDict()
        self._waiting: list[
            tuple[float, int, _Lane]
        ] = []  # a heap; dropped lanes stay in it until they come up
        self._order = count()
        self._running: dict[TopicPartition, dict[bytes, Task]] = {}
        self._records = 0
        self._size_bytes = 0

    @property
    def records(self) -> int:
        """How many records are held that are neither finished nor dropped."""
        return self._records

    @property
    def size_bytes(self) -> int:
        """How large these records are: keys, values and headers."""
        return self._size_bytes

    @property
    def ready(self) -> int:
        """How many lanes have a record that may be begun; those that wait count once `take` has seen them due."""
        return len(self._ready)

    def records_of(self, partition: TopicPartition) -> int:
        """Return how many records of `partition` are neither finished nor dropped."""
        holding = self._partition_states.get(partition)
        return holding.records if holding else 0

    def running(self, partition: TopicPartition | None = None) -> int:
        """Return how many tasks were handed out and not given back, dropped ones included."""
        if partition is None:
            return sum(len(tasks) for tasks in self._running.values())
        return len(self._running.get(partition, ()))

    def next_at_s(self) -> float | None:
        """Return when the first waiting lane is due (maybe past already), or None when none waits."""
        self._forget_dropped()
        return self._waiting[0][0] if self._waiting else None

    def has_ready(self, now_s: float) -> bool:
        """Say whether `take` would return a task."""
        due_s = self.next_at_s()
        return bool(self._ready) or (due_s is not None and due_s <= now_s)

    def add(self, record: Record, ordering_key: bytes) -> None:
        """Queue `record` behind all others of its lane."""
        partition = record.topic_partition
        holding = self._partition_states.setdefault(partition, _Holding())
        target = holding.key_queues.get(ordering_key)
        if target is None:
            target = holding.key_queues[ordering_key] = _Lane(partition, ordering_key)
            # a dropped task of the same lane may run still, when the partition went and came back
            if ordering_key not in self._running.get(partition, ()):
                self._ready[target] = None
        target.queue.append(record)
        self._count(holding, 1, _size_of(record))

    def take(self, now_s: float) -> Task | None:
        """Return the head of the lane that has been ready longest, or None; its lane then runs."""
        self._wake(now_s)
        if not self._ready:
            return None
        ordering_key, _ = self._ready.popitem(last=False)
        if ordering_key.head is None:
            ordering_key.head = Task(ordering_key.queue.pop(0), ordering_key.name)
        self._running.setdefault(ordering_key.partition, {})[ordering_key.name] = ordering_key.head
        return ordering_key.head

    def finish(self, task: Task) -> bool:
        """Forget `task` and let its lane go on; False when it was dropped (or is not running)."""
        ordering_key = self._give_back(task)
        if ordering_key is None:
            return False
        holding = self._partition_states[ordering_key.partition]
        ordering_key.head = None
        self._count(holding, -1, -_size_of(task.record))
        if ordering_key.queue:
            self._ready[ordering_key] = None
            return True
        del holding.key_queues[ordering_key.name]
        if not holding.key_queues:
            del self._partition_states[ordering_key.partition]
        return True

    def put_back(self, task: Task, until_s: float) -> bool:
        """Keep `task` at the head of its lane, which waits until then; False when it was dropped (or is not running)."""
        ordering_key = self._give_back(task)
        if ordering_key is None:
            return False
        heapq.heappush(self._waiting, (until_s, next(self._order), ordering_key))
        return True

    def drop(self, partition: TopicPartition) -> None:
        """Forget all records of `partition`; its running tasks become `dropped` and are still to be given back."""
        holding = self._partition_states.pop(partition, None)
        if holding is None:
            return
        for ordering_key in holding.key_queues.values():
            ordering_key.dropped = True
            self._ready.pop(ordering_key, None)
            ordering_key.queue.clear()
            if ordering_key.head is not None:
                ordering_key.head.dropped = True
                ordering_key.head = None
        self._count(holding, -holding.records, -holding.size_bytes)

    def _give_back(self, task: Task) -> _Lane | None:
        """End the run of `task`; return its lane when that still holds it."""
        partition = task.record.topic_partition
        tasks = self._running.get(partition, {})
        if tasks.get(task.ordering_key) is not task:
            return None
        del tasks[task.ordering_key]
        if not tasks:
            del self._running[partition]
        holding = self._partition_states.get(partition)
        ordering_key = holding.key_queues.get(task.ordering_key) if holding else None
        if not task.dropped:
            return ordering_key
        if ordering_key is not None:
            self._ready[ordering_key] = None  # it came after the drop and could not start before
        return None

    def _wake(self, now_s: float) -> None:
        self._forget_dropped()
        while self._waiting and self._waiting[0][0] <= now_s:
            self._ready[heapq.heappop(self._waiting)[2]] = None
            self._forget_dropped()

    def _forget_dropped(self) -> None:
        while self._waiting and self._waiting[0][2].dropped:
            heapq.heappop(self._waiting)

    def _count(self, holding: _Holding, records: int, size: int) -> None:
        holding.records += records
        holding.size_bytes += size
        self._records += records
        self._size_bytes += size


def _size_of(record: Record) -> int:
    headers = sum(len(name) + len(value or b"") for name, value in record.headers)
    return len(record.key or b"") + len(record.value or b"") + headers
