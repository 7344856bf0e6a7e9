"""A Kafka in memory: topics, one consumer per group, a producer with failures on demand."""

import threading
from collections import defaultdict
from collections.abc import Mapping, Sequence

from keycloak_bridge.core.errors import BridgeError
from keycloak_bridge.core.model import Message, Record, TopicPartition


class InMemoryBroker:
    """Holds records per partition and committed offsets per group; implements the port `MessageSink`.

    A key always lands on the same partition; records without one go to partition 0.
    """

    def __init__(self, *, partitions: int = 1) -> None:
        self._partitions = partitions
        self._lock = threading.Lock()
        self._records: dict[TopicPartition, list[Record]] = defaultdict(list)
        self.commits: dict[str, dict[TopicPartition, int]] = defaultdict(dict)
        self.publish_errors: list[BridgeError] = []
        """Raised by the next acknowledgements, one each; such a record is not stored."""

    def publish(self, message: Message) -> "_Acknowledgement":
        """Store `message` unless a failure is due."""
        with self._lock:
            if self.publish_errors:
                return _Acknowledgement(self.publish_errors.pop(0))
            number = sum(message.key) % self._partitions if message.key else 0
            log = self._records[TopicPartition(message.topic, number)]
            log.append(
                Record(
                    topic=message.topic,
                    partition=number,
                    offset=len(log),
                    timestamp_ms=message.timestamp_ms or 0,
                    key=message.key,
                    # what kafka-python cannot send arrives empty: no key and no value, a null header
                    value=b"" if message.value is None and message.key is None else message.value,
                    headers=tuple((name, value or b"") for name, value in message.headers),
                )
            )
        return _Acknowledgement(None)

    def close(self) -> None:
        """Nothing to close."""

    def records(self, topic: str) -> list[Record]:
        """Return every record of `topic`, partition by partition."""
        with self._lock:
            return [
                record
                for partition, log in sorted(self._records.items())
                if partition.topic == topic
                for record in log
            ]

    def source(self, topic: str, group_id: str) -> "InMemorySource":
        """Return a consumer that reads all partitions of `topic` from the group's commits."""
        return InMemorySource(self, topic, group_id)

    def partitions_of(self, topic: str) -> list[TopicPartition]:
        """Return the partitions of `topic`."""
        return [TopicPartition(topic, number) for number in range(self._partitions)]

    def log(self, partition: TopicPartition) -> list[Record]:
        """Return the records of one partition."""
        with self._lock:
            return list(self._records[partition])


class _Acknowledgement:
    def __init__(self, error: BridgeError | None) -> None:
        self._error = error

    def wait(self, timeout_s: float) -> None:
        if self._error is not None:
            raise self._error


class InMemorySource:
    """Implements the port `EventSource` for the only member of its group."""

    def __init__(self, broker: InMemoryBroker, topic: str, group_id: str) -> None:
        self._broker = broker
        self._topic = topic
        self._commits = broker.commits[group_id]
        self._paused = False
        self._assigned = set(broker.partitions_of(topic))
        self._positions = {at: self._commits.get(at, 0) for at in self._assigned}
        self._revoked: set[TopicPartition] = set()
        self.closed = False
        self.poll_errors: list[BridgeError] = []
        self.commit_errors: list[BridgeError] = []

    def poll(self, timeout_s: float) -> Sequence[Record]:
        """Return everything new of the assigned partitions."""
        if self.poll_errors:
            raise self.poll_errors.pop(0)
        if self._paused:
            return []
        records: list[Record] = []
        for partition in sorted(self._assigned):
            new = self._broker.log(partition)[self._positions[partition] :]
            self._positions[partition] += len(new)
            records += new
        return records

    def revoke(self, partition: TopicPartition) -> None:
        """Take the partition away, as a rebalance would."""
        self._assigned.discard(partition)
        self._revoked.add(partition)

    def assign(self, partition: TopicPartition) -> None:
        """Give the partition back; reading goes on at the group's commit."""
        self._assigned.add(partition)
        self._positions[partition] = self._commits.get(partition, 0)

    def take_revoked(self) -> frozenset[TopicPartition]:
        """Return the partitions that were taken away since the last call."""
        revoked = frozenset(self._revoked)
        self._revoked.clear()
        return revoked

    def joined(self) -> bool:
        """Say whether this is a settled member of the group."""
        return not self.closed

    def set_paused(self, paused: bool) -> None:
        """Stop or resume fetching."""
        self._paused = paused

    def rewind(self, offsets: Mapping[TopicPartition, int]) -> None:
        """Read again from these offsets where a partition is assigned and further on."""
        for partition in self._assigned & offsets.keys():
            self._positions[partition] = min(self._positions[partition], offsets[partition])

    def commit(self, offsets: Mapping[TopicPartition, int]) -> None:
        """Store the offsets unless a failure is due."""
        if self.commit_errors:
            raise self.commit_errors.pop(0)
        self._commits.update(offsets)

    def positions(self) -> Mapping[TopicPartition, int]:
        """Return the next offset of every assigned partition."""
        return {at: self._positions[at] for at in self._assigned}

    def end_offsets(self) -> Mapping[TopicPartition, int]:
        """Return the end of every partition."""
        return {at: len(self._broker.log(at)) for at in self._broker.partitions_of(self._topic)}

    def committed(self) -> Mapping[TopicPartition, int]:
        """Return the group's commits."""
        return {at: self._commits.get(at, 0) for at in self._broker.partitions_of(self._topic)}

    def close(self) -> None:
        """Leave."""
        self.closed = True
