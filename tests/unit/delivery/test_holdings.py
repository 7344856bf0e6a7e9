from keycloak_bridge.delivery.offsets import (
    CommitNotes,
    Holdings,
    LostUsers,
    OffsetTracker,
    fingerprint,
    write_notes,
)
from keycloak_bridge.domain.events import Commit, TopicPartition

P0 = TopicPartition("user-events", 0)
P1 = TopicPartition("user-events", 1)


def started(lost: LostUsers | None = None, *, offset: int = 0) -> tuple[Holdings, OffsetTracker]:
    """Return holdings of one partition, and its tracker."""
    holdings = Holdings(lost or LostUsers())
    holdings.start(P0, Commit(offset))
    tracker = holdings.tracker(P0)
    assert tracker is not None
    return holdings, tracker


def test_a_partition_is_held_from_start_to_release() -> None:
    """And each start makes another tracker."""
    holdings, tracker = started()
    during = holdings.partitions()
    holdings.release([P0, P1])
    after = (holdings.partitions(), holdings.tracker(P0), holdings.offsets())
    holdings.start(P0, Commit(0))

    assert frozenset({P0}) == during
    assert (frozenset(), None, {}) == after
    assert tracker is not holdings.tracker(P0)


def test_what_was_committed_is_committed_again_only_when_asked() -> None:
    """A commit that Kafka has not confirmed is still due."""
    holdings, tracker = started()
    tracker.deliver(0)
    tracker.finish(0)
    first = holdings.commits({}, unchanged=False)
    unconfirmed = holdings.commits({}, unchanged=False)
    holdings.committed(first)

    assert {P0: Commit(1)} == first == unconfirmed
    assert {} == holdings.commits({}, unchanged=False)
    assert {P0: Commit(1)} == holdings.commits({}, unchanged=True)
    assert {P0: 1} == holdings.offsets()


def test_news_about_the_records_above_is_a_commit() -> None:
    """Although the offset stays: a restart then knows what is done."""
    holdings, tracker = started()
    tracker.deliver(0)
    tracker.deliver(1)
    nothing = holdings.commits({}, unchanged=False)
    tracker.finish(1)

    notes = write_notes(0, CommitNotes((range(1, 2),)))
    assert {} == nothing
    assert {P0: Commit(0, notes)} == holdings.commits({}, unchanged=False)


def test_the_next_owner_reads_the_notes() -> None:
    """What is finished is not worked on, and the lost users are known."""
    lost, later = LostUsers(), LostUsers()
    holdings, tracker = started(lost)
    for offset in range(3):
        tracker.deliver(offset)
    tracker.finish(1)
    lost.note(P0, b"ada")
    (commit,) = holdings.release([P0]).values()
    again = Holdings(later)
    again.start(P0, commit)
    tracker_again = again.tracker(P0)

    assert tracker_again is not None
    assert [True, False, True] == [tracker_again.deliver(offset) for offset in range(3)]
    assert (fingerprint(b"ada"),) == later.of(P0)
    assert () == lost.of(P0)


def test_positions_stay_known_until_the_partition_is_started_anew() -> None:
    """They step over markers; those of an earlier ownership say nothing."""
    holdings, _ = started(offset=3)
    stepped = holdings.commits({P0: 9}, unchanged=False)
    remembered = holdings.commits({}, unchanged=False)
    holdings.release([P0])
    holdings.start(P0, Commit(3))

    assert {P0: Commit(9)} == stepped == remembered
    assert {P0: Commit(3)} == holdings.commits({}, unchanged=True)


def test_positions_of_others_are_no_commits() -> None:
    """Only what was started is committed."""
    holdings, _ = started()

    assert {P0: Commit(0)} == holdings.commits({P1: 7}, unchanged=True)


def test_a_confirmation_that_comes_too_late_changes_nothing() -> None:
    """The partition is gone."""
    holdings, _ = started()
    holdings.release([P0])
    holdings.committed({P0: Commit(5)})

    assert {} == holdings.offsets()


def test_an_offset_that_came_before_begins_the_partition_anew() -> None:
    """The same or a lower one; gaps forwards are no news."""
    holdings, tracker = started()
    before = holdings.begins_anew(P0, 0)
    tracker.deliver(4)
    seen = [holdings.begins_anew(P0, offset) for offset in (0, 4, 5, 9)]

    assert not before
    assert [True, True, False, False] == seen
    assert not holdings.begins_anew(P1, 0)


def test_the_first_unfinished_offsets_are_those_of_work_in_hand() -> None:
    """A partition without any has none."""
    holdings, tracker = started()
    nothing = holdings.first_unfinished()
    for offset in (2, 5):
        tracker.deliver(offset)
    both = holdings.first_unfinished()
    tracker.finish(2)

    assert ({}, {P0: 2}, {P0: 5}) == (nothing, both, holdings.first_unfinished())
