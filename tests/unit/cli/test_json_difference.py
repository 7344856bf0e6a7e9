"""Two JSON values are compared place by place."""

import copy
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from keycloak_bridge.cli.test_mapping import NOTHING, differences

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=2), inner),
    max_leaves=8,
)


def told(expected: Any, got: Any) -> list[tuple[str, Any, Any]]:
    return [(one.pointer, one.expected, one.got) for one in differences(expected, got)]


@pytest.mark.parametrize(
    ("expected", "got", "found"),
    [
        ({"a": 1, "b": 2}, {"b": 2, "a": 1}, []),
        ({"a": {"b": ["x"]}}, {"a": {"b": ["y"]}}, [("/a/b/0", "x", "y")]),
        ({"a": 1}, {}, [("/a", 1, NOTHING)]),
        ({}, {"a": None}, [("/a", NOTHING, None)]),
        (["a"], ["a", "b"], [("/1", NOTHING, "b")]),
        (["a", "b"], ["b", "a"], [("/0", "a", "b"), ("/1", "b", "a")]),
        ({"a": True}, {"a": 1}, [("/a", True, 1)]),
        ({"a": "1"}, {"a": 1}, [("/a", "1", 1)]),
        ({"a": []}, {"a": {}}, [("/a", [], {})]),
        ({"a/b": {"c~d": 1}}, {"a/b": {"c~d": 2}}, [("/a~1b/c~0d", 1, 2)]),
        (1, 2, [("", 1, 2)]),
    ],
)
def test_each_place_is_told_once(expected: Any, got: Any, found: list[Any]) -> None:
    """Pointer, what was expected and what is there, as deep as the two go together."""
    assert found == told(expected, got)


@given(VALUES)
def test_a_value_does_not_differ_from_itself(value: Any) -> None:
    """Whatever it is."""
    assert [] == told(value, copy.deepcopy(value))


@given(VALUES, VALUES)
def test_no_difference_goes_unseen(one: Any, other: Any) -> None:
    """There is a difference exactly where the JSON text differs, and it is the same one seen from the other side."""
    same = json.dumps(one, sort_keys=True) == json.dumps(other, sort_keys=True)

    assert same == (not told(one, other))
    assert {(p, got, expected) for p, expected, got in map(_hashable, told(one, other))} == {
        *map(_hashable, told(other, one))
    }


def _hashable(place: tuple[str, Any, Any]) -> tuple[str, str, str]:
    pointer, expected, got = place
    return pointer, repr(expected), repr(got)
