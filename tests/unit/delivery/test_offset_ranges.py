"""Sets of offsets as few ranges."""

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from keycloak_bridge.delivery.offsets import tidy

bounds = st.integers(0, 60)


@pytest.mark.parametrize(
    ("ranges", "low", "expected"),
    [
        ([], None, ()),
        ([range(5, 5), range(7, 3)], None, ()),
        ([range(8, 9), range(2, 4)], None, (range(2, 4), range(8, 9))),
        ([range(2, 4), range(4, 6)], None, (range(2, 6),)),
        ([range(2, 9), range(3, 5)], None, (range(2, 9),)),
        ([range(2, 4), range(6, 9)], 7, (range(7, 9),)),
        ([range(2, 4)], 4, ()),
    ],
)
def test_ranges_are_sorted_merged_and_cut(
    ranges: list[range], low: int | None, expected: tuple[range, ...]
) -> None:
    """Every way in which two ranges or a range and the bound can lie to each other."""
    assert expected == tidy(ranges, low)


@given(st.lists(st.builds(range, bounds, bounds)), st.none() | bounds)
def test_the_same_offsets_in_ranges_that_do_not_touch(ranges: list[range], low: int | None) -> None:
    """Nothing is gained or lost, and there is one way only to say it."""
    tidied = tidy(ranges, low)

    expected = {offset for one in ranges for offset in one if low is None or offset >= low}
    assert expected == {offset for one in tidied for offset in one}
    assert all(one.stop < other.start for one, other in pairwise(tidied))
