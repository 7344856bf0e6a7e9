"""When a rule about numbers, texts or sizes takes everything that was valid before."""

import json
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from keycloak_bridge.core.schema_changes import Change
from keycloak_bridge.core.schema_known import Known
from keycloak_bridge.core.schema_places import Place, types_of

Rule = Callable[[Known, Place, str], Iterator[Change]]

_WIDER_FORMATS = {"uri": "uri-reference"}
_NAMES = {"integer": "whole numbers", "fraction": "other numbers", "null": "null"}
_PLURALS = {"boolean": "true and false", "object": "objects", "array": "lists", "string": "texts"}
_LONGEST_TEXT = 80


def type_rule(known: Known, new: Place, keyword: str) -> Iterator[Change]:
    """Every type that a value could have is allowed."""
    lost = known.types - types_of(new.schema)
    if lost:
        names = ", ".join(type_names(lost))
        code = "type-narrowed" if known.types - lost else "type-changed"
        yield Change(new.pointer(keyword), code, f"no longer takes {names}")


def type_names(types: frozenset[str]) -> list[str]:
    """Return the types in words, in a stable order."""
    if {"integer", "fraction"} <= types:
        types = types - {"integer", "fraction"} | {"number"}
    return sorted({**_NAMES, **_PLURALS, "number": "numbers"}[one] for one in types)


def number_bound(known: Known, new: Place, keyword: str) -> Iterator[Change]:
    """A bound of numbers is no tighter than it was."""
    sign = 1 if keyword in ("minimum", "exclusiveMinimum") else -1
    inclusive, exclusive = (
        ("minimum", "exclusiveMinimum") if sign == 1 else ("maximum", "exclusiveMaximum")
    )
    # the largest of these pairs is the strictest: an exclusive bound goes before an equal one
    before = [
        *((sign * value, 0) for value in known.all(inclusive)),
        *((sign * value, 1) for value in known.all(exclusive)),
    ]
    value = new.schema[keyword]
    wanted = (sign * value, int(keyword == exclusive))
    if not before or max(before) < wanted:
        yield _tightened(new, keyword, sign * max(before)[0] if before else None)


def count_bound(known: Known, new: Place, keyword: str) -> Iterator[Change]:
    """A bound of lengths and counts is no tighter than it was."""
    value = new.schema[keyword]
    if keyword.startswith("min"):
        before = known.all(keyword)
        if keyword == "minProperties":
            before.append(len(known.required))
        if value > max(before, default=0):
            yield _tightened(new, keyword, max(before, default=0))
        return
    before = known.all(keyword)
    if keyword == "maxItems":
        before.append(known.most_items)
    if value < min(before, default=value + 1):
        finite = [one for one in before if one != float("inf")]
        yield _tightened(new, keyword, min(finite, default=None))


def _tightened(new: Place, keyword: str, before: float | None) -> Change:
    was = "there was no such bound" if before is None else f"it was {before}"
    return Change(new.pointer(keyword), "bound-tightened", f"is {new.schema[keyword]} now, {was}")


def multiple_of(known: Known, new: Place, keyword: str) -> Iterator[Change]:
    """The step divides the one that held before."""
    step = new.schema[keyword]
    whole = step == 1 and isinstance(step, int) and "fraction" not in known.types
    for before in known.all(keyword):
        integers = isinstance(before, int) and isinstance(step, int)
        whole = whole or before == step or (integers and before % step == 0)
    if not whole:
        yield Change(
            new.pointer(keyword), "multiple-of-changed", f"refuses what is no multiple of {step}"
        )


def pattern_rule(known: Known, new: Place, keyword: str) -> Iterator[Change]:
    """The same pattern held before; whether another one says as much is not decided."""
    pattern = new.schema[keyword]
    before = known.all(keyword)
    if pattern not in before:
        told = shown(pattern)
        if before:
            yield Change(
                new.pointer(keyword),
                "pattern-changed",
                f"is {told} now; that it takes every text that matched {shown(before[0])} cannot be proven",
            )
        else:
            yield Change(new.pointer(keyword), "pattern-added", f"refuses texts unlike {told}")


def format_rule(known: Known, new: Place, keyword: str) -> Iterator[Change]:
    """The same format held before, or one that is part of it."""
    name = new.schema[keyword]
    before = known.all(keyword)
    if not any(name in (one, _WIDER_FORMATS.get(one)) for one in before):
        code = "format-changed" if before else "format-added"
        yield Change(new.pointer(keyword), code, f"refuses texts that are no {name}")


def unique_items(known: Known, new: Place, keyword: str) -> Iterator[Change]:
    """Lists could not hold an item twice before."""
    if new.schema[keyword] and known.most_items > 1 and True not in known.all(keyword):
        yield Change(
            new.pointer(keyword), "unique-items-added", "refuses lists that hold an item twice"
        )


def shown(value: Any) -> str:
    """Return a value of a schema as JSON, shortened."""
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= _LONGEST_TEXT else text[: _LONGEST_TEXT - 1] + "…"


_NUMBERS = frozenset({"integer", "fraction"})
_TEXTS = frozenset({"string"})
_LISTS = frozenset({"array"})
_OBJECTS = frozenset({"object"})

VALUE_RULES: Mapping[str, tuple[frozenset[str] | None, Rule]] = {
    "type": (None, type_rule),
    "minimum": (_NUMBERS, number_bound),
    "maximum": (_NUMBERS, number_bound),
    "exclusiveMinimum": (_NUMBERS, number_bound),
    "exclusiveMaximum": (_NUMBERS, number_bound),
    "multipleOf": (_NUMBERS, multiple_of),
    "minLength": (_TEXTS, count_bound),
    "maxLength": (_TEXTS, count_bound),
    "pattern": (_TEXTS, pattern_rule),
    "format": (_TEXTS, format_rule),
    "minItems": (_LISTS, count_bound),
    "maxItems": (_LISTS, count_bound),
    "uniqueItems": (_LISTS, unique_items),
    "minProperties": (_OBJECTS, count_bound),
    "maxProperties": (_OBJECTS, count_bound),
}
"""Each keyword with the types that it is about (None: all) and its rule."""
