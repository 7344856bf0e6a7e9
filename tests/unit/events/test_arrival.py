"""The time that counts for an event: never later than its record, and never far in the future."""

from datetime import UTC, datetime, timedelta

import pytest

from keycloak_bridge.domain.errors import TimeAheadError
from keycloak_bridge.events.arrival import ArrivalRule

NOW = datetime(2026, 11, 28, 12, tzinfo=UTC)
NOW_MS = 1_795_867_200_000
MINUTE = timedelta(minutes=1)
MINUTE_MS = 60_000


def rule(*, clamps: bool = False) -> ArrivalRule:
    return ArrivalRule(300, clamps, lambda: NOW)


@pytest.mark.parametrize(
    ("ahead", "recorded_ms", "expected"),
    [
        (-MINUTE, NOW_MS, -MINUTE),
        (2 * MINUTE, NOW_MS, timedelta(0)),
        (2 * MINUTE, NOW_MS + MINUTE_MS, MINUTE),
        (2 * MINUTE, None, 2 * MINUTE),
        (2 * MINUTE, -1, 2 * MINUTE),
        (2 * MINUTE, 0, 2 * MINUTE),
        (2 * MINUTE, 10**17, 2 * MINUTE),
        (-365 * 24 * 60 * MINUTE, NOW_MS, -365 * 24 * 60 * MINUTE),
    ],
)
def test_a_time_that_is_plausible(
    ahead: timedelta, recorded_ms: int | None, expected: timedelta
) -> None:
    """It is that of the record where the producer's clock is a little ahead; without a record it is the event's."""
    assert rule().time_of(NOW + ahead, recorded_ms) == NOW + expected
    assert rule(clamps=True).time_of(NOW + ahead, recorded_ms) == NOW + expected
    assert rule().time_of(None, recorded_ms) is None


@pytest.mark.parametrize(
    ("ahead", "recorded_ms", "clamped"),
    [
        (6 * MINUTE, NOW_MS, timedelta(0)),
        (timedelta(days=3650), NOW_MS - MINUTE_MS, -MINUTE),
        (timedelta(days=3650), None, timedelta(0)),
        (timedelta(0), NOW_MS - 6 * MINUTE_MS, -6 * MINUTE),
        (timedelta(days=3650), NOW_MS + 10 * MINUTE_MS, None),
    ],
)
def test_a_time_too_far_ahead(
    ahead: timedelta, recorded_ms: int | None, clamped: timedelta | None
) -> None:
    """A dead letter, or the record's time where a setting says so; never one that itself lies in the future."""
    with pytest.raises(TimeAheadError) as refused:
        rule().time_of(NOW + ahead, recorded_ms)
    assert ("time-ahead", ["/time"]) == (
        refused.value.code,
        [one.pointer for one in refused.value.violations],
    )
    if clamped is None:
        with pytest.raises(TimeAheadError):
            rule(clamps=True).time_of(NOW + ahead, recorded_ms)
    else:
        assert rule(clamps=True).time_of(NOW + ahead, recorded_ms) == NOW + clamped
