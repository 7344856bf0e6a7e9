"""How many users a batch holds."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from keycloak_bridge.provisioning.batches import BatchSize


@pytest.mark.parametrize(
    ("latency_s", "size", "failed", "expected"),
    [
        (0.1, 20, False, 22),
        (0.1, 19, False, 20),
        (0.25, 20, False, 20),
        (0.5, 20, False, 20),
        (0.51, 20, False, 10),
        (0.51, 5, False, 10),
        (0.1, 20, True, 10),
        (9.0, 21, True, 20),
    ],
    ids=["quick", "not-full", "on-target", "up-to-twice", "slow", "slow-few", "failed", "older"],
)
def test_follows_the_time_a_batch_takes(
    latency_s: float, size: int, failed: bool, expected: int
) -> None:
    """Two more when a full one was quick, half as many when one was slow or failed."""
    batch = BatchSize(5, 50, 20)

    batch.note(latency_s, size, failed)

    assert expected == batch.size


@pytest.mark.parametrize(
    ("fixed_s", "user_s", "least", "most"),
    [(0.02, 0.002, 50, 50), (0.02, 0.01, 20, 50), (0.02, 0.02, 10, 24), (0.0, 0.5, 10, 10)],
)
def test_settles_around_the_target(fixed_s: float, user_s: float, least: int, most: int) -> None:
    """The largest batches that take about as long as they should."""
    batch = BatchSize(10, 50)
    sizes = []

    for _ in range(200):
        sizes.append(batch.size)
        batch.note(fixed_s + user_s * batch.size, batch.size, failed=False)

    assert least <= min(sizes[50:])
    assert max(sizes[50:]) <= most


@given(
    st.integers(1, 20),
    st.integers(0, 100),
    st.lists(st.tuples(st.floats(0, 10), st.integers(0, 200), st.booleans())),
)
def test_stays_within_its_bounds(
    least: int, more: int, ends: list[tuple[float, int, bool]]
) -> None:
    """Whatever it is told."""
    batch = BatchSize(least, least + more)

    for latency_s, size, failed in ends:
        batch.note(latency_s, size, failed)

        assert least <= batch.size <= least + more


def test_impossible_bounds_are_refused() -> None:
    """A batch of nobody would never end."""
    with pytest.raises(ValueError, match="1 <= least"):
        BatchSize(0, 10)
