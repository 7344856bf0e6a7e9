"""Mails wait for the events that stood in their topic at the start, and for nothing else."""

import logging
from collections.abc import Collection, Mapping
from typing import cast
from uuid import UUID

import pytest

from keycloak_bridge.delivery.catch_up import CatchUp
from keycloak_bridge.delivery.group_stamp import GroupStamp
from keycloak_bridge.delivery.offsets import CommitNotes, write_notes
from keycloak_bridge.domain.events import Commit, TopicPartition
from keycloak_bridge.domain.ports import RecordConsumer
from keycloak_bridge.testing.fake_clock import FakeClock


class Group:
    """What the group has committed, and where the topic ends; each partition begins at `begin`."""

    def __init__(self, *ends: int, begin: int = 0) -> None:
        self.begin = begin
        self.ends = list(ends)
        self.notes: dict[int, Commit] = {}
        self.asked = 0
        self.topic: str | None = None

    def end_offsets(self) -> Mapping[TopicPartition, int]:
        """Return the ends."""
        self.asked += 1
        return {TopicPartition("events", at): end for at, end in enumerate(self.ends)}

    def begin_offsets(self, partitions: Collection[TopicPartition]) -> Mapping[TopicPartition, int]:
        """Return the beginning, which is the same everywhere."""
        return dict.fromkeys(partitions, self.begin)

    def topic_id(self) -> str | None:
        """Return what the test says."""
        return self.topic

    def commits(self, partitions: Collection[TopicPartition]) -> Mapping[TopicPartition, Commit]:
        """Return the commits with their notes."""
        return {one: self.notes[one.partition] for one in partitions if one.partition in self.notes}


STAMP = GroupStamp("bridge", "http://keycloak/realms/acme", "0123456789ab")
OLD, NEW = str(UUID(int=1)), str(UUID(int=2))


def commit(offset: int, *finished: range, topic: str | None = None) -> Commit:
    """Return a commit above which these offsets are finished, as the bridge makes it."""
    return Commit(offset, STAMP.on(write_notes(offset, CommitNotes(finished)), topic))


class Scene:
    """A process that has just started."""

    def __init__(self, *ends: int, begin: int = 0) -> None:
        self.group = Group(*ends, begin=begin)
        self.clock = FakeClock()
        self.catch_up = CatchUp(self.clock)

    def look(self, *, after_s: float = 1.0, braked: bool = False) -> bool:
        """Look at the group a while later; return whether mails may go out."""
        self.clock.advance(after_s)
        self.catch_up.look(cast("RecordConsumer", self.group), braked=braked)
        return self.catch_up.done


@pytest.mark.parametrize("ends", [(), (0,), (0, 0, 0)])
def test_nothing_is_waited_for_where_nothing_stood(ends: tuple[int, ...]) -> None:
    """A new topic; but nobody knows that before the first look."""
    scene = Scene(*ends)

    assert [False, True] == [scene.catch_up.done, scene.look()]


def test_a_topic_whose_records_are_gone_holds_nothing() -> None:
    """Retention has deleted them all; the group has never committed anything."""
    assert Scene(500, 500, begin=500).look()


def test_mails_wait_for_every_partition_to_reach_its_old_end() -> None:
    """What comes after the start does not count, or a busy topic would never be caught up with."""
    scene = Scene(10, 20)
    seen = [scene.look()]
    for at, offset in ((0, 10), (1, 12), (1, 19), (1, 20)):
        scene.group.ends = [one + 100 for one in scene.group.ends]
        scene.group.notes[at] = commit(offset)
        seen.append(scene.look())

    assert [False, False, False, False, True] == seen


def test_what_is_finished_above_a_commit_counts() -> None:
    """Only a few events are left, and they hold up nobody else for longer than half a minute."""
    scene = Scene(100)
    scene.group.notes[0] = commit(10, range(12, 40), range(44, 200))
    seen = [scene.look(), scene.look(after_s=29.0), scene.look(after_s=31.0)]
    scene.group.notes[0] = commit(11, range(12, 40), range(44, 200))
    seen += [scene.look(), scene.look(after_s=31.0)]

    assert [False, False, False, False, True] == seen


def test_few_that_are_left_are_waited_for_while_the_brake_is_engaged() -> None:
    """Nothing is done of them then, such as the deletes that engaged it."""
    scene = Scene(3)

    seen = [scene.look(after_s=40.0, braked=True) for _ in range(5)]
    seen += [scene.look(after_s=after_s) for after_s in (1.0, 40.0)]

    assert [*[False] * 5, False, True] == seen


def test_a_topic_that_was_made_anew_is_caught_up_with_at_its_new_end() -> None:
    """Its old one may never be reached."""
    scene = Scene(100)
    first = scene.look()
    scene.group.ends = [2]
    scene.group.notes[0] = commit(2)

    assert [False, True] == [first, scene.look()]


def test_a_commit_of_another_topic_releases_no_mail() -> None:
    """What it says is done stood in a topic that is gone; one behind the end is of that kind too."""
    scene = Scene(10)
    scene.group.topic = NEW
    seen = []
    for found in (commit(20), commit(10, topic=OLD), commit(0, range(10), topic=OLD), commit(10, topic=NEW)):  # fmt: skip
        scene.group.notes[0] = found
        seen.append(scene.look())

    assert [False, False, False, True] == seen


def test_mails_are_held_again_where_the_topic_starts_over() -> None:
    """Its events are read a second time, the deletions among them."""
    scene = Scene(10)
    scene.group.notes[0] = commit(10)
    seen = [scene.look()]
    scene.catch_up.restart()
    scene.group.notes[0] = commit(0)
    seen += [scene.catch_up.done, scene.look()]
    scene.group.notes[0] = commit(10)

    assert [True, False, False, True] == [*seen, scene.look()]


def test_kafka_is_asked_once_a_second_and_never_again_afterwards() -> None:
    """A look costs a few requests for each partition."""
    scene = Scene(10)
    for _ in range(20):
        scene.look(after_s=0.1)
    during = scene.group.asked
    scene.catch_up.finish()
    scene.look(after_s=100.0)

    assert (4, 4) == (during, scene.group.asked)


def test_the_log_says_that_mails_wait_and_that_they_go_out(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Once each, and only where something stood in the topic."""
    with caplog.at_level(logging.INFO):
        Scene(0).look()
        scene = Scene(10, 5)
        for _ in range(3):
            scene.look()
        scene.group.notes = {0: commit(10), 1: commit(5)}
        for _ in range(3):
            scene.look()

    fields = [vars(line)["bridge_fields"] for line in caplog.records]
    assert ["mails-held", "mails-released"] == [one["action"] for one in fields]
    assert "15 events stand in the topic" in caplog.messages[0]
