"""Where two JSON values differ."""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import zip_longest
from typing import Any, Final

from keycloak_bridge.core.json_text import pointer

NOTHING: Final = object()
"""Stands for what one of the two values does not have."""


@dataclass(frozen=True, slots=True)
class Difference:
    """One place, as JSON pointer, and what stands there on either side; NOTHING where that side has no such place."""

    pointer: str
    expected: Any
    got: Any


def differences(expected: Any, got: Any, path: tuple[str | int, ...] = ()) -> Iterator[Difference]:
    """Yield every place where `got` is not what is expected; none when both are the same JSON.

    Objects and lists are entered, so that only what really differs is told. The order of an object's keys does not
    count, that of a list does.
    """
    if isinstance(expected, dict) and isinstance(got, dict):
        for key in dict.fromkeys((*expected, *got)):
            yield from differences(expected.get(key, NOTHING), got.get(key, NOTHING), (*path, key))
    elif isinstance(expected, list) and isinstance(got, list):
        for index, (before, after) in enumerate(zip_longest(expected, got, fillvalue=NOTHING)):
            yield from differences(before, after, (*path, index))
    elif type(expected) is not type(got) or expected != got:  # for Python, True is 1
        yield Difference(pointer(path), expected, got)
