"""What every EventSource and MessageSink promise; the Kafka in memory and the real one answer the same tests."""

import secrets
import threading
import time
from collections.abc import Callable, Iterator
from typing import Protocol, Self
from uuid import uuid4

import pytest

from keycloak_bridge.core.errors import BrokerAccessError
from keycloak_bridge.core.model import Message, Record, TopicPartition
from keycloak_bridge.core.ports import EventSource, MessageSink
from keycloak_bridge.kafka_sink import KafkaMessageSink
from keycloak_bridge.kafka_source import KafkaEventSource
from keycloak_bridge.kafka_topics import TopicAdmin, TopicSpec
from keycloak_bridge.sandbox import Sandbox
from keycloak_bridge.settings import KafkaSettings
from keycloak_bridge.testing.in_memory_broker import InMemoryBroker

PARTITIONS = 3
PATIENCE_S = 30.0
ACKNOWLEDGE_S = 30.0
KEYS = [f"u-{number}".encode() for number in range(12)]


class Broker(Protocol):
    """A Kafka whose topics have three partitions."""

    sink: MessageSink

    def new_topic(self) -> str:
        """Create a topic that nobody else uses."""
        ...

    def source(self, topic: str, group_id: str) -> EventSource:
        """Return a new member of the group; it is closed with the test at the latest."""
        ...


class MemoryBroker:
    """The fake."""

    def __init__(self) -> None:
        self._broker = InMemoryBroker(partitions=PARTITIONS)
        self.sink: MessageSink = self._broker

    def new_topic(self) -> str:
        return unique("topic")

    def source(self, topic: str, group_id: str) -> EventSource:
        return self._broker.source(topic, group_id)


class RealBroker:
    """The sandbox's Kafka."""

    def __init__(self, bootstrap_servers: str) -> None:
        self.settings = KafkaSettings(
            bootstrap_servers=(bootstrap_servers,), session_timeout=6.0, heartbeat_interval=0.5
        )
        self._admin = TopicAdmin(self.settings)
        self._sources: list[EventSource] = []
        self.sink: MessageSink = KafkaMessageSink(self.settings)

    def new_topic(self, **config: str) -> str:
        name = unique("topic")
        self._admin.create([TopicSpec(name, "contract", PARTITIONS, 1, config)])
        return name

    def source(self, topic: str, group_id: str) -> EventSource:
        source = KafkaEventSource(self.settings, topic=topic, group_id=group_id)
        self._sources.append(source)
        return source

    def end_test(self) -> None:
        """Let no member of one test live on into the next."""
        while self._sources:
            self._sources.pop().close()

    def close(self) -> None:
        self.sink.close()
        self._admin.close()


@pytest.fixture(scope="module")
def real_broker(sandbox: Sandbox) -> Iterator[RealBroker]:
    """One producer and one admin for the whole suite, whose topics and groups are unique."""
    broker = RealBroker(sandbox.bootstrap_servers)
    yield broker
    broker.close()


@pytest.fixture(params=["memory", pytest.param("real", marks=pytest.mark.integration)])
def broker(request: pytest.FixtureRequest) -> Iterator[Broker]:
    """The fake, or the Kafka of the sandbox."""
    if request.param == "memory":
        yield MemoryBroker()
        return
    real: RealBroker = request.getfixturevalue("real_broker")
    yield real
    real.end_test()


@pytest.fixture
def topic(broker: Broker) -> str:
    """An empty topic."""
    return broker.new_topic()


@pytest.fixture
def group() -> str:
    """A consumer group that nobody was in yet."""
    return unique("group")


def unique(prefix: str) -> str:
    """Return a name that no other test uses."""
    return f"{prefix}-{uuid4().hex[:12]}"


def publish(broker: Broker, *messages: Message) -> None:
    """Publish and wait until all are acknowledged."""
    for acknowledgement in [broker.sink.publish(message) for message in messages]:
        acknowledgement.wait(ACKNOWLEDGE_S)


def numbered(topic: str, count: int) -> list[Message]:
    """Return messages of several keys; the value is a number that grows."""
    return [Message(topic, KEYS[at % len(KEYS)], str(at).encode()) for at in range(count)]


def read(source: EventSource, count: int) -> list[Record]:
    """Poll until `count` records came."""
    records: list[Record] = []
    deadline = time.monotonic() + PATIENCE_S
    while len(records) < count:
        assert time.monotonic() < deadline, f"{len(records)} of {count} records came"
        records += source.poll(0.2)
    return records


def turn_until(condition: Callable[[], bool], *sources: EventSource) -> list[Record]:
    """Poll all sources until the condition holds; return what came meanwhile."""
    records: list[Record] = []
    deadline = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < deadline, "it did not come true in time"
        for source in sources:
            records += source.poll(0.1)
    return records


def settled(*sources: EventSource) -> None:
    """Poll until every source is a member that holds something."""
    turn_until(lambda: all(one.joined() and one.positions() for one in sources), *sources)


def next_offsets(records: list[Record]) -> dict[TopicPartition, int]:
    """Return what to commit after `records`."""
    return {record.topic_partition: record.offset + 1 for record in records}


# the sink


@pytest.mark.parametrize(
    ("key", "value"),
    [(b"k", b"v"), (b"\x00\xff", b"\xff\xfe\x00"), (None, b"v"), (b"k", None), (b"k", b"")],
)
def test_key_and_value_arrive_byte_for_byte(
    broker: Broker, topic: str, group: str, key: bytes | None, value: bytes | None
) -> None:
    """Nothing is decoded; null stays null, empty stays empty."""
    publish(broker, Message(topic, key, value))

    (record,) = read(broker.source(topic, group), 1)

    assert (topic, key, value) == (record.topic, record.key, record.value)


def test_headers_arrive_byte_for_byte(broker: Broker, topic: str, group: str) -> None:
    """In order, repeated names included; a null value is the one thing that becomes empty."""
    headers = (("b", b"\xff\x00"), ("a", "é".encode()), ("b", b""), ("none", None), ("ü", b"1"))
    publish(broker, Message(topic, b"k", b"v", headers))

    (record,) = read(broker.source(topic, group), 1)

    assert (*headers[:3], ("none", b""), ("ü", b"1")) == record.headers


def test_a_given_timestamp_is_kept(broker: Broker, topic: str, group: str) -> None:
    """A replayed record may keep its time."""
    publish(broker, Message(topic, b"k", b"v", timestamp_ms=1_793_577_600_000))

    (record,) = read(broker.source(topic, group), 1)

    assert 1_793_577_600_000 == record.timestamp_ms


def test_a_record_without_key_and_value_arrives_empty(
    broker: Broker, topic: str, group: str
) -> None:
    """Not even that may be lost on its way to the dead letters."""
    publish(broker, Message(topic, None, None, (("trace", b"1"),)))

    (record,) = read(broker.source(topic, group), 1)

    assert (None, b"", (("trace", b"1"),)) == (record.key, record.value, record.headers)


def test_acknowledged_means_readable(broker: Broker, topic: str, group: str) -> None:
    """Once the wait returns, the end of the topic counts the record, and waiting again is harmless."""
    source = broker.source(topic, group)
    acknowledgement = broker.sink.publish(Message(topic, b"k", b"v"))

    acknowledgement.wait(ACKNOWLEDGE_S)
    acknowledgement.wait(ACKNOWLEDGE_S)

    assert 1 == sum(source.end_offsets().values())


# reading


def test_records_of_a_key_come_in_order(broker: Broker, topic: str, group: str) -> None:
    """Each key stays on one partition, and its records come as they were published."""
    publish(broker, *numbered(topic, 120))

    records = read(broker.source(topic, group), 120)

    assert 120 == len(records)
    by_key = {key: [r for r in records if r.key == key] for key in KEYS}
    for key, own in by_key.items():
        assert [n for n in range(120) if KEYS[n % len(KEYS)] == key] == [
            int(r.value or b"-1") for r in own
        ]
        assert 1 == len({r.partition for r in own})
    assert len({r.partition for r in records}) > 1


def test_offsets_of_a_partition_grow(broker: Broker, topic: str, group: str) -> None:
    """Within a partition records come by offset, from its beginning."""
    publish(broker, *numbered(topic, 60))

    records = read(broker.source(topic, group), 60)

    for partition in {record.partition for record in records}:
        offsets = [record.offset for record in records if record.partition == partition]
        assert list(range(len(offsets))) == offsets


def test_an_empty_topic_gives_nothing_after_the_time_out(
    broker: Broker, topic: str, group: str
) -> None:
    """A poll without records returns empty and in time."""
    source = broker.source(topic, group)
    settled(source)
    started = time.monotonic()

    assert [] == list(source.poll(0.2))
    assert time.monotonic() - started < 5.0


def test_groups_read_for_themselves(broker: Broker, topic: str, group: str) -> None:
    """What one group commits is nothing to another."""
    publish(broker, *numbered(topic, 6))
    first = broker.source(topic, group)
    first.commit(next_offsets(read(first, 6)))

    assert 6 == len(read(broker.source(topic, unique("group")), 6))


def test_a_record_published_later_comes(broker: Broker, topic: str, group: str) -> None:
    """A member that has read everything gets what is new."""
    source = broker.source(topic, group)
    settled(source)
    publish(broker, Message(topic, b"k", b"new"))

    assert [b"new"] == [record.value for record in read(source, 1)]


# committing


def test_a_new_member_resumes_at_the_commit(broker: Broker, topic: str, group: str) -> None:
    """What was committed is not read again, everything else is."""
    publish(broker, *numbered(topic, 30))
    first = broker.source(topic, group)
    records = read(first, 30)
    first.commit(next_offsets(records[:20]))
    first.close()
    expected = sorted(int(r.value or b"") for r in records[20:])

    again = read(broker.source(topic, group), len(expected))

    assert expected == sorted(int(record.value or b"") for record in again)


def test_without_a_commit_everything_comes_again(broker: Broker, topic: str, group: str) -> None:
    """Delivered is not done: closing commits nothing."""
    publish(broker, *numbered(topic, 10))
    first = broker.source(topic, group)
    read(first, 10)
    first.close()

    assert 10 == len(read(broker.source(topic, group), 10))


def test_committed_tells_of_the_whole_group(broker: Broker, topic: str, group: str) -> None:
    """Every partition is there, at its beginning where nothing was committed."""
    source = broker.source(topic, group)
    partitions = [TopicPartition(topic, number) for number in range(PARTITIONS)]
    before = dict(source.committed())
    publish(broker, Message(topic, b"k", b"v"), Message(topic, b"k", b"v"))
    offsets = next_offsets(read(source, 2))

    source.commit(offsets)

    assert dict.fromkeys(partitions, 0) == before
    assert dict.fromkeys(partitions, 0) | offsets == dict(source.committed())


def test_an_empty_commit_is_harmless(broker: Broker, topic: str, group: str) -> None:
    """There is nothing to say."""
    source = broker.source(topic, group)
    settled(source)
    before = source.committed()

    source.commit({})

    assert before == source.committed()


def test_the_same_commit_again_is_harmless(broker: Broker, topic: str, group: str) -> None:
    """A commit is a place, not a step."""
    publish(broker, *numbered(topic, 5))
    source = broker.source(topic, group)
    offsets = next_offsets(read(source, 5))

    source.commit(offsets)
    source.commit(offsets)

    assert offsets.items() <= source.committed().items()


# where things are


def test_positions_follow_what_was_read(broker: Broker, topic: str, group: str) -> None:
    """Behind the last record of each partition; at the beginning of an empty one."""
    publish(broker, *numbered(topic, 24))
    source = broker.source(topic, group)
    records = read(source, 24)

    partitions = [TopicPartition(topic, number) for number in range(PARTITIONS)]
    assert dict.fromkeys(partitions, 0) | next_offsets(records) == dict(source.positions())
    assert source.positions() == source.end_offsets()


def test_end_offsets_need_no_assignment(broker: Broker, topic: str, group: str) -> None:
    """They are known before the first poll, of every partition."""
    publish(broker, *numbered(topic, 7))
    source = broker.source(topic, group)

    ends = source.end_offsets()

    assert {TopicPartition(topic, number) for number in range(PARTITIONS)} == set(ends)
    assert 7 == sum(ends.values())


def test_rewind_reads_again_from_there(broker: Broker, topic: str, group: str) -> None:
    """What was forgotten comes again, on the partitions that are named only."""
    publish(broker, *numbered(topic, 24))
    source = broker.source(topic, group)
    records = read(source, 24)
    partition = records[0].topic_partition
    forgotten = [r for r in records if r.topic_partition == partition and r.offset >= 1]

    source.rewind({partition: 1})

    assert [r.value for r in forgotten] == [r.value for r in read(source, len(forgotten))]


def test_rewind_never_skips(broker: Broker, topic: str, group: str) -> None:
    """An offset further on than the position is left alone."""
    publish(broker, *numbered(topic, 6))
    source = broker.source(topic, group)
    settled(source)

    source.rewind(dict.fromkeys(source.positions(), 1_000))

    assert all(offset < 1_000 for offset in source.positions().values())


# membership


def test_a_member_is_joined_once_it_has_settled(broker: Broker, topic: str, group: str) -> None:
    """Polling makes it a member of the group, with all partitions for the only one."""
    source = broker.source(topic, group)

    settled(source)

    assert source.joined()
    assert PARTITIONS == len(source.positions())
    assert frozenset() == source.take_revoked()


def test_pause_gives_nothing_and_keeps_the_membership(
    broker: Broker, topic: str, group: str
) -> None:
    """Polls stay empty while paused, and nothing is lost or repeated when it resumes."""
    source = broker.source(topic, group)
    settled(source)
    source.set_paused(True)
    publish(broker, *numbered(topic, 9))

    paused = [record for _ in range(10) for record in source.poll(0.1)]
    joined = source.joined()
    source.set_paused(False)

    assert ([], True) == (paused, joined)
    assert list(range(9)) == sorted(int(r.value or b"") for r in read(source, 9))


def test_pausing_twice_is_pausing(broker: Broker, topic: str, group: str) -> None:
    """The worker says it again on every turn."""
    publish(broker, *numbered(topic, 3))
    source = broker.source(topic, group)
    source.set_paused(True)
    source.set_paused(True)
    settled(source)
    source.set_paused(False)
    source.set_paused(False)

    # a partition that is assigned during a poll may have given its records before the pause took hold
    assert all(record.topic == topic for record in source.poll(0.1))


def test_a_closed_member_makes_room_at_once(broker: Broker, topic: str, group: str) -> None:
    """Closing leaves the group, so nobody has to wait for a session to run out."""
    first = broker.source(topic, group)
    settled(first)
    first.close()
    second = broker.source(topic, group)
    started = time.monotonic()

    settled(second)

    assert PARTITIONS == len(second.positions())
    assert time.monotonic() - started < 5.0


# only where there can be a second member


@pytest.fixture
def real(real_broker: RealBroker) -> Iterator[RealBroker]:
    """The real one only: the fake's groups have one member, and its tests take partitions away by hand."""
    yield real_broker
    real_broker.end_test()


@pytest.fixture
def refused_sink(real: RealBroker) -> Iterator[MessageSink]:
    """A producer of its own, which a refusal may leave unusable."""
    sink = KafkaMessageSink(real.settings)
    yield sink
    sink.close()


class Polling:
    """A member that polls in a thread of its own, as in another process, and keeps what it gets and what it loses."""

    def __init__(self, source: EventSource) -> None:
        self.records: list[Record] = []
        self.revoked: list[TopicPartition] = []
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
            self.records += self._source.poll(0.1)
            self.revoked += self._source.take_revoked()


@pytest.mark.integration
def test_a_second_member_takes_its_share(real: RealBroker, group: str) -> None:
    """The first hears once of what was taken away, goes on with the rest, and both read everything together."""
    topic = real.new_topic()
    first, second = real.source(topic, group), real.source(topic, group)
    settled(first)
    before = set(first.positions())

    with Polling(first) as member:
        settled(second)
        publish(real, *numbered(topic, 30))
        taken_over: list[Record] = []
        deadline = time.monotonic() + PATIENCE_S
        while len(member.records) + len(taken_over) < 30 and time.monotonic() < deadline:
            taken_over += second.poll(0.1)

    taken = set(second.positions())
    assert before == set(first.positions()) | taken
    assert set() == set(first.positions()) & taken
    assert sorted(taken) == sorted(member.revoked)
    assert list(range(30)) == sorted(int(r.value or b"") for r in member.records + taken_over)


@pytest.mark.integration
def test_a_record_that_the_topic_does_not_take_is_refused_for_good(
    real: RealBroker, refused_sink: MessageSink
) -> None:
    """Larger than max.message.bytes: the acknowledgement says so instead of trying for ever."""
    topic = real.new_topic(**{"max.message.bytes": "10000"})

    with pytest.raises(BrokerAccessError) as caught:
        refused_sink.publish(Message(topic, b"k", secrets.token_bytes(20_000))).wait(ACKNOWLEDGE_S)

    assert f"max.message.bytes of topic {topic}" in str(caught.value.remedy)


@pytest.mark.integration
def test_a_compacted_topic_refuses_a_record_without_a_key_for_good(
    real: RealBroker, refused_sink: MessageSink
) -> None:
    """A result or a dead letter may have no key, so the sentence names the policy."""
    topic = real.new_topic(**{"cleanup.policy": "compact"})

    with pytest.raises(BrokerAccessError) as caught:
        refused_sink.publish(Message(topic, None, b"v")).wait(ACKNOWLEDGE_S)

    assert f"cleanup.policy of topic {topic}" in str(caught.value.remedy)
