"""Two stages side by side: they start, wait, catch up and end together."""

import threading
from collections.abc import Callable, Sequence
from typing import Any

import pytest
from delivery_harness import Recorder, ended_if_it_hangs, passing_time, stage_context

from keycloak_bridge.app.stages import RuntimeContext, Stage, run_stages
from keycloak_bridge.delivery.breaker import RetryPolicy
from keycloak_bridge.delivery.consumer_loop import ConsumerOptions
from keycloak_bridge.delivery.delivery import DeliveryPolicy
from keycloak_bridge.domain.errors import (
    BrokerUnavailableError,
    ConfigError,
    KeycloakUnavailableError,
)
from keycloak_bridge.domain.events import Message, Record, TopicPartition
from keycloak_bridge.domain.ports import Acknowledgement, RecordConsumer
from keycloak_bridge.ops.metrics import Metrics
from keycloak_bridge.ops.status import Status
from keycloak_bridge.testing.fake_clock import FakeClock
from keycloak_bridge.testing.in_memory_broker import InMemoryBroker, InMemoryConsumer

FIRST, SECOND = "user-events", "user-invitations"
RETRY = RetryPolicy(initial_s=0.001, max_s=0.001)


class Harness:
    """Two stages, the first of which feeds the second, over a broker in memory; time passes while they poll."""

    def __init__(self) -> None:
        self.broker = InMemoryBroker()
        self.clock = FakeClock()
        self.status = Status()
        self.metrics = Metrics()
        self.stop = threading.Event()
        self.runtime = RuntimeContext(self.clock, self.status, self.metrics, RETRY, self.stop)
        self.first, self.second = Recorder(self.broker), Recorder(self.broker)
        self.first.answer = self._publish
        self.sources: dict[str, list[InMemoryConsumer]] = {FIRST: [], SECOND: []}
        self.join_errors: dict[str, list[Exception]] = {FIRST: [], SECOND: []}

    def _publish(self, record: Record) -> Sequence[Acknowledgement]:
        return (self.broker.publish(Message(SECOND, record.key, record.value)),)

    def publish(self, count: int) -> None:
        for _ in range(count):
            self.broker.publish(Message(FIRST, b"u-1", b"{}"))

    def join(self, topic: str) -> Callable[[], RecordConsumer]:
        def join() -> RecordConsumer:
            if self.join_errors[topic]:
                raise self.join_errors[topic].pop(0)
            source = passing_time(self.broker.source(topic, f"group-{topic}"), self.clock)
            self.sources[topic].append(source)
            return source

        return join

    def stage(self, name: str, join: Callable[[], RecordConsumer], handler: Recorder) -> Stage:
        """Return a stage with two workers that never wait for long."""
        options = ConsumerOptions(DeliveryPolicy(RETRY, release_s=0.0), workers=2)
        context = stage_context(name, self.clock, status=self.status, metrics=self.metrics)
        return Stage(context, join, handler, options)

    @property
    def stages(self) -> list[Stage]:
        return [
            self.stage("provision", self.join(FIRST), self.first),
            self.stage("invite", self.join(SECOND), self.second),
        ]

    def run(self, *, until_caught_up: bool = True) -> None:
        """Run the stages; a test that hangs is ended after a while, and fails."""
        with ended_if_it_hangs(self.stop):
            run_stages(self.stages, self.runtime, until_caught_up=until_caught_up)

    def all_closed(self) -> bool:
        return all(source.closed for sources in self.sources.values() for source in sources)


@pytest.fixture
def harness() -> Harness:
    """Two stages over empty topics."""
    return Harness()


@pytest.mark.parametrize("count", [0, 5])
def test_both_stages_end_when_all_is_done(harness: Harness, count: int) -> None:
    """What the first stage publishes is done by the second before the run ends; empty topics end at once."""
    harness.publish(count)
    if count:
        # Kafka may be away at start
        harness.join_errors[FIRST] = [BrokerUnavailableError("gone")] * 2

    harness.run()

    numbers = [(0, offset) for offset in range(count)]
    assert (numbers, numbers) == (harness.first.handled, harness.second.handled)
    assert not harness.stop.is_set()
    assert harness.all_closed()
    assert () == harness.status.why_not_ready()
    assert count == harness.broker.offsets(f"group-{SECOND}").get(TopicPartition(SECOND, 0), 0)


def test_a_stage_is_not_ready_before_it_has_joined(harness: Harness) -> None:
    """From the first moment on, and after its connection stands, a stage says that it is joining."""
    seen: list[tuple[str, ...]] = []
    make = harness.join(FIRST)

    def join() -> RecordConsumer:
        seen.append(harness.status.why_not_ready())
        source = make()
        joined = source.joined

        def late() -> bool:
            seen.append(harness.status.why_not_ready())
            return joined()

        source.joined = late  # type: ignore[method-assign]
        return source

    harness.publish(1)
    stage = harness.stage("provision", join, harness.first)
    run_stages([stage], harness.runtime, until_caught_up=True)

    waiting = ("provision: joining the consumer group",)
    assert [waiting, waiting] == seen[:2]
    assert () == harness.status.why_not_ready()


def test_the_second_stage_waits_for_the_first(
    harness: Harness, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It looks for its end only when nothing new can come, however long the first takes."""
    polls, poll = threading.Semaphore(0), InMemoryConsumer.poll

    def counting(source: InMemoryConsumer, *arguments: Any) -> Sequence[Record]:
        if source in harness.sources[SECOND]:
            polls.release()
        return poll(source, *arguments)

    def slowly(_: Record) -> None:
        # the second stage polls idly meanwhile and must not take an empty topic for the end
        assert all(polls.acquire(timeout=60) for _ in range(5))

    monkeypatch.setattr(InMemoryConsumer, "poll", counting)
    harness.publish(1)
    harness.first.before = slowly

    harness.run()

    assert ([(0, 0)], [(0, 0)]) == (harness.first.handled, harness.second.handled)


def test_what_comes_later_is_left_to_the_next_run(harness: Harness) -> None:
    """The end is read once, so that a topic that never rests does not keep the run going forever."""

    def more(_: Record) -> None:
        if len(harness.first.handled) < 50:
            harness.publish(1)

    harness.publish(1)
    harness.first.before = more

    harness.run()

    assert len(harness.first.handled) < 50


@pytest.mark.parametrize("culprit", ["first", "second"])
def test_the_first_error_stops_both_and_is_raised(harness: Harness, culprit: str) -> None:
    """Neither stage goes on alone, and everything is closed."""
    error = ConfigError("the mapping is broken")

    def fail(_: Record) -> None:
        raise error

    getattr(harness, culprit).before = fail
    harness.publish(2)

    with pytest.raises(ConfigError) as caught:
        harness.run(until_caught_up=False)

    assert error is caught.value
    assert harness.stop.is_set()
    assert harness.all_closed()


class Collapse(BaseException):
    """An error that no stage raises by intention."""


@pytest.mark.parametrize("where", ["ordering_key", "before"], ids=["poll", "worker"])
def test_a_bug_in_a_thread_is_raised_too(harness: Harness, where: str) -> None:
    """A thread must not die in silence while the process looks alive, neither the poll thread nor a worker."""

    def fail(_: Record) -> None:
        raise Collapse

    setattr(harness.first, where, fail)
    harness.publish(1)

    with pytest.raises(Collapse):
        harness.run()

    assert harness.all_closed()


def test_a_stage_that_may_not_join_stops_both(harness: Harness) -> None:
    """An error that does not pass ends the run; after a stop, no stage joins a group to leave it at once."""
    harness.join_errors[SECOND] = [ConfigError("no")]

    with pytest.raises(ConfigError):
        harness.run(until_caught_up=False)
    assert harness.all_closed()

    stopped = Harness()
    stopped.stop.set()
    stopped.run(until_caught_up=False)
    assert {FIRST: [], SECOND: []} == stopped.sources


# waiting for Kafka and Keycloak


class Attempts:
    """Raises the errors one after the other, then returns `found`; notes what is not ready before each attempt."""

    def __init__(self, harness: Harness, *errors: Exception) -> None:
        self._harness = harness
        self._errors = list(errors)
        self.seen: list[tuple[str, ...]] = []

    def __call__(self) -> str:
        self.seen.append(self._harness.status.why_not_ready())
        if self._errors:
            raise self._errors.pop(0)
        return "found"


def test_waiting_tries_until_it_works(harness: Harness, caplog: pytest.LogCaptureFixture) -> None:
    """The problem is visible meanwhile, is one warning and not thousands, and is gone afterwards."""
    attempts = Attempts(harness, *[KeycloakUnavailableError("Keycloak does not answer")] * 3)

    with caplog.at_level("DEBUG", "keycloak_bridge.app.stages"):
        assert "found" == harness.runtime.wait_for("keycloak", attempts)

    assert [(), *[("keycloak: Keycloak does not answer",)] * 3] == attempts.seen
    assert () == harness.status.why_not_ready()
    assert ["WARNING", "DEBUG", "DEBUG"] == [record.levelname for record in caplog.records]
