"""Golden cases: our own, and how what is expected is compared."""

import copy
import json
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from keycloak_bridge.app.interpretation import Interpretation
from keycloak_bridge.event_files.golden_cases import (
    NOTHING,
    Case,
    differences,
    find_cases,
    run_case,
)
from keycloak_bridge.settings.loading import read_settings

GOLDEN = Path(__file__).parents[2] / "golden"
SETS = {"default": None, "hr": GOLDEN / "hr" / "bridge.toml"}
"""Folders below tests/golden, and the settings of their cases."""


@cache
def interpretation(name: str) -> Interpretation:
    """Return schemas, envelope and mapping of a set; without a settings file, the shipped ones."""
    loaded = read_settings(SETS[name], environ={}, overrides=())
    loaded.raise_if_wrong()
    return Interpretation(loaded.settings)


CASES = [(name, one) for name in SETS for one in find_cases(GOLDEN / name)]


@pytest.mark.parametrize(("name", "one"), CASES, ids=[f"{name}/{one.name}" for name, one in CASES])
def test_our_own_cases_are_as_expected(name: str, one: Case) -> None:
    """Those of the shipped mapping and of an example for a personnel system."""
    result = run_case(one, interpretation(name))

    assert ("equal", ()) == (result.state, result.differences)


def test_every_set_has_cases() -> None:
    """No folder is forgotten, neither here nor there."""
    assert {path.name for path in GOLDEN.iterdir()} == {name for name, _ in CASES} == set(SETS)


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=2), inner),
    max_leaves=8,
)


def places(expected: Any, got: Any) -> list[tuple[str, Any, Any]]:
    return [(one.pointer, one.expected, one.got) for one in differences(expected, got)]


@pytest.mark.parametrize(
    ("expected", "got", "found"),
    [
        ({"a": 1, "b": 2}, {"b": 2, "a": 1}, []),
        ({}, {"a": None}, [("/a", NOTHING, None)]),
        (["a"], ["a", "b"], [("/1", NOTHING, "b")]),
        (["a", "b"], ["b", "a"], [("/0", "a", "b"), ("/1", "b", "a")]),
        ({"a": True}, {"a": 1}, [("/a", True, 1)]),
        ({"a/b": {"c~d": 1}}, {"a/b": {"c~d": 2}}, [("/a~1b/c~0d", 1, 2)]),
        (1, 2, [("", 1, 2)]),
    ],
)
def test_each_difference_has_one_place(expected: Any, got: Any, found: list[Any]) -> None:
    """Pointer, what was expected and what is there, as deep as the two go together."""
    assert found == places(expected, got)


@given(VALUES, VALUES)
def test_no_difference_goes_unseen(one: Any, other: Any) -> None:
    """There is a difference exactly where the JSON text differs, and it is the same one seen from the other side."""
    same = json.dumps(one, sort_keys=True) == json.dumps(other, sort_keys=True)

    assert [] == places(one, copy.deepcopy(one))
    assert same == (not places(one, other))
    assert {(p, repr(got), repr(expected)) for p, expected, got in places(one, other)} == {
        (p, repr(expected), repr(got)) for p, expected, got in places(other, one)
    }
