"""What kafka-python does that a reader of its documentation would not expect, and that the bridge must not stumble on."""

import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from typing import Any

import pytest
from bridge_harness import wait_until
from broker_harness import (
    PARTITIONS,
    PATIENCE_S,
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
from kafka import KafkaAdminClient, KafkaProducer
from kafka import TopicPartition as KafkaTopicPartition

from keycloak_bridge.delivery.group_position import group_positions
from keycloak_bridge.domain.errors import BridgeError, BrokerUnavailableError, PartitionRevokedError
from keycloak_bridge.domain.events import Commit, Message, Record, TopicPartition
from keycloak_bridge.kafka import client as kafka_client
from keycloak_bridge.kafka import consumer as kafka_source
from keycloak_bridge.kafka import producer as kafka_sink
from keycloak_bridge.kafka.client import connection_options
from keycloak_bridge.kafka.producer import KafkaMessageProducer
from keycloak_bridge.sandbox import Sandbox

pytestmark = pytest.mark.integration

REQUEST_TIMEOUT_MS = 4_000
DELIVERY_TIMEOUT_MS = 6_000


@pytest.fixture(scope="module")
def real_broker(sandbox: Sandbox) -> Iterator[RealBroker]:
    """One producer and one admin for all traps, whose topics and groups are unique."""
    broker = RealBroker(sandbox.bootstrap_servers)
    yield broker
    broker.close()


@pytest.fixture
def broker(real_broker: RealBroker) -> Iterator[RealBroker]:
    """The sandbox's Kafka."""
    yield real_broker
    real_broker.end_test()


@pytest.fixture
def topic(broker: RealBroker) -> str:
    """An empty topic."""
    return broker.new_topic()


@pytest.fixture
def group() -> str:
    """A consumer group that nobody was in yet."""
    return unique("group")


@pytest.fixture
def impatient_sink(
    broker: RealBroker, monkeypatch: pytest.MonkeyPatch
) -> Iterator[KafkaMessageProducer]:
    """A producer that gives up sooner; tests may close it themselves."""
    monkeypatch.setattr(kafka_sink, "_DELIVERY_TIMEOUT_MS", DELIVERY_TIMEOUT_MS)
    monkeypatch.setattr(kafka_client, "_CLOSE_TIMEOUT_S", 1.0)
    sink = KafkaMessageProducer(broker.settings)
    yield sink
    sink.close()


@contextmanager
def frozen(sandbox: Sandbox) -> Iterator[None]:
    """Connections stay open, nothing answers."""
    sandbox.kafka.pause()
    try:
        yield
    finally:
        sandbox.kafka.resume()


def commit_when_possible(
    source: kafka_source.KafkaRecordConsumer, commits: Mapping[TopicPartition, Commit]
) -> None:
    """Poll and commit until it is taken, as the worker does; what fails meanwhile must be bound to pass."""
    deadline = time.monotonic() + PATIENCE_S
    while True:
        source.poll(0.1, nothing)
        try:
            source.commit(commits)
        except (BrokerUnavailableError, PartitionRevokedError):
            assert time.monotonic() < deadline, "no commit was taken any more"
        else:
            return


# reading


@pytest.mark.parametrize("codec", [None, "gzip", "snappy", "lz4", "zstd"])
def test_garbage_is_read_in_every_compression(
    broker: RealBroker, topic: str, group: str, codec: Any
) -> None:
    """A deserializer that raises, or a codec that is missing, makes kafka-python's poll spin for ever."""
    options = connection_options(broker.settings)
    producer = KafkaProducer(**options, compression_type=codec, metrics_enabled=False)
    garbage = [b"\xff\xfe\x00", b"{", b"", b"\x00\x00\x00\x00\x07binary", b"x" * 5_000]
    for value in garbage:
        producer.send(topic, value, key=b"k\xff")
    producer.close()

    records = read(broker.source(topic, group), len(garbage))

    assert garbage == [record.value for record in records]


def test_an_unknown_group_begins_at_the_beginning_and_commits_nothing_by_itself(
    broker: RealBroker, topic: str, group: str
) -> None:
    """kafka-python would begin at the end, and commit what was delivered instead of what is done."""
    publish(broker, *numbered(topic, 6))
    source = broker.source(topic, group)

    records = read(source, 6)
    source.close()

    assert list(range(6)) == numbers(records)
    assert {} == broker.source(topic, group).commits(partitions_of(topic))


def test_positions_stand_past_the_marker_of_a_transaction(
    broker: RealBroker, topic: str, group: str
) -> None:
    """A marker takes an offset that no record has, and what was taken back is never read."""
    options = connection_options(broker.settings)
    producer = KafkaProducer(**options, transactional_id=unique("tx"), metrics_enabled=False)
    producer.init_transactions()
    for value, end in ((b"0", producer.commit_transaction), (b"1", producer.abort_transaction)):
        producer.begin_transaction()
        producer.send(topic, value, key=b"k")
        producer.flush()
        end()
    producer.close()
    source = broker.source(topic, group)

    records = read(source, 1)
    records += turn_until(lambda: source.positions() == source.end_offsets(), source)

    assert [0] == numbers(records)
    assert [4] == [end for end in source.positions().values() if end]


def test_holding_what_is_not_assigned_is_harmless(
    broker: RealBroker, topic: str, group: str
) -> None:
    """kafka-python answers to that with a KeyError."""
    source = broker.source(topic, group)
    everything = [KafkaTopicPartition(*partition) for partition in partitions_of(topic)]

    source.poll(0, lambda _: True)
    source._hold(everything)
    settled(source)
    source._held = lambda _: True
    source._hold([*everything, KafkaTopicPartition(topic, PARTITIONS)])

    assert set(everything) == source._consumer.paused()


def test_a_partition_that_was_held_half_read_is_read_to_its_end(
    broker: RealBroker, topic: str, group: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """kafka-python would never deliver it again once another partition was read meanwhile."""
    publish(broker, *numbered(topic, 600))
    source = broker.source(topic, group)
    monkeypatch.setattr(kafka_source, "_MOST_POLLED", 10)
    records = read(source, 1)
    half_read = records[-1].topic_partition
    of_others = 600 - source.end_offsets()[half_read]

    def others() -> int:
        return sum(one.topic_partition != half_read for one in records)

    deadline = time.monotonic() + PATIENCE_S
    while others() < of_others:
        assert time.monotonic() < deadline, f"{others()} of {of_others} records came"
        records += source.poll(0.2, lambda at: at == half_read)
    before = len(records)
    records += read(source, 600 - before)

    assert before < 600
    assert list(range(600)) == sorted(numbers(records))


def test_a_partition_that_is_added_is_read(
    broker: RealBroker, topic: str, group: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """From its beginning, once the list of partitions was asked for again; the first of it was there before that."""
    monkeypatch.setattr(kafka_source, "_METADATA_AGE_MS", 1_000)
    source = broker.source(topic, group)
    settled(source)
    with closing(KafkaAdminClient(**connection_options(broker.settings))) as admin:
        admin.create_partitions({topic: PARTITIONS + 1})
    options = connection_options(broker.settings)
    with closing(KafkaProducer(**options, metrics_enabled=False)) as producer:
        sent: Any = producer.send(topic, b"first", partition=PARTITIONS)
        sent.get(timeout=30)

    (record,) = read(source, 1)

    assert (PARTITIONS, b"first") == (record.partition, record.value)


def test_what_is_deleted_before_it_is_read_is_told(
    broker: RealBroker, topic: str, group: str
) -> None:
    """kafka-python goes on at the beginning of what is left, and says so in its own log only."""
    publish(broker, *numbered(topic, 1))
    source = broker.source(topic, group)
    (record,) = read(source, 1)
    at = record.topic_partition
    publish(broker, *[Message(topic, record.key, b"later")] * 3)
    raw = KafkaTopicPartition(*at)
    with closing(KafkaAdminClient(**connection_options(broker.settings))) as admin:
        admin.delete_records({raw: 3})
    source.seek(at, 1)
    found: dict[TopicPartition, int] = {}

    def told() -> bool:
        found.update(source.take_offset_resets())
        return bool(found)

    records = turn_until(told, source)
    records += read(source, 1 - len(records))  # it may have come by the same poll

    assert {at: 1} == found
    assert {at: 3} == source.begin_offsets([at])
    assert [3] == [one.offset for one in records]


# committing


def test_a_hundred_commits_in_a_row_all_land(broker: RealBroker, topic: str, group: str) -> None:
    """A burst of asynchronous ones does not: of eight, five did."""
    (first, *_) = partitions_of(topic)
    source = broker.source(topic, group)
    settled(source)
    landed = []

    for offset in range(1, 101):
        source.commit({first: Commit(offset, f"note {offset}")})
        landed.append(source.commits([first])[first])

    assert [Commit(offset, f"note {offset}") for offset in range(1, 101)] == landed


def test_metadata_has_a_limit_that_is_told(broker: RealBroker, topic: str, group: str) -> None:
    """4,096 characters are kept; one more is refused with the whole commit, and the one before stays."""
    (first, *_) = partitions_of(topic)
    source = broker.source(topic, group)
    settled(source)
    largest = Commit(1, "x" * 4_096)
    source.commit({first: largest})

    with pytest.raises(BrokerUnavailableError) as caught:
        source.commit({first: Commit(2, "x" * 4_097)})

    assert "OffsetMetadataTooLargeError" in caught.value.message
    assert {first: largest} == source.commits([first])


# rebalancing


def test_a_commit_during_a_join_is_refused_and_heals(
    broker: RealBroker, topic: str, group: str
) -> None:
    """A member that does not poll holds the join open; until it does, commits are refused as a revocation."""
    first, slow = broker.source(topic, group), broker.source(topic, group)
    settled(first, slow)
    (held, *_) = first.assigned()
    errors: list[type[BridgeError]] = []
    third = broker.source(topic, group)
    deadline = time.monotonic() + PATIENCE_S

    with Polling(third):
        while len(errors) < 5:
            assert time.monotonic() < deadline, "no commit met the join"
            assert [] == list(first.poll(0.05, nothing))
            try:
                first.commit({held: Commit(1)})
            except BridgeError as error:
                errors.append(type(error))
        assert not first.joined()
        with Polling(slow):
            commit_when_possible(first, {held: Commit(2)})

    assert {PartitionRevokedError} == set(errors)
    assert {held: Commit(2)} == first.commits([held])


def test_an_evicted_member_is_told_and_loses_no_record(
    broker: RealBroker, topic: str, group: str
) -> None:
    """Its commit is refused, its release hears of the loss, and from the commits on everything comes again."""
    publish(broker, *numbered(topic, 30))
    source = broker.source(topic, group, max_poll_interval=2.0)
    released: list[tuple[frozenset[TopicPartition], bool]] = []

    def release(at: frozenset[TopicPartition], lost: bool) -> dict[TopicPartition, Commit]:
        released.append((at, lost))
        return commits_of(records)

    source.when_revoked(release)
    records = read(source, 30)
    done = records[:10]
    source.commit(commits_of(done))
    stall_until_evicted(source)

    with pytest.raises(PartitionRevokedError):
        source.commit(commits_of(records))
    again = read(source, 20)

    everything = frozenset(partitions_of(topic))
    assert [(everything, True)] == released
    assert commits_of(done) == source.commits(everything)
    assert expected_after(done, records) == places(again)


def test_what_is_lost_and_regained_is_read_from_the_commit_after_a_seek(
    broker: RealBroker, topic: str, group: str
) -> None:
    """One poll may lose, regain and read a partition; seeking to the commit then loses nothing and adds nothing."""
    publish(broker, *numbered(topic, 30))
    source = broker.source(topic, group, max_poll_interval=2.0)
    regained = threading.Event()

    def release(_: frozenset[TopicPartition], __: bool) -> dict[TopicPartition, Commit]:
        regained.set()
        return {}

    source.when_revoked(release)
    records = read(source, 30)
    done = records[:10]
    source.commit(commits_of(done))
    stall_until_evicted(source)

    turn_until(lambda: regained.is_set() and bool(source.assigned()), source)
    for at, commit in source.commits(source.assigned()).items():
        source.seek(at, commit.offset)
    for at in source.assigned() - next_offsets(done).keys():
        source.seek(at, 0)
    again = read(source, 20)

    assert expected_after(done, records) == places(again)
    assert 20 == len(again)


def test_a_commit_within_the_release_is_in_force_for_the_next_owner(
    broker: RealBroker, topic: str, group: str
) -> None:
    """A blocking commit raises there; the one that is sent instead leaves before the next join."""
    publish(broker, *numbered(topic, 30))
    first = broker.source(topic, group)
    records = read(first, 30)
    refused: list[str] = []

    def release(at: frozenset[TopicPartition], _: bool) -> dict[TopicPartition, Commit]:
        try:
            first.commit({one: Commit(0) for one in at})
        except RuntimeError as error:
            refused.append(type(error).__name__)
        return {one: commit for one, commit in commits_of(records).items() if one in at}

    first.when_revoked(release)
    second = broker.source(topic, group)
    with Polling(first):
        settled(second)

    assert ["RuntimeError"] == refused
    assert {at: next_offsets(records).get(at, 0) for at in second.assigned()} == second.positions()


def stall_until_evicted(source: kafka_source.KafkaRecordConsumer) -> None:
    """Do not poll until the member is none any more."""
    deadline = time.monotonic() + PATIENCE_S
    while source.joined():
        assert time.monotonic() < deadline, "nobody evicted it"
        time.sleep(0.1)


def places(records: list[Record]) -> set[tuple[TopicPartition, int]]:
    """Return where the records stand."""
    return {(record.topic_partition, record.offset) for record in records}


def expected_after(done: list[Record], records: list[Record]) -> set[tuple[TopicPartition, int]]:
    """Return where those records stand that are not done."""
    return places(records) - places(done)


# outages


def test_a_frozen_broker_fails_commits_and_no_poll(
    broker: RealBroker,
    sandbox: Sandbox,
    topic: str,
    group: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """So health cannot rely on what poll raises; afterwards the member goes on, be it as a new one, at its commit."""
    monkeypatch.setattr(kafka_source, "_REQUEST_TIMEOUT_MS", REQUEST_TIMEOUT_MS)
    publish(broker, *numbered(topic, 6))
    source = broker.source(topic, group)
    records = read(source, 6)
    commits = commits_of(records)
    source.commit(commits)
    asking = (
        lambda: source.commit(commits),
        lambda: source.commits(commits),
        lambda: group_positions(source, commits),
        source.end_offsets,
    )

    with frozen(sandbox):
        for ask in asking:
            with pytest.raises(BrokerUnavailableError):
                ask()
        polled = source.poll(1.0, nothing)
        positions = source.positions()
    commit_when_possible(source, commits)
    publish(broker, Message(topic, b"k", b"6"))

    assert [] == list(polled)
    assert dict.fromkeys(partitions_of(topic), 0) | next_offsets(records) == positions
    assert [6] == numbers(read(source, 1))


def has_arrived(producer: KafkaMessageProducer, message: Message) -> bool:
    """Publish the message and say whether it arrived."""
    try:
        arrived(producer.publish(message))
    except BrokerUnavailableError:
        return False
    return True


def test_a_batch_that_fails_is_reported(
    sandbox: Sandbox, topic: str, impatient_sink: KafkaMessageProducer
) -> None:
    """Every record of it, once each; the producer goes on when the broker is back."""
    arrived(impatient_sink.publish(Message(topic, b"k", b"before")))
    told: list[BridgeError | None] = []

    sandbox.kafka.stop()
    try:
        lost = [impatient_sink.publish(Message(topic, b"k", b"lost")) for _ in range(3)]
        for acknowledgement in lost:
            acknowledgement.then(told.append)
        for acknowledgement in lost:
            with pytest.raises(BrokerUnavailableError):
                arrived(acknowledgement)
    finally:
        sandbox.kafka.start()
    # each attempt may take too long for this impatient producer until it has found the broker again
    wait_until(lambda: has_arrived(impatient_sink, Message(topic, b"k", b"after")))

    assert [BrokerUnavailableError] * 3 == [type(error) for error in told]


def test_closing_with_records_under_way_tells_of_each(
    sandbox: Sandbox, topic: str, impatient_sink: KafkaMessageProducer
) -> None:
    """Nobody waits for an acknowledgement that never comes."""
    arrived(impatient_sink.publish(Message(topic, b"k", b"before")))
    told: list[BridgeError | None] = []

    with frozen(sandbox):
        for _ in range(3):
            impatient_sink.publish(Message(topic, b"k", b"under way")).then(told.append)
        with pytest.raises(BrokerUnavailableError):
            impatient_sink.close()
        before = len(told)

    assert 3 == before == len(told)
    assert {BrokerUnavailableError} == {type(error) for error in told}
