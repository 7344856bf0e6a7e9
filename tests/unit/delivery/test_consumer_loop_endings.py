"""How a stage ends, or does not."""

import threading
from collections.abc import Callable, Mapping, Sequence

import pytest
from delivery_harness import P0, Hand, Pending

from keycloak_bridge.domain.errors import (
    BrakeError,
    BridgeError,
    BrokerAccessError,
    BrokerUnavailableError,
    DeadLetterError,
    PartitionRevokedError,
)
from keycloak_bridge.domain.events import Record, TopicPartition
from keycloak_bridge.domain.ports import Acknowledgement

PATIENCE_S = 30.0
"""Only a hanging test waits so long."""

Held = Callable[[TopicPartition], bool]


def polling(hand: Hand, during: Callable[[], None]) -> None:
    """Have `during` called at each poll."""
    poll = hand.source.poll

    def watched(timeout_s: float, held: Held) -> Sequence[Record]:
        during()
        return poll(timeout_s, held)

    hand.source.poll = watched  # type: ignore[method-assign]


def test_stop_ends_after_the_record_in_hand() -> None:
    """What is done is committed, the rest is left to the next run."""
    hand = Hand()
    hand.publish(0, 0, 0)
    hand.handler.after = lambda _: hand.stop.set()

    hand.run(per_poll=1, to_the_end=False)

    assert [(0, 0)] == hand.handler.handled
    assert {P0: 1} == hand.committed
    assert hand.source.closed


def test_a_run_that_ends_by_itself_does_not_wait_for_the_brake() -> None:
    """What is done is committed, and the error says why the others are not."""
    hand = Hand()
    hand.publish(0, 0, 0)
    hand.handler.after = lambda _: hand.brake.engage("20 dead letters in a row")

    with pytest.raises(BrakeError, match="20 dead letters in a row"):
        hand.run(per_poll=1)

    assert {P0: 1} == hand.committed
    assert hand.source.closed


def test_the_membership_is_proven_while_the_stage_drains() -> None:
    """What is being written could not be written to its end without that."""
    hand = Hand(drain_s=60.0)
    hand.publish(0)
    answer = Pending()
    hand.handler.answer = lambda _: (answer,)
    hand.turn()
    task = hand.delivery.try_take()
    assert task is not None
    hand.worker_pool.do(task)
    hand.stop.set()
    allowed: list[bool] = []

    def during() -> None:
        allowed.append(hand.delivery.may_write(task))
        if hand.clock.monotonic() > 30.0:
            answer.arrive()

    polling(hand, during)

    hand.run(to_the_end=False)

    assert all(allowed)
    assert {P0: 1} == hand.committed


@pytest.mark.parametrize("kafka_answers", [True, False], ids=["Kafka up", "Kafka down"])
def test_draining_ends_at_its_deadline(kafka_answers: bool) -> None:
    """A call that hangs does not hold up the end; its record is not committed."""
    hand = Hand(drain_s=5.0)
    hand.publish(0)
    hand.handler.answer = lambda _: (Pending(),)

    def begin_to_stop(_: Record) -> None:
        hand.stop.set()
        if not kafka_answers:
            hand.source.poll_errors += [BrokerUnavailableError("gone")] * 20

    hand.handler.after = begin_to_stop

    hand.run(to_the_end=False)

    assert {P0: 0} == hand.committed
    assert 5.0 <= hand.clock.monotonic() < 10.0
    assert hand.source.closed


def test_what_is_being_written_may_end_although_kafka_is_away() -> None:
    """Keycloak's answer is worth waiting for all the same."""
    hand = Hand(workers=1, drain_s=PATIENCE_S)
    hand.publish(0)
    begun, go = threading.Event(), threading.Event()

    def slowly(_: Record) -> None:
        begun.set()
        go.wait(PATIENCE_S)

    def during() -> None:
        if begun.is_set():
            hand.stop.set()
        if hand.delivery._stopping and not go.is_set():
            go.set()
            raise BrokerUnavailableError("gone")

    hand.handler.before = slowly
    hand.handler.answer = lambda _: ()
    polling(hand, during)

    hand.run(to_the_end=False)

    assert [(0, 0)] == hand.handler.handled
    assert {P0: 1} == hand.committed


def test_what_is_fetched_while_draining_is_not_skipped() -> None:
    """A poll that brings a record all the same moves the position, but not the commit."""
    hand = Hand()
    hand.publish(0)
    answer = Pending()
    hand.handler.answer = lambda _: (answer,)
    hand.handler.after = lambda _: hand.stop.set()
    poll = hand.source.poll

    def greedy(timeout_s: float, held: Held) -> Sequence[Record]:
        if not hand.stop.is_set():
            return poll(timeout_s, held)
        hand.publish(1)
        answer.arrive()
        return poll(timeout_s, lambda _: False)

    hand.source.poll = greedy  # type: ignore[method-assign]

    hand.run(to_the_end=False)

    assert [(0, 0)] == hand.handler.handled
    assert {P0: 1} == hand.committed


def test_the_workers_end() -> None:
    """No thread of a stage is left once it has ended."""
    hand = Hand(workers=3)
    hand.publish(0, 1)

    hand.run()

    assert [] == [one for one in threading.enumerate() if one.name.startswith("provision-")]


def test_an_ended_stage_is_not_expected_any_more() -> None:
    """Neither its turns nor its problems are."""
    hand = Hand()

    hand.run()

    assert ({}, {}) == (hand.status.beats, hand.status.problems)


@pytest.mark.parametrize("question", ["committed", "end_offsets"])
def test_an_outage_while_looking_for_the_end_is_waited_for(question: str) -> None:
    """The run goes on until Kafka answers, and then ends as ever."""
    hand = Hand()
    hand.publish(0)
    answer: Callable[[], Mapping[TopicPartition, int]] = getattr(hand.source, question)
    errors = [BrokerUnavailableError("gone"), PartitionRevokedError("rebalancing")]

    def failing() -> Mapping[TopicPartition, int]:
        if errors and hand.committed.get(P0):
            raise errors.pop()
        return answer()

    setattr(hand.source, question, failing)

    hand.run()

    assert ([], [(0, 0)], {P0: 1}) == (errors, hand.handler.handled, hand.committed)
    assert hand.source.closed


def test_a_kafka_that_is_away_at_the_end_is_no_failure(monkeypatch: pytest.MonkeyPatch) -> None:
    """What was done is done; the next member handles it once more."""
    hand = Hand()
    hand.publish(0)
    monkeypatch.setattr(hand.source, "close", _unreachable)

    def stopping(_: Record) -> Sequence[Acknowledgement]:
        hand.source.commit_errors = [BrokerUnavailableError("gone")] * 100
        hand.stop.set()
        return ()

    hand.handler.answer = stopping

    hand.run()

    assert [(0, 0)] == hand.handler.handled
    assert {P0: 0} == hand.committed


@pytest.mark.parametrize(
    "error", [DeadLetterError("nowhere"), BrokerAccessError("not allowed")], ids=lambda e: e.code
)
def test_an_acknowledgement_that_never_can_come_stops_before_the_commit(
    error: BridgeError,
) -> None:
    """The record is not committed past, and the error is the one that is raised."""
    hand = Hand()
    hand.publish(0, 0, 0)
    refused = Pending()
    hand.handler.answer = lambda record: (refused,) if record.offset == 1 else ()
    polling(hand, lambda: refused.arrive(error))

    with pytest.raises(BridgeError) as caught:
        hand.run()

    assert error is caught.value
    assert {P0: 1} == hand.committed
    assert [(0, 0), (0, 1)] == hand.handler.handled
    assert hand.source.closed


def test_a_consumer_that_is_refused_ends_the_stage() -> None:
    """No waiting helps against missing rights."""
    hand = Hand()
    hand.source.poll_errors = [BrokerAccessError("not allowed")]

    with pytest.raises(BrokerAccessError):
        hand.run()

    assert hand.source.closed


def test_a_broken_worker_ends_the_stage() -> None:
    """A fault outside of any record comes out of the poll thread, and no record is passed over."""
    hand = Hand(workers=1)
    hand.publish(0)
    fault = RuntimeError("broken")
    hand.handler.errors[0, 0] = [ValueError("x")] * 100
    hand.handler.give_up_errors = [fault]

    with pytest.raises(RuntimeError) as caught:
        hand.run()

    assert fault is caught.value
    assert {P0: 0} == hand.committed


def _unreachable() -> None:
    raise BrokerUnavailableError("gone")
