"""What becomes of a record that a worker takes."""

import logging
import threading
import weakref
from dataclasses import replace

import pytest
from delivery_harness import GROUP, P0, Hand, Pending, ended_if_it_hangs, policy
from otlp_collector import KeptSpans
from threads import in_threads

from keycloak_bridge.delivery.key_queues import Task
from keycloak_bridge.delivery.tracing import StageTracer
from keycloak_bridge.delivery.worker_pool import WorkerPool
from keycloak_bridge.domain.errors import (
    BridgeError,
    BrokerUnavailableError,
    HoldError,
    InternalError,
    KeycloakUnavailableError,
)
from keycloak_bridge.domain.events import Record
from keycloak_bridge.domain.future import Future
from keycloak_bridge.domain.ports import Handled


def test_an_unexpected_error_becomes_one_of_the_bridge(caplog: pytest.LogCaptureFixture) -> None:
    """It is logged with the place of the record, and its reason names the type only."""
    hand = Hand(0, delivery=policy(max_attempts=1))
    task = hand.begun()
    hand.handler.errors[0, 0] = [ValueError("planted")]
    reasons: list[BridgeError] = []
    give_up = hand.handler.give_up

    def watched(record: Record, error: BridgeError) -> Handled:
        reasons.append(error)
        return give_up(record, error)

    hand.handler.give_up = watched  # type: ignore[method-assign]
    with caplog.at_level(logging.ERROR):
        hand.worker_pool.do(task)

    (reason,) = reasons
    assert isinstance(reason, InternalError)
    assert "ValueError" in reason.message
    assert "planted" not in f"{reason.message} {reason.remedy}"
    (line,) = caplog.records
    place = {"action": "internal-error", "topic": "user-events", "partition": 0, "offset": 0}
    assert place.items() <= _fields(line).items()


def test_each_attempt_is_a_span_unless_it_had_to_wait() -> None:
    """A failure has its code, and so has the attempt that writes the dead letter."""
    spans = KeptSpans()
    hand = Hand(0, delivery=policy(max_attempts=2))
    context = replace(hand.context, tracer=StageTracer(spans.tracer, group_id=GROUP))
    hand.worker_pool = WorkerPool(context, 0, hand.delivery, hand.handler)
    hand.handler.errors[0, 0] = [
        HoldError("wait", wait_s=0.1, code="brake"),
        ValueError("planted"),
        ValueError("planted"),
    ]
    hand.settle_all()

    assert [((0, 0), "internal-error")] == hand.handler.given_up
    ended = spans.ended()
    assert [("process user-events", "internal-error")] * 2 == [
        (one.name, (one.attributes or {})["error.type"]) for one in ended
    ]
    assert {
        "messaging.system": "kafka",
        "messaging.operation.name": "process",
        "messaging.operation.type": "process",
        "messaging.destination.name": "user-events",
        "messaging.destination.partition.id": "0",
        "messaging.kafka.offset": 0,
        "messaging.consumer.group.name": GROUP,
    }.items() <= dict(ended[0].attributes or {}).items()


def test_a_worker_that_waits_keeps_no_record() -> None:
    """Each may be as large as all that is allowed in hand."""
    hand = Hand(0)
    tasks = [hand.begun()]
    kept = weakref.ref(tasks[0])
    still_there: list[Task | None] = []

    def take() -> Task | None:
        if tasks:
            return tasks.pop()
        still_there.append(kept())
        return None

    hand.delivery.take = take  # type: ignore[method-assign]
    hand.worker_pool._work()

    assert [None] == still_there


def test_a_stage_whose_workers_are_all_stuck_is_not_ready() -> None:
    """The status names the records, until one of them ends; a worker that goes from record to record is not stuck."""
    hand = Hand(0, 1, 2, 3, workers=2)
    begun, free = threading.Semaphore(0), {number: threading.Event() for number in range(4)}

    def hang(record: Record) -> None:
        begun.release()
        assert free[record.offset].wait(120)

    hand.handler.before = hang
    pool = hand.worker._worker_pool
    pool.start()
    with ended_if_it_hangs(hand.stop):
        hand.turn()
        for _ in range(2):
            assert begun.acquire(timeout=120)
        hand.turn(119.0)
        assert () == hand.problems()
        free[1].set()
        assert begun.acquire(timeout=120)
        hand.turn(2.0)
        assert () == hand.problems()
        hand.turn(119.0)
        (problem,) = hand.problems()
        assert (
            "provision: each of 2 workers has been busy with one record for more than 120 s: "
            in problem
        )
        assert problem.endswith("user-events/0@0, user-events/0@2")
        free[0].set()
        assert begun.acquire(timeout=120)
        hand.turn()
        assert () == hand.problems()
        for one in free.values():
            one.set()
    hand.delivery.stop(dismiss=True)
    pool.join()


@pytest.mark.parametrize(
    "error",
    [HoldError("the brake is engaged", wait_s=0.1), BrokerUnavailableError("gone")],
    ids=lambda error: error.code,
)
def test_giving_up_waits_where_it_must(error: BridgeError) -> None:
    """The brake may hold it, and Kafka may not answer: it is tried again, and not done meanwhile."""
    hand = Hand(0, delivery=policy(max_attempts=1))
    task = hand.begun()
    hand.handler.errors[0, 0] = [ValueError("broken"), ValueError("broken")]
    hand.handler.give_up_errors = [error]
    hand.worker_pool.do(task)
    before = list(hand.handler.given_up)
    hand.turn(60.0)
    hand.work()

    assert ([], [((0, 0), "internal-error")]) == (before, hand.handler.given_up)


@pytest.mark.parametrize(
    ("level", "lines"), [(logging.DEBUG, ["retrying", "retrying"]), (logging.INFO, [])]
)
def test_attempts_are_counted_and_logged_on_debug(
    caplog: pytest.LogCaptureFixture, level: int, lines: list[str]
) -> None:
    """Each failed attempt (waiting is none) with its number, on level DEBUG only: an outage has thousands."""
    hand = Hand(0)
    held = HoldError("later", wait_s=1.0)
    hand.handler.errors[0, 0] = [held, *(KeycloakUnavailableError("down") for _ in range(2))]
    with caplog.at_level(level):
        hand.settle_all(4)

    found = [fields for line in caplog.records if (fields := _fields(line))["action"] == "retrying"]
    retries = 'retries_total{code="keycloak-unavailable",stage="provision"} 2.0'
    assert retries in hand.metrics.exposition().decode()
    assert lines == [fields["action"] for fields in found]
    assert [1, 2][: len(lines)] == [fields["attempt"] for fields in found]


def ending_later(hand: Hand, monkeypatch: pytest.MonkeyPatch) -> Future[Handled]:
    """Have a worker take a record that a batch ends; return the future that ends it."""
    task = hand.begun()
    late: Future[Handled] = Future()
    monkeypatch.setattr(hand.handler, "handle", lambda _: late)
    hand.worker_pool.do(task)
    return late


def test_a_record_may_end_later_in_another_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    """It runs until then, and no worker is busy with it."""
    hand = Hand(0)
    late = ending_later(hand, monkeypatch)
    before = hand.delivery.running(), dict(hand.worker_pool._begun)
    in_threads(lambda: late.set_result(Handled()))
    hand.turn(2.0)

    assert (1, {}) == before
    assert (0, {P0: 1}) == (hand.delivery.running(), hand.committed)


@pytest.mark.parametrize(
    ("error", "given_up"),
    [(KeycloakUnavailableError("down"), []), (ValueError("broken"), [(0, 0)])],
)
def test_what_fails_later_counts_as_what_fails_at_once(
    error: Exception, given_up: list[tuple[int, int]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A fault of the bridge becomes a dead letter in the end; an outage does not."""
    hand = Hand(0, delivery=policy(max_attempts=1))
    ending_later(hand, monkeypatch).set_exception(error)

    assert (0, given_up) == (hand.delivery.running(), [at for at, _ in hand.handler.given_up])


def test_a_fault_after_the_end_stops_the_flow(monkeypatch: pytest.MonkeyPatch) -> None:
    """Otherwise the record would be in hand for ever, and nothing would say so."""
    hand = Hand(0)
    late = ending_later(hand, monkeypatch)
    monkeypatch.setattr(hand.delivery, "settle", lambda *_: 1 / 0)
    late.set_result(Handled())

    with pytest.raises(ZeroDivisionError):
        hand.turn()


@pytest.mark.parametrize("error", [None, BrokerUnavailableError("gone")])
def test_a_fault_after_an_acknowledgement_stops_the_flow(
    monkeypatch: pytest.MonkeyPatch, error: BridgeError | None
) -> None:
    """In kafka-python's thread nobody else would learn of it."""
    hand = Hand(0)
    answer = Pending()
    hand.handler.answer = lambda _: (answer,)
    hand.worker_pool.do(hand.begun())
    for name in ("_done", "postpone"):
        monkeypatch.setattr(hand.delivery, name, lambda *_: 1 / 0)
    answer.arrive(error)

    with pytest.raises(ZeroDivisionError):
        hand.turn()


def _fields(line: logging.LogRecord) -> dict[str, object]:
    fields: dict[str, object] = line.__dict__["bridge_fields"]
    return fields
