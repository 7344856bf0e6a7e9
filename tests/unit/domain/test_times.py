"""Durations and points in time are read as people and ISO 8601 write them, and written back the same."""

from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from keycloak_bridge.domain.times import format_duration, format_time, parse_duration, parse_time


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("3 days", 259200),
        ("12 h", 43200),
        ("90m", 5400),
        ("1 week", 604800),
        ("1 day 6 hours", 108000),
        ("1 day, 6 hours", 108000),
        ("  5 S ", 5),
        ("250 ms", 0.25),
        ("1.5 hours", 5400),
        ("PT72H", 259200),
        ("P1W", 604800),
        ("p1dt30m5s", 88205),
    ],
)
def test_reads_words_and_iso_8601(text: str, seconds: float) -> None:
    """Counts with units and ISO 8601 durations give seconds; whole ones as an integer, as Keycloak takes them."""
    parsed = parse_duration(text)

    assert (seconds, type(seconds)) == (parsed, type(parsed))


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "with a unit"),
        ("5", "with a unit"),
        ("-5 s", "with a unit"),
        ("5 s or so", "with a unit"),
        ("days", "with a unit"),
        ("P", "empty"),
        ("PT", "empty"),
        ("P1Y", "with a unit"),
        ("3 fortnights", "unit of time is unknown"),
    ],
)
def test_refuses_what_is_no_duration(text: str, reason: str) -> None:
    """Anything else is an error that says what to write."""
    with pytest.raises(ValueError, match=reason):
        parse_duration(text)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (259200, "3 days"),
        (90061, "1 day 1 hour 1 minute 1 second"),
        (0, "0 seconds"),
        (0.25, "0.25 seconds"),
    ],
)
def test_writes_words(seconds: float, text: str) -> None:
    """Seconds become the words that people use; nothing lasts less than no time."""
    assert text == format_duration(seconds)
    with pytest.raises(ValueError, match="negative"):
        format_duration(-1 - seconds)


@given(st.integers(min_value=0, max_value=10**9))
def test_reads_its_own_words(seconds: int) -> None:
    """Reading what was written gives the same number."""
    assert seconds == parse_duration(format_duration(seconds))


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
    """An attribute that was edited by hand is no reason to fail."""
    assert parse_time(text) is None
