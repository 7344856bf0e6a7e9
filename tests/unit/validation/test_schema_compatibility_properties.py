"""Whatever is called compatible takes every value that was valid."""

from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from referencing import Registry
from schema_cases import VALUES, changes, closed, version_pairs

from keycloak_bridge.validation.compatibility import breaking
from keycloak_bridge.validation.validator import compile_schema

# drawing schemas takes its time on a busy machine
PATIENT = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
THOROUGH = settings(PATIENT, max_examples=300)


def valid(schema: Any) -> list[Any]:
    """Return those values that the schema takes; none of a schema that refers to itself without end."""
    validator = compile_schema(schema, Registry())
    try:
        return [value for value in VALUES if validator.is_valid(value)]
    except RecursionError:
        return []


def refused(old: Any, new: Any) -> list[Any]:
    """Return what `old` takes and `new` does not."""
    validator = compile_schema(new, Registry())
    return [value for value in valid(old) if not validator.is_valid(value)]


@THOROUGH
@given(version_pairs(combined=True))
def test_what_is_compatible_takes_all_that_was_valid(pair: tuple[Any, Any]) -> None:
    """Strictly: whatever any data could hold."""
    old, new = pair
    if not breaking(changes(old, new, strict=True)):
        assert [] == refused(old, new)


@THOROUGH
@given(version_pairs(combined=False))
def test_what_is_compatible_takes_all_that_was_written(pair: tuple[Any, Any]) -> None:
    """A property of which nothing was said is not in data that was written by the older version."""
    old, new = pair
    if not breaking(changes(old, new, strict=False)):
        assert [] == refused(closed(old), new)


@PATIENT
@given(version_pairs(combined=True), st.booleans())
def test_a_version_is_compatible_with_itself(pair: tuple[Any, Any], strict: bool) -> None:
    """Nothing is found where nothing changed."""
    old, _ = pair

    assert [] == changes(old, dict(old), strict=strict)


@pytest.mark.parametrize("combined", [False, True])
def test_the_cases_are_not_trivial(combined: bool) -> None:
    """Among the random pairs are compatible ones and others."""
    found: set[bool] = set()

    @PATIENT
    @given(version_pairs(combined=combined))
    def compare(pair: tuple[Any, Any]) -> None:
        found.add(bool(breaking(changes(*pair, strict=True))))

    compare()

    assert {False, True} == found
