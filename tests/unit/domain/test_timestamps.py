"""Equal points in time are written equally, and read back."""

from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from keycloak_bridge.domain.times import format_time, parse_time


def test_writes_utc_with_microseconds() -> None:
    """Every time has the same length and zone."""
    time = datetime(2026, 11, 1, 2, 0, tzinfo=timezone(timedelta(hours=2)))

    assert format_time(time) == "2026-11-01T00:00:00.000000Z"


@given(st.datetimes(timezones=st.just(UTC)))
def test_reads_what_it_wrote(time: datetime) -> None:
    """No precision is lost on the way."""
    assert time == parse_time(format_time(time))


def test_the_end_of_the_calendar_is_written_too() -> None:
    """A time that has no UTC date does not stop the stream."""
    time = datetime(9999, 12, 31, 23, 59, tzinfo=timezone(timedelta(hours=-5)))

    assert format_time(time) == "9999-12-31T23:59:00.000000Z"


@pytest.mark.parametrize("text", ["", "yesterday", "2026-11-01T00:00:00"])
def test_what_is_no_point_in_time_is_none(text: str) -> None:
    """An attribute that somebody edited by hand is no reason to fail."""
    assert parse_time(text) is None
