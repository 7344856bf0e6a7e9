"""Formats are asserted, and strictly."""

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st
from jsonschema import Draft202012Validator

from keycloak_bridge.events.formats import FORMATS, format_checker, parse_timestamp

CASES = {
    "date": (
        ["2026-11-01", "2024-02-29"],
        ["2026-11-1", "20261101", "2026-W01-1", "2026-11-01\n", "2026-02-29", "２026-11-01"],
    ),
    "date-time": (
        [
            "2026-11-01T00:00:00Z",
            "2026-11-01t00:00:00.123456789+23:59",
            "1998-12-31T23:59:60Z",
            "1998-12-31T15:59:60.123-08:00",
        ],
        [
            "yesterday",
            "2026-11-01",
            "2026-11-01T00:00:00",
            "2026-11-01 00:00:00Z",
            "2026-02-30T00:00:00Z",
            "2026-11-01T24:00:00Z",
            "9999-12-31T23:59:59-01:00",
            "9999-12-31T23:59:60Z",
            "1998-12-31T22:59:60Z",
            "2026-11-01T00:00:00Z\n",
            "２026-11-01T00:00:00Z",
            "2026-11-01T00:00:00+0000",
        ],
    ),
    "email": (
        [
            "a@b",
            "a.b+c@x.example",
            "x@bücher.example",
            "x@xn--bcher-kva.example",
            "x" * 64 + "@b.example",
            "a@" + "b." * 125 + "cd",
            "a@" + "ü" * 50,
        ],
        [
            "",
            "@",
            "a@",
            "@b",
            "a b@c.d",
            "a@b\n",
            "\na@b",
            "a@@b",
            "a@b.",
            "a@b..c",
            "a@-b.c",
            "a@b_c.d",
            ".a@b",
            "a..b@c",
            "jörg@x.example",
            "x" * 65 + "@b",
            "a@" + "b." * 126 + "c",
            "a@" + "b." * 130 + "c",
            "a@" + "b" * 64,
            "a@" + "ü" * 70,
            "a@[127.0.0.1]",
            '"a b"@c.d',
            "a@😀.example",
            "a@b,c@d",
        ],
    ),
    "time": (
        ["08:30:06Z", "08:30:06.283185+05:30", "23:59:60Z", "01:29:60+01:30"],
        ["08:30:06", "8:30:06Z", "24:00:00Z", "08:30:60Z", "08:30:06 Z", "08:30:06Z\n", "08:30Z"],
    ),
    "duration": (
        ["P4DT12H30M5S", "P4Y", "PT0S", "P1M", "PT1M", "P2W", "P1Y2M3DT4H5M6S"],
        ["", "P", "PT", "P1", "1D", "P2S", "P1Y2W", "P1D2H", "PT1D", "P1Y3D", "P0.5Y", "P1D\n"],
    ),
    "idn-email": (
        ["a@b", "jörg@bücher.example", "실례@실례.테스트"],
        ["", "@", "2962", "a b@c", "a@b\n", "ü@", ".ü@b", "ü@b..c", "ü" * 65 + "@b"],
    ),
    "idn-hostname": (
        ["a", "bücher.example", "실례.테스트"],
        ["", "-ü", "ü_", "ü\n", "b" * 64, "ü..a", "a b", "ü\u3002"],
    ),
    "iri": (
        ["http://ƒøø.ßår/?∂éœ=πîx#πîüx", "urn:a", "http://[::1]/é"],
        ["", "/ü", "http://ü ö", "http://[::ü]", "a:\ud800", "\\\\ü", "http://ü#a#b", "a:é\n"],
    ),
    "iri-reference": (["", "/ü", "#ƒrag", "//bücher"], ["\\\\ü", "#ƒ\\", "ü ö", "ü:a"]),
    "json-pointer": (
        ["", "/", "/a/b", "/a~1b~0", "//", "/ü"],
        ["a", "#", "/~", "/~2", "/a~", "a/b"],
    ),
    "regex": (
        ["", "^a$", r"\p{L}", "(?=a)b", r"(a)\1", "(?<n>a)"],
        ["(", "[", "a**", r"\Z", "(?i)a", r"\p{X}", "a{2,1}"],
    ),
    "relative-json-pointer": (
        ["0", "1", "10#", "1/a/b", "0/~1", "0/"],
        ["", "/a", "-1", "01", "0##", "1a", "0/~2", "1\n", "+1"],
    ),
    "uri-template": (
        [
            "",
            "http://a.b/{term:1}/{term}",
            "{?q,lang}",
            "{+path*}/x",
            "a%20b",
            "it's",
            "{a.b}",
            "ü",
        ],
        ["{", "{}", "}", "{a", "{a b}", "a b", "{a:0}", "{a:12345}", "%zz", "<", "a\n"],
    ),
    "hostname": (
        ["a", "a.b-c.example", "b." * 126 + "c"],
        ["", "b." * 127 + "c", "b" * 64, "a_b", "a.", "a\n", "-a", "bücher.example"],
    ),
    "ipv4": (["192.0.2.1"], ["192.0.2", "192.0.2.1\n", "192.0.2.256", "01.2.3.4"]),
    "ipv6": (["::1", "2001:db8::1"], ["g::", "fe80::1%eth0", "::1\n"]),
    "language-tag": (
        ["en", "pt-BR", "zh-Hant-TW", "de-CH-1996", "sl-rozaj-biske", "x-acme", "en-a-bbb-x-a"],
        ["", "e", "en_US", "en\n", "pt-BR-", "-en", "abcdefghi", "en US"],
    ),
    "uri": (
        ["urn:a:b", "https://a.b/c?d#e", "http://[::1]:80/", "http://[v1.a]/", "mailto:a@b"],
        [
            "",
            "a",
            "//a",
            "http://a b",
            "http://[::1",
            "http://[1:2]/",
            "http://[::01.2.3.4]/",
            "a:b\n",
            "http://a#b#c",
            "h:[x]",
            "http://é",
        ],
    ),
    "uri-reference": (["", "/a", "a/b", "//x", "?q", "#f", "urn:a:b"], ["a b", ":x", "1:a", "%zz"]),
    "uuid": (
        ["ec99108d-db5b-4fab-af4d-3e27dda1494c", "EC99108D-DB5B-4FAB-AF4D-3E27DDA1494C"],
        ["", "ec99108ddb5b4fabaf4d3e27dda1494c", "ec99108d-db5b-4fab-af4d-3e27dda1494c\n"],
    ),
}


def test_every_format_has_cases() -> None:
    """A format without a test may not be asserted at all."""
    assert set(CASES) == set(FORMATS)


@pytest.mark.parametrize(("name", "text"), [(n, t) for n, (good, _) in CASES.items() for t in good])
def test_good_texts_pass(name: str, text: str) -> None:
    """What the format's standard allows is allowed."""
    assert FORMATS[name][0](text)


@pytest.mark.parametrize(("name", "text"), [(n, t) for n, (_, bad) in CASES.items() for t in bad])
def test_bad_texts_are_refused_by_a_schema(name: str, text: str) -> None:
    """A schema that names the format asserts it."""
    validator = Draft202012Validator({"format": name}, format_checker=format_checker())

    assert not validator.is_valid(text)


@given(st.sampled_from(sorted(FORMATS)), st.text() | st.text("@.-:/[]%09aéZT+\n\u3002😀"))
def test_a_check_answers_for_any_text(name: str, text: str) -> None:
    """No text makes a check fail, and none passes with a line feed in it."""
    may_have_line_feeds = name in ("json-pointer", "relative-json-pointer", "regex")
    allowed = [True, False] if may_have_line_feeds or "\n" not in text else [False]
    assert FORMATS[name][0](text) in allowed


@pytest.mark.parametrize("value", [None, 1, [], {}])
def test_only_texts_have_a_format(value: object) -> None:
    """As JSON Schema says, other types are left to `type`."""
    validator = Draft202012Validator({"format": "email"}, format_checker=format_checker())

    assert validator.is_valid(value)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("2026-11-01T09:30:00+02:00", datetime(2026, 11, 1, 7, 30, tzinfo=UTC)),
        ("2026-11-01T09:30:00.5-00:30", datetime(2026, 11, 1, 10, 0, 0, 500_000, tzinfo=UTC)),
        ("2026-11-01T09:30:00.1234567Z", datetime(2026, 11, 1, 9, 30, 0, 123_456, tzinfo=UTC)),
        ("1998-12-31T23:59:60Z", datetime(1999, 1, 1, tzinfo=UTC)),
        ("yesterday", None),
    ],
)
def test_timestamps_are_points_in_utc(text: str, expected: datetime | None) -> None:
    """The offset is applied, a leap second is the next second."""
    assert parse_timestamp(text) == expected


@given(st.datetimes(min_value=datetime(2, 1, 1), max_value=datetime(9998, 1, 1)))  # noqa: DTZ001
def test_isoformat_is_read_back(time: datetime) -> None:
    """What Python writes in UTC is read as the same point in time."""
    aware = time.replace(tzinfo=UTC)

    assert parse_timestamp(aware.isoformat()) == aware
