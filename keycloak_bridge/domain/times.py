"""Durations, rates and limits as settings write them, and points in time: RFC 3339 in UTC with microseconds."""

import re
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from functools import lru_cache

_SECONDS = {
    "week": Decimal(604800),
    "day": Decimal(86400),
    "hour": Decimal(3600),
    "minute": Decimal(60),
    "second": Decimal(1),
    "millisecond": Decimal("0.001"),
}
_UNITS = {
    spelling: _SECONDS[unit]
    for unit, spellings in {
        "week": ("w", "week", "weeks"),
        "day": ("d", "day", "days"),
        "hour": ("h", "hr", "hrs", "hour", "hours"),
        "minute": ("m", "min", "mins", "minute", "minutes"),
        "second": ("s", "sec", "secs", "second", "seconds"),
        "millisecond": ("ms", "millisecond", "milliseconds"),
    }.items()
    for spelling in spellings
}
_COUNT = r"[0-9]{1,9}(?:\.[0-9]{1,9})?"
_PART = re.compile(rf"({_COUNT})\s*([a-z]+)[\s,]*", re.ASCII)
_ISO = re.compile(
    rf"P(?:(?P<week>{_COUNT})W)?(?:(?P<day>{_COUNT})D)?"
    rf"(?:T(?:(?P<hour>{_COUNT})H)?(?:(?P<minute>{_COUNT})M)?(?:(?P<second>{_COUNT})S)?)?",
    re.ASCII,
)
_PACE = re.compile(rf"({_COUNT})\s*/\s*([a-z]+)", re.ASCII)
_LIMIT = re.compile(r"([0-9]{1,9})\s*/\s*([0-9Pp].*)", re.ASCII)
_EXPECTED = 'write for example "3 days", "12 h", "90 minutes" or "PT72H"'


@dataclass(frozen=True, slots=True)
class Limit:
    """At most `count` within any `window_s` seconds."""

    count: int
    window_s: float


def parse_duration(text: str) -> float:
    """Return the seconds in `text`: "3 days", "12 h", "1 day 6 hours", "250 ms", "PT72H"; an int when they are whole.

    Raises ValueError with a sentence that says what to write instead; the caller knows file and key.
    """
    stripped = text.strip()
    iso = _ISO.fullmatch(stripped.upper())
    seconds = _words(stripped.lower()) if iso is None else _parts(iso.groupdict())
    return int(seconds) if seconds == seconds.to_integral_value() else float(seconds)


def parse_pace(text: str) -> float:
    """Return how many a second `text` says: "14/s", "200/minute", "5000/h".

    Raises ValueError with a sentence that says what to write instead.
    """
    pace = _PACE.fullmatch(text.strip().lower())
    if pace is None or pace[2] not in _UNITS or not Decimal(pace[1]):
        raise ValueError('write for example "14/s", "200/minute" or "5000/hour"')
    return float(Decimal(pace[1]) / _UNITS[pace[2]])


def parse_limit(text: str) -> Limit | None:
    """Return the limit in `text`, such as "500/1 h"; None for "none".

    Raises ValueError with a sentence that says what to write instead.
    """
    stripped = text.strip()
    if stripped.lower() == "none":
        return None
    limit = _LIMIT.fullmatch(stripped)
    if limit is None or not int(limit[1]):
        raise ValueError('write for example "500/1 h", "50/10 minutes" or "none"')
    window_s = parse_duration(limit[2])
    if not window_s:
        raise ValueError("the duration must be longer than nothing")
    return Limit(int(limit[1]), window_s)


def format_duration(seconds: float) -> str:
    """Return `seconds` in words, such that `parse_duration` reads the same number back."""
    if seconds < 0:
        raise ValueError("a duration cannot be negative")
    parts = []
    rest = Decimal(str(seconds))
    for unit in ("day", "hour", "minute"):
        count, rest = divmod(rest, _SECONDS[unit])
        if count:
            parts.append(_counted(count, unit))
    if rest or not parts:
        parts.append(_counted(rest, "second"))
    return " ".join(parts)


def _parts(counts: dict[str, str | None]) -> Decimal:
    given = {unit: Decimal(count) for unit, count in counts.items() if count}
    if not given:
        raise ValueError(f"the duration is empty; {_EXPECTED}")
    return sum((count * _SECONDS[unit] for unit, count in given.items()), Decimal(0))


def _words(text: str) -> Decimal:
    total, position = Decimal(0), 0
    while part := _PART.match(text, position):
        count, unit = part.groups()
        if unit not in _UNITS:
            raise ValueError(
                "the unit of time is unknown; use weeks, days, hours, minutes or seconds"
            )
        total += Decimal(count) * _UNITS[unit]
        position = part.end()
    if not position or position < len(text):
        raise ValueError(f"not a duration with a unit; {_EXPECTED}")
    return total


def _counted(count: Decimal, unit: str) -> str:
    return f"{count.normalize():f} {unit}" + ("" if count == 1 else "s")


@lru_cache(maxsize=256)  # that of an event is asked for three times
def format_time(time: datetime) -> str:
    """Return an aware `time` such that equal points in time give equal text."""
    if time.tzinfo is UTC:  # as parse_timestamp gives it
        return f"{time.isoformat(timespec='microseconds')[:-6]}Z"
    try:
        utc = time.astimezone(UTC)
    except OverflowError:  # the last hours of year 9999 or the first of year 1, east or west of UTC
        utc = time.replace(tzinfo=UTC)
    return utc.isoformat(timespec="microseconds").replace("+00:00", "Z")


def epoch_time(seconds: float) -> datetime | None:
    """Return the time so many seconds after 1970 began, None for one that no calendar has."""
    try:
        return datetime.fromtimestamp(seconds, UTC)
    except (ValueError, OverflowError, OSError):
        return None


def parse_time(text: str) -> datetime | None:
    """Return the aware datetime in `text`, or None when it holds none."""
    try:
        time = datetime.fromisoformat(text)
    except ValueError:
        return None
    return time if time.tzinfo is not None else None
