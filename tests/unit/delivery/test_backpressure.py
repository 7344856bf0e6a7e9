"""How much may be fetched."""

import pytest

from keycloak_bridge.delivery.backpressure import Backpressure


@pytest.mark.parametrize(
    ("looks", "expected"),
    [
        ([(0, 0, 0)], [True]),
        ([(99, 999, 0)], [True]),
        ([(100, 0, 0)], [False]),
        ([(0, 1000, 0)], [False]),
        ([(100, 0, 0), (51, 0, 0), (50, 0, 0), (99, 0, 0)], [False, False, True, True]),
        ([(0, 1500, 0), (0, 501, 0), (0, 500, 0)], [False, False, True]),
        ([(100, 1000, 0), (50, 501, 0), (50, 500, 0)], [False, False, True]),
    ],
)
def test_fetching_pauses_when_full_and_goes_on_when_half_is_free(
    looks: list[tuple[int, int, int]], expected: list[bool]
) -> None:
    """Whichever of records and bytes is the scarcer."""
    backpressure = Backpressure(100, 1000)

    assert expected == [backpressure.admits(*look) for look in looks]


@pytest.mark.parametrize(
    ("max_records", "of_partition", "has"),
    [(100, 24, True), (100, 25, False), (2, 0, True), (2, 1, False), (1, 0, True)],
)
def test_a_partition_may_take_a_quarter(max_records: int, of_partition: int, has: bool) -> None:
    """One record at least."""
    backpressure = Backpressure(max_records, 1000)

    assert has == backpressure.admits(0, 0, of_partition)
    assert not backpressure.full
