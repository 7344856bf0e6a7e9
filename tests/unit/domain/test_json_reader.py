"""JSON is read strictly, in linear time, and without recursion."""

import json
import time
import tracemalloc
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from keycloak_bridge.domain.errors import EventDecodeError
from keycloak_bridge.domain.json_reader import parse_json, pointer, top_level_texts


def failure(text: bytes, **limits: int) -> EventDecodeError:
    with pytest.raises(EventDecodeError) as caught:
        parse_json(text, **limits)
    return caught.value


@pytest.mark.parametrize(
    ("text", "code"),
    [
        (b"", "not-json"),
        (b"{", "not-json"),
        (b'{"email": "ada@acme.example", ', "not-json"),
        (b"\xff" * 10_485_760, "too-large"),
        (b"{} {}", "not-json"),
        (b"{'a': 1}", "not-json"),
        (b"NaN", "not-json"),
        (b"[-Infinity]", "not-json"),
        (b'"\x01"', "not-json"),
        (b'"\xff"', "wrong-encoding"),
        ("{}".encode("utf-16"), "wrong-encoding"),
        ("{}".encode("utf-16-le"), "wrong-encoding"),
        ('{"ä": 1}'.encode("latin-1"), "wrong-encoding"),
        (b"[" * 33 + b"]" * 33, "too-deep"),
        (b"[" * 1_000_000, "too-deep"),
        (b'{"a":' * 200_000, "too-deep"),
        (b"1e999", "invalid-number"),
        (b"9" * 5000, "invalid-number"),
        (b"-" + b"9" * 301, "invalid-number"),
        (b'{"a": 1, "a": 1}', "duplicate-key"),
        (b'"\\u0000"', "invalid-text"),
        (b'"\\ud800"', "invalid-text"),
        (b'{"\\udfff": 1}', "invalid-text"),
    ],
)
def test_what_readers_would_disagree_about_is_refused(text: bytes, code: str) -> None:
    """Each kind of bad text has its own code, and no error has the document."""
    error = failure(text)

    assert code == error.code
    assert error.__context__ is None
    assert "ada" not in error.message


def test_limits_are_the_callers() -> None:
    """Where Python itself cannot go deeper, the answer is the same."""
    assert failure(b'"aaa"', max_bytes=4).code == "too-large"
    assert failure(b"[" * 100_000, max_depth=1_000_000).code == "too-deep"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (b"\xef\xbb\xbf{}", {}),
        (b'"\\ud83d\\ude00"', "😀"),
        (b"[" * 32 + b"]" * 32, None),
        (b'"' + b"[" * 100 + b'"', "[" * 100),
        (b'["\\"' + b"[" * 100 + b'"]', ['"' + "[" * 100]),
        (b"[" + b"[]," * 100 + b"[]]", [[]] * 101),
        (b'{"a": {"a": 1}}', {"a": {"a": 1}}),
        (b"9" * 300, int("9" * 300)),
        (b"1.5e3", 1500.0),
    ],
)
def test_sound_json_is_read(text: bytes, expected: Any) -> None:
    """Brackets in strings are no nesting, and a byte order mark is no harm."""
    actual = parse_json(text)

    assert expected is None or actual == expected


@pytest.mark.parametrize(
    ("text", "where"),
    [
        (b'{"a": [0, {"b": 1, "b": 2}]}', "/a/1/b"),
        (b'{"a": {"b": 1, "b": 2}, "a": 0}', "/a"),
        (b'{"a": ["x", "\\u0000"]}', "/a/1"),
        (b'{"a": {"\\u0000": 1}}', "/a"),
    ],
)
def test_the_place_is_named(text: bytes, where: str) -> None:
    """A violation points at the offending value."""
    assert [violation.pointer for violation in failure(text).violations] == [where]


@pytest.mark.parametrize(
    "text",
    [
        b'"' + b'\\"' * 500_000,
        b'"' * 1_000_000,
        b"[" + b'"[",' * 250_000,
        b"{" + b'"a":1,' * 170_000 + b'"a":1}',
        b'{"a":"\\u0041","b":[' + b"0," * 400_000 + b"0]}",
    ],
)
def test_a_hostile_megabyte_takes_no_time(text: bytes) -> None:
    """Cost grows with the length, not with its square, which would take hours on any machine."""
    began_s = time.process_time()
    with suppress(EventDecodeError):
        parse_json(text)

    assert time.process_time() - began_s < 60


@given(st.binary() | st.text().map(str.encode))
def test_bytes_give_a_value_or_a_decode_error(text: bytes) -> None:
    """Nothing else is ever raised."""
    with suppress(EventDecodeError):
        parse_json(text)


def test_pointers_are_escaped_and_bounded() -> None:
    """RFC 6901, safe to print, however odd the keys are."""
    assert pointer(("a/b", "c~d", 0, "")) == "/a~1b/c~0d/0/"
    assert pointer(("a\nb\ud800",)) == "/a\ufffdb\ufffd"
    assert len(pointer(("x" * 10_000,))) == 512


DEEP = 29


@pytest.mark.parametrize(
    ("end", "code"),
    [
        (b'"\\u0041"', None),
        (b'"\\ud83d\\ude00"', None),
        (b'"\\\\u0000"', None),
        (b'"\\u0000"', "invalid-text"),
        (b'{"a": 1, "a": 2}', "duplicate-key"),
        (b'[{"a": 1, "a": 2}, "\\uD800"]', "duplicate-key"),
    ],
)
def test_the_search_for_broken_texts_takes_no_memory_for_each_item(
    end: bytes, code: str | None
) -> None:
    """It takes a path, not one for each value: ten times the text is what the value itself needs and more."""
    text = b"[" * DEEP + b"[" + b"0," * 100_000 + end + b"]" + b"]" * DEEP
    found = None
    tracemalloc.start()
    try:
        parse_json(text, max_bytes=len(text))
    except EventDecodeError as error:
        found = error.code
    finally:
        peak_bytes = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()

    assert code == found
    assert peak_bytes < 10 * len(text)


@pytest.mark.parametrize(
    ("text", "where"),
    [
        (b'{"a": [1, {"b": "\\u0000"}], "c": "\\ud800"}', "/a/1/b"),
        (b'{"a": [[], {}, [[1]]], "c": ["\\uDC00"]}', "/c/0"),
        (b'[[1, [2]], [3], {"x": {}, "y": {"\\udabc": 1}}]', "/2/y"),
        (b'{"a": {"b": [{}, {"k": 1, "k": 2}]}}', "/a/b/1/k"),
        (b'"\\ud83d\\ude00\\ude00"', ""),
    ],
)
def test_the_first_broken_text_is_named(text: bytes, where: str) -> None:
    """In the order of the document, at whatever depth."""
    (violation,) = failure(text).violations

    assert where == violation.pointer


SCALARS = st.none() | st.booleans() | st.integers() | st.text()
VALUES = st.recursive(
    SCALARS, lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner), max_leaves=8
)


@given(st.dictionaries(st.text(), VALUES), st.booleans(), st.sampled_from((None, 1)))
def test_texts_of_the_top_level_are_found_without_reading_the_rest(
    value: dict[str, Any], ascii_only: bool, indent: int | None
) -> None:
    """The same that a parser finds."""
    text = json.dumps(value, ensure_ascii=ascii_only, indent=indent).encode()

    found = top_level_texts(text, value.keys())

    assert {key: one if isinstance(one, str) else None for key, one in value.items()} == found


@given(st.binary() | st.text(st.sampled_from('{}[]:,"\\ua1 ')).map(str.encode))
def test_of_any_other_text_no_member_is_found_or_what_a_parser_finds(text: bytes) -> None:
    """It never raises, and whatever is no object has no members."""
    found = top_level_texts(text, ("", "a", "1", "u"))

    with suppress(EventDecodeError):
        value = parse_json(text)
        texts = value if isinstance(value, dict) else {}
        assert all(one in (None, texts.get(key)) for key, one in found.items())


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (b'{"a": "x", "b": ' + b"[" * 400_000 + b"]" * 400_000 + b"}", {"a": "x"}),
        (b'{"a": "x", "b": ' + b"[" * 400_000 + b"]" * 400_000, {}),
        (b'{"a": "x", "b": {"a": "y"}}', {"a": "x"}),
        (b'{"a": "x", "\\u0061": "x"}', {"a": None}),
        (b'{"a": 1}', {"a": None}),
        (b'{"a": "x"}{}', {}),
        (b'{"a": "x" "y"}', {"a": None}),
        (b'{"a" "b": "x"}', {}),
        (b'[{"a": "x"}]', {}),
        (b'\xef\xbb\xbf {"a": "x"} ', {"a": "x"}),
        (b"{}", {}),
        (b"", {}),
        (b"\xff", {}),
    ],
)
def test_a_member_is_a_text_that_is_there_once(text: bytes, expected: dict[str, Any]) -> None:
    """At the top level of an object that ends where the text does."""
    assert expected == top_level_texts(text, ("a",))
