"""JSON with its violations, and what of it reaches a terminal."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from keycloak_bridge.domain.errors import Violation
from keycloak_bridge.domain.unicode_text import printable
from keycloak_bridge.validation.marked_json import MarkedText, escaped_excerpt, marked_json

BODY = b'{"id":"1","data":{"email":"nobody","roles":["a","b"],"a/b":{},"none":[]}}'


def marked(body: bytes, *pointers: str) -> MarkedText:
    """Return the lines of a body that is JSON."""
    text = marked_json(body, [Violation(pointer, "rule", "is wrong") for pointer in pointers])
    assert text is not None
    return text


@pytest.mark.parametrize(
    ("pointer", "line"),
    [
        ("/data/email", '    "email": "nobody",'),
        ("/data/roles/1", '      "b"'),
        ("/data/roles", '    "roles": ['),
        ("/data/a~1b", '    "a/b": {},'),
        ("/data/missing", '  "data": {'),
        ("/data/roles/7", '    "roles": ['),
        ("/source", "{"),
        ("", "{"),
    ],
)
def test_a_rule_stands_beside_its_line(pointer: str, line: str) -> None:
    """What is missing is shown where it should be; a member has a line, as other pretty printers have it."""
    lines, elsewhere = marked(BODY, pointer)
    plain = json.dumps(json.loads(BODY), indent=2).splitlines()

    assert ((), plain) == (elsewhere, [one.partition("   ←")[0] for one in lines])
    assert [f"{line}   ← {pointer or '/'}: is wrong (rule)"] == [one for one in lines if "←" in one]


DIGITS = "9" * 5000


@pytest.mark.parametrize(
    ("body", "pointers", "expected", "elsewhere"),
    [
        (
            '{"email":1}',
            ("/data/email", "/data/name"),
            ("{   ← /data/name: is wrong (rule)", '  "email": 1   ← /data/email: is wrong (rule)', "}"),
            (),
        ),
        ("[1]", ("/0", "/0"), ("[", "  1   ← /0: is wrong (rule); /0: is wrong (rule)", "]"), ()),
        ("[1]", ("/user/firstName",), ("[", "  1", "]"), ("/user/firstName",)),
        (
            f'{{"a":1.50,"a":{DIGITS},"b":NaN}}',
            ("/a",),
            ("{", '  "a": 1.50,   ← /a: is wrong (rule)', f'  "a": {DIGITS},', '  "b": NaN', "}"),
            (),
        ),
    ],
    ids=["bare-data", "several-rules", "no-line", "as-written"],
)  # fmt: skip
def test_every_rule_is_shown(
    body: str, pointers: tuple[str, ...], expected: tuple[str, ...], elsewhere: tuple[str, ...]
) -> None:
    """Of a binary event the body is the data alone; numbers and repeated names stay as they were written."""
    lines, others = marked(body.encode(), *pointers)

    assert (expected, elsewhere) == (lines, tuple(one.pointer for one in others))


@pytest.mark.parametrize("body", [b"", b"{", b"\xff", b"[" * 100_000 + b"]" * 100_000, b"\x00{}"])
def test_other_bytes_are_none(body: bytes) -> None:
    """The caller shows an excerpt then."""
    assert marked_json(body, []) is None


@given(st.binary(max_size=60))
def test_an_excerpt_cannot_reach_the_terminal(body: bytes) -> None:
    """Whatever the bytes are, one readable line comes out."""
    assert escaped_excerpt(body, 40).isprintable()


@given(st.recursive(st.none() | st.booleans() | st.text(), lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner)))  # fmt: skip
def test_no_line_can_reach_the_terminal(value: object) -> None:
    """Controls and marks of direction are escaped, names and values alike."""
    text = marked_json(json.dumps(value, ensure_ascii=False).encode("utf-8", "replace"), [])

    assert text is None or all(line.isprintable() for line in text.lines)


def test_printable_leaves_names_of_people_alone() -> None:
    """Letters of any script are printable; a right-to-left mark is not."""
    assert "Zoë Łukasz 山田" == printable("Zoë Łukasz 山田")
    assert "a\\u202eb\\x1b[0m\\n" == printable("a\u202eb\x1b[0m\n")
