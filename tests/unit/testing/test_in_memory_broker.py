"""What the Kafka in memory does beyond the contract that it shares with the real one: failing on demand."""

import threading

import pytest

from keycloak_bridge.core.errors import BrokerUnavailableError, PartitionRevokedError
from keycloak_bridge.core.model import Message, TopicPartition
from keycloak_bridge.testing.in_memory_broker import InMemoryBroker

TOPIC = "user-events"
P0, P1 = TopicPartition(TOPIC, 0), TopicPartition(TOPIC, 1)


def a_broker(*keys: bytes, partitions: int = 1) -> InMemoryBroker:
    """Return a broker that holds one record a key."""
    broker = InMemoryBroker(partitions=partitions)
    for at, key in enumerate(keys):
        broker.publish(Message(TOPIC, key, str(at).encode()))
    return broker


def test_a_publish_error_is_told_by_the_acknowledgement() -> None:
    """As with the real one nothing is raised at once; the record is not stored, the next one is."""
    broker = a_broker()
    error = BrokerUnavailableError("gone")
    broker.publish_errors = [error]

    failed = broker.publish(Message(TOPIC, b"k", b"lost"))
    broker.publish(Message(TOPIC, b"k", b"kept")).wait(1.0)

    with pytest.raises(BrokerUnavailableError) as caught:
        failed.wait(1.0)
    assert error is caught.value
    assert [b"kept"] == [record.value for record in broker.records(TOPIC)]


def test_a_poll_error_loses_nothing() -> None:
    """The next poll gives what the failed one would have given."""
    source = a_broker(b"k").source(TOPIC, "group")
    source.poll_errors = [BrokerUnavailableError("gone")]

    with pytest.raises(BrokerUnavailableError):
        source.poll(0)

    assert 1 == len(source.poll(0))


def test_a_commit_error_commits_nothing() -> None:
    """The group stays where it was."""
    broker = a_broker(b"k")
    source = broker.source(TOPIC, "group")
    source.commit_errors = [PartitionRevokedError("rebalancing")]

    with pytest.raises(PartitionRevokedError):
        source.commit({P0: 1})

    assert {P0: 0} == source.committed()


def test_a_revoked_partition_gives_nothing_and_is_told_once() -> None:
    """Its records are left to the other member; positions forget it."""
    source = a_broker(b"\x00", b"\x01", partitions=2).source(TOPIC, "group")

    source.revoke(P1)

    assert [0] == [record.partition for record in source.poll(0)]
    assert {P0: 1} == source.positions()
    assert frozenset({P1}) == source.take_revoked()
    assert frozenset() == source.take_revoked()


def test_an_assigned_partition_is_read_from_the_commit() -> None:
    """Whatever was fetched before and not committed comes again."""
    source = a_broker(b"\x00", b"\x00").source(TOPIC, "group")
    source.poll(0)
    source.commit({P0: 1})
    source.revoke(P0)

    source.assign(P0)

    assert [1] == [record.offset for record in source.poll(0)]


def test_commits_can_be_looked_at_from_outside() -> None:
    """Tests ask for them by group."""
    broker = a_broker(b"k")
    broker.source(TOPIC, "group").commit({P0: 1})

    assert {"group": {P0: 1}} == broker.commits


def test_a_closed_member_has_left() -> None:
    """It counts as joined no more."""
    source = a_broker().source(TOPIC, "group")
    source.close()

    assert (True, False) == (source.closed, source.joined())


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
