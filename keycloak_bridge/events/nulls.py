"""Nulls in the data of an event: those that mean that a property is absent, and those that a list of names stands for."""

from collections.abc import Sequence
from typing import Any


def without_nulls(value: Any) -> Any:
    """Return `value` without the properties that are null, at every depth; a null in a list stays."""
    if isinstance(value, dict):
        return {name: without_nulls(one) for name, one in value.items() if one is not None}
    if isinstance(value, list):
        return [without_nulls(one) for one in value]
    return value


def with_nulls(data: Any, names: Sequence[str], max_depth: int) -> Any:
    """Return `data` with null for each of the named properties; a dot leads into an object, as in `address.city`.

    A property with the whole name comes first. Raises ValueError for a name that leads deeper than `max_depth`, or into
    something that is no object.
    """
    if not names:
        return data
    made: set[int] = set()
    whole = _own(data, made)
    for name in names:
        here, steps = whole, [name] if name in whole else name.split(".")
        if len(steps) > max_depth:
            raise ValueError("the name leads too deep")
        for step in steps[:-1]:
            here[step] = here = _own(here.get(step), made)
        here[steps[-1]] = None
    return whole


def _own(value: Any, made: set[int]) -> dict[str, Any]:
    """Return a copy of the object, made once; null and nothing are an empty one."""
    if id(value) in made:
        own: dict[str, Any] = value
        return own
    if value is not None and not isinstance(value, dict):
        raise ValueError("there is no object at the name")
    own = dict(value or {})
    made.add(id(own))
    return own
