"""Points in time in the forms in which other systems write them."""

from typing import Any

import pytest

from keycloak_bridge.expressions.timestamps import FORMS, TimeError, form_problem, read_time

HALF_PAST_TEN = "2026-11-28T10:30:00.000000Z"
IN_BERLIN = "2026-11-28T09:30:00.000000Z"


@pytest.mark.parametrize(
    ("value", "form", "zone", "expected"),
    [
        ([2026, 11, 28, 10, 30], "list", "UTC", HALF_PAST_TEN),
        ([2026, 11, 28, 10, 30], "list", "Europe/Berlin", IN_BERLIN),
        ([2026, 11, 28], "list", "UTC", "2026-11-28T00:00:00.000000Z"),
        ([2026, 11, 28, 10, 30, 4, 783706186], "list", "UTC", "2026-11-28T10:30:04.783706Z"),
        ("2026-11-28T10:30:00", "iso", "Europe/Berlin", IN_BERLIN),
        ("2026-11-28T10:30:00.123456", "iso", "UTC", "2026-11-28T10:30:00.123456Z"),
        ("2026-11-28T10:30:00.000+0100", "iso", None, IN_BERLIN),
        ("2026-11-28T10:30:00+01:00", "iso", "Asia/Tokyo", IN_BERLIN),
        ("2026-11-28T10:30:00+01", "iso", None, IN_BERLIN),
        ("2026-11-28T10:30:00-00:00", "iso", None, HALF_PAST_TEN),
        ("2026-11-28 10:30:00Z", "iso", None, HALF_PAST_TEN),
        ("2026-11-28 10:30:00 +0100", "iso", None, IN_BERLIN),
        ("2026-11-28t10:30:00z", "iso", None, HALF_PAST_TEN),
        ("2026-11-28T10:30:00,123Z", "iso", None, "2026-11-28T10:30:00.123000Z"),
        ("2026-11-28T10:30Z", "iso", None, HALF_PAST_TEN),
        ("2026-11-28T10:30:00.1234567Z", "iso", None, "2026-11-28T10:30:00.123456Z"),
        ("2026-11-28T10:30:00.123456789Z", "iso", None, "2026-11-28T10:30:00.123456Z"),
        ("2026-11-28T10:30:00." + "9" * 70 + "Z", "iso", None, "2026-11-28T10:30:00.999999Z"),
        ("2026-11-28T10:30:00+01:00[Europe/Berlin]", "iso", None, IN_BERLIN),
        ("2026-11-28 10:30:00 UTC", "iso", None, HALF_PAST_TEN),
        ("2026-11-28T10:30:00.000 GMT", "iso", None, HALF_PAST_TEN),
        ("2026-11-28 10:30:00.000000000 +0100 CET", "iso", None, IN_BERLIN),
        ("2026-12-31T23:59:60Z", "iso", None, "2027-01-01T00:00:00.000000Z"),
        ("2026-10-25T02:30:00", "iso", "Europe/Berlin", "2026-10-25T00:30:00.000000Z"),
        (1795861800, "s", None, HALF_PAST_TEN),
        (1795861800.123, "s", None, "2026-11-28T10:30:00.123000Z"),
        (1795861800123, "ms", None, "2026-11-28T10:30:00.123000Z"),
        ("1795861800123", "ms", None, "2026-11-28T10:30:00.123000Z"),
        (1795861800123456, "us", None, "2026-11-28T10:30:00.123456Z"),
        ("1795861800123456789", "ns", None, "2026-11-28T10:30:00.123456Z"),
        (1795861800123456789, "ns", None, "2026-11-28T10:30:00.123456Z"),
        ("1795861800.123456789", "s", None, "2026-11-28T10:30:00.123456Z"),
        (-1, "ns", None, "1969-12-31T23:59:59.999999Z"),
        ("Sat, 28 Nov 2026 10:30:00 GMT", "rfc1123", None, HALF_PAST_TEN),
        ("28 Nov 2026 10:30:00 +0100", "rfc1123", None, IN_BERLIN),
        ("28.11.2026 10:30", "%d.%m.%Y %H:%M", "Europe/Berlin", IN_BERLIN),
        ("Sat Nov 28 10:30:00 UTC 2026", "%a %b %d %H:%M:%S UTC %Y", "UTC", HALF_PAST_TEN),
        (
            "28-NOV-26 10.30.00.123456789 AM",
            "%d-%b-%y %I.%M.%S.%f %p",
            "UTC",
            "2026-11-28T10:30:00.123456Z",
        ),
        ("11/28/2026 10:30:00 AM +0100", "%m/%d/%Y %I:%M:%S %p %z", None, IN_BERLIN),
    ],
)
def test_a_time_is_read_in_its_form(value: Any, form: str, zone: str | None, expected: str) -> None:
    """It is RFC 3339 in UTC; a zone in the value comes before the one that is named; of a double hour it is the first."""
    assert form_problem(form, zone) is None
    assert expected == read_time(value, form, zone)


@pytest.mark.parametrize(
    ("value", "form", "zone", "reason"),
    [
        ("2026-11-28T10:30:00", "iso", None, "names no zone"),
        ("2026-11-28", "iso", "UTC", "no ISO 8601"),
        ("yesterday", "iso", "UTC", "no ISO 8601"),
        ("2026-11-28T10:30:00+24:00", "iso", None, "the offset"),
        ("2026-11-28T10:30:00+01:60", "iso", None, "the offset"),
        ("2026-02-30T10:30:00Z", "iso", None, "no such time"),
        ("0001-01-01T00:00:00+14:00", "iso", None, "no such time"),
        ("2026-11-28T10:30:00." + "9" * 100 + "Z", "iso", None, "too long"),
        (1795861800123, "s", None, "is the unit right"),
        (10**300, "ns", None, "is the unit right"),
        (-(10**300), "s", None, "is the unit right"),
        (1e308, "ms", None, "is the unit right"),
        (float("inf"), "ms", None, "is the unit right"),
        (float("nan"), "ms", None, "is the unit right"),
        ("1e5", "ms", None, "no number"),
        ("9" * 31, "ms", None, "no number"),
        ("٣", "ms", None, "no number"),
        ([2026, 11, 28], "ms", None, "use the form 'list'"),
        (5, "iso", "UTC", "no text"),
        (5, "%d.%m.%Y", "UTC", "no text"),
        ("x", "list", "UTC", "no list"),
        ([2026, 11], "list", "UTC", "no list"),
        ([2026, 11, 28, 10, 30, 0, 0, 0], "list", "UTC", "no list"),
        ([2026, 11, True], "list", "UTC", "no list"),
        ([2026, 11, 28.0], "list", "UTC", "no list"),
        ([2026, 11, 10**300], "list", "UTC", "no list"),
        ([2026, 13, 1], "list", "UTC", "no such time"),
        ("Sat, 28 Nox 2026 10:30:00 GMT", "rfc1123", None, "as in Sat"),
        ("2026", "%d.%m.%Y", "UTC", "the format"),
    ],
)
def test_what_is_no_time_is_refused_with_a_reason(
    value: Any, form: str, zone: str | None, reason: str
) -> None:
    """Nothing else is raised, and the value is not quoted."""
    with pytest.raises(TimeError, match=reason) as caught:
        read_time(value, form, zone)

    assert not isinstance(value, str) or value not in caught.value.reason


def test_every_form_has_a_reader() -> None:
    """No named form is a format by mistake."""
    assert [None] * len(FORMS) == [form_problem(form, "UTC") for form in FORMS]
