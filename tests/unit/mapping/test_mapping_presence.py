"""A partial event decides what its data have, and nothing else."""

from collections.abc import Mapping
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from mapping_cases import event_of

from keycloak_bridge.domain.errors import MappingError
from keycloak_bridge.expressions.expression import Expression, compile_expression
from keycloak_bridge.mapping.mapping import (
    EventData,
    has_all,
    is_complete,
    is_partial,
    is_present,
    properties_read,
)


def expression(text: str) -> Expression:
    """Return `text` compiled, whatever it reads."""
    return compile_expression(text, tables={"t": {}}, has_property=lambda _: True)


@pytest.mark.parametrize(
    ("kind", "data", "partial", "everything"),
    [
        ("user.created", {}, False, True),
        ("user.created", {"complete": False}, False, True),
        ("user.updated", {}, True, False),
        ("user.updated", {"complete": False}, True, False),
        ("user.updated", {"complete": "true"}, True, False),
        ("user.updated", {"complete": True}, False, True),
        ("user.disabled", {"complete": True}, False, False),
        ("user.deleted", {}, False, False),
    ],
)
def test_which_events_are_complete(
    kind: str, data: dict[str, Any], partial: bool, everything: bool
) -> None:
    """Only an update can be partial, and only a created user or a complete update says everything."""
    event = event_of(kind, data)

    assert (partial, everything) == (is_partial(event), is_complete(event))


@pytest.mark.parametrize(
    ("data", "path", "expected"),
    [
        ({}, ("a",), False),
        ({"a": None}, ("a",), True),
        ({"a": {}}, ("a",), True),
        ({"a": {}}, ("a", "b"), False),
        ({"a": {"b": None}}, ("a", "b"), True),
        ({"a": None}, ("a", "b"), True),
        ({"a": []}, ("a", "b"), True),
        ({"a": [{"c": 1}]}, ("a", "b"), True),
        ({"a": "text"}, ("a", "b"), True),
        ({"b": 1}, ("a", "b"), False),
    ],
)
def test_what_is_present(data: dict[str, Any], path: tuple[str, ...], expected: bool) -> None:
    """A key counts, null too; null or a list for the whole is an answer for its parts."""
    assert expected is is_present(data, path)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("'constant'", set()),
        ("time", set()),
        ("data.a", {("a",)}),
        ("data.a || data.b", {("a",), ("b",)}),
        ("data.a.b", {("a", "b")}),
        ('data.roles."my-app"', {("roles", "my-app")}),
        ("(data.a || data.b).c", {("a", "c"), ("b", "c")}),
        ("data.list[].lower(@)", {("list",)}),
        ("data.list[?kind == 'x'].value | [0]", {("list", "kind"), ("list", "value")}),
        ("lookup('t', data.a)", {("a",)}),
    ],
)
def test_which_properties_decide(text: str, expected: set[tuple[str, ...]]) -> None:
    """What only leads to another property does not count."""
    assert expected == properties_read([expression(text)])


@pytest.mark.parametrize(
    ("text", "data", "expected"),
    [
        ("data.a", {}, False),
        ("data.a", {"a": None}, True),
        ("data.a || data.b", {}, False),
        ("data.a || data.b", {"a": 1, "b": None}, True),
        ("'constant'", {"a": 1}, False),
        ("data.o.a", {"o": {"b": 1}}, False),
    ],
)
def test_what_a_partial_event_speaks_of(text: str, data: dict[str, Any], expected: bool) -> None:
    """All properties of a target or none of them; a constant is never event of."""
    assert expected is EventData(data, partial=True).decides("/user/email", expression(text))
    assert EventData(data, partial=False).decides("/user/email", expression(text))


def test_a_part_of_what_a_target_is_made_of_is_refused() -> None:
    """The error names what must come together, points at what is absent and quotes nothing."""
    event = EventData({"first": "Planted", "o": {}}, partial=True)

    with pytest.raises(MappingError) as caught:
        event.decides(
            "/user/username", expression("join('.', [data.first, data.last, data.o.\"a/b\"])")
        )

    assert "incomplete-update" == caught.value.code
    assert ["/data/last", "/data/o/a~1b"] == [one.pointer for one in caught.value.violations]
    assert "data.first, data.last, data.o.a/b" in (caught.value.remedy or "")
    assert "Planted" not in f"{caught.value.message}{caught.value.remedy}"


NAMES = ("a", "b", "c")
LEAVES = st.none() | st.booleans() | st.text(max_size=2)
DATA = st.recursive(
    LEAVES | st.lists(LEAVES, max_size=2),
    lambda inner: st.dictionaries(st.sampled_from(NAMES), inner, max_size=3),
    max_leaves=8,
).filter(lambda value: isinstance(value, dict))
PATHS = st.lists(st.sampled_from(NAMES), min_size=1, max_size=3).map(tuple)


@given(DATA, PATHS)
def test_what_is_present_is_so_above_as_well(data: Mapping[str, Any], path: Any) -> None:
    """A property is there only if everything above it is."""
    if is_present(data, path):
        assert all(is_present(data, path[:length]) for length in range(1, len(path)))


@given(DATA, st.lists(PATHS, min_size=1, max_size=3), PATHS, LEAVES)
def test_saying_more_never_makes_an_event_say_less(
    data: dict[str, Any], read: list[Any], path: Any, value: Any
) -> None:
    """Whatever is event of stays so when a property is added at the top."""
    one = expression(" || ".join("data." + ".".join(each) for each in read))
    more = {path[0]: value, **data}

    if EventData(data, partial=True).mentions(one):
        assert EventData(more, partial=True).mentions(one)
    if has_all(data, one):
        assert has_all(more, one)
        assert EventData(more, partial=True).decides("/user/email", one)


@given(DATA, st.lists(PATHS, min_size=1, max_size=3))
def test_all_some_or_none(data: dict[str, Any], read: list[Any]) -> None:
    """A partial event has all properties of a target, or none, or is refused."""
    one = expression(" || ".join("data." + ".".join(each) for each in read))
    present = [is_present(data, each) for each in properties_read([one])]

    try:
        outcome: object = EventData(data, partial=True).decides("/user/email", one)
    except MappingError as error:
        outcome = error.code
    expected = True if all(present) else "incomplete-update" if any(present) else False

    assert expected == outcome
