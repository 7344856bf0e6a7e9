"""Records of a key keep their order and never overlap.

The machine at the end holds all of it for any order of events; the tests before it name what it does not look at.
"""

from itertools import count

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from keycloak_bridge.delivery.key_queues import KeyQueues, Task
from keycloak_bridge.domain.events import Record, TopicPartition

PARTITIONS = [TopicPartition("user-events", number) for number in range(2)]
_offsets = count()


def event() -> Record:
    """Return a record of its own offset."""
    return Record(*PARTITIONS[0], next(_offsets), 0, b"key", b"12345")


def queues_of(*names: bytes) -> KeyQueues:
    """Return queues with a record for every key, in this order."""
    key_queues = KeyQueues()
    for name in names:
        key_queues.add(event(), name)
    return key_queues


def taken(key_queues: KeyQueues, now_s: float = 0.0) -> Task:
    """Return a task that must be there."""
    task = key_queues.take(now_s)
    assert task is not None
    return task


def test_the_queue_that_has_been_ready_longest_comes_first() -> None:
    """One that just ran goes behind those that have not."""
    key_queues = queues_of(b"ada", b"ada", b"eve", b"joe")
    key_queues.finish(taken(key_queues))

    assert [b"eve", b"joe", b"ada"] == [taken(key_queues).ordering_key for _ in range(3)]


def test_waiting_queues_come_in_the_order_they_are_due() -> None:
    """Whatever the order they were put back in."""
    key_queues = queues_of(b"ada", b"eve", b"joe")
    tasks = [taken(key_queues) for _ in range(3)]
    for task, until_s in zip(tasks, (3.0, 1.0, 2.0), strict=True):
        key_queues.put_back(task, until_s)

    assert [b"eve", b"joe", b"ada"] == [taken(key_queues, 9.0).ordering_key for _ in range(3)]


def test_a_key_that_comes_back_waits_for_its_dropped_task() -> None:
    """A partition that was lost and came back must not have two records of one user under way."""
    key_queues = queues_of(b"ada")
    dropped = taken(key_queues)
    key_queues.drop(PARTITIONS[0])
    key_queues.add(event(), b"ada")
    before = (key_queues.has_ready(9.0), key_queues.take(9.0))
    key_queues.put_back(dropped, 99.0)
    task = taken(key_queues)

    assert (False, None) == before
    assert not task.dropped
    key_queues.finish(task)
    assert 0 == key_queues.records


def test_a_task_ends_once() -> None:
    """A second report of the same run changes nothing."""
    key_queues = queues_of(b"ada", b"ada")
    task = taken(key_queues)
    key_queues.finish(task)
    second = taken(key_queues)

    key_queues.finish(task)
    key_queues.put_back(task, 1.0)

    assert (1, 1) == (key_queues.running(), key_queues.records)
    assert key_queues.next_at_s() is None
    key_queues.finish(second)
    assert (0, 0) == (key_queues.running(), key_queues.records)


partitions = st.sampled_from(PARTITIONS)
names = st.sampled_from([b"ada", b"eve", b"joe"])
Key = tuple[TopicPartition, bytes]


class KeyQueuesMachine(RuleBasedStateMachine):
    """The model: what each key still has to do, which keys wait, and which tasks run."""

    def __init__(self) -> None:
        super().__init__()
        self.key_queues = KeyQueues()
        self.offsets = count()
        self.now_s = 0.0
        self.todo: dict[Key, list[Record]] = {}
        self.heads: dict[Key, Task] = {}  # waiting or running, not dropped
        self.until_s: dict[Key, float] = {}
        self.running: list[Task] = []  # dropped ones included
        self.dropped: list[Task] = []

    def ready(self) -> set[Key]:
        """Return the keys of which a record may start now."""
        busy = {(task.record.topic_partition, task.ordering_key) for task in self.running}
        return {
            key
            for key in self.todo.keys() - busy
            if self.until_s.get(key, self.now_s) <= self.now_s
        }

    @rule(partition=partitions, name=names, size=st.integers(0, 5))
    def add(self, partition: TopicPartition, name: bytes, size: int) -> None:
        """A record was polled."""
        record = Record(
            *partition, next(self.offsets), 0, name, b"x" * size or None, (("h", b"1"),)
        )
        self.key_queues.add(record, name)
        self.todo.setdefault((partition, name), []).append(record)

    @rule()
    def take(self) -> None:
        """A worker asks for work, and gets the first of a key that may start."""
        ready = self.ready()
        task = self.key_queues.take(self.now_s)

        assert bool(ready) == (task is not None)
        if task is None:
            return
        key = (task.record.topic_partition, task.ordering_key)
        assert key in ready
        assert self.todo[key][0] is task.record
        assert self.heads.setdefault(key, task) is task
        assert not task.dropped
        self.until_s.pop(key, None)
        self.running.append(task)

    @precondition(lambda self: self.running)
    @rule(data=st.data())
    def finish(self, data: st.DataObject) -> None:
        """A record is done."""
        task = self.running.pop(data.draw(st.integers(0, len(self.running) - 1)))
        self.key_queues.finish(task)

        if task not in self.dropped:
            key = (task.record.topic_partition, task.ordering_key)
            del self.heads[key]
            self.todo[key].pop(0)
            if not self.todo[key]:
                del self.todo[key]

    @precondition(lambda self: self.running)
    @rule(data=st.data(), pause_s=st.floats(0, 5))
    def put_back(self, data: st.DataObject, pause_s: float) -> None:
        """A record failed and is to be tried again."""
        task = self.running.pop(data.draw(st.integers(0, len(self.running) - 1)))
        self.key_queues.put_back(task, self.now_s + pause_s)

        if task not in self.dropped:
            self.until_s[task.record.topic_partition, task.ordering_key] = self.now_s + pause_s

    @rule(partition=partitions)
    def drop(self, partition: TopicPartition) -> None:
        """A partition was revoked."""
        self.key_queues.drop(partition)
        for task in self.running:
            if task.record.topic_partition == partition and task not in self.dropped:
                self.dropped.append(task)
        for key in [key for key in self.todo if key[0] == partition]:
            del self.todo[key]
            self.heads.pop(key, None)
            self.until_s.pop(key, None)

    @rule(pause_s=st.floats(0, 3))
    def wait(self, pause_s: float) -> None:
        """Let time pass."""
        self.now_s += pause_s

    @invariant()
    def counts_are_right(self) -> None:
        """Records, bytes and running tasks, in all and by partition."""
        held = [record for records in self.todo.values() for record in records]
        sizes = [len(record.key or b"") + len(record.value or b"") + 2 for record in held]
        assert (len(held), sum(sizes)) == (self.key_queues.records, self.key_queues.size_bytes)
        assert len(self.running) == self.key_queues.running()
        for partition in PARTITIONS:
            of_it = [record for record in held if record.topic_partition == partition]
            assert len(of_it) == self.key_queues.records_of(partition)
            runs = [task for task in self.running if task.record.topic_partition == partition]
            assert len(runs) == self.key_queues.running(partition)

    @invariant()
    def it_knows_what_is_due(self) -> None:
        """Whether something may start, and when the first waiting queue may (if not woken already)."""
        assert bool(self.ready()) == self.key_queues.has_ready(self.now_s)
        later = [until_s for until_s in self.until_s.values() if until_s > self.now_s]
        next_at_s = self.key_queues.next_at_s()
        if next_at_s is None:
            assert not later
        elif next_at_s > self.now_s:
            assert min(later) == next_at_s
        else:
            assert next_at_s in self.until_s.values()

    @invariant()
    def the_dropped_know_it(self) -> None:
        """And no other task does."""
        assert [task in self.dropped for task in self.running] == [
            task.dropped for task in self.running
        ]

    def teardown(self) -> None:
        """Run everything to its end: each key ends in its order and nothing is left."""
        for running in self.running:
            self.key_queues.put_back(running, self.now_s)
        ended: dict[Key, list[Record]] = {}
        while (task := self.key_queues.take(self.now_s + 10)) is not None:
            ended.setdefault((task.record.topic_partition, task.ordering_key), []).append(
                task.record
            )
            self.key_queues.finish(task)

        assert self.todo == ended
        assert (0, 0, 0) == (
            self.key_queues.records,
            self.key_queues.size_bytes,
            self.key_queues.running(),
        )


KeyQueuesMachine.TestCase.settings = settings(
    max_examples=100, stateful_step_count=50, deadline=None
)
TestKeyQueuesMachine = KeyQueuesMachine.TestCase
