from keycloak_bridge.delivery.dead_letters import DeadLetteredUsers, fingerprint
from keycloak_bridge.delivery.offsets import (
    CommitNotes,
    OffsetTracker,
    PartitionStates,
    write_notes,
)
from keycloak_bridge.domain.events import Commit, TopicPartition

P0 = TopicPartition("user-events", 0)
P1 = TopicPartition("user-events", 1)


def started(
    lost: DeadLetteredUsers | None = None, *, offset: int = 0
) -> tuple[PartitionStates, OffsetTracker]:
    """Return holdings of one partition, and its tracker."""
    partition_states = PartitionStates(lost or DeadLetteredUsers())
    partition_states.start(P0, Commit(offset))
    tracker = partition_states.tracker(P0)
    assert tracker is not None
    return partition_states, tracker


def test_a_partition_is_held_from_start_to_release() -> None:
    """And each start makes another tracker."""
    partition_states, tracker = started()
    during = partition_states.partitions()
    partition_states.release([P0, P1])
    after = (
        partition_states.partitions(),
        partition_states.tracker(P0),
        partition_states.offsets(),
    )
    partition_states.start(P0, Commit(0))

    assert frozenset({P0}) == during
    assert (frozenset(), None, {}) == after
    assert tracker is not partition_states.tracker(P0)


def test_what_was_committed_is_committed_again_only_when_asked() -> None:
    """A commit that Kafka has not confirmed is still due."""
    partition_states, tracker = started()
    tracker.deliver(0)
    tracker.finish(0)
    first = partition_states.commits({}, unchanged=False)
    unconfirmed = partition_states.commits({}, unchanged=False)
    partition_states.committed(first)

    assert {P0: Commit(1)} == first == unconfirmed
    assert {} == partition_states.commits({}, unchanged=False)
    assert {P0: Commit(1)} == partition_states.commits({}, unchanged=True)
    assert {P0: 1} == partition_states.offsets()


def test_news_about_the_records_above_is_a_commit() -> None:
    """Although the offset stays: a restart then knows what is done."""
    partition_states, tracker = started()
    tracker.deliver(0)
    tracker.deliver(1)
    nothing = partition_states.commits({}, unchanged=False)
    tracker.finish(1)

    notes = write_notes(0, CommitNotes((range(1, 2),)))
    assert {} == nothing
    assert {P0: Commit(0, notes)} == partition_states.commits({}, unchanged=False)


def test_the_next_owner_reads_the_notes() -> None:
    """What is finished is not worked on, and the lost users are known."""
    lost, later = DeadLetteredUsers(), DeadLetteredUsers()
    partition_states, tracker = started(lost)
    for offset in range(3):
        tracker.deliver(offset)
    tracker.finish(1)
    lost.note(P0, b"ada")
    (commit,) = partition_states.release([P0]).values()
    again = PartitionStates(later)
    again.start(P0, commit)
    tracker_again = again.tracker(P0)

    assert tracker_again is not None
    assert [True, False, True] == [tracker_again.deliver(offset) for offset in range(3)]
    assert (fingerprint(b"ada"),) == later.of(P0)
    assert () == lost.of(P0)


def test_positions_stay_known_until_the_partition_is_started_anew() -> None:
    """They step over markers; those of an earlier ownership say nothing."""
    partition_states, _ = started(offset=3)
    stepped = partition_states.commits({P0: 9}, unchanged=False)
    remembered = partition_states.commits({}, unchanged=False)
    partition_states.release([P0])
    partition_states.start(P0, Commit(3))

    assert {P0: Commit(9)} == stepped == remembered
    assert {P0: Commit(3)} == partition_states.commits({}, unchanged=True)


def test_positions_of_others_are_no_commits() -> None:
    """Only what was started is committed."""
    partition_states, _ = started()

    assert {P0: Commit(0)} == partition_states.commits({P1: 7}, unchanged=True)


def test_a_confirmation_that_comes_too_late_changes_nothing() -> None:
    """The partition is gone."""
    partition_states, _ = started()
    partition_states.release([P0])
    partition_states.committed({P0: Commit(5)})

    assert {} == partition_states.offsets()


def test_an_offset_that_came_before_begins_the_partition_anew() -> None:
    """The same or a lower one; gaps forwards are no news."""
    partition_states, tracker = started()
    before = partition_states.restarts(P0, 0)
    tracker.deliver(4)
    seen = [partition_states.restarts(P0, offset) for offset in (0, 4, 5, 9)]

    assert not before
    assert [True, True, False, False] == seen
    assert not partition_states.restarts(P1, 0)


def test_a_partition_waits_for_its_first_unfinished_offset() -> None:
    """From the first look at it on; each other offset begins again, and without work in hand nothing waits."""
    partition_states, tracker = started()
    ages = [partition_states.oldest_s(1.0)]
    tracker.deliver(3)
    tracker.deliver(4)
    ages += [partition_states.oldest_s(now_s) for now_s in (10.0, 12.0, 40.0)]
    tracker.finish(3)
    ages += [partition_states.oldest_s(now_s) for now_s in (50.0, 51.0)]
    tracker.finish(4)
    ages.append(partition_states.oldest_s(60.0))
    tracker.deliver(5)
    ages += [partition_states.oldest_s(now_s) for now_s in (70.0, 71.0)]
    partition_states.start(P0, Commit(5))
    ages.append(partition_states.oldest_s(80.0))

    assert [0.0, 0.0, 2.0, 30.0, 0.0, 1.0, 0.0, 0.0, 1.0, 0.0] == ages


def test_the_slowest_partition_counts() -> None:
    """Whatever the others do."""
    partition_states, first = started()
    partition_states.start(P1, Commit(9))
    second = partition_states.tracker(P1)
    assert second is not None
    first.deliver(3)
    ages = [partition_states.oldest_s(0.0)]
    second.deliver(9)
    ages.append(partition_states.oldest_s(5.0))
    first.finish(3)
    ages.append(partition_states.oldest_s(8.0))

    assert [0.0, 5.0, 3.0] == ages
