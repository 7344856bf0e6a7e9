"""How far a partition is done, although its records are finished in any order."""

from collections.abc import Sequence

import pytest

from keycloak_bridge.delivery.offsets import OffsetTracker


def tracker(
    delivered: Sequence[int],
    finished: Sequence[int] = (),
    *,
    start: int | None = None,
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
        ([], [], None, None),
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
    delivered: list[int], finished: list[int], position: int | None, expected: int | None
) -> None:
    """Or the next to read when all are finished; a gap is never stepped over by counting."""
    assert expected == tracker(delivered, finished).next_to_commit(position)


@pytest.mark.parametrize(("position", "expected"), [(None, 40), (43, 43)])
def test_before_anything_is_read_the_committed_offset_stands(
    position: int | None, expected: int
) -> None:
    """Unless the consumer has passed transaction markers already."""
    assert expected == OffsetTracker(40).next_to_commit(position)


@pytest.mark.parametrize(
    ("delivered", "finished", "expected"),
    [
        ([], [], ()),
        ([3, 4], [3, 4], ()),
        ([3, 4, 5], [3], ()),
        ([3, 4, 5], [4, 5], (range(4, 6),)),
        ([3, 4, 5], [5, 4], (range(4, 6),)),
        ([3, 7, 20], [7, 20], (range(7, 21),)),
        ([3, 7, 20], [20], (range(20, 21),)),
        ([3, 5, 7, 9, 11], [5, 9, 11], (range(5, 6), range(9, 12))),
        ([3, 5, 7, 9, 11], [5, 11, 9, 7], (range(5, 12),)),
        ([3, 5, 7, 9, 11], [3, 9], (range(9, 10),)),
    ],
)
def test_what_is_finished_above_the_commit_is_told_in_few_ranges(
    delivered: list[int], finished: list[int], expected: tuple[range, ...]
) -> None:
    """Gaps between finished offsets are in, unfinished offsets are not."""
    assert expected == tracker(delivered, finished).finished_above()


def test_an_offset_is_worked_on_once() -> None:
    """What a consumer reads a second time after a seek is in hand already."""
    seen = tracker([3, 8])

    assert [False, False, False, True] == [seen.deliver(offset) for offset in (3, 5, 8, 9)]
    assert 3 == seen.unfinished


@pytest.mark.parametrize("offset", [2, 3, 4, 99])
def test_finishing_what_is_not_in_hand_changes_nothing(offset: int) -> None:
    """Twice, never delivered, or in a gap."""
    seen = tracker([3, 5, 6], [3])

    seen.finish(offset)

    assert (5, 2, ()) == (seen.next_to_commit(), seen.unfinished, seen.finished_above())


def test_what_an_earlier_owner_finished_is_not_worked_on_again() -> None:
    """It counts as finished as soon as it is read."""
    seen = OffsetTracker(10, [range(11, 13), range(14, 15)])

    worked_on = [offset for offset in range(10, 17) if seen.deliver(offset)]

    assert [10, 13, 15, 16] == worked_on
    assert 10 == seen.next_to_commit()
    assert (range(11, 13), range(14, 15)) == seen.finished_above()


def test_the_commit_passes_what_an_earlier_owner_finished() -> None:
    """Once it was read and everything before it is done."""
    seen = tracker([10, 11, 12, 13], [10], start=10, earlier=[range(11, 13)])

    assert 13 == seen.next_to_commit()


@pytest.mark.parametrize(
    ("delivered", "expected"),
    [
        ([], (range(11, 13), range(20, 30))),
        ([10], (range(11, 13), range(20, 30))),
        ([10, 11], (range(11, 13), range(20, 30))),
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


def test_ranges_below_the_committed_offset_are_left_out() -> None:
    """They are done by the commit itself."""
    assert (range(10, 12),) == OffsetTracker(10, [range(2, 5), range(8, 12)]).finished_above()


def test_a_partition_that_is_read_from_further_back_is_done_anew() -> None:
    """A log that was cut holds other records at the offsets that were finished."""
    seen = OffsetTracker(10, [range(11, 13)])

    worked_on = [offset for offset in (4, 10, 11, 12) if seen.deliver(offset)]

    assert [4, 10, 11, 12] == worked_on
    assert (4, ()) == (seen.next_to_commit(), seen.finished_above())


def test_one_stubborn_record_costs_no_memory_for_those_that_pass_it() -> None:
    """A hundred thousand records are finished behind it, and one range tells them."""
    seen = tracker([0])

    for offset in range(2, 200_002, 2):
        seen.deliver(offset)
        seen.finish(offset)

    assert (0, 1) == (seen.next_to_commit(), len(seen._nodes))
    assert (range(2, 200_001),) == seen.finished_above()
