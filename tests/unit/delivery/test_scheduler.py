"""What is in hand between being read and being committed."""

import random
import threading

import pytest
from delivery_harness import P0, P1, TOPIC, Pending, policy, stage_context

from keycloak_bridge.app.connections import SystemClock
from keycloak_bridge.delivery.fencing import Lease
from keycloak_bridge.delivery.guards import Brake
from keycloak_bridge.delivery.key_queues import Task
from keycloak_bridge.delivery.offsets import CommitNotes, write_notes
from keycloak_bridge.delivery.retry import RetryPolicy
from keycloak_bridge.delivery.scheduler import Backpressure, Delivery, DeliveryPolicy, when_all
from keycloak_bridge.domain.errors import (
    BridgeError,
    BrokerAccessError,
    BrokerUnavailableError,
    ConfigError,
    HoldError,
    KeycloakUnavailableError,
)
from keycloak_bridge.domain.events import Commit, Record, TopicPartition
from keycloak_bridge.domain.ports import Dependency, Handled
from keycloak_bridge.testing.fake_clock import FakeClock

DOWN = KeycloakUnavailableError("down")
DONE = Handled()
PATIENCE_S = 30.0
"""Only a hanging test waits so long."""


class Case:
    """A delivery of two partitions whose membership is proven."""

    def __init__(self, rules: DeliveryPolicy | None = None) -> None:
        self.clock = FakeClock()
        self.brake = Brake(0, 0, 20)
        self.delivery = Delivery(
            rules or policy(),
            Lease(5.0),
            stage_context(clock=self.clock, brake=self.brake),
            jitter=lambda: 0.5,
        )
        for partition in (P0, P1):
            self.delivery.start(partition, Commit(0))
        self.prove()

    def prove(self) -> None:
        self.delivery.committed({}, self.clock.monotonic())

    def accept(self, *offsets: int, at: TopicPartition = P0, user: str = "ada") -> None:
        key = user.encode()
        self.delivery.accept([(Record(*at, offset, 0, key, b"{}"), key) for offset in offsets])

    def take(self) -> Task:
        task = self.delivery.try_take()
        assert task is not None
        return task

    def commits(self, *, unchanged: bool = False) -> dict[TopicPartition, int]:
        commits = self.delivery.commits({}, unchanged=unchanged)
        return {partition: commit.offset for partition, commit in commits.items()}


def test_records_of_a_lane_come_one_by_one() -> None:
    """The second is handed out when the first is done, not before."""
    case = Case()
    case.accept(0, 1)
    first = case.take()
    meanwhile = case.delivery.try_take()
    case.delivery.settle(first, DONE)

    assert (0, None, 1) == (first.record.offset, meanwhile, case.take().record.offset)


def test_lanes_come_side_by_side() -> None:
    """Users of one partition, and the same key in two partitions."""
    case = Case()
    case.accept(0)
    case.accept(1, user="eve")
    case.accept(0, at=P1)

    assert [0, 1, 0] == [case.take().record.offset for _ in range(3)]
    assert 3 == case.delivery.running()


def test_a_record_of_a_partition_that_was_not_started_is_left_out() -> None:
    """It is read again after the start."""
    case = Case()
    case.accept(0, at=TopicPartition(TOPIC, 9))

    assert (None, 0) == (case.delivery.try_take(), case.delivery.look().records)


def test_a_record_in_hand_is_not_taken_twice() -> None:
    """The log that brings the last one again was made anew; anything else in hand of it is dropped."""
    case = Case()
    case.accept(0, 1)
    running = case.take()
    case.accept(1)

    assert 1 == case.delivery.look().records
    assert not case.delivery.may_write(running)


def test_what_was_finished_by_an_earlier_owner_is_skipped() -> None:
    """The notes of the commit say which records above it are done."""
    case = Case()
    case.delivery.release(frozenset({P0}), True)
    case.delivery.start(P0, Commit(3, write_notes(3, CommitNotes((range(4, 6),)))))
    case.accept(3, 4, 5, 6)
    offsets = []
    while (task := case.delivery.try_take()) is not None:
        offsets.append(task.record.offset)
        case.delivery.settle(task, DONE)

    assert [3, 6] == offsets
    assert {P0: 7} == case.commits()


def test_the_commit_stays_before_the_first_unfinished_record() -> None:
    """Also while it is running, and while it waits for another attempt."""
    case = Case()
    case.accept(0, user="ada")
    case.accept(1, user="eve")
    first = case.take()
    case.delivery.settle(case.take(), DONE)
    running = case.commits(unchanged=True)[P0]
    case.delivery.postpone(first, DOWN)
    waiting = case.commits(unchanged=True)[P0]
    case.clock.advance(1.0)
    case.prove()
    case.delivery.settle(case.take(), DONE)

    assert (0, 0, {P0: 2}) == (running, waiting, case.commits())


def test_only_what_changed_is_committed() -> None:
    """Unless the commit is to prove the membership."""
    case = Case()
    case.accept(0)
    case.delivery.settle(case.take(), DONE)
    due = case.delivery.commits({})
    case.delivery.committed(due, 0.0)

    assert [P0] == list(due)
    assert {} == case.commits()
    assert {P0: 1, P1: 0} == case.commits(unchanged=True)
    assert {P0: 1, P1: 0} == case.delivery.offsets()


def test_positions_bring_the_commit_past_markers() -> None:
    """But never past what is in hand."""
    case = Case()
    case.accept(0)
    positions = {P0: 5, P1: 3}

    assert {P1: Commit(3)} == case.delivery.commits(positions)

    case.delivery.settle(case.take(), DONE)

    assert {P0: Commit(5), P1: Commit(3)} == case.delivery.commits(positions)


def test_a_record_is_done_when_all_it_published_has_arrived() -> None:
    """Not with the first answer."""
    case = Case()
    case.accept(0)
    answers = (Pending(), Pending())
    case.delivery.settle(case.take(), Handled(answers))
    answers[1].arrive()
    early = case.commits()
    answers[0].arrive()

    assert ({}, {P0: 1}) == (early, case.commits())


def test_one_lost_answer_repeats_the_record() -> None:
    """The others may have arrived."""
    case = Case()
    case.accept(0)
    first = case.take()
    answers = (Pending(), Pending())
    case.delivery.settle(first, Handled(answers))
    answers[0].arrive(BrokerUnavailableError("gone"))
    answers[1].arrive()
    at_once = case.delivery.try_take()
    case.clock.advance(1.0)

    assert at_once is None
    assert first is case.take()
    assert {} == case.commits()


def test_an_answer_of_kafka_proves_kafka() -> None:
    """It ends an outage of Kafka, which a record without an answer does not."""
    case = Case()
    gone = BrokerUnavailableError("gone")
    for offset in range(6):
        case.accept(offset, user=f"user-{offset}")
    for task in [case.take() for _ in range(5)]:
        case.delivery.postpone(task, gone)
    case.clock.advance(1.0)
    answer = Pending()
    case.delivery.settle(case.take(), Handled((), Dependency.KEYCLOAK))
    before = case.delivery.look().problem
    case.delivery.settle(case.take(), Handled((answer,), Dependency.KEYCLOAK))
    answer.arrive()

    assert (gone, None) == (before, case.delivery.look().problem)


def test_an_error_that_cannot_pass_stops_the_flow() -> None:
    """The poll thread raises it, and nothing more is begun."""
    case = Case()
    case.accept(0)
    case.accept(1, user="eve")
    error = ConfigError("broken")
    case.delivery.postpone(case.take(), error)

    with pytest.raises(ConfigError) as caught:
        case.delivery.look()
    assert error is caught.value
    assert None is case.delivery.try_take()
    assert {P0: 0, P1: 0} == case.commits(unchanged=True)


def test_the_first_reason_to_stop_is_the_one_that_is_told() -> None:
    """What fails after it may be its consequence."""
    case = Case()
    case.delivery.fail(ConfigError("first"))
    case.delivery.fail(ConfigError("second"))

    with pytest.raises(ConfigError, match="first"):
        case.delivery.look()


@pytest.mark.parametrize(
    ("rules", "enough"),
    [(policy(max_records=8), 4), (policy(max_bytes=20), 6)],
    ids=["records", "bytes"],
)
def test_a_full_hand_holds_every_partition(rules: DeliveryPolicy, enough: int) -> None:
    """Until half of what there is room for is free again."""
    case = Case(rules)
    case.accept(*range(8))
    done = 0
    while case.delivery.held(P1):
        case.delivery.settle(case.take(), DONE)
        done += 1

    assert enough == done


def test_a_busy_partition_leaves_room_for_the_others() -> None:
    """It is held alone when a quarter of all room is taken by it."""
    case = Case(policy(max_records=8))
    case.accept(0, 1)

    assert (True, False) == (case.delivery.held(P0), case.delivery.held(P1))


def test_an_outage_holds_every_partition_while_something_can_probe() -> None:
    """With nothing in hand, only a new record could tell that it is over."""
    case = Case()
    for offset in range(5):
        case.accept(offset, user=f"user-{offset}")
    for task in [case.take() for _ in range(5)]:
        case.delivery.postpone(task, DOWN)
    during = case.delivery.held(P1)
    case.delivery.release(frozenset({P0}), True)

    assert (True, False) == (during, case.delivery.held(P1))


def test_an_outage_begins_nothing_before_its_probe() -> None:
    """And then one record only."""
    case = Case()
    for offset in range(10):
        case.accept(offset, user=f"user-{offset}")
    for task in [case.take() for _ in range(5)]:
        case.delivery.postpone(task, DOWN)
    during = case.delivery.try_take()
    case.clock.advance(1.0)
    probe, next_one = case.delivery.try_take(), case.delivery.try_take()

    assert (None, None) == (during, next_one)
    assert probe is not None


def test_the_brake_holds_everything() -> None:
    """No partition is fetched from and nothing is begun."""
    case = Case()
    case.accept(0)
    case.brake.engage("too many")
    braked = (case.delivery.held(P1), case.delivery.try_take())
    case.brake.release()

    assert (True, None) == braked
    assert not case.delivery.held(P1)
    assert 0 == case.take().record.offset


def test_a_member_without_proof_begins_and_writes_nothing() -> None:
    """As soon as its last proof is older than the lease."""
    case = Case()
    case.accept(0)
    case.accept(1, user="eve")
    task = case.take()
    fresh = case.delivery.may_write(task)
    case.clock.advance(5.0)
    old = (case.delivery.may_write(task), case.delivery.try_take())
    case.prove()

    assert (True, (False, None)) == (fresh, old)
    assert case.delivery.may_write(task)


def test_a_record_may_be_written_while_it_runs() -> None:
    """Not when it is done, or put back, or was never begun."""
    case = Case()
    case.accept(0, 1)
    task = case.take()
    running = case.delivery.may_write(task)
    case.delivery.postpone(task, DOWN)
    put_back = case.delivery.may_write(task)
    case.clock.advance(1.0)
    case.delivery.settle(case.take(), DONE)

    assert (True, False) == (running, put_back)
    assert not case.delivery.may_write(task)
    assert not case.delivery.may_write(Task(task.record, task.ordering_key))


def test_releasing_says_what_to_commit() -> None:
    """What is finished, with its notes; nothing for what is lost already."""
    case = Case()
    case.accept(0, user="ada")
    case.accept(1, user="eve")
    case.accept(0, at=P1)
    tasks = [case.take() for _ in range(3)]
    case.delivery.settle(tasks[1], DONE)
    case.delivery.settle(tasks[2], DONE)
    released = case.delivery.release(frozenset({P0}), False)
    lost = case.delivery.release(frozenset({P1}), True)

    notes = CommitNotes((range(1, 2),))
    assert {P0: Commit(0, write_notes(0, notes))} == released
    assert {} == lost
    assert frozenset() == case.delivery.partitions()


def test_what_ends_after_the_release_counts_nothing() -> None:
    """Neither for the next commit nor for the partition when it is back."""
    case = Case()
    case.accept(0)
    task = case.take()
    case.delivery.release(frozenset({P0}), False)
    case.delivery.start(P0, Commit(0))
    case.accept(0)
    case.delivery.settle(task, DONE)

    assert {P1: 0, P0: 0} == case.commits(unchanged=True)
    assert 1 == case.delivery.look().records


def test_a_record_that_is_another_members_is_not_given_up() -> None:
    """Whoever has it now may well succeed with it."""
    case = Case(policy(max_attempts=1))
    case.accept(0, user="ada")
    task = case.take()
    case.delivery.postpone(task, DOWN)
    for offset in range(1, 10):
        case.accept(offset, user="eve")
        case.delivery.settle(case.take(), Handled((), Dependency.KEYCLOAK))
    case.clock.advance(1.0)
    again = case.take()
    case.delivery.release(frozenset({P0}), True)

    assert again is task
    assert not case.delivery.failed(task, DOWN)


def test_a_record_that_fails_alone_is_given_up_at_its_limit() -> None:
    """Failures that others share do not bring it nearer."""
    case = Case(policy(max_attempts=2))
    case.accept(0, user="ada")
    answers = []
    offset = 1
    for others in (0, 0, 5, 0, 5):
        for _ in range(others):
            case.accept(offset, user="eve")
            offset += 1
            case.delivery.settle(case.take(), Handled((), Dependency.KEYCLOAK))
        case.clock.advance(4.0)
        case.prove()
        answers.append(case.delivery.failed(case.take(), DOWN))

    assert [False, False, False, False, True] == answers


def test_stopping_begins_nothing_and_lets_the_running_end() -> None:
    """What ends now is committed still."""
    case = Case()
    case.accept(0, 1)
    task = case.take()
    case.delivery.stop()
    case.delivery.settle(task, DONE)

    assert None is case.delivery.try_take()
    assert case.delivery.held(P1)
    assert (0, {P0: 1}) == (case.delivery.running(), case.commits())


def test_the_crew_waits_until_it_is_dismissed() -> None:
    """A thread without work gets the next record at once, and None at the end."""
    case = Case()
    got: list[Task | None] = []
    first = threading.Event()

    def worker_pool() -> None:
        while (task := case.delivery.take()) is not None:
            got.append(task)
            first.set()
            case.delivery.settle(task, DONE)
        got.append(None)

    thread = threading.Thread(target=worker_pool)
    thread.start()
    case.accept(0)
    first.wait(PATIENCE_S)
    case.delivery.stop(dismiss=True)
    thread.join(PATIENCE_S)

    assert [0, None] == [task and task.record.offset for task in got]


def test_waiting_for_idleness_ends_with_the_last_record() -> None:
    """However long the wait could be, it is over when nothing runs."""
    case = Case()
    case.accept(0)
    task = case.take()
    thread = threading.Thread(target=case.delivery.settle, args=(task, DONE))
    thread.start()
    case.delivery.wait_idle(PATIENCE_S)

    assert 0 == case.delivery.running()
    thread.join()


def test_a_look_tells_what_is_in_hand() -> None:
    """Records and bytes, what runs, what ended since the last commit, and since when the oldest stands."""
    case = Case()
    case.accept(0, 1)
    case.accept(2, user="eve")
    case.delivery.settle(case.take(), DONE)
    case.take()
    first = case.delivery.look()
    case.clock.advance(3.0)
    second = case.delivery.look()
    case.commits()

    assert (2, 10, 1, 1) == (first.records, first.size_bytes, first.running, first.finished)
    assert (0.0, 3.0) == (first.oldest_s, second.oldest_s)
    assert 0 == case.delivery.look().finished


RECORDS, USERS, CREW = 200, 17, 8
LONG_S = 60.0


def a_delivery() -> Delivery:
    """Return a delivery that has taken up one partition, with short pauses and a lease that holds."""
    clock = SystemClock()
    lease = Lease(LONG_S)
    lease.renew(clock.monotonic())
    policy = DeliveryPolicy(RetryPolicy(0.001, 0.004), max_attempts=RECORDS)
    delivery = Delivery(policy, lease, stage_context(clock=clock))
    delivery.start(P0, Commit(0))
    return delivery


@pytest.mark.parametrize("seed", range(5))
def test_all_is_done_without_another_poll(seed: int) -> None:
    """Whatever waits, fails or opens the breaker meanwhile: no word from outside is needed to go on."""
    chance = random.Random(seed)  # noqa: S311 # the same each time
    delivery = a_delivery()
    failures = {offset: chance.choice([0, 0, 0, 1, 2]) for offset in range(RECORDS)}
    left = set(range(RECORDS))
    all_done = threading.Event()

    def handle(task: Task) -> None:
        offset = task.record.offset
        if failures[offset]:
            failures[offset] -= 1
            held = offset % 2
            delivery.failed(
                task, HoldError("later", wait_s=0.002) if held else KeycloakUnavailableError("down")
            )
            return
        delivery.settle(task, Handled((), Dependency.KEYCLOAK))
        left.discard(offset)
        if not left:
            all_done.set()

    def work() -> None:
        while (task := delivery.take()) is not None:
            handle(task)

    worker_pool = [threading.Thread(target=work) for _ in range(CREW)]
    for thread in worker_pool:
        thread.start()
    delivery.accept(
        (Record(TOPIC, 0, offset, 0, b"k", b"v", ()), bytes([offset % USERS]))
        for offset in range(RECORDS)
    )
    all_done.wait(LONG_S)
    delivery.stop(dismiss=True)
    for thread in worker_pool:
        thread.join(LONG_S)

    assert left == set()
    assert not any(thread.is_alive() for thread in worker_pool)


@pytest.mark.parametrize(
    ("looks", "expected"),
    [
        ([(0, 0, 0)], [True]),
        ([(99, 999, 0)], [True]),
        ([(100, 0, 0)], [False]),
        ([(0, 1000, 0)], [False]),
        ([(100, 0, 0), (51, 0, 0), (50, 0, 0), (99, 0, 0)], [False, False, True, True]),
        ([(0, 1500, 0), (0, 501, 0), (0, 500, 0)], [False, False, True]),
        ([(100, 1000, 0), (50, 501, 0), (50, 500, 0)], [False, False, True]),
    ],
)
def test_fetching_pauses_when_full_and_goes_on_when_half_is_free(
    looks: list[tuple[int, int, int]], expected: list[bool]
) -> None:
    """Whichever of records and bytes is the scarcer."""
    room = Backpressure(100, 1000)

    assert expected == [room.admits(*look) for look in looks]


@pytest.mark.parametrize(
    ("max_records", "of_partition", "has"),
    [(100, 24, True), (100, 25, False), (2, 0, True), (2, 1, False), (1, 0, True)],
)
def test_a_partition_may_take_a_quarter(max_records: int, of_partition: int, has: bool) -> None:
    """One record at least."""
    room = Backpressure(max_records, 1000)

    assert has == room.admits(0, 0, of_partition)
    assert not room.full


def test_it_tells_whether_it_is_full() -> None:
    """As of the last question."""
    room = Backpressure(10, 1000)
    seen = []
    for records in (9, 10, 6, 5):
        room.admits(records, 0, 0)
        seen.append(room.full)

    assert [False, True, True, False] == seen


GONE = BrokerUnavailableError("gone")
REFUSED = BrokerAccessError("not allowed")


@pytest.mark.parametrize(
    ("notes", "told"),
    [
        ([None], None),
        ([None, None, None], None),
        ([GONE], GONE),
        ([None, GONE, None], GONE),
        ([REFUSED, None, GONE], REFUSED),
    ],
)
def test_the_last_one_reports_the_first_error(
    notes: list[BridgeError | None], told: BridgeError | None
) -> None:
    """Nothing is reported before all are in, and then once."""
    heard: list[BridgeError | None] = []
    answers = [Pending() for _ in notes]
    when_all(answers, heard.append)
    for answer, note in zip(answers[:-1], notes, strict=False):
        answer.arrive(note)
    early = list(heard)
    answers[-1].arrive(notes[-1])

    assert ([], [told]) == (early, heard)


def test_nothing_to_wait_for_is_done_at_once() -> None:
    """Without an acknowledgement nothing can fail."""
    heard: list[BridgeError | None] = []
    when_all([], heard.append)

    assert [None] == heard


def test_they_come_from_any_thread() -> None:
    """However they meet, one of them is the last."""
    heard: list[BridgeError | None] = []
    answers = [Pending() for _ in range(8)]
    when_all(answers, heard.append)
    threads = [threading.Thread(target=answer.arrive) for answer in answers]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert [None] == heard
