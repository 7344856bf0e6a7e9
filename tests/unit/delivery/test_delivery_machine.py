"""Whatever fails, crashes, freezes or moves: no record is lost, and each user sees its events in their order."""

from collections import defaultdict
from enum import StrEnum

from delivery_harness import GROUP, TOPIC, At, Hand, Pending, Recorder, at_of, next_task, policy
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
)

from keycloak_bridge.delivery.key_queues import Task
from keycloak_bridge.delivery.offsets import read_notes
from keycloak_bridge.domain.errors import (
    BridgeError,
    BrokerUnavailableError,
    Dependency,
    HoldError,
    KeycloakUnavailableError,
    PartitionRevokedError,
)
from keycloak_bridge.domain.events import Message, Record, TopicPartition
from keycloak_bridge.domain.future import Future, completed
from keycloak_bridge.domain.ports import Handled
from keycloak_bridge.testing.fake_clock import FakeClock
from keycloak_bridge.testing.in_memory_broker import InMemoryBroker

SESSION_S = 6.0
ROUNDS = 60
"""Far more than any back-off, so that a blocked flow is not taken for a slow one."""

USERS = [bytes([number]) for number in range(4)]
PARTITIONS = [TopicPartition(TOPIC, number) for number in range(2)]
partitions = st.sampled_from(PARTITIONS)


class Fate(StrEnum):
    """What becomes of one attempt at a record."""

    DONE = "done"
    UNANSWERED = "done in Keycloak and published, but Kafka is slow to confirm"
    UNCONFIRMED = "done in Keycloak, but Kafka does not take the result"
    ANSWER_LOST = "done in Keycloak, but its answer is lost"
    LATE = "its batch is not written yet"
    DOWN = "Keycloak does not answer"
    HELD = "the pace says later"
    BROKEN = "the bridge itself fails"


fates = st.sampled_from([*[Fate.DONE] * 4, *Fate])


class Stage(Recorder):
    """Writes each record to the world of the machine, and fails as the machine says."""

    def __init__(self, machine: "DeliveryMachine") -> None:
        super().__init__(machine.broker)
        self._machine = machine
        self.process: Process

    def handle(self, record: Record) -> Future[Handled]:
        """Meet the fate of this attempt."""
        match self._machine.fate:
            case Fate.DOWN:
                raise KeycloakUnavailableError("down")
            case Fate.HELD:
                raise HoldError("later", wait_s=1.0)
            case Fate.BROKEN:
                raise ValueError("broken")
            case Fate.LATE:
                late = Late(self, record)
                self.process.unanswered.append(late)
                return late.handled
        return completed(self.write(record))

    def write(self, record: Record) -> Handled:
        """Write and publish, where that is still allowed."""
        self.process.hand.fence.check()
        self._machine.wrote(self.process, record)
        if self._machine.fate is Fate.ANSWER_LOST:
            raise KeycloakUnavailableError("lost")
        return self._published(record, written=True, dependency=Dependency.KEYCLOAK)

    def give_up(self, record: Record, error: BridgeError) -> Handled:
        """Write a dead letter, which Kafka may not confirm either."""
        return self._published(record, written=False, dependency=Dependency.NONE)

    def _published(self, record: Record, *, written: bool, dependency: Dependency) -> Handled:
        answer = Pending()

        def finished(error: BridgeError | None) -> None:
            if error is None:
                self._machine.finished(record, written=written)

        answer.then(finished)
        match self._machine.fate:
            case Fate.UNANSWERED:
                self.process.unanswered.append(answer)
            case Fate.UNCONFIRMED:
                answer.arrive(BrokerUnavailableError("gone"))
            case _:
                answer.arrive()
        return Handled((answer,), dependency)


class Late:
    """A record whose batch is written, or fails, when the machine says so, whoever owns it by then."""

    def __init__(self, stage: Stage, record: Record) -> None:
        self._stage = stage
        self._record = record
        self._may_write = stage.process.hand.fence.current_check()
        self.handled: Future[Handled] = Future()

    def arrive(self, error: BridgeError | None = None) -> None:
        """Let the batch end."""
        if error is not None:
            self.handled.set_exception(error)
            return
        try:
            with self._stage.process.hand.fence.around(self._may_write):
                handled = self._stage.write(self._record)
        except BridgeError as refused:
            self.handled.set_exception(refused)
        else:
            self.handled.set_result(handled)


class Process:
    """One process of the bridge; its workers work when the machine says so."""

    def __init__(self, machine: "DeliveryMachine") -> None:
        stage = Stage(machine)
        self.hand = Hand(
            broker=machine.broker,
            clock=machine.clock,
            handler=stage,
            delivery=policy(max_records=12, max_attempts=2),
        )
        stage.process = self
        self.running: list[Task] = []
        self.unanswered: list[Pending | Late] = []
        self.evicted = False

    def begin(self) -> bool:
        """Take one record, if one may be begun."""
        task = next_task(self.hand.delivery)
        if task is None:
            return False
        assert task.ordering_key not in [one.ordering_key for one in self.running], (
            "two records of a user at once"
        )
        self.running.append(task)
        return True

    def end_all(self) -> None:
        """Have everything that was begun meet the fate of the moment."""
        while self.unanswered:
            self.unanswered.pop().arrive()
        while self.running:
            self.hand.worker_pool.do(self.running.pop())

    def owns(self, partition: TopicPartition) -> bool:
        """Say whether Kafka, not this process, thinks that the partition is its own."""
        source = self.hand.source
        return source._group._owners.get(partition) is source

    def evict(self) -> None:
        """Have Kafka give the partitions to others, without this process hearing of it."""
        source = self.hand.source
        source._group.leave(source)
        source._group.free([at for at in source.assigned() if self.owns(at)])
        self.evicted = True

    def notice(self) -> None:
        """Hear of the eviction, and join again."""
        source = self.hand.source
        self.hand.delivery.release(source.assigned(), True)
        source._positions.clear()
        source._group.join(source)
        source.commit_errors.clear()
        self.evicted = False

    def turn(self) -> None:
        """Take one turn of the poll thread; Kafka takes no commit of an evicted member."""
        if self.evicted:
            self.hand.source.commit_errors = [PartitionRevokedError("fenced")] * 3
        self.hand.turn()


class DeliveryMachine(RuleBasedStateMachine):
    """Up to two processes in one group, and what is true of the world outside them."""

    def __init__(self) -> None:
        super().__init__()
        self.broker = InMemoryBroker(partitions=len(PARTITIONS))
        self.clock = FakeClock()
        self.fate = Fate.DONE
        self.events: dict[bytes, list[At]] = defaultdict(list)
        self.writes: dict[bytes, list[At]] = defaultdict(list)
        self.faults: list[str] = []  # an assertion would be caught as a fault of the stage
        self.ends: dict[At, bool] = {}  # how each record ended last: written, or a dead letter
        self.processes: list[Process | None] = [Process(self), None]

    # what the stage does to the world

    def wrote(self, process: Process, record: Record) -> None:
        """Note what was done in Keycloak, by the owner of the partition and after all that came before."""
        if not process.owns(record.topic_partition):
            self.faults.append("another member's record was written")
        key = record.key or b""
        if any(at not in self.ends for at in self.events[key] if at < at_of(record)):
            self.faults.append("an event overtook an earlier one")
        self.writes[key].append(at_of(record))

    def finished(self, record: Record, *, written: bool) -> None:
        """Note that nothing is left to do for a record."""
        self.ends[at_of(record)] = written

    # what happens

    def alive(self) -> list[Process]:
        """Return the processes that are there."""
        return [process for process in self.processes if process is not None]

    def members(self) -> list[Process]:
        """Return the processes that Kafka counts as members."""
        return [process for process in self.alive() if not process.evicted]

    def running(self) -> list[Process]:
        """Return the processes that have begun something."""
        return [process for process in self.alive() if process.running]

    def unanswered(self) -> list[Process]:
        """Return the processes that wait for Kafka's answer to something."""
        return [process for process in self.alive() if process.unanswered]

    @initialize(users=st.lists(st.sampled_from(USERS), min_size=4, max_size=12), both=st.booleans())
    def begin(self, users: list[bytes], both: bool) -> None:
        """There is something to do from the beginning, and perhaps a second process."""
        self.publish(users)
        if both:
            self.start()

    def publish(self, users: list[bytes]) -> None:
        """Have user management publish events of some users."""
        for key in users:
            self.broker.publish(Message(TOPIC, key, b"{}"))
            record = [one for one in self.broker.records(TOPIC) if one.key == key][-1]
            self.events[key].append(at_of(record))

    @rule(
        data=st.data(),
        users=st.lists(st.sampled_from(USERS), max_size=3),
        marker=st.booleans(),
        seconds=st.sampled_from([0.0, 0.5, 1.0, 2.0, SESSION_S, 60.0]),
    )
    def work(self, data: st.DataObject, users: list[bytes], marker: bool, seconds: float) -> None:
        """Events come, poll threads turn, workers take records, and some of what they have meets its fate."""
        self.publish(users)
        if marker:
            self.broker.burn(TOPIC, data.draw(partitions).partition)
        self.clock.advance(seconds)
        for process in self.alive():
            process.turn()
            for _ in range(data.draw(st.integers(0, 5))):
                process.begin()
            for fate in data.draw(st.lists(fates, max_size=len(process.running))):
                self._end(process, fate, data)

    @precondition(lambda self: self.running() or self.unanswered())
    @rule(data=st.data(), fate=fates, arrives=st.booleans())
    def end(self, data: st.DataObject, fate: Fate, arrives: bool) -> None:
        """What was begun meets its fate, or its answer, whatever happened to its process meanwhile."""
        for process in self.running():
            self._end(process, fate, data)
        for process in self.unanswered():
            process.unanswered.pop(0).arrive(None if arrives else BrokerUnavailableError("gone"))

    def _end(self, process: Process, fate: Fate, data: st.DataObject) -> None:
        task = process.running.pop(data.draw(st.integers(0, len(process.running) - 1)))
        self.fate = fate
        process.hand.worker_pool.do(task)

    @rule(data=st.data(), partition=partitions, lost=st.booleans(), back=st.booleans())
    def rebalance(
        self, data: st.DataObject, partition: TopicPartition, lost: bool, back: bool
    ) -> None:
        """A partition is taken from a member, whatever runs of it, and goes to another one or comes back at once."""
        if self.members():
            data.draw(st.sampled_from(self.members())).hand.source.revoke(partition, lost=lost)
        if back and self.members():
            data.draw(st.sampled_from(self.members())).hand.source.assign(partition)

    @rule(
        data=st.data(),
        disturbance=st.sampled_from(
            ["commit", "freeze", "crash", "leave", "brake", "repair", "repair"]
        ),
    )
    def disturb(self, data: st.DataObject, disturbance: str) -> None:
        """Something happens to a member, or all of it is over."""
        if disturbance == "repair":
            self._repair()
        elif self.members():
            process = data.draw(st.sampled_from(self.members()))
            match disturbance:
                case "commit":
                    error = data.draw(
                        st.sampled_from([BrokerUnavailableError, PartitionRevokedError])
                    )
                    process.hand.source.commit_errors.append(error("no"))
                case "freeze":
                    self._freeze(process)
                case "crash":
                    process.evict()
                    self._forget(process)
                case "leave":
                    self._leave(process)
                case "brake":
                    process.hand.brake.engage("too much became a dead letter")

    def _repair(self) -> None:
        """Start processes where there are none; have them hear of evictions, and an operator release their brakes."""
        self.start()
        for process in self.alive():
            process.hand.brake.release()
            if process.evicted:
                process.notice()

    def start(self) -> None:
        """Have two processes run."""
        self.processes = [process or Process(self) for process in self.processes]

    def _freeze(self, process: Process) -> None:
        """Throw a process out that proves nothing for a whole session; it thaws before it hears of that."""
        proven_at_s = process.hand.delivery._lease.proven_at_s
        if proven_at_s is not None:
            self.clock.advance(max(0.0, proven_at_s + SESSION_S - self.clock.monotonic()))
        process.evict()

    def _leave(self, process: Process) -> None:
        """End a process properly, after what it has begun."""
        self.fate = Fate.DONE
        process.hand.delivery.stop()
        process.end_all()
        process.hand.worker._finish()
        self._forget(process)

    def _forget(self, process: Process) -> None:
        self.processes[self.processes.index(process)] = None

    # what must hold

    @invariant()
    def nothing_is_written_out_of_turn(self) -> None:
        """Neither for another member's record nor before an earlier event of the same user is done."""
        assert [] == self.faults

    @invariant()
    def nothing_unfinished_is_passed(self) -> None:
        """Every record below a commit is done, and so is every one that its notes call finished."""
        published = {at for events in self.events.values() for at in events}
        for partition, commit in self.broker.commits[GROUP].items():
            finished = [range(commit.offset), *read_notes(*commit).finished]
            for offsets in finished:
                passed = {(partition.partition, offset) for offset in offsets}
                assert passed & published <= self.ends.keys()

    @invariant()
    def what_runs_is_known(self) -> None:
        """Also of partitions that are gone: a drain waits for no more and no less."""
        for process in self.alive():
            on_its_way = len(process.running) + len(process.unanswered)
            assert on_its_way == process.hand.delivery.running()

    def teardown(self) -> None:
        """When all disturbances are over, everything is done and committed, and each user is as its last event says."""
        self.fate = Fate.DONE
        processes = [process or Process(self) for process in self.processes]
        for process in processes:
            if process.evicted:
                process.notice()
            process.hand.source._group._placed.clear()
            process.hand.source.commit_errors.clear()
        ends = {at: self.broker.end(at) for at in PARTITIONS}
        for _ in range(ROUNDS):
            for process in processes:
                self._calm_round(process)
            if ends == self.broker.offsets(GROUP):
                break

        assert [] == self.faults
        assert ends == self.broker.offsets(GROUP)
        for key, events in self.events.items():
            assert all(at in self.ends for at in events)
            written = [at for at in self.writes[key] if self.ends[at]]
            assert written[-1:] == [at for at in events if self.ends[at]][-1:]

    def _calm_round(self, process: Process) -> None:
        process.hand.brake.release()
        process.turn()
        process.end_all()
        while process.begin():
            process.end_all()
        self.clock.advance(2.0)
        process.turn()


DeliveryMachine.TestCase.settings = settings(
    max_examples=200, stateful_step_count=50, deadline=None
)
TestDeliveryMachine = DeliveryMachine.TestCase
