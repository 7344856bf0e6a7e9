import threading
from collections.abc import Callable, Mapping, Sequence

import pytest

from keycloak_bridge.core.errors import (
    BridgeError,
    BrokerUnavailableError,
    ConfigError,
    KeycloakUnavailableError,
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
P1 = TopicPartition(TOPIC, 1)
LONGEST_S = 10_000.0


class Recorder:
    """A stage that remembers what it handled and fails as told."""

    def __init__(self, broker: InMemoryBroker, clock: FakeClock) -> None:
        self.handled: list[tuple[int, int]] = []
        self.errors: dict[tuple[int, int], list[BridgeError]] = {}
        self.after: Callable[[Record], None] = lambda _: None
        self._broker = broker
        self._clock = clock

    def handle(self, record: Record) -> Sequence[Acknowledgement]:
        at = (record.partition, record.offset)
        if self.errors.get(at):
            # time passes while a call fails, so that the back-off of the worker ends
            self._clock.advance(60.0)
            raise self.errors[at].pop(0)
        self.handled.append(at)
        self.after(record)
        return (self._broker.publish(Message("user-results", record.key, b"{}")),)


class Harness:
    """A worker over a broker in memory."""

    def __init__(self, *, partitions: int = 1) -> None:
        self.broker = InMemoryBroker(partitions=partitions)
        self.clock = FakeClock()
        self.status = Status()
        self.stage = Recorder(self.broker, self.clock)
        self.source: InMemorySource = self.broker.source(TOPIC, "group")
        self.stop = threading.Event()

    def publish(self, *keys: int) -> None:
        for key in keys:
            self.broker.publish(Message(TOPIC, bytes([key]), b"{}"))

    def run(self) -> None:
        """Run until caught up; a lost clock tick would loop for ever, so each poll advances time."""
        poll = self.source.poll

        def ticking_poll(timeout_s: float) -> Sequence[Record]:
            self.clock.advance(max(timeout_s, 0.01))
            assert self.clock.monotonic() < LONGEST_S, "the worker does not end"
            return poll(timeout_s)

        self.source.poll = ticking_poll  # type: ignore[method-assign]
        worker = Worker(
            "provision",
            self.source,
            self.stage,
            clock=self.clock,
            status=self.status,
            retry=RetryPolicy(),
            jitter=lambda: 0.5,
        )
        worker.run(self.stop, self.source.end_offsets)

    @property
    def committed(self) -> dict[TopicPartition, int]:
        return self.broker.commits["group"]


def test_everything_is_handled_in_order_and_committed() -> None:
    """Each record once, the commit behind the last one, the group left."""
    harness = Harness()
    harness.publish(0, 0, 0)

    harness.run()

    assert [(0, 0), (0, 1), (0, 2)] == harness.stage.handled
    assert {P0: 3} == harness.committed
    assert harness.source.closed


def test_an_error_that_can_pass_is_tried_until_it_works() -> None:
    """The record stays at the head, nothing is skipped, and nothing after it is handled first."""
    harness = Harness()
    harness.publish(0, 0)
    harness.stage.errors[0, 0] = [KeycloakUnavailableError("down") for _ in range(5)]

    harness.run()

    assert [(0, 0), (0, 1)] == harness.stage.handled
    assert {P0: 2} == harness.committed


def test_a_problem_shows_while_it_lasts() -> None:
    """The status names the outage, and forgets it afterwards."""
    harness = Harness()
    harness.publish(0)
    harness.stage.errors[0, 0] = [KeycloakUnavailableError("Keycloak does not answer")]
    seen: list[tuple[str, ...]] = []
    harness.stage.after = lambda _: seen.append(harness.status.why_not_ready())

    harness.run()

    assert [("provision: Keycloak does not answer",)] == seen
    assert () == harness.status.why_not_ready()


def test_a_fatal_error_stops_after_committing_what_is_done() -> None:
    """The record before the fatal one is committed, the fatal one is not."""
    harness = Harness()
    harness.publish(0, 0)
    harness.stage.errors[0, 1] = [ConfigError("broken")]

    with pytest.raises(ConfigError):
        harness.run()

    assert {P0: 1} == harness.committed
    assert harness.source.closed


def test_a_record_whose_results_are_lost_is_handled_again() -> None:
    """Done means acknowledged: a failed acknowledgement repeats the record and does not commit it."""
    harness = Harness()
    harness.publish(0, 0)
    harness.broker.publish_errors = [BrokerUnavailableError("gone")]

    harness.run()

    assert [(0, 0), (0, 1), (0, 0), (0, 1)] == harness.stage.handled
    assert {P0: 2} == harness.committed


def test_a_commit_during_a_rebalance_is_repeated() -> None:
    """A refused commit loses nothing and repeats nothing while the partition stays ours."""
    harness = Harness()
    harness.publish(0)
    harness.source.commit_errors = [PartitionRevokedError("rebalancing")]

    harness.run()

    assert [(0, 0)] == harness.stage.handled
    assert {P0: 1} == harness.committed


def test_a_revoked_partition_is_dropped_and_read_again_when_it_returns() -> None:
    """Queued records of a revoked partition are not handled; they come again from the commit."""
    harness = Harness(partitions=2)
    harness.publish(0, 1, 0, 1)

    def rebalance(record: Record) -> None:
        if record.partition == 0 and record.offset == 0:
            harness.source.revoke(P1)
            harness.source.assign(P1)

    harness.stage.after = rebalance
    harness.stage.errors[1, 0] = [KeycloakUnavailableError("down")]

    harness.run()

    assert [(0, 0), (0, 1), (1, 0), (1, 1)] == harness.stage.handled
    assert {P0: 2, P1: 2} == harness.committed


def test_records_that_came_with_the_rebalance_are_not_lost() -> None:
    """A poll can bring records of a partition that was taken away and given back inside it: they come again."""
    harness = Harness()
    harness.publish(0, 0)
    poll = harness.source.poll
    rebalances = [P0]

    def rebalancing_poll(timeout_s: float) -> Sequence[Record]:
        while rebalances:
            partition = rebalances.pop()
            harness.source.revoke(partition)
            harness.source.assign(partition)
        return poll(timeout_s)

    harness.source.poll = rebalancing_poll  # type: ignore[method-assign]
    harness.stage.errors[0, 0] = [KeycloakUnavailableError("down")]

    harness.run()

    assert [(0, 0), (0, 1)] == harness.stage.handled
    assert {P0: 2} == harness.committed


def test_stop_ends_after_the_record_in_hand() -> None:
    """What is done is committed, the rest is left to the next run."""
    harness = Harness()
    harness.publish(0, 0, 0)
    harness.stage.after = lambda _: harness.stop.set()

    harness.run()

    assert [(0, 0)] == harness.stage.handled
    assert {P0: 1} == harness.committed


def test_retry_after_is_respected() -> None:
    """No attempt is made before the server's Retry-After has passed."""
    harness = Harness()
    harness.publish(0)
    harness.stage.errors[0, 0] = [KeycloakUnavailableError("busy", retry_after_s=120.0)]
    times: list[float] = []
    harness.stage.after = lambda _: times.append(harness.clock.monotonic())

    harness.run()

    assert times[0] >= 60.0 + 120.0


def test_an_outage_while_idle_is_over_when_a_turn_goes_well() -> None:
    """Kafka came back and nothing is in hand: the bridge is ready again, and a run to the end ends."""
    harness = Harness()
    harness.source.poll_errors = [BrokerUnavailableError("gone"), BrokerUnavailableError("gone")]

    harness.run()

    assert [] == harness.stage.handled
    assert harness.source.closed


def test_an_outage_is_noticed_while_idle() -> None:
    """A poll that brings nothing does not tell that Kafka is gone, so it is asked now and then."""
    harness = Harness()
    ends, failures, seen = harness.source.end_offsets, [True, True], []

    def sometimes() -> Mapping[TopicPartition, int]:
        seen.append(harness.status.why_not_ready())
        if failures:
            failures.pop()
            raise BrokerUnavailableError("Kafka does not answer")
        return ends()

    harness.source.end_offsets = sometimes  # type: ignore[method-assign]

    harness.run()

    assert ("provision: Kafka does not answer",) in seen
    assert () == harness.status.why_not_ready()
