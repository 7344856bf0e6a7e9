"""The partitions in hand: what of each was read, what is finished, what may be committed."""

from collections.abc import Collection, Mapping

from keycloak_bridge.core.commit_notes import CommitNotes, read_notes, write_notes
from keycloak_bridge.core.lost_users import LostUsers
from keycloak_bridge.core.model import Commit, TopicPartition
from keycloak_bridge.core.offsets import OffsetTracker


class Holdings:
    """One tracker a partition, from its start to its release, and what Kafka has confirmed of it."""

    def __init__(self, lost: LostUsers) -> None:
        self._lost = lost
        self._trackers: dict[TopicPartition, OffsetTracker] = {}
        self._committed: dict[TopicPartition, Commit] = {}
        self._positions: dict[TopicPartition, int] = {}

    def partitions(self) -> frozenset[TopicPartition]:
        """Return the partitions that were started and not released."""
        return frozenset(self._trackers)

    def tracker(self, partition: TopicPartition) -> OffsetTracker | None:
        """Return the partition's tracker; each start makes another one."""
        return self._trackers.get(partition)

    def start(self, partition: TopicPartition, commit: Commit) -> None:
        """Begin with what the group committed for the partition."""
        self._positions.pop(partition, None)
        notes = read_notes(commit.offset, commit.metadata)
        self._trackers[partition] = OffsetTracker(commit.offset, notes.finished)
        self._committed[partition] = commit
        self._lost.take_over(partition, notes.lost)

    def begins_anew(self, partition: TopicPartition, offset: int) -> bool:
        """Say whether `offset` comes although a later one did: the topic was made anew, or its log was cut."""
        tracker = self._trackers.get(partition)
        last = None if tracker is None else tracker.last_delivered
        return last is not None and offset <= last

    def commits(
        self, positions: Mapping[TopicPartition, int], *, unchanged: bool
    ) -> dict[TopicPartition, Commit]:
        """Return what may be committed now; what Kafka has already only where `unchanged` asks for it."""
        self._positions.update(positions)
        return {
            partition: commit
            for partition in self._trackers
            if (commit := self._commit_of(partition)) is not None
            and (unchanged or self._committed.get(partition) != commit)
        }

    def committed(self, commits: Mapping[TopicPartition, Commit]) -> None:
        """Note what Kafka has confirmed."""
        for partition in commits.keys() & self._trackers.keys():
            self._committed[partition] = commits[partition]

    def offsets(self) -> dict[TopicPartition, int]:
        """Return the committed offset of each partition in hand."""
        return {partition: commit.offset for partition, commit in self._committed.items()}

    def first_unfinished(self) -> dict[TopicPartition, int]:
        """Return the first unfinished offset of each partition that has one."""
        return {
            partition: offset
            for partition, tracker in self._trackers.items()
            if tracker.unfinished and (offset := tracker.next_to_commit()) is not None
        }

    def release(self, partitions: Collection[TopicPartition]) -> dict[TopicPartition, Commit]:
        """Forget `partitions` and return what may be committed for them at last."""
        commits = {}
        for partition in partitions:
            if partition in self._trackers:
                commit = self._commit_of(partition)
                if commit is not None:
                    commits[partition] = commit
            self._trackers.pop(partition, None)
            self._committed.pop(partition, None)
            self._positions.pop(partition, None)
            self._lost.drop(partition)
        return commits

    def _commit_of(self, partition: TopicPartition) -> Commit | None:
        tracker = self._trackers[partition]
        offset = tracker.next_to_commit(self._positions.get(partition))
        if offset is None:
            return None
        notes = CommitNotes(tracker.finished_above(), self._lost.of(partition))
        return Commit(offset, write_notes(offset, notes))
