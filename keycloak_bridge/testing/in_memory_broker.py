"""A Kafka in memory: topics, consumer groups, a producer with failures on demand."""

import threading
from collections import defaultdict
from collections.abc import Callable, Collection, Mapping, Sequence

from keycloak_bridge.domain.errors import BridgeError
from keycloak_bridge.domain.events import Commit, Message, Record, TopicPartition
from keycloak_bridge.domain.ports import Release


class InMemoryBroker:
    """Keeps records by partition and commits by group; implements the port `MessageProducer`.

    A key always lands on the same partition; records without one go to partition 0.
    """

    def __init__(self, *, partitions: int = 1) -> None:
        self._partitions = partitions
        self._lock = threading.Lock()
        self._logs: dict[TopicPartition, list[Record | None]] = defaultdict(list)
        self._begins: dict[TopicPartition, int] = {}
        self._groups: dict[tuple[str, str], _Group] = {}
        self.commits: dict[str, dict[TopicPartition, Commit]] = defaultdict(dict)
        self.publish_errors: list[BridgeError] = []
        """Given to the next acknowledgements, one each; such a record is not stored."""
        self.topic_ids: dict[str, str] = {}
        """Topics have no id unless a test gives them one."""

    def publish(self, message: Message) -> "_Acknowledgement":
        """Store `message` unless a failure is due."""
        with self._lock:
            if self.publish_errors:
                return _Acknowledgement(self.publish_errors.pop(0))
            number = sum(message.key) % self._partitions if message.key else 0
            log = self._logs[TopicPartition(message.topic, number)]
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

    def burn(self, topic: str, partition: int = 0) -> None:
        """Take an offset without a record, as the marker of a transaction does."""
        with self._lock:
            self._logs[TopicPartition(topic, partition)].append(None)

    def close(self) -> None:
        """Nothing to close."""

    def records(self, topic: str) -> list[Record]:
        """Return every record of `topic`, partition by partition."""
        with self._lock:
            logs = sorted((at, log) for at, log in self._logs.items() if at.topic == topic)
            return [record for _, log in logs for record in log if record is not None]

    def source(self, topic: str, group_id: str) -> "InMemoryConsumer":
        """Return a new member of the group; it is assigned at once what no other member has."""
        with self._lock:
            group = self._groups.setdefault(
                (topic, group_id), _Group(self.partitions_of(topic), self.commits[group_id])
            )
        return InMemoryConsumer(self, topic, group)

    def partitions_of(self, topic: str) -> list[TopicPartition]:
        """Return the partitions of `topic`."""
        return [TopicPartition(topic, number) for number in range(self._partitions)]

    def offsets(self, group_id: str) -> dict[TopicPartition, int]:
        """Return what the group has committed, without the metadata."""
        return {at: commit.offset for at, commit in self.commits[group_id].items()}

    def read(self, partition: TopicPartition, offset: int) -> tuple[list[Record], int]:
        """Return the records of one partition from `offset` on, and where to read on after them."""
        with self._lock:
            log = self._logs[partition]
            new = [record for record in log[offset:] if record is not None]
            return new, max(offset, len(log))

    def delete_before(self, partition: TopicPartition, offset: int) -> None:
        """Delete the first records of a partition, as retention does."""
        with self._lock:
            self._begins[partition] = offset
            self._logs[partition][:offset] = [None] * offset

    def recreate_topic(self, topic: str, topic_id: str | None = None) -> None:
        """Delete the topic and create an empty one; members may commit their old offsets again, so commits stay."""
        with self._lock:
            for partition in self.partitions_of(topic):
                self._logs.pop(partition, None)
                self._begins.pop(partition, None)
            if topic_id is not None:
                self.topic_ids[topic] = topic_id

    def begin(self, partition: TopicPartition) -> int:
        """Return the offset that the partition begins with."""
        with self._lock:
            return self._begins.get(partition, 0)

    def end(self, partition: TopicPartition) -> int:
        """Return the next offset that a record of the partition will get."""
        with self._lock:
            return len(self._logs[partition])


class _Acknowledgement:
    def __init__(self, error: BridgeError | None) -> None:
        self._error = error

    def then(self, done: Callable[[BridgeError | None], None]) -> None:
        done(self._error)


class _Group:
    """Assigns partitions to members in turn, except those that a test has placed by hand."""

    def __init__(
        self, partitions: list[TopicPartition], commits: dict[TopicPartition, Commit]
    ) -> None:
        self.commits = commits
        self._partitions = partitions
        self._lock = threading.Lock()
        self._members: list[InMemoryConsumer] = []
        self._owners: dict[TopicPartition, InMemoryConsumer] = {}
        self._placed: dict[TopicPartition, InMemoryConsumer | None] = {}

    def join(self, member: "InMemoryConsumer") -> None:
        with self._lock:
            self._members.append(member)

    def leave(self, member: "InMemoryConsumer") -> None:
        with self._lock:
            self._members = [one for one in self._members if one is not member]
            self._placed = {at: one for at, one in self._placed.items() if one is not member}

    def place(self, partition: TopicPartition, member: "InMemoryConsumer | None") -> None:
        """Assign the partition to no other than `member`."""
        with self._lock:
            self._placed[partition] = member

    def to_give_up(self, member: "InMemoryConsumer") -> frozenset[TopicPartition]:
        """Return what is assigned to `member` and should be another one's."""
        with self._lock:
            held = {at for at, owner in self._owners.items() if owner is member}
            return frozenset(at for at in held if self._due(at) is not member)

    def take(self, member: "InMemoryConsumer") -> frozenset[TopicPartition]:
        """Assign to `member` what is free and should be its own; return that."""
        with self._lock:
            free = [at for at in self._partitions if at not in self._owners]
            taken = frozenset(at for at in free if self._due(at) is member)
            self._owners.update(dict.fromkeys(taken, member))
            return taken

    def free(self, partitions: Collection[TopicPartition]) -> None:
        with self._lock:
            for partition in partitions:
                self._owners.pop(partition, None)

    def _due(self, partition: TopicPartition) -> "InMemoryConsumer | None":
        if partition in self._placed:
            return self._placed[partition]
        if not self._members:
            return None
        return self._members[partition.partition % len(self._members)]


class InMemoryConsumer:
    """Implements the port `RecordConsumer`.

    As with the real one, a member gives partitions up while it polls or closes, and takes over what is free by then.
    """

    def __init__(self, broker: InMemoryBroker, topic: str, group: _Group) -> None:
        self._broker = broker
        self._topic = topic
        self._group = group
        self._positions: dict[TopicPartition, int] = {}
        self._release: Release | None = None
        self.closed = False
        self.poll_errors: list[BridgeError] = []
        self.commit_errors: list[BridgeError] = []
        self.troubled: BridgeError | None = None
        self._offset_resets: dict[TopicPartition, int] = {}
        group.join(self)
        self._take()

    def when_revoked(self, release: Release) -> None:
        """Have `release` called before another member gets partitions."""
        self._release = release

    def poll(self, timeout_s: float, held: Callable[[TopicPartition], bool]) -> Sequence[Record]:
        """Return at once everything new of the assigned partitions that are not `held`."""
        if self.poll_errors:
            raise self.poll_errors.pop(0)
        self._give_up(self._group.to_give_up(self), lost=False)
        self._take()
        records: list[Record] = []
        for partition in sorted(self._positions):
            if not held(partition):
                begin, end = self._broker.begin(partition), self._broker.end(partition)
                if not begin <= self._positions[partition] <= end:
                    self._offset_resets[partition] = self._positions[partition]
                    self._positions[partition] = begin
                new, self._positions[partition] = self._broker.read(
                    partition, self._positions[partition]
                )
                records += new
        return records

    def revoke(self, partition: TopicPartition, *, lost: bool = False) -> None:
        """Revoke the partition, as a rebalance would (or an eviction: `lost`); no member gets it by itself."""
        self._group.place(partition, None)
        self._give_up(self.assigned() & {partition}, lost=lost)

    def assign(self, partition: TopicPartition) -> None:
        """Give the partition to this member; reading begins at the group's commit."""
        self._group.place(partition, self)
        self._take()

    def trouble(self) -> BridgeError | None:
        """Return what a test says."""
        return self.troubled

    def assigned(self) -> frozenset[TopicPartition]:
        """Return the partitions that are assigned to this member now."""
        return frozenset(self._positions)

    def joined(self) -> bool:
        """Say whether this is a settled member of the group."""
        return not self.closed

    def seek(self, partition: TopicPartition, offset: int) -> None:
        """Read on from `offset`; harmless when the partition is not assigned any more."""
        if partition in self._positions:
            self._positions[partition] = offset

    def commit(self, commits: Mapping[TopicPartition, Commit]) -> None:
        """Store the commits unless a failure is due."""
        if self.commit_errors:
            raise self.commit_errors.pop(0)
        self._group.commits.update(commits)

    def commits(self, partitions: Collection[TopicPartition]) -> Mapping[TopicPartition, Commit]:
        """Return what the group has committed for `partitions`; one without a commit is left out."""
        known = self._group.commits
        return {at: known[at] for at in partitions if at in known}

    def positions(self) -> Mapping[TopicPartition, int]:
        """Return the next offset of every assigned partition."""
        return dict(self._positions)

    def begin_offsets(self, partitions: Collection[TopicPartition]) -> Mapping[TopicPartition, int]:
        """Return where each of `partitions` begins now."""
        return {at: self._broker.begin(at) for at in partitions}

    def take_offset_resets(self) -> Mapping[TopicPartition, int]:
        """Return what was to be read next where the log did not have it, since the last call."""
        found, self._offset_resets = self._offset_resets, {}
        return found

    def end_offsets(self) -> Mapping[TopicPartition, int]:
        """Return the end of every partition."""
        return {at: self._broker.end(at) for at in self._broker.partitions_of(self._topic)}

    def topic_id(self) -> str | None:
        """Return the id of the topic that is there now."""
        return self._broker.topic_ids.get(self._topic)

    def close(self) -> None:
        """Leave."""
        self.closed = True
        self._give_up(self.assigned(), lost=False)
        self._group.leave(self)

    def _give_up(self, partitions: frozenset[TopicPartition], *, lost: bool) -> None:
        if not partitions:
            return
        commits = self._release(partitions, lost) if self._release is not None else {}
        if not lost:
            self._group.commits.update(commits)
        for partition in partitions:
            del self._positions[partition]
        self._group.free(partitions)

    def _take(self) -> None:
        for partition in self._group.take(self):
            commit = self._group.commits.get(partition)
            self._positions[partition] = commit.offset if commit else 0
