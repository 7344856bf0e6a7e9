"""What is in hand between being read and being committed."""

import random
import threading
import time

import pytest
from delivery_harness import P0, P1, TOPIC, Pending, next_task, policy, stage_context
from stage_harness import counted
from threads import LIMIT_S, in_threads

from keycloak_bridge.delivery.breaker import RetryPolicy
from keycloak_bridge.delivery.delivery import Delivery, DeliveryPolicy, when_all
from keycloak_bridge.delivery.fencing import Lease
from keycloak_bridge.delivery.guards import Brake
from keycloak_bridge.delivery.key_queues import Task
from keycloak_bridge.delivery.offsets import CommitNotes, write_notes
from keycloak_bridge.domain.errors import (
    BridgeError,
    BrokerAccessError,
    BrokerUnavailableError,
    ConfigError,
    Dependency,
    HoldError,
    KeycloakUnavailableError,
)
from keycloak_bridge.domain.events import Commit, Record, TopicPartition
from keycloak_bridge.domain.ports import Handled
from keycloak_bridge.ops.clock import SystemClock
from keycloak_bridge.ops.metrics import Metrics
from keycloak_bridge.testing.fake_clock import FakeClock

DOWN = KeycloakUnavailableError("down")
DONE = Handled()


class Case:
    """A delivery of two partitions whose membership is proven."""

    def __init__(self, rules: DeliveryPolicy | None = None) -> None:
        self.clock = FakeClock()
        self.brake = Brake(0, 0, 20)
        self.metrics = Metrics()
        self.delivery = Delivery(
            rules or policy(),
            Lease(5.0),
            stage_context(clock=self.clock, brake=self.brake, metrics=self.metrics),
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
        task = next_task(self.delivery)
        assert task is not None
        return task

    def all_fail(self, error: BridgeError) -> None:
        """Have five users' events fail, which is an outage."""
        for offset in range(5):
            self.accept(offset, user=f"user-{offset}")
        for task in [self.take() for _ in range(5)]:
            self.delivery.postpone(task, error)

    def commits(self) -> dict[TopicPartition, int]:
        commits = self.delivery.commits({}, unchanged=False)
        return {partition: commit.offset for partition, commit in commits.items()}


def test_a_record_of_a_partition_that_was_not_started_is_left_out() -> None:
    """It is read again after the start."""
    case = Case()
    case.accept(0, at=TopicPartition(TOPIC, 9))

    assert (None, 0) == (next_task(case.delivery), case.delivery.look().records)


def test_a_log_that_was_cut_begins_at_its_next_record() -> None:
    """What was in hand of the old log is dropped, and its commit says nothing about the new one."""
    case = Case()
    case.accept(4, 5)
    case.accept(3)

    assert 1 == case.delivery.look().records
    assert {P0: 3, P1: 0} == case.delivery.offsets()


def test_an_answer_of_kafka_proves_kafka() -> None:
    """It ends an outage of Kafka, which a record without an answer does not."""
    case = Case()
    gone = BrokerUnavailableError("gone")
    case.all_fail(gone)
    case.accept(5, user="user-5")
    case.clock.advance(1.0)
    answer = Pending()
    case.delivery.settle(case.take(), Handled((), Dependency.KEYCLOAK))
    before = case.delivery.look().problem
    case.delivery.settle(case.take(), Handled((answer,), Dependency.KEYCLOAK))
    answer.arrive()

    assert (gone, None) == (before, case.delivery.look().problem)


def test_a_record_that_waits_without_a_failure_is_told() -> None:
    """By its reason, also while it is tried again; no more once it failed, was done or moved away."""
    case = Case()
    for offset, user in enumerate(("ada", "bob", "cleo")):
        case.accept(offset, user=user)
    case.accept(0, at=P1, user="dan")
    tasks = [case.take() for _ in range(4)]
    for task in tasks:
        code = "unknown-user" if task is tasks[0] else "pace"
        case.delivery.postpone(task, HoldError("later", wait_s=1.0, code=code))
    held = [dict(case.delivery.look().held)]
    case.clock.advance(1.0)
    tasks = [case.take() for _ in range(4)]
    held.append(dict(case.delivery.look().held))
    case.delivery.postpone(tasks[0], DOWN)
    case.delivery.settle(tasks[1], DONE)
    held.append(dict(case.delivery.look().held))
    case.delivery.postpone(tasks[3], HoldError("later", wait_s=1.0, code="pace"))
    del tasks, task
    case.delivery.release(frozenset({P1}), True)
    held.append(dict(case.delivery.look().held))

    assert [
        {"unknown-user": 1, "pace": 3},
        {"unknown-user": 1, "pace": 3},
        {"pace": 2},
        {"pace": 1},
    ] == held


def test_the_first_reason_to_stop_is_raised() -> None:
    """What fails after it may be its consequence."""
    case = Case()
    case.delivery.fail(ConfigError("first"))
    case.delivery.fail(ConfigError("second"))

    with pytest.raises(ConfigError, match="first"):
        case.delivery.look()


def test_a_busy_partition_keeps_no_other_out() -> None:
    """It is held alone when it has a quarter of what may be in hand."""
    case = Case(policy(max_records=8))
    case.accept(0, 1)

    assert (True, False) == (case.delivery.held(P0), case.delivery.held(P1))


def test_an_outage_holds_every_partition_while_something_untried_can_probe() -> None:
    """Where all that is in hand has failed, a record that is no better may keep the breaker open: a new one is read."""
    case = Case()
    case.all_fail(DOWN)
    tried = case.delivery.held(P1)
    case.accept(5, user="ada")
    untried = case.delivery.held(P1)
    case.delivery.release(frozenset({P0}), True)

    assert (False, True, False) == (tried, untried, case.delivery.held(P1))


def test_a_record_that_is_another_members_is_not_given_up() -> None:
    """The member that has it now may well succeed with it."""
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


def test_a_release_returns_what_to_commit() -> None:
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


def test_stopping_begins_nothing_and_lets_the_running_end() -> None:
    """What ends now is still committed."""
    case = Case()
    case.accept(0, 1)
    task = case.take()
    case.delivery.stop()
    case.delivery.settle(task, DONE)

    assert None is next_task(case.delivery)
    assert case.delivery.held(P1)
    assert (0, {P0: 1}) == (case.delivery.running(), case.commits())


def test_a_look_shows_what_is_in_hand() -> None:
    """Records and bytes, what runs, what ended since the last commit, and how long the oldest has waited."""
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


RECORDS, USERS, WORKERS = 200, 17, 8


@pytest.mark.parametrize("seed", range(5))
def test_all_is_done_without_another_poll(seed: int) -> None:
    """Whatever waits, fails or opens the breaker meanwhile: each worker is woken when there may be work for it."""
    chance = random.Random(seed)  # noqa: S311 # the same each time
    clock, lease = SystemClock(), Lease(LIMIT_S)
    lease.renew(clock.monotonic())
    rules = DeliveryPolicy(RetryPolicy(0.001, 0.004), max_attempts=RECORDS)
    delivery = Delivery(rules, lease, stage_context(clock=clock))
    delivery.start(P0, Commit(0))
    failures = {offset: chance.choice([0, 0, 0, 1, 2]) for offset in range(RECORDS)}
    left = set(range(RECORDS))
    busy: set[bytes] = set()
    overlaps: list[bytes] = []
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
            key = task.ordering_key
            overlaps.extend({key} & busy)
            busy.add(key)
            time.sleep(0)
            busy.discard(key)
            handle(task)

    def feed() -> None:
        delivery.accept(
            (Record(TOPIC, 0, offset, 0, b"k", b"v", ()), bytes([offset % USERS]))
            for offset in range(RECORDS)
        )
        all_done.wait(LIMIT_S)
        delivery.stop(dismiss=True)

    in_threads(*[work] * WORKERS, feed)

    assert (left, overlaps) == (set(), [])


GONE = BrokerUnavailableError("gone")
REFUSED = BrokerAccessError("not allowed")


@pytest.mark.parametrize(
    ("notes", "error"),
    [
        ([], None),
        ([None], None),
        ([None, None, None], None),
        ([GONE], GONE),
        ([None, GONE, None], GONE),
        ([REFUSED, None, GONE], REFUSED),
    ],
)
def test_the_last_one_reports_the_first_error(
    notes: list[BridgeError | None], error: BridgeError | None
) -> None:
    """Nothing is reported before all are in, and then once; at once where there is nothing to wait for."""
    reported: list[BridgeError | None] = []
    early: list[BridgeError | None] = []
    answers = [Pending() for _ in notes]
    when_all(answers, reported.append)
    for answer, note in zip(answers, notes, strict=True):
        early = list(reported)
        answer.arrive(note)

    assert ([], [error]) == (early, reported)


def test_they_come_from_any_thread() -> None:
    """However they meet, one of them is the last."""
    reported: list[BridgeError | None] = []
    answers = [Pending() for _ in range(8)]
    when_all(answers, reported.append)
    in_threads(*[answer.arrive for answer in answers])

    assert [None] == reported


@pytest.mark.parametrize(
    ("rules", "enough"),
    [(policy(max_records=8), 4), (policy(max_bytes=20), 6)],
    ids=["records", "bytes"],
)
def test_a_full_hand_holds_every_partition(rules: DeliveryPolicy, enough: int) -> None:
    """Until half of what may be in hand is free again."""
    case = Case(rules)
    case.accept(*range(8))
    done = 0
    while case.delivery.held(P1):
        case.delivery.settle(case.take(), DONE)
        done += 1

    assert enough == done


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


def test_what_kafka_did_not_take_is_counted_as_retried() -> None:
    """A topic of results that cannot be written shows in the metrics, although no call to Keycloak fails."""
    case = Case()
    case.accept(0)
    answer = Pending()
    case.delivery.settle(case.take(), Handled((answer,), Dependency.KEYCLOAK))
    answer.arrive(BrokerUnavailableError("Kafka does not answer"))

    assert {("kafka-unavailable", "provision"): 1.0} == counted(case.metrics, "retries_total")
