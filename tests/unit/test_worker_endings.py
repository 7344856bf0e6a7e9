"""How a worker ends, or does not, while Kafka is in trouble."""

import threading
from collections.abc import Callable, Mapping, Sequence

import pytest

from keycloak_bridge.core.errors import (
    BridgeError,
    BrokerAccessError,
    BrokerUnavailableError,
    DeadLetterError,
    PartitionRevokedError,
)
from keycloak_bridge.core.model import Message, Record, TopicPartition
from keycloak_bridge.core.ports import Acknowledgement
from keycloak_bridge.core.retry import RetryPolicy
from keycloak_bridge.core.status import Status
from keycloak_bridge.testing.fake_clock import FakeClock
from keycloak_bridge.testing.in_memory_broker import InMemoryBroker, InMemorySource
from keycloak_bridge.worker import Worker

TOPIC = "user-events"
P0 = TopicPartition(TOPIC, 0)


class Failing:
    """An acknowledgement that never comes."""

    def __init__(self, error: BridgeError) -> None:
        self._error = error

    def wait(self, timeout_s: float) -> None:
        raise self._error


class Harness:
    """A worker over a broker in memory, whose clock moves with every poll."""

    def __init__(self, count: int = 1) -> None:
        self.broker = InMemoryBroker()
        for _ in range(count):
            self.broker.publish(Message(TOPIC, b"k", b"{}"))
        self.clock = FakeClock()
        self.status = Status()
        self.stop = threading.Event()
        self.source: InMemorySource = self.broker.source(TOPIC, "group")
        self.handled: list[int] = []
        self.answer: Callable[[Record], Sequence[Acknowledgement]] = lambda _: ()
        self.turns = 0

    def handle(self, record: Record) -> Sequence[Acknowledgement]:
        self.handled.append(record.offset)
        return self.answer(record)

    def run(self) -> None:
        poll = self.source.poll

        def ticking(timeout_s: float) -> Sequence[Record]:
            self.turns += 1
            assert self.turns < 1000, "the worker does not end"
            self.clock.advance(max(timeout_s, 60.0))
            return poll(timeout_s)

        self.source.poll = ticking  # type: ignore[method-assign]
        Worker(
            "provision",
            self.source,
            self,
            clock=self.clock,
            status=self.status,
            retry=RetryPolicy(),
            jitter=lambda: 0.5,
        ).run(self.stop, self.source.end_offsets)


@pytest.mark.parametrize("question", ["committed", "end_offsets"])
def test_an_outage_while_looking_for_the_end_is_waited_for(question: str) -> None:
    """The run goes on until Kafka answers, and then ends as ever."""
    harness = Harness()
    answer: Callable[[], Mapping[TopicPartition, int]] = getattr(harness.source, question)
    errors = [BrokerUnavailableError("gone"), BrokerUnavailableError("gone")]

    def failing() -> Mapping[TopicPartition, int]:
        if errors:
            raise errors.pop()
        return answer()

    setattr(harness.source, question, failing)

    harness.run()

    assert ([0], {P0: 1}) == (harness.handled, harness.broker.commits["group"])
    assert harness.source.closed


def test_a_commit_that_fails_at_the_end_is_no_failure() -> None:
    """What was done is done; the next member handles it once more."""
    harness = Harness()
    harness.source.commit_errors = [BrokerUnavailableError("gone")] * 100

    def stopping(_: Record) -> Sequence[Acknowledgement]:
        harness.stop.set()
        return ()

    harness.answer = stopping

    harness.run()

    assert {} == harness.broker.commits["group"]
    assert harness.source.closed


def test_a_group_that_cannot_be_left_is_no_failure(monkeypatch: pytest.MonkeyPatch) -> None:
    """The brokers will notice by themselves."""
    harness = Harness()

    def close() -> None:
        raise BrokerUnavailableError("gone")

    monkeypatch.setattr(harness.source, "close", close)

    harness.run()

    assert {P0: 1} == harness.broker.commits["group"]


@pytest.mark.parametrize(
    "error", [DeadLetterError("nowhere"), BrokerAccessError("not allowed")], ids=lambda e: e.code
)
def test_an_acknowledgement_that_never_can_come_stops_before_the_commit(
    error: BridgeError,
) -> None:
    """The record is not committed past, and the error is the one that is raised."""
    harness = Harness(count=3)
    harness.answer = lambda record: (Failing(error),) if record.offset == 1 else ()

    with pytest.raises(BridgeError) as caught:
        harness.run()

    assert error is caught.value
    assert harness.broker.commits["group"].get(P0, 0) <= 1
    assert harness.source.closed


def test_a_rebalance_during_a_poll_is_no_failure() -> None:
    """The next turn goes on."""
    harness = Harness()
    harness.source.poll_errors = [PartitionRevokedError("rebalancing")]

    harness.run()

    assert ([0], {P0: 1}) == (harness.handled, harness.broker.commits["group"])
