"""One stage by hand: a Kafka in memory, a clock that stands still, and workers that work only when the test says so."""

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from keycloak_bridge.delivery.breaker import RetryPolicy
from keycloak_bridge.delivery.consumer_loop import ConsumerLoop, ConsumerOptions
from keycloak_bridge.delivery.delivery import Delivery, DeliveryPolicy, InHand
from keycloak_bridge.delivery.group_stamp import GroupStamp
from keycloak_bridge.delivery.guards import Brake
from keycloak_bridge.delivery.key_queues import Task
from keycloak_bridge.delivery.stage_context import Backlog, StageContext
from keycloak_bridge.delivery.worker_pool import WorkerPool
from keycloak_bridge.domain.errors import BridgeError, Dependency
from keycloak_bridge.domain.events import Message, Record, TopicPartition
from keycloak_bridge.domain.future import Future, completed
from keycloak_bridge.domain.ports import Acknowledgement, Clock, Handled
from keycloak_bridge.ops.metrics import Metrics
from keycloak_bridge.ops.status import Status
from keycloak_bridge.testing.fake_clock import FakeClock
from keycloak_bridge.testing.in_memory_broker import InMemoryBroker, InMemoryConsumer

TOPIC = "user-events"
RESULTS = "user-results"
LETTERS = "user-events-dead-letters"
GROUP = "group"
P0 = TopicPartition(TOPIC, 0)
P1 = TopicPartition(TOPIC, 1)
LONGEST_S = 10_000.0

At = tuple[int, int]
"""Partition and offset."""


def at_of(record: Record) -> At:
    """Return the position of `record`."""
    return (record.partition, record.offset)


def next_task(delivery: Delivery) -> Task | None:
    """Return a record that may be worked on at once, as a worker would take it, or None."""
    with delivery._changed:
        return delivery._take()


def policy(
    *,
    max_records: int = 1000,
    max_bytes: int = 1_000_000,
    max_attempts: int = 8,
    release_s: float = 0.0,
) -> DeliveryPolicy:
    """Return a policy that never makes a test wait."""
    return DeliveryPolicy(RetryPolicy(), max_records, max_bytes, max_attempts, release_s)


def stage_context(
    name: str = "provision",
    clock: Clock | None = None,
    brake: Brake | None = None,
    **parts: Any,
) -> StageContext:
    """Return what a stage shares; a test gives the parts that it looks at."""
    return StageContext(
        name,
        clock or FakeClock(),
        parts.pop("status", None) or Status(),
        parts.pop("metrics", None) or Metrics(),
        brake or Brake(0, 0, 20),
        **parts,
    )


def passing_time(source: InMemoryConsumer, clock: FakeClock) -> InMemoryConsumer:
    """Let the clock go on while `source` polls, and the other threads run."""
    poll = source.poll

    def polling(timeout_s: float, held: Callable[[TopicPartition], bool]) -> Sequence[Record]:
        time.sleep(0.001)
        clock.advance(timeout_s)
        return poll(timeout_s, held)

    source.poll = polling  # type: ignore[method-assign]
    return source


@contextmanager
def ended_if_it_hangs(stop: threading.Event) -> Iterator[None]:
    """Set `stop` after two minutes; then the test fails."""
    hangs = threading.Event()

    def end() -> None:
        hangs.set()
        stop.set()

    watchdog = threading.Timer(120, end)
    watchdog.start()
    try:
        yield
    finally:
        watchdog.cancel()
        assert not hangs.is_set()


class Pending:
    """An acknowledgement that comes when the test says so."""

    def __init__(self) -> None:
        self._done: list[Callable[[BridgeError | None], None]] = []
        self._arrived: list[BridgeError | None] = []

    def then(self, done: Callable[[BridgeError | None], None]) -> None:
        self._done.append(done)
        for error in self._arrived:
            done(error)

    def arrive(self, error: BridgeError | None = None) -> None:
        """Let the answer come: the record is safe, or why it is not."""
        self._arrived.append(error)
        for done in self._done:
            done(error)


class Recorder:
    """A stage that remembers what it handled, and fails as the test says."""

    def __init__(self, broker: InMemoryBroker) -> None:
        self._broker = broker
        self.handled: list[At] = []
        self.given_up: list[tuple[At, str]] = []
        self.errors: dict[At, list[Exception]] = {}
        """Raised by the next attempts at a record, one each."""
        self.give_up_errors: list[Exception] = []
        self.dependency = Dependency.KEYCLOAK
        self.before: Callable[[Record], object] = lambda _: None
        self.after: Callable[[Record], object] = lambda _: None
        self.answer: Callable[[Record], Sequence[Acknowledgement]] = self._result

    def ordering_key(self, record: Record) -> bytes:
        """Return the record key."""
        return record.key or f"@{record.offset}".encode()

    def handle(self, record: Record) -> Future[Handled]:
        """Do nothing but what the test asks for."""
        self.before(record)
        if self.errors.get(at_of(record)):
            raise self.errors[at_of(record)].pop(0)
        self.handled.append(at_of(record))
        self.after(record)
        return completed(Handled(self.answer(record), self.dependency))

    def give_up(self, record: Record, error: BridgeError) -> Handled:
        """Write a dead letter."""
        if self.give_up_errors:
            raise self.give_up_errors.pop(0)
        self.given_up.append((at_of(record), error.code))
        return Handled((self._broker.publish(Message(LETTERS, record.key, record.value)),))

    def _result(self, record: Record) -> Sequence[Acknowledgement]:
        return (self._broker.publish(Message(RESULTS, record.key, b"{}")),)


class Hand:
    """A consumer loop over a broker in memory, which has `events` of these users. Without `workers`, the test does their work."""

    def __init__(
        self,
        *events: int,
        partitions: int = 1,
        broker: InMemoryBroker | None = None,
        clock: FakeClock | None = None,
        delivery: DeliveryPolicy | None = None,
        brake: Brake | None = None,
        handler: Recorder | None = None,
        workers: int = 0,
        drain_s: float = 20.0,
        backlog: Backlog | None = None,
        stamp: GroupStamp | None = None,
    ) -> None:
        self.broker = broker or InMemoryBroker(partitions=partitions)
        self.clock = clock or FakeClock()
        self._workers = workers
        self.context = stage_context(
            clock=self.clock, brake=brake, backlog=backlog or Backlog(), stamp=stamp
        )
        self.status = self.context.status
        self.metrics = self.context.metrics
        self.fence = self.context.fence
        self.brake = self.context.brake
        self.lost = self.context.dead_lettered_users
        self.handler = handler or Recorder(self.broker)
        self.source: InMemoryConsumer = self.broker.source(TOPIC, GROUP)
        self.stop = threading.Event()
        self.worker = ConsumerLoop(
            self.context,
            self.source,
            self.handler,
            ConsumerOptions(delivery or policy(), workers, drain_s=drain_s),
        )
        self.delivery: Delivery = self.worker.delivery
        self.source.when_revoked(self.delivery.release)
        self.worker_pool = WorkerPool(self.context, 0, self.delivery, self.handler)
        self.publish(*events)

    def publish(self, *keys: int) -> None:
        """Write one event for each user; user 1 of two partitions has partition 1."""
        for key in keys:
            self.broker.publish(Message(TOPIC, bytes([key]), b"{}"))

    def turn(self, advance_s: float = 0.0) -> InHand:
        """Let time pass, then have the poll thread take one turn."""
        self.clock.advance(advance_s)
        return self.worker.turn()

    def begun(self) -> Task:
        """Turn once and take the first record, which then runs."""
        self.turn()
        task = next_task(self.delivery)
        assert task is not None
        return task

    def work(self, most: int = 1000) -> int:
        """Do what may be begun now, at most so many records; return how many that were."""
        for done in range(most):
            task = next_task(self.delivery)
            if task is None:
                return done
            self.worker_pool.do(task)
        return most

    def settle_all(self, turns: int = 5) -> None:
        """Turn and work a few times, with long pauses, so that every back-off ends."""
        for _ in range(turns):
            self.turn(60.0)
            self.work()
        self.turn(2.0)

    def run(self, *, per_poll: int = 1000, to_the_end: bool = True) -> None:
        """Run the worker itself. Time passes while it polls, and without workers their work is done then."""
        poll = self.source.poll

        def working_poll(
            timeout_s: float, held: Callable[[TopicPartition], bool]
        ) -> Sequence[Record]:
            if self._workers:
                time.sleep(0.001)  # lets the real threads on
            else:
                self.work(per_poll)
            self.clock.advance(timeout_s)
            assert self.clock.monotonic() < LONGEST_S, "the worker does not end"
            return poll(timeout_s, held)

        self.source.poll = working_poll  # type: ignore[method-assign]
        self.worker.run(self.stop, self.source.end_offsets if to_the_end else None)

    @property
    def committed(self) -> dict[TopicPartition, int]:
        """What the group has committed, without its notes."""
        return self.broker.offsets(GROUP)

    def problems(self) -> tuple[str, ...]:
        """Return why the stage is not ready."""
        return self.status.why_not_ready()
