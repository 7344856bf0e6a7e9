"""What the Kafka in memory does beyond the contract that it shares with the real one: failing on demand, and more."""

import threading

import pytest

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
