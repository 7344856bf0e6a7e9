"""What the contract suite of the broker and the tests of its traps share."""

import dataclasses
import threading
import time
from collections.abc import Callable, Collection
from typing import Protocol, Self
from uuid import uuid4

from keycloak_bridge.domain.errors import BridgeError, BrokerUnavailableError
from keycloak_bridge.domain.events import Commit, Message, Record, TopicPartition
from keycloak_bridge.domain.ports import Acknowledgement, MessageProducer, RecordConsumer
from keycloak_bridge.kafka.consumer import KafkaRecordConsumer
from keycloak_bridge.kafka.producer import KafkaMessageProducer
from keycloak_bridge.kafka.topics import KafkaAdmin, TopicSpec
from keycloak_bridge.settings.model import KafkaSettings

PARTITIONS = 3
PATIENCE_S = 120.0
ACKNOWLEDGE_S = 120.0
KEYS = [f"u-{number}".encode() for number in range(12)]


class Broker(Protocol):
    """A Kafka whose topics have three partitions."""

    sink: MessageProducer

    def new_topic(self) -> str:
        """Create a topic that no other test uses."""
        ...

    def source(self, topic: str, group_id: str, *, session_timeout: float = 6.0) -> RecordConsumer:
        """Return a new member of the group; it is closed with the test at the latest."""
        ...


class RealBroker:
    """The sandbox's Kafka."""

    def __init__(self, bootstrap_servers: str) -> None:
        self.settings = KafkaSettings(bootstrap_servers=(bootstrap_servers,), session_timeout=6.0)
        self._admin = KafkaAdmin(self.settings)
        self._sources: list[RecordConsumer] = []
        self.sink: MessageProducer = KafkaMessageProducer(self.settings)

    def new_topic(self, **config: str) -> str:
        """Create a topic that no other test uses; retry, since a test before may have restarted the broker."""
        deadline = time.monotonic() + PATIENCE_S
        while True:
            name = unique("topic")
            try:
                self._admin.create([TopicSpec(name, "contract", PARTITIONS, 1, config)])
            except BrokerUnavailableError:
                assert time.monotonic() < deadline, "no topic could be created"
            else:
                return name

    def source(
        self,
        topic: str,
        group_id: str,
        *,
        session_timeout: float = 6.0,
        max_poll_interval: float = 300.0,
    ) -> KafkaRecordConsumer:
        settings = dataclasses.replace(
            self.settings, session_timeout=session_timeout, max_poll_interval=max_poll_interval
        )
        source = KafkaRecordConsumer(settings, topic=topic, group_id=group_id)
        self._sources.append(source)
        return source

    def end_test(self) -> None:
        """Let no member of one test live on into the next."""
        while self._sources:
            self._sources.pop().close()

    def close(self) -> None:
        self.sink.close()
        self._admin.close()


def unique(prefix: str) -> str:
    """Return a name that no other test uses."""
    return f"{prefix}-{uuid4().hex[:12]}"


def publish(broker: Broker, *messages: Message) -> None:
    """Publish and wait until all are acknowledged."""
    for acknowledgement in [broker.sink.publish(message) for message in messages]:
        arrived(acknowledgement)


def arrived(acknowledgement: Acknowledgement) -> None:
    """Wait until the record has arrived; raise what befell it else."""
    outcomes: list[BridgeError | None] = []
    called = threading.Event()

    def done(error: BridgeError | None) -> None:
        outcomes.append(error)
        called.set()

    acknowledgement.then(done)
    assert called.wait(ACKNOWLEDGE_S), "no answer came for the record"
    if outcomes[0] is not None:
        raise outcomes[0]


def nothing(_: TopicPartition) -> bool:
    """Hold no partition."""
    return False


def numbered(topic: str, count: int) -> list[Message]:
    """Return messages of several keys; the value is a number that grows."""
    return [Message(topic, KEYS[at % len(KEYS)], str(at).encode()) for at in range(count)]


def read(source: RecordConsumer, count: int) -> list[Record]:
    """Poll until `count` records came."""
    records: list[Record] = []
    deadline = time.monotonic() + PATIENCE_S
    while len(records) < count:
        assert time.monotonic() < deadline, f"{len(records)} of {count} records came"
        records += source.poll(0.2, nothing)
    return records


def turn_until(
    condition: Callable[[], bool],
    *sources: RecordConsumer,
    held: Callable[[TopicPartition], bool] = nothing,
) -> list[Record]:
    """Poll all sources until the condition holds; return what came meanwhile."""
    records: list[Record] = []
    deadline = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < deadline, "it did not come true in time"
        for source in sources:
            records += source.poll(0.1, held)
    return records


def settled(*sources: RecordConsumer, held: Callable[[TopicPartition], bool] = nothing) -> None:
    """Poll until every source is a member that holds something."""
    turn_until(
        lambda: all(one.joined() and one.positions() for one in sources), *sources, held=held
    )


def next_offsets(records: list[Record]) -> dict[TopicPartition, int]:
    """Return where to read on after `records`."""
    return {record.topic_partition: record.offset + 1 for record in records}


def commits_of(records: list[Record]) -> dict[TopicPartition, Commit]:
    """Return what to commit after `records`."""
    return {at: Commit(offset) for at, offset in next_offsets(records).items()}


def partitions_of(topic: str) -> list[TopicPartition]:
    """Return all partitions of a topic."""
    return [TopicPartition(topic, number) for number in range(PARTITIONS)]


def numbers(records: Collection[Record]) -> list[int]:
    """Return the numbers that the records carry, sorted."""
    return sorted(int(record.value or b"-1") for record in records)


class Polling:
    """A member that polls in a thread of its own, as in another process, and keeps what it gets."""

    def __init__(self, source: RecordConsumer) -> None:
        self.records: list[Record] = []
        self._source = source
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._stop.is_set():
            self.records += self._source.poll(0.1, nothing)
