"""How far a partition is done, although its records finish in any order."""

from collections.abc import Sequence
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from keycloak_bridge.delivery.offsets import (
    CommitNotes,
    OffsetTracker,
    PartitionStates,
    read_notes,
    tidy,
    write_notes,
)
from keycloak_bridge.delivery.stage_context import DeadLetteredUsers
from keycloak_bridge.domain.events import Commit, TopicPartition


def tracker(
    delivered: Sequence[int],
    finished: Sequence[int] = (),
    *,
    start: int = 0,
    earlier: Sequence[range] = (),
) -> OffsetTracker:
    """Return a tracker that has seen all this."""
    result = OffsetTracker(start, earlier)
    for offset in delivered:
        result.deliver(offset)
    for offset in finished:
        result.finish(offset)
    return result


@pytest.mark.parametrize(
    ("delivered", "finished", "position", "expected"),
    [
        ([], [], None, 3),
        ([], [], 7, 7),
        ([3], [], None, 3),
        ([3], [], 9, 3),
        ([3], [3], None, 4),
        ([3], [3], 9, 9),
        ([3], [3], 2, 4),
        ([3, 4, 5], [4, 5], None, 3),
        ([3, 4, 5], [3, 5], None, 4),
        ([3, 8, 20], [3], None, 8),
        ([3, 8, 20], [20, 3, 8], None, 21),
    ],
)
def test_the_first_unfinished_offset_is_committed(
    delivered: list[int], finished: list[int], position: int | None, expected: int
) -> None:
    """Or the next to read when all are finished, at first the start; a gap is never stepped over by counting."""
    assert expected == tracker(delivered, finished, start=3).next_to_commit(position)


def test_a_partition_that_is_read_from_further_back_is_done_again() -> None:
    """A log that was cut holds other records at the offsets that were finished."""
    seen = OffsetTracker(10, [range(11, 13)])

    worked_on = [offset for offset in (4, 10, 11, 12) if seen.deliver(offset)]

    assert [4, 10, 11, 12] == worked_on
    assert (4, ()) == (seen.next_to_commit(), seen.finished_above())


def test_one_stubborn_record_costs_no_memory_for_those_that_pass_it() -> None:
    """A hundred thousand records are finished behind it, in one range."""
    seen = tracker([0])

    for offset in range(2, 200_002, 2):
        seen.deliver(offset)
        seen.finish(offset)

    assert (0, 1) == (seen.next_to_commit(), len(seen._nodes))
    assert (range(2, 200_001),) == seen.finished_above()


bounds = st.integers(0, 60)


@given(st.lists(st.builds(range, bounds, bounds)), st.none() | bounds)
def test_the_same_offsets_in_ranges_that_do_not_touch(ranges: list[range], low: int | None) -> None:
    """Nothing is gained or lost, and there is one way only to say it."""
    tidied = tidy(ranges, low)

    expected = {offset for one in ranges for offset in one if low is None or offset >= low}
    assert expected == {offset for one in tidied for offset in one}
    assert all(one.stop < other.start for one, other in pairwise(tidied))


P0 = TopicPartition("user-events", 0)
P1 = TopicPartition("user-events", 1)


def started(
    lost: DeadLetteredUsers | None = None, *, offset: int = 0
) -> tuple[PartitionStates, OffsetTracker]:
    """Return the states of one partition, and its tracker."""
    partition_states = PartitionStates(lost or DeadLetteredUsers())
    partition_states.start(P0, Commit(offset))
    tracker = partition_states.tracker(P0)
    assert tracker is not None
    return partition_states, tracker


def test_a_partition_is_held_from_start_to_release() -> None:
    """A confirmation that comes later changes nothing, and each start makes another tracker."""
    partition_states, tracker = started()
    during = partition_states.partitions()
    partition_states.release([P0, P1])
    partition_states.committed({P0: Commit(5)})
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


def test_a_change_above_the_offset_is_a_commit() -> None:
    """Although the offset stays: a restart then knows what is done."""
    partition_states, tracker = started()
    tracker.deliver(0)
    tracker.deliver(1)
    nothing = partition_states.commits({}, unchanged=False)
    tracker.finish(1)

    notes = write_notes(0, CommitNotes((range(1, 2),)))
    assert {} == nothing
    assert {P0: Commit(0, notes)} == partition_states.commits({}, unchanged=False)


def test_positions_stay_known_until_the_partition_is_started_again() -> None:
    """They step over markers; those of an earlier ownership say nothing."""
    partition_states, _ = started(offset=3)
    stepped = partition_states.commits({P0: 9}, unchanged=False)
    remembered = partition_states.commits({}, unchanged=False)
    partition_states.release([P0])
    partition_states.start(P0, Commit(3))

    assert {P0: Commit(9)} == stepped == remembered
    assert {P0: Commit(3)} == partition_states.commits({}, unchanged=True)


def test_an_offset_that_came_before_restarts_the_partition() -> None:
    """The same or a lower one; gaps forwards change nothing."""
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


SPACE_FOR_ALL = 3000


class PartitionMachine(RuleBasedStateMachine):
    """A log with gaps, and owners that follow one another and know of each other by the commit only."""

    def __init__(self) -> None:
        super().__init__()
        self.log: list[int] = []
        self.log_end = 0
        self.done: set[int] = set()
        self.commit = (0, "")
        self.known_done: frozenset[int] = frozenset()
        self.all_noted = True
        self.take_over()

    def take_over(self) -> None:
        """Begin as the next owner: with what is in the commit."""
        start, metadata = self.commit
        notes = read_notes(start, metadata)
        self.tracker = OffsetTracker(start, notes.finished)
        self.inherited = {offset for one in notes.finished for offset in one}
        self.position = start
        self.in_hand: set[int] = set()
        self.delivered: set[int] = set()

    @rule(gaps=st.lists(st.integers(0, 3), min_size=1, max_size=6), markers=st.integers(0, 2))
    def produce(self, gaps: list[int], markers: int) -> None:
        """Records are written, after aborted ones and before the marker of their transaction."""
        for gap in gaps:
            self.log.append(self.log_end + gap)
            self.log_end = self.log[-1] + 1
        self.log_end += markers

    @rule(count=st.integers(1, 8))
    def poll(self, count: int) -> None:
        """The next records are read; behind the last one the consumer passes the markers."""
        ahead = [offset for offset in self.log if offset >= self.position]
        for offset in ahead[:count]:
            to_do = self.tracker.deliver(offset)
            self.delivered.add(offset)
            if to_do:
                self.in_hand.add(offset)

            assert to_do or offset in self.done
            assert not (to_do and self.all_noted and offset in self.known_done)
        self.position = ahead[count] if len(ahead) > count else self.log_end

    @precondition(lambda self: self.in_hand)
    @rule(data=st.data())
    def finish(self, data: st.DataObject) -> None:
        """Any of the records in hand is done."""
        offset = data.draw(st.sampled_from(sorted(self.in_hand)))
        self.tracker.finish(offset)
        self.in_hand.discard(offset)
        self.done.add(offset)

    @precondition(lambda self: self.delivered)
    @rule(data=st.data())
    def read_again(self, data: st.DataObject) -> None:
        """What was delivered comes again, and is not worked on twice."""
        assert not self.tracker.deliver(data.draw(st.sampled_from(sorted(self.delivered))))

    @rule(limit=st.sampled_from([SPACE_FOR_ALL, SPACE_FOR_ALL, 30, 16, 0]))
    def commit_now(self, limit: int) -> None:
        """The owner commits what it knows, with much or little space for the notes."""
        offset = self.tracker.next_to_commit(self.position)
        notes = CommitNotes(self.tracker.finished_above())
        self.commit = offset, write_notes(offset, notes, limit)
        self.all_noted = limit == SPACE_FOR_ALL
        self.known_done = frozenset(self.delivered - self.in_hand | self.inherited)

    @rule()
    def crash(self) -> None:
        """The next owner knows only what was committed."""
        self.take_over()

    @rule(data=st.data())
    def compact(self, data: st.DataObject) -> None:
        """Records that no owner must read any more leave the log."""
        kept = [offset for offset in self.log if data.draw(st.booleans())]
        self.log = [one for one in self.log if one in kept or one in self.in_hand]

    @invariant()
    def nothing_unfinished_is_passed(self) -> None:
        """The commit lies at the first record in hand, and everything in the log before it is done."""
        offset = self.tracker.next_to_commit(self.position)

        assert offset == min(self.in_hand, default=self.position)
        assert all(one in self.done for one in self.log if one < offset)

    @invariant()
    def finished_ranges_hold_what_is_done_and_nothing_else(self) -> None:
        """No unfinished record is in them; all finished ones above the commit are."""
        low = self.tracker.next_to_commit(self.position)
        above = {offset for one in self.tracker.finished_above() for offset in one}

        assert not above & self.in_hand
        assert all(offset in self.done for offset in self.log if offset in above)
        assert {one for one in self.delivered - self.in_hand if one >= low} <= above

    @invariant()
    def what_is_in_hand_is_counted(self) -> None:
        """`unfinished` is what bounds the work in hand."""
        assert len(self.in_hand) == self.tracker.unfinished


TestPartition = PartitionMachine.TestCase
TestPartition.settings = settings(max_examples=150, stateful_step_count=40, deadline=None)


@pytest.mark.parametrize("offset", [2, 3, 4, 99])
def test_finishing_what_is_not_in_hand_changes_nothing(offset: int) -> None:
    """Twice, never delivered, or in a gap."""
    seen = tracker([3, 5, 6], [3])

    seen.finish(offset)

    assert (5, 2, ()) == (seen.next_to_commit(), seen.unfinished, seen.finished_above())


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


@pytest.mark.parametrize(
    ("delivered", "expected"),
    [
        ([], (range(11, 13), range(20, 30))),
        ([10, 12, 13], (range(12, 13), range(20, 30))),
        ([10, 15, 22], (range(22, 30),)),
        ([10, 31], ()),
    ],
)
def test_ranges_of_an_earlier_owner_are_handed_on_before_they_are_reached(
    delivered: list[int], expected: tuple[range, ...]
) -> None:
    """A second restart before the first one's backlog is read loses nothing."""
    seen = tracker(delivered, start=10, earlier=[range(11, 13), range(20, 30)])

    assert expected == seen.finished_above()
