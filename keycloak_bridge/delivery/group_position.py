"""How far a group is with its topic, as far as its commits are about the topic that is there now.

A topic may be deleted and made anew under its name. Kafka then drops the group's commits, but a member that runs, or an
operator, may write them again, and the new log may be longer than the old one was: what stands before such a commit would
be passed over, and nobody would hear of it. So each commit says in which topic it was made (group_stamp.py).
"""

from collections.abc import Collection
from dataclasses import dataclass

from keycloak_bridge.delivery.group_stamp import notes_of, topic_of
from keycloak_bridge.delivery.offsets import CommitNotes, read_notes, write_notes
from keycloak_bridge.domain.events import Commit, TopicPartition
from keycloak_bridge.domain.ports import RecordConsumer


@dataclass(frozen=True, slots=True)
class GroupPosition:
    """All of a partition below `offset` is done, and what `finished` names above it."""

    offset: int
    finished: tuple[range, ...] = ()


def is_of_another_topic(commit: Commit, topic_id: str | None) -> bool:
    """Say whether the commit was made in another topic of that name; no where either of them has no id."""
    made_in = topic_of(commit.metadata)
    return made_in is not None and topic_id is not None and made_in != topic_id


def restarted_commit(commit: Commit, begin: int) -> Commit:
    """Return what is left of a commit of another topic: which users miss an event, and no offset."""
    notes = read_notes(commit.offset, notes_of(commit.metadata))
    return Commit(begin, write_notes(begin, CommitNotes(dead_lettered=notes.dead_lettered)))


def group_positions(
    source: RecordConsumer, partitions: Collection[TopicPartition]
) -> dict[TopicPartition, GroupPosition]:
    """Return how far the group is with each of these partitions: at its beginning where no commit counts.

    None counts that is of another topic, or that lies behind the end of its partition. Raises BrokerError.
    """
    commits = source.commits(partitions)
    begins = source.begin_offsets(partitions)
    ends = (
        source.end_offsets()
    )  # the last: a commit that is newer than the end may well lie behind it
    topic_id = source.topic_id()
    positions = {}
    for at in partitions:
        begin, commit = begins.get(at, 0), commits.get(at)
        if (
            commit is None
            or commit.offset > ends.get(at, commit.offset)
            or is_of_another_topic(commit, topic_id)
        ):
            positions[at] = GroupPosition(begin)
            continue
        notes = read_notes(commit.offset, notes_of(commit.metadata))
        positions[at] = GroupPosition(max(begin, commit.offset), notes.finished)
    return positions
