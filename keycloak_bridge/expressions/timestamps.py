"""Points in time as other systems write them: numbers since 1970, lists of numbers, and texts of many forms.

What is read becomes RFC 3339 in UTC with microseconds; finer digits are dropped.
"""

import re
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta, tzinfo
from decimal import Decimal
from functools import lru_cache
from types import MappingProxyType
from typing import Any
from zoneinfo import ZoneInfo

from keycloak_bridge.domain.times import format_time

ISO = "iso"
LIST = "list"
RFC_1123 = "rfc1123"
UNITS: Mapping[str, int] = MappingProxyType({"s": 0, "ms": 3, "us": 6, "ns": 9})
"""Units of a time since 1970: how many decimals of a second each has."""

FORMS = (*UNITS, ISO, LIST, RFC_1123)
"""The forms that have a name; any other is a format such as `%d.%m.%Y %H:%M`."""

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_LONGEST = 100
_NUMBER = re.compile(r"-?[0-9]{1,30}(?:\.[0-9]{1,30})?", re.ASCII)
_ISO = re.compile(
    r"([0-9]{4})-([0-9]{2})-([0-9]{2})[Tt ]([0-9]{2}):([0-9]{2})"
    r"(?::([0-9]{2})(?:[.,]([0-9]+))?)?"
    r"(?: ?(?:([Zz]|UTC|GMT)|([+-])([0-9]{2})(?::?([0-9]{2}))?(?: [A-Z]{3,5})?)(?:\[[A-Za-z0-9_+/-]+\])?)?",
    re.ASCII,
)
_RFC_1123 = re.compile(
    r"(?:[A-Z][a-z]{2}, )?([0-9]{1,2}) ([A-Z][a-z]{2}) ([0-9]{4}) ([0-9]{2}):([0-9]{2}):([0-9]{2})"
    r" (?:GMT|UTC|([+-])([0-9]{2})([0-9]{2}))",
    re.ASCII,
)
_MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")
_DIRECTIVE = re.compile(r"%(.?)", re.DOTALL)
_BEYOND_MICROSECONDS = re.compile(r"(?<=[.,][0-9]{6})[0-9]+", re.ASCII)
_DIRECTIVES = frozenset("YymbBdjaAHIpMSfz%")
_DATE = (frozenset("Yyj"), frozenset("Yymd"), frozenset("Yybd"), frozenset("YyBd"))
_LIST_LENGTHS = range(3, 8)


class TimeError(ValueError):
    """The value is no point in time of that form; the reason never quotes it."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


def form_problem(form: str, zone: str | None) -> str | None:
    """Return why `timestamp()` can never work with this form and zone, None where it can."""
    if form not in FORMS:
        used = set(_DIRECTIVE.findall(form))
        if not used:
            return f"knows no form '{form}': use one of {', '.join(FORMS)}, or a format such as %d.%m.%Y %H:%M"
        if unknown := sorted(used - _DIRECTIVES):
            return f"cannot read %{unknown[0]} in a format; it reads %{' %'.join(sorted(_DIRECTIVES - {'%'}))}"
        if not ({"Y", "y"} & used and ("j" in used or ("d" in used and {"m", "b", "B"} & used))):
            return "needs year, month and day in a format, as in %d.%m.%Y %H:%M"
    if zone is not None:
        return None if _zone(zone) is not None else f"knows no time zone '{zone}'"
    if form == LIST or (form not in FORMS and "z" not in _DIRECTIVE.findall(form)):
        return "needs a time zone as its third argument, as in 'Europe/Berlin': this form has none"
    return None


def read_time(value: str | float | list[Any], form: str, zone: str | None) -> str:
    """Return the point in time that `value` means, as RFC 3339 in UTC; raises TimeError.

    `zone` counts where the value names none. Of an hour that the zone has twice, it is the first.
    """
    if isinstance(value, str) and len(value) > _LONGEST:
        raise TimeError("the text is too long for a time")
    if problem := form_problem(form, zone):
        raise TimeError(f"timestamp() {problem}")
    read = _READERS.get(form)
    try:
        time = _counted(value, UNITS[form]) if form in UNITS else None
        if time is None:
            time = read(value, zone) if read else _formatted(value, form, zone)
        return format_time(time.astimezone(UTC))
    except (ValueError, OverflowError, ArithmeticError) as error:
        if isinstance(error, TimeError):
            raise
    raise TimeError("there is no such time between the years 1 and 9999; is the unit right?")


def _counted(value: Any, decimals: int) -> datetime:
    """Return the time that many units after 1970, exact to the microsecond."""
    if isinstance(value, str):
        if _NUMBER.fullmatch(value) is None:
            raise TimeError("the text is no number of units since 1970")
        number = Decimal(value)
    elif isinstance(value, list):
        raise TimeError("a list is no number of units since 1970; use the form 'list'")
    else:
        number = Decimal(repr(value)) if isinstance(value, float) else Decimal(value)
    if not number.is_finite() or abs(number) >= Decimal(10) ** 40:
        raise OverflowError
    microseconds = number.scaleb(6 - decimals) // 1
    if number < 0 and microseconds != number.scaleb(6 - decimals):
        microseconds -= 1  # towards the past, as for every other time
    return _EPOCH + timedelta(microseconds=int(microseconds))


def _iso(value: Any, zone: str | None) -> datetime:
    match = _ISO.fullmatch(_as_text(value))
    if match is None:
        raise TimeError("the text is no ISO 8601 date and time")
    *date, second, fraction, utc, sign, hours, minutes = match.groups()
    time = _at([*map(int, date), int(second or 0)], _microsecond(fraction))
    if utc:
        return time.replace(tzinfo=UTC)
    if sign is None:
        return _in_zone(time, zone)
    return _with_offset(time, sign, hours, minutes or "0")


def _rfc_1123(value: Any, _: str | None) -> datetime:
    match = _RFC_1123.fullmatch(_as_text(value))
    if match is None or match[2] not in _MONTHS:
        raise TimeError("the text is no date and time as in Sat, 28 Nov 2026 10:30:00 GMT")
    day, month, year, hour, minute, second, sign, hours, minutes = match.groups()
    numbers = map(int, (year, _MONTHS.index(month) + 1, day, hour, minute, second))
    time = _at([*numbers], 0)
    return time.replace(tzinfo=UTC) if sign is None else _with_offset(time, sign, hours, minutes)


def _listed(value: Any, zone: str | None) -> datetime:
    fits = isinstance(value, list) and len(value) in _LIST_LENGTHS
    if not fits or not all(type(one) is int and 0 <= one < 10**9 for one in value):
        raise TimeError(
            "the value is no list of year, month, day, hour, minute, second, nanosecond"
        )
    nanosecond = value[6] if len(value) > 6 else 0
    return _in_zone(_at(value[:6], nanosecond // 1000), zone)


def _formatted(value: Any, form: str, zone: str | None) -> datetime:
    text = _BEYOND_MICROSECONDS.sub("", _as_text(value))
    try:
        time = datetime.strptime(text, form)  # noqa: DTZ007 - a zone is added below
    except (ValueError, re.error):
        time = None
    if time is None:
        raise TimeError("the text does not have the format that the expression names")
    return time if time.tzinfo is not None else _in_zone(time, zone)


def _as_text(value: Any) -> str:
    if not isinstance(value, str):
        raise TimeError("the value is no text")
    return value


def _at(numbers: list[int], microsecond: int) -> datetime:
    """Return that local time; a leap second is the second after it."""
    leap = len(numbers) > 5 and numbers[5] == 60
    time = datetime(*(*numbers[:5], 59) if leap else numbers)  # noqa: DTZ001
    return time + timedelta(seconds=1) if leap else time.replace(microsecond=microsecond)


def _microsecond(fraction: str | None) -> int:
    return int(fraction[:6].ljust(6, "0")) if fraction else 0


def _with_offset(time: datetime, sign: str, hours: str, minutes: str) -> datetime:
    offset = timedelta(hours=int(hours), minutes=int(minutes))
    if int(minutes) > 59 or offset >= timedelta(hours=24):
        raise TimeError("the offset from UTC is none")
    return (time + offset if sign == "-" else time - offset).replace(tzinfo=UTC)


def _in_zone(time: datetime, zone: str | None) -> datetime:
    found = None if zone is None else _zone(zone)
    if found is None:
        raise TimeError(
            "the time names no zone; name one as third argument of timestamp(), as in 'Europe/Berlin'"
        )
    return time.replace(tzinfo=found)


@lru_cache(maxsize=64)
def _zone(name: str) -> tzinfo | None:
    if name == "UTC":
        return UTC
    try:
        return ZoneInfo(name)
    except (OSError, ValueError, LookupError):  # ZoneInfoNotFoundError is a KeyError
        return None


_READERS: Mapping[str, Callable[[Any, str | None], datetime]] = MappingProxyType(
    {ISO: _iso, LIST: _listed, RFC_1123: _rfc_1123}
)
