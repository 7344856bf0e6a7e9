"""What the Kafka in memory does beyond the contract that it shares with the real one: failing on demand, and more."""

import threading

import pytest
from stage_harness import settled

from keycloak_bridge.domain.errors import BrokerUnavailableError, PartitionRevokedError
from keycloak_bridge.domain.events import Commit, Message, Record, TopicPartition
from keycloak_bridge.testing.in_memory_broker import InMemoryBroker, InMemoryConsumer

TOPIC = "user-events"
P0, P1 = TopicPartition(TOPIC, 0), TopicPartition(TOPIC, 1)


def a_broker(*keys: bytes, partitions: int = 1) -> InMemoryBroker:
    """Return a broker that holds one record a key."""
    broker = InMemoryBroker(partitions=partitions)
    for at, key in enumerate(keys):
        broker.publish(Message(TOPIC, key, str(at).encode()))
    return broker


def read(source: InMemoryConsumer) -> list[Record]:
    """Poll with nothing held."""
    return list(source.poll(0, lambda _: False))


def test_a_publish_error_comes_with_the_acknowledgement() -> None:
    """As with the real one nothing is raised at once; the record is not stored, the next one is."""
    broker = a_broker()
    error = BrokerUnavailableError("gone")
    broker.publish_errors = [error]

    failed = broker.publish(Message(TOPIC, b"k", b"lost"))
    settled(broker.publish(Message(TOPIC, b"k", b"kept")))

    with pytest.raises(BrokerUnavailableError) as caught:
        settled(failed)
    assert error is caught.value
    assert [b"kept"] == [record.value for record in broker.records(TOPIC)]


def test_a_poll_error_loses_nothing() -> None:
    """The next poll gives what the failed one would have given."""
    source = a_broker(b"k").source(TOPIC, "group")
    source.poll_errors = [BrokerUnavailableError("gone")]

    with pytest.raises(BrokerUnavailableError):
        read(source)

    assert 1 == len(read(source))


def test_a_commit_error_commits_nothing() -> None:
    """The group stays where it was."""
    broker = a_broker(b"k")
    source = broker.source(TOPIC, "group")
    source.commit_errors = [PartitionRevokedError("rebalancing")]

    with pytest.raises(PartitionRevokedError):
        source.commit({P0: Commit(1)})

    assert {P0: 0} == source.committed()


@pytest.mark.parametrize(
    ("lost", "commits"), [(False, {P1: Commit(1, "note")}), (True, {})], ids=["revoked", "lost"]
)
def test_a_revoked_partition_is_released_once_and_gone(
    lost: bool, commits: dict[TopicPartition, Commit]
) -> None:
    """What it commits counts unless the partition is lost already; no member gets it by itself."""
    broker = a_broker(b"\x00", b"\x01", partitions=2)
    source = broker.source(TOPIC, "group")
    calls: list[tuple[frozenset[TopicPartition], bool]] = []

    def release(partitions: frozenset[TopicPartition], lost: bool) -> dict[TopicPartition, Commit]:
        calls.append((partitions, lost))
        return {P1: Commit(1, "note")}

    source.when_revoked(release)
    for _ in range(2):
        source.revoke(P1, lost=lost)

    assert [0] == [record.partition for record in read(source)]
    assert ({P0: 1}, frozenset({P0})) == (source.positions(), source.assigned())
    assert [(frozenset({P1}), lost)] == calls
    assert commits == broker.commits["group"]


def test_a_revoked_partition_can_be_assigned_and_is_read_from_the_commit() -> None:
    """By hand, to the same member or another one; what was fetched and not committed comes again."""
    broker = a_broker(b"\x00", b"\x00")
    first, second = broker.source(TOPIC, "group"), broker.source(TOPIC, "group")
    read(first)
    first.commit({P0: Commit(1, "note")})
    for source in (first, second):
        first.revoke(P0)
        source.assign(P0)
        assert [1] == [record.offset for record in read(source)]

    assert [] == read(first)
    assert {"group": {P0: Commit(1, "note")}} == broker.commits
    assert {P0: 1} == broker.offsets("group")


def test_members_share_partitions_in_turn() -> None:
    """The first gives up while it polls, the second takes over while it polls, and back when one leaves."""
    broker = a_broker(partitions=2)
    first, second = broker.source(TOPIC, "group"), broker.source(TOPIC, "group")
    assert (frozenset({P0, P1}), frozenset()) == (first.assigned(), second.assigned())

    read(second)
    assert frozenset() == second.assigned()
    read(first)
    read(second)
    assert (frozenset({P0}), frozenset({P1})) == (first.assigned(), second.assigned())

    first.close()
    assert (True, False) == (first.closed, first.joined())
    read(second)
    assert (frozenset(), frozenset({P0, P1})) == (first.assigned(), second.assigned())


def test_an_offset_can_be_taken_without_a_record() -> None:
    """As the marker of a transaction does: positions stand past it, and no record has its offset."""
    broker = a_broker(b"k")
    broker.burn(TOPIC)
    broker.publish(Message(TOPIC, b"k", b"1"))
    broker.burn(TOPIC)
    source = broker.source(TOPIC, "group")

    assert [0, 2] == [record.offset for record in read(source)]
    assert {P0: 4} == source.positions() == source.end_offsets()
    assert [0, 2] == [record.offset for record in broker.records(TOPIC)]


def test_records_are_listed_by_topic() -> None:
    """Partition by partition, and nothing of other topics."""
    broker = a_broker(b"\x01", b"\x00", b"\x01", partitions=2)
    broker.publish(Message("else", b"k", b"v"))

    assert [b"1", b"0", b"2"] == [record.value for record in broker.records(TOPIC)]
    assert [] == broker.records("nowhere")


def test_threads_may_publish_at_once() -> None:
    """No record is lost and no offset given twice."""
    broker = InMemoryBroker()

    def publish() -> None:
        for _ in range(200):
            broker.publish(Message(TOPIC, b"k", b"v"))

    threads = [threading.Thread(target=publish) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert list(range(800)) == [record.offset for record in broker.records(TOPIC)]
