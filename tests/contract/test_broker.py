"""What every RecordConsumer and MessageProducer promise; the Kafka in memory and the real one pass the same tests."""

import secrets
import time
from collections.abc import Iterator

import pytest
from broker_harness import (
    KEYS,
    PARTITIONS,
    PATIENCE_S,
    Broker,
    Polling,
    RealBroker,
    arrived,
    commits_of,
    next_offsets,
    nothing,
    numbered,
    numbers,
    partitions_of,
    publish,
    read,
    settled,
    turn_until,
    unique,
)

from keycloak_bridge.delivery.group_position import group_positions
from keycloak_bridge.domain.errors import BrokerAccessError
from keycloak_bridge.domain.events import Commit, Message, Record, TopicPartition
from keycloak_bridge.domain.ports import MessageProducer, RecordConsumer
from keycloak_bridge.kafka.producer import KafkaMessageProducer
from keycloak_bridge.sandbox import Sandbox
from keycloak_bridge.testing.in_memory_broker import InMemoryBroker


class MemoryBroker:
    """The fake."""

    def __init__(self) -> None:
        self._broker = InMemoryBroker(partitions=PARTITIONS)
        self.sink: MessageProducer = self._broker

    def new_topic(self) -> str:
        return unique("topic")

    def source(self, topic: str, group_id: str, *, session_timeout: float = 6.0) -> RecordConsumer:
        return self._broker.source(topic, group_id)


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
    """A consumer group without a member so far."""
    return unique("group")


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
    """In order, repeated names included; a null value is the one thing that becomes empty. A given time is kept."""
    headers = (("b", b"\xff\x00"), ("a", "é".encode()), ("b", b""), ("none", None), ("ü", b"1"))
    publish(broker, Message(topic, b"k", b"v", headers, timestamp_ms=1_793_577_600_000))

    (record,) = read(broker.source(topic, group), 1)

    assert (*headers[:3], ("none", b""), ("ü", b"1")) == record.headers
    assert 1_793_577_600_000 == record.timestamp_ms


def test_a_record_without_key_and_value_arrives_empty(
    broker: Broker, topic: str, group: str
) -> None:
    """Not even that may be lost on its way to the dead letters."""
    publish(broker, Message(topic, None, None, (("trace", b"1"),)))

    (record,) = read(broker.source(topic, group), 1)

    assert (None, b"", (("trace", b"1"),)) == (record.key, record.value, record.headers)


def test_acknowledged_means_readable(broker: Broker, topic: str, group: str) -> None:
    """Once it is called, the end of the topic counts the record, and asking again is harmless."""
    source = broker.source(topic, group)
    acknowledgement = broker.sink.publish(Message(topic, b"k", b"v"))

    arrived(acknowledgement)
    arrived(acknowledgement)

    assert 1 == sum(source.end_offsets().values())


# reading


def test_records_of_a_key_come_in_order(broker: Broker, topic: str, group: str) -> None:
    """Each key stays on one partition, and its records come as they were published, by offset from the beginning."""
    publish(broker, *numbered(topic, 120))

    records = read(broker.source(topic, group), 120)

    assert 120 == len(records)
    by_key = {key: [r for r in records if r.key == key] for key in KEYS}
    for key, own in by_key.items():
        assert [n for n in range(120) if KEYS[n % len(KEYS)] == key] == [
            int(r.value or b"-1") for r in own
        ]
        assert 1 == len({r.partition for r in own})
    for partition in partitions_of(topic):
        offsets = [record.offset for record in records if record.topic_partition == partition]
        assert list(range(len(offsets))) == offsets
    assert len({r.partition for r in records}) > 1


def test_an_empty_topic_gives_nothing_after_the_time_out(
    broker: Broker, topic: str, group: str
) -> None:
    """A poll without records returns, and empty."""
    source = broker.source(topic, group)
    settled(source)

    assert [] == list(source.poll(0.2, nothing))


def test_groups_read_for_themselves(broker: Broker, topic: str, group: str) -> None:
    """What one group commits is nothing to another."""
    publish(broker, *numbered(topic, 6))
    first = broker.source(topic, group)
    first.commit(commits_of(read(first, 6)))

    assert 6 == len(read(broker.source(topic, unique("group")), 6))


# committing


def test_a_new_member_resumes_at_the_commit(broker: Broker, topic: str, group: str) -> None:
    """What was committed is not read again, everything else is."""
    publish(broker, *numbered(topic, 30))
    first = broker.source(topic, group)
    records = read(first, 30)
    first.commit(commits_of(records[:20]))
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


def test_how_far_the_whole_group_is(broker: Broker, topic: str, group: str) -> None:
    """Every partition is there, at its beginning where nothing was committed, or only behind the end."""
    source = broker.source(topic, group)
    partitions = partitions_of(topic)
    settled(source)
    publish(broker, Message(topic, b"k", b"v"), Message(topic, b"k", b"v"))
    records = read(source, 2)

    def offsets() -> dict[TopicPartition, int]:
        return {at: one.offset for at, one in group_positions(source, partitions).items()}

    before = offsets()
    source.commit(commits_of(records))
    after = offsets()
    source.commit({records[0].topic_partition: Commit(500)})

    assert dict.fromkeys(partitions, 0) == before == offsets()
    assert dict.fromkeys(partitions, 0) | next_offsets(records) == after


def test_an_empty_commit_is_harmless(broker: Broker, topic: str, group: str) -> None:
    """There is nothing to say."""
    source = broker.source(topic, group)
    settled(source)
    before = source.commits(partitions_of(topic))

    source.commit({})

    assert before == source.commits(partitions_of(topic))


def test_metadata_comes_back_with_the_commit(broker: Broker, topic: str, group: str) -> None:
    """3,000 characters, of the partitions that were asked for and have a commit; another member may ask."""
    first, second, third = partitions_of(topic)
    metadata = "".join(chr(33 + number % 90) for number in range(3_000))
    source = broker.source(topic, group)
    settled(source)

    source.commit({first: Commit(5, metadata), second: Commit(7)})

    asked = broker.source(topic, group)
    assert {first: Commit(5, metadata)} == asked.commits([first, third])
    assert {second: Commit(7, "")} == asked.commits([second])
    assert {} == asked.commits([])


def test_a_commit_may_go_back(broker: Broker, topic: str, group: str) -> None:
    """Offset and metadata are what was committed last; the same again is harmless."""
    (first, *_) = partitions_of(topic)
    source = broker.source(topic, group)
    settled(source)

    source.commit({first: Commit(9, "later")})
    source.commit({first: Commit(4, "again")})
    source.commit({first: Commit(4, "again")})

    assert {first: Commit(4, "again")} == source.commits([first])


# where things are


def test_positions_follow_what_was_read(broker: Broker, topic: str, group: str) -> None:
    """Behind the last record of each partition; at the beginning of an empty one."""
    publish(broker, *numbered(topic, 24))
    source = broker.source(topic, group)
    records = read(source, 24)

    everywhere = dict.fromkeys(partitions_of(topic), 0)
    assert everywhere | next_offsets(records) == dict(source.positions())
    assert source.positions() == source.end_offsets()


def test_end_offsets_need_no_assignment(broker: Broker, topic: str, group: str) -> None:
    """They are known before the first poll, of every partition."""
    publish(broker, *numbered(topic, 7))
    source = broker.source(topic, group)

    ends = source.end_offsets()

    assert set(partitions_of(topic)) == set(ends)
    assert 7 == sum(ends.values())


def test_seek_back_reads_again_from_there(broker: Broker, topic: str, group: str) -> None:
    """What was forgotten comes again, in order, and nothing else."""
    publish(broker, *numbered(topic, 24))
    source = broker.source(topic, group)
    records = read(source, 24)
    partition = records[0].topic_partition
    forgotten = [r for r in records if r.topic_partition == partition and r.offset >= 1]

    source.seek(partition, 1)
    before = dict(source.positions())

    assert 1 == before[partition]
    assert forgotten == read(source, len(forgotten))
    assert source.positions() == source.end_offsets()


def test_seek_ahead_skips(broker: Broker, topic: str, group: str) -> None:
    """Finished records above the commit need not come again."""
    source = broker.source(topic, group)
    settled(source)
    publish(broker, *(Message(topic, KEYS[0], str(number).encode()) for number in range(5)))
    (partition,) = (at for at, end in source.end_offsets().items() if end)

    source.seek(partition, 3)

    assert [3, 4] == numbers(read(source, 2))


def test_seeking_elsewhere_is_harmless(broker: Broker, topic: str, group: str) -> None:
    """A partition may have left before the worker looks."""
    source = broker.source(topic, group)
    settled(source)
    before = dict(source.positions())

    source.seek(TopicPartition(topic, PARTITIONS), 1)

    assert before == source.positions()


# membership


def test_a_member_is_joined_once_it_has_settled(broker: Broker, topic: str, group: str) -> None:
    """Polling makes it a member of the group, with all partitions for the only one."""
    source = broker.source(topic, group)

    settled(source)

    assert source.joined()
    assert frozenset(partitions_of(topic)) == source.assigned() == source.positions().keys()


def test_held_partitions_give_nothing_and_the_others_flow(
    broker: Broker, topic: str, group: str
) -> None:
    """Also right after they were assigned; nothing is lost or repeated when they are held no more."""
    (first, *_) = partitions_of(topic)
    publish(broker, *numbered(topic, 24))
    source = broker.source(topic, group)
    settled_with = turn_until(
        lambda: source.joined() and bool(source.positions()), source, held=lambda at: at == first
    )
    elsewhere = sum(source.end_offsets().values()) - source.end_offsets()[first]

    flowing = settled_with
    deadline = time.monotonic() + PATIENCE_S
    while len(flowing) < elsewhere and time.monotonic() < deadline:
        flowing += source.poll(0.1, lambda at: at == first)
    flowing += [record for _ in range(5) for record in source.poll(0.1, lambda at: at == first)]
    rest = read(source, 24 - elsewhere)

    assert elsewhere == len(flowing) < 24
    assert first not in {record.topic_partition for record in flowing}
    assert list(range(24)) == numbers(flowing + rest)


def test_a_member_that_holds_everything_stays_one(broker: Broker, topic: str, group: str) -> None:
    """Polls stay empty, from the very first, and nothing is lost or repeated afterwards."""
    publish(broker, *numbered(topic, 9))
    source = broker.source(topic, group)

    def everything(_: TopicPartition) -> bool:
        return True

    held = turn_until(lambda: source.joined() and bool(source.positions()), source, held=everything)
    held += [record for _ in range(10) for record in source.poll(0.1, everything)]

    assert ([], True) == (held, source.joined())
    assert list(range(9)) == numbers(read(source, 9))


def test_a_closed_member_leaves_at_once(broker: Broker, topic: str, group: str) -> None:
    """Its session would outlast the test, but closing leaves the group."""
    first = broker.source(topic, group, session_timeout=2 * PATIENCE_S)
    settled(first)
    first.close()
    second = broker.source(topic, group)

    settled(second)

    assert PARTITIONS == len(second.positions())


# several members


def test_a_second_member_takes_its_share(broker: Broker, topic: str, group: str) -> None:
    """The first is asked once to release, goes on with the rest, and both read everything together."""
    first = broker.source(topic, group)
    released: list[tuple[frozenset[TopicPartition], bool]] = []

    def release(at: frozenset[TopicPartition], lost: bool) -> dict[TopicPartition, Commit]:
        released.append((at, lost))
        return {}

    first.when_revoked(release)
    settled(first)
    before = first.assigned()
    second = broker.source(topic, group)

    with Polling(first) as member:
        settled(second)
        publish(broker, *numbered(topic, 30))
        taken_over: list[Record] = []
        deadline = time.monotonic() + PATIENCE_S
        while len(member.records) + len(taken_over) < 30 and time.monotonic() < deadline:
            taken_over += second.poll(0.1, nothing)

    assert before == first.assigned() | second.assigned()
    assert frozenset() == first.assigned() & second.assigned()
    assert [(second.assigned(), False)] == released
    assert list(range(30)) == numbers(member.records + taken_over)


def test_what_a_release_returns_is_where_the_next_owner_begins(
    broker: Broker, topic: str, group: str
) -> None:
    """It is asked before the other member has the partition; offset and metadata arrive whole."""
    publish(broker, *numbered(topic, 60))
    first = broker.source(topic, group)
    held_then: list[frozenset[TopicPartition]] = []
    metadata = "done above: " + "9" * 1_000

    def release(at: frozenset[TopicPartition], _: bool) -> dict[TopicPartition, Commit]:
        held_then.append(second.assigned())
        return {one: Commit(2, metadata) for one in at}

    first.when_revoked(release)
    read(first, 60)
    second = broker.source(topic, group)

    with Polling(first):
        records = turn_until(lambda: bool(second.assigned()), second)
        expected = {
            (at, offset)
            for at in second.assigned()
            for offset in range(2, second.end_offsets()[at])
        }
        records += read(second, len(expected) - len(records))

    assert [frozenset()] == held_then
    assert expected == {(record.topic_partition, record.offset) for record in records}
    assert len(expected) == len(records)
    taken = second.assigned()
    assert dict.fromkeys(taken, Commit(2, metadata)) == second.commits(taken)


def test_leaving_releases_what_is_held(broker: Broker, topic: str, group: str) -> None:
    """So the next member begins where this one ended, even if nothing else was committed."""
    source = broker.source(topic, group)
    settled(source)
    released: list[tuple[frozenset[TopicPartition], bool]] = []

    def release(at: frozenset[TopicPartition], lost: bool) -> dict[TopicPartition, Commit]:
        released.append((at, lost))
        return {one: Commit(0, "left") for one in at}

    source.when_revoked(release)
    source.close()

    everything = frozenset(partitions_of(topic))
    assert [(everything, False)] == released
    assert dict.fromkeys(everything, Commit(0, "left")) == broker.source(topic, group).commits(
        everything
    )


# only where the broker has a say


@pytest.fixture
def real(real_broker: RealBroker) -> Iterator[RealBroker]:
    """The real one only: the fake takes every record."""
    yield real_broker
    real_broker.end_test()


@pytest.fixture
def refused_sink(real: RealBroker) -> Iterator[MessageProducer]:
    """A producer of its own, which a refusal may leave unusable."""
    sink = KafkaMessageProducer(real.settings)
    yield sink
    sink.close()


@pytest.mark.integration
def test_a_record_that_the_topic_does_not_take_is_refused_for_good(
    real: RealBroker, refused_sink: MessageProducer
) -> None:
    """Larger than max.message.bytes: the acknowledgement says so instead of trying for ever."""
    topic = real.new_topic(**{"max.message.bytes": "10000"})

    with pytest.raises(BrokerAccessError) as caught:
        arrived(refused_sink.publish(Message(topic, b"k", secrets.token_bytes(20_000))))

    assert f"max.message.bytes of topic {topic}" in str(caught.value.remedy)


@pytest.mark.integration
def test_a_compacted_topic_refuses_a_record_without_a_key_for_good(
    real: RealBroker, refused_sink: MessageProducer
) -> None:
    """A result or a dead letter may have no key, so the sentence names the policy."""
    topic = real.new_topic(**{"cleanup.policy": "compact"})

    with pytest.raises(BrokerAccessError) as caught:
        arrived(refused_sink.publish(Message(topic, None, b"v")))

    assert f"cleanup.policy of topic {topic}" in str(caught.value.remedy)
