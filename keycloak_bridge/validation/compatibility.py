"""Whether a new version of a schema takes everything that an older one took, proven keyword by keyword.

What cannot be proven counts as incompatible and says so. The proof goes along the structure of the schemas: each keyword
of the new schema must follow from what is known of a value that was valid under the old one.

When rules about properties and items take everything that was valid before.

When a rule about numbers, texts or sizes takes everything that was valid before.

What is known of a value because it was valid under the older version of a schema.

What a new version of a schema changes, in a form that people and programs can read.

What a compatible new version of a schema means for those who read the data: notes, none of them breaking.

Every version of every schema beside the earlier ones of its major version.

Whether published versions of schemas are what they were when they were published.
"""

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import reduce
from math import inf
from typing import Any, Protocol

from referencing import Registry

from keycloak_bridge.validation.schema_checks import (
    TYPES,
    Place,
    SchemaDocument,
    check_documents,
    parts,
    same,
    types_of,
)
from keycloak_bridge.validation.validator import compile_pattern, compile_schema

UNPROVEN = "unproven"
PROPERTY_ADDED = "property-added"


@dataclass(frozen=True, slots=True)
class Change:
    """One change: where (JSON pointer into the new schema), a stable code, and what it means.

    A `breaking` one may refuse data that was valid; any other is a note for those who read the data.
    """

    pointer: str
    code: str
    message: str
    breaking: bool = True


CODES = frozenset(
    {
        "additional-properties-closed",
        "any-of-changed",
        "bound-tightened",
        "const-added",
        "const-changed",
        "contains-changed",
        "dependent-required-added",
        "enum-added",
        "enum-value-removed",
        "format-added",
        "format-changed",
        "items-closed",
        "multiple-of-changed",
        "pattern-added",
        "pattern-changed",
        PROPERTY_ADDED,
        "property-removed",
        "required-added",
        "type-changed",
        "type-narrowed",
        "unique-items-added",
        UNPROVEN,
        "value-refused",
        # notes for readers
        "enum-value-added",
        "required-removed",
        "type-widened",
    }
)
"""Every code of a change."""


def breaking(changes: list[Change]) -> list[Change]:
    """Return those of `changes` that may refuse data that was valid."""
    return [change for change in changes if change.breaking]


@dataclass(frozen=True, slots=True)
class Mentioned:
    """The properties that a schema says anything about, however conditionally."""

    names: frozenset[str]
    patterns: frozenset[str]
    everything: bool

    def covers(self, name: str) -> bool:
        """Say whether anything is said about the property."""
        return (
            self.everything
            or name in self.names
            or any(compile_pattern(pattern).search(name) for pattern in self.patterns)
        )


@dataclass(frozen=True, slots=True)
class Known:
    """All that holds for a value that was valid at the places `old`.

    `chosen` names the choices between schemas, by schema and keyword, of which one outcome is among `old` already.
    """

    old: tuple[Place, ...]
    chosen: frozenset[tuple[int, str]] = frozenset()
    parts: tuple[Place, ...] = field(init=False)
    types: frozenset[str] = field(init=False)

    def __post_init__(self) -> None:
        whole = parts(self.old)
        kinds = reduce(frozenset.intersection, (types_of(one.schema) for one in whole), TYPES)
        impossible = any(one.schema is False for one in whole)
        object.__setattr__(self, "parts", tuple(one for one in whole if one.schema is not False))
        object.__setattr__(self, "types", frozenset() if impossible else kinds)

    def having(self, keyword: str) -> list[Place]:
        """Return the schemas that use the keyword."""
        return [part for part in self.parts if keyword in part.schema]

    def all(self, keyword: str) -> list[Any]:
        """Return every value of the keyword."""
        return [part.schema[keyword] for part in self.having(keyword)]

    @property
    def named(self) -> list[str]:
        """The properties that are described by name."""
        return sorted({name for properties in self.all("properties") for name in properties})

    @property
    def required(self) -> set[str]:
        """The properties that are always there."""
        return {name for names in self.all("required") for name in names}

    @property
    def patterns(self) -> set[str]:
        """The patterns of names that are described."""
        return {pattern for patterns in self.all("patternProperties") for pattern in patterns}

    @property
    def most_items(self) -> float:
        """How many items a list can have."""
        closed = [
            len(part.schema.get("prefixItems", ()))
            for part in self.having("items")
            if part.schema["items"] is False
        ]
        return min([*self.all("maxItems"), *closed], default=inf)

    def property_places(self, name: str) -> list[Place]:
        """Return every schema that holds for the property, where it is there."""
        found: list[Place] = []
        for part in self.parts:
            steps = [
                ("patternProperties", pattern)
                for pattern in part.schema.get("patternProperties", ())
                if compile_pattern(pattern).search(name)
            ]
            if name in part.schema.get("properties", ()):
                steps.append(("properties", name))
            found += [part.inside(*one) for one in steps]
            if not steps:
                found += other_properties(part)
        return [place for place in found if not place.is_trivial]

    def matching_places(self, pattern: str) -> list[Place]:
        """Return what holds for each property that matches the pattern and is not described by name."""
        found: list[Place] = []
        for part in self.parts:
            patterns = part.schema.get("patternProperties", ())
            if pattern in patterns:
                found.append(part.inside("patternProperties", pattern))
            elif not patterns:
                found += other_properties(part)
        return [place for place in found if not place.is_trivial]

    def other_places(self) -> list[Place]:
        """Return what holds for a property that nothing describes by name or pattern."""
        found = [place for part in self.parts for place in other_properties(part)]
        return [place for place in found if not place.is_trivial]

    def item_places(self, index: int) -> list[Place]:
        """Return every schema that holds for the item, where it is there."""
        found: list[Place] = []
        for part in self.parts:
            if index < len(part.schema.get("prefixItems", ())):
                found.append(part.inside("prefixItems", index))
            else:
                found += other_items(part)
        return [place for place in found if not place.is_trivial]

    def mentioned(self) -> Mentioned:
        """Return the properties that anything is said about, in branches of combined schemas too."""
        names: set[str] = set()
        patterns: set[str] = set()
        everything = False
        for place in _everywhere(self.parts):
            schema = place.schema
            dependents = schema.get("dependentRequired", {})
            names.update(schema.get("properties", ()), schema.get("required", ()), dependents)
            names.update(schema.get("dependentSchemas", ()), *dependents.values())
            patterns.update(schema.get("patternProperties", ()))
            # what always holds is found by name; what holds under a condition is not
            always = any(schema is part.schema for part in self.parts)
            others = _unfound(place) if always else [*_unfound(place), *other_properties(place)]
            everything = everything or "$dynamicRef" in schema
            everything = everything or any(not one.is_trivial for one in others)
        # an object of which no property is described may hold any: it is free in form
        return Mentioned(frozenset(names), frozenset(patterns), everything or not names)


class Prover(Protocol):
    """Proves that what was valid is valid still."""

    strict: bool

    def below(self, old: list[Place], new: Place) -> list[Change]:
        """Return what keeps a property or an item, valid at all of `old`, from being valid at `new`."""
        ...

    def beside(self, known: Known, more: list[Place], new: Place) -> list[Change]:
        """Return what keeps the very value of `known`, valid at all of `more` too, from being valid at `new`."""
        ...


def other_properties(part: Place) -> list[Place]:
    """Return the schema of the properties that the part describes neither by name nor by pattern."""
    if "additionalProperties" in part.schema:
        return [part.inside("additionalProperties")]
    return [part.inside("unevaluatedProperties")] if unevaluated_is_additional(part) else []


def other_items(part: Place) -> list[Place]:
    """Return the schema of the items behind the part's `prefixItems`."""
    if "items" in part.schema:
        return [part.inside("items")]
    return [part.inside("unevaluatedItems")] if unevaluated_is_items(part) else []


def unevaluated_is_additional(part: Place) -> bool:
    """Say whether `unevaluatedProperties` means what `additionalProperties` would."""
    return _stands_alone(part, "unevaluatedProperties", ("patternProperties",))


def unevaluated_is_items(part: Place) -> bool:
    """Say whether `unevaluatedItems` means what `items` would."""
    return _stands_alone(part, "unevaluatedItems", ("contains", "items"))


def _stands_alone(part: Place, keyword: str, others: tuple[str, ...]) -> bool:
    applicators = (
        "$ref",
        "$dynamicRef",
        "if",
        "dependentSchemas",
        "allOf",
        "anyOf",
        "oneOf",
        *others,
    )
    replaced = "additionalProperties" if keyword == "unevaluatedProperties" else "items"
    return keyword in part.schema and not any(
        one in part.schema for one in (*applicators, replaced)
    )


def _unfound(part: Place) -> list[Place]:
    """Return what holds for properties that cannot be told by looking at the part alone."""
    keyword = "unevaluatedProperties"
    if keyword not in part.schema or unevaluated_is_additional(part):
        return []
    return [part.inside(keyword)]


def _everywhere(places: tuple[Place, ...]) -> Iterator[Place]:
    """Yield `places` and every schema that may say something about the same value."""
    seen: set[int] = set()
    waiting = list(places)
    while waiting:
        place = waiting.pop()
        if id(place.schema) in seen or place.schema is False or place.is_trivial:
            continue
        seen.add(id(place.schema))
        yield place
        waiting += place.beside()


ValueRule = Callable[[Known, Place, str], Iterator[Change]]

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

VALUE_RULES: Mapping[str, tuple[frozenset[str] | None, ValueRule]] = {
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


Rule = Callable[[Prover, Known, Place, str], Iterator[Change]]


def required(prover: Prover, known: Known, new: Place, keyword: str) -> Iterator[Change]:  # noqa: ARG001
    """Whatever is required was required before."""
    for index, name in enumerate(new.schema[keyword]):
        if name not in known.required:
            yield Change(
                new.pointer(keyword, index),
                "required-added",
                f"refuses data without the property {shown(name)}, which was optional",
            )


def dependent_required(prover: Prover, known: Known, new: Place, keyword: str) -> Iterator[Change]:
    """Whatever a property requires it required before."""
    for name, others in new.schema[keyword].items():
        before = {
            one for dependents in known.all(keyword) for one in dependents.get(name, ())
        } | known.required
        added = [other for other in others if other not in before]
        if added and not _is_never_there(prover, known, name):
            yield Change(
                new.pointer(keyword, name),
                "dependent-required-added",
                f"refuses data with {shown(name)} and without {shown(added[0])}",
            )


def dependent_schemas(prover: Prover, known: Known, new: Place, keyword: str) -> Iterator[Change]:
    """What a property asks of the whole was asked before."""
    for name in new.schema[keyword]:
        if not _is_never_there(prover, known, name):
            before = [
                part.inside(keyword, name)
                for part in known.having(keyword)
                if name in part.schema[keyword]
            ]
            yield from prover.beside(known, before, new.inside(keyword, name))


def _is_never_there(prover: Prover, known: Known, name: str) -> bool:
    """Say whether no data has the property, or none that was written by the older version."""
    places = known.property_places(name)
    if any(place.schema is False for place in places):
        return True
    return _is_new(prover, known, name, places)


def _is_new(prover: Prover, known: Known, name: str, places: list[Place]) -> bool:
    return not prover.strict and not places and not known.mentioned().covers(name)


def properties(prover: Prover, known: Known, new: Place, keyword: str) -> Iterator[Change]:
    """A property takes what it took; one that is new takes what it likes."""
    for name in new.schema[keyword]:
        place = new.inside(keyword, name)
        before = known.property_places(name)
        changes = prover.below(before, place)
        if breaking(changes) and not before and not known.mentioned().covers(name):
            yield _added(prover, place, f"the property {shown(name)}")
        else:
            yield from changes


def pattern_properties(prover: Prover, known: Known, new: Place, keyword: str) -> Iterator[Change]:
    """Properties whose names match take what they took."""
    for pattern in new.schema[keyword]:
        place = new.inside(keyword, pattern)
        mentioned = known.mentioned()
        named = known.named
        for name in filter(compile_pattern(pattern).search, named):
            yield from prover.below(known.property_places(name), place)
        before = known.matching_places(pattern)
        changes = prover.below(before, place)
        others = [one for one in mentioned.names if one not in named]
        silent = not mentioned.everything and not mentioned.patterns
        silent = silent and not any(map(compile_pattern(pattern).search, others))
        if breaking(changes) and not before and silent:
            yield _added(prover, place, f"properties like {shown(pattern)}")
        else:
            yield from changes


def _added(prover: Prover, place: Place, what: str) -> Change:
    return Change(
        place.pointer(),
        PROPERTY_ADDED,
        f"describes {what}, of which nothing was said: data that has it in another form already will be refused",
        breaking=prover.strict,
    )


def additional_properties(
    prover: Prover, known: Known, new: Place, keyword: str
) -> Iterator[Change]:
    """Properties that are not described here take what they took."""
    place = new.inside(keyword)
    named = new.schema.get("properties", ())
    patterns = new.schema.get("patternProperties", ())
    for name in known.named:
        if name in named or any(compile_pattern(one).search(name) for one in patterns):
            continue
        changes = prover.below(known.property_places(name), place)
        if place.schema is False and breaking(changes):
            yield Change(
                place.pointer(), "property-removed", f"no longer allows the property {shown(name)}"
            )
        else:
            yield from changes
    for pattern in sorted(known.patterns):
        if pattern not in patterns:
            yield from prover.below(known.matching_places(pattern), place)
    yield from prover.below(known.other_places(), place)


def property_names(prover: Prover, known: Known, new: Place, keyword: str) -> Iterator[Change]:
    """Names that were allowed are allowed."""
    before = [part.inside(keyword) for part in known.having(keyword)]
    yield from prover.below([*before, new.of_type("string")], new.inside(keyword))


def prefix_items(prover: Prover, known: Known, new: Place, keyword: str) -> Iterator[Change]:
    """Each item takes what it took."""
    for index in range(len(new.schema[keyword])):
        if index < known.most_items:
            yield from prover.below(known.item_places(index), new.inside(keyword, index))


def items(prover: Prover, known: Known, new: Place, keyword: str) -> Iterator[Change]:
    """The other items take what they took."""
    first = len(new.schema.get("prefixItems", ()))
    others = max([first, *map(len, known.all("prefixItems"))])
    for index in range(first, others + 1):
        if index < known.most_items:
            yield from prover.below(known.item_places(index), new.inside(keyword))


def contains(prover: Prover, known: Known, new: Place, keyword: str) -> Iterator[Change]:  # noqa: ARG001
    """As many items of the same form were asked for before."""
    least, most = new.schema.get("minContains", 1), new.schema.get("maxContains")
    for part in known.having(keyword):
        before = part.schema.get("maxContains")
        enough = part.schema.get("minContains", 1) >= least
        few = most is None or (before is not None and before <= most)
        if enough and few and same(part.inside(keyword), new.inside(keyword)):
            return
    if least > 0 or most is not None:
        yield Change(
            new.pointer(keyword),
            "contains-changed",
            "asks for items that were not asked for; that every list has them cannot be proven",
        )


INNER_RULES: Mapping[str, tuple[frozenset[str], Rule]] = {
    "required": (_OBJECTS, required),
    "dependentRequired": (_OBJECTS, dependent_required),
    "dependentSchemas": (_OBJECTS, dependent_schemas),
    "properties": (_OBJECTS, properties),
    "patternProperties": (_OBJECTS, pattern_properties),
    "additionalProperties": (_OBJECTS, additional_properties),
    "propertyNames": (_OBJECTS, property_names),
    "prefixItems": (_LISTS, prefix_items),
    "items": (_LISTS, items),
    "contains": (_LISTS, contains),
}
"""Each keyword with the types that it is about and its rule."""


_MOST_STEPS = 5_000
_MOST_SHOWN = 5
_ENUMERABLE = {"null": (None,), "boolean": (True, False)}
_CLOSING = {
    "additionalProperties": "additional-properties-closed",
    "unevaluatedProperties": "additional-properties-closed",
    "items": "items-closed",
    "unevaluatedItems": "items-closed",
}
_Claim = tuple[frozenset[int], int, frozenset[tuple[int, str]]]


def incompatibilities(
    old: Place, new: Place, registry: Registry[Any], *, strict: bool = False
) -> list[Change]:
    """Return what may refuse data that was valid, and notes about properties of which nothing was said before.

    A property that is new and optional is only noted, since data that was written by the older version does not have
    it; `strict` counts it as breaking where any data could have it in another form.
    """
    try:
        changes = _Proof(registry, strict=strict).below([old], new)
    except (_TooLongError, RecursionError):
        return [Change(new.pointer(), UNPROVEN, "is too intricate to be compared")]
    return list(dict.fromkeys(changes))


class _TooLongError(Exception):
    """The proof takes more steps than any sensible schema needs."""


class _Proof:
    """One comparison; see `Prover`."""

    def __init__(self, registry: Registry[Any], *, strict: bool) -> None:
        self.strict = strict
        self._validator: Any = compile_schema({}, registry)
        self._under_way: dict[_Claim, int] = {}
        self._depth = 0
        self._steps = 0

    def below(self, old: list[Place], new: Place) -> list[Change]:
        """See `Prover`."""
        if new.is_endless():
            return [_unproven(new, "refers to itself without end")]
        self._depth += 1
        try:
            return self._changes(Known(tuple(old)), new)
        finally:
            self._depth -= 1

    def beside(self, known: Known, more: list[Place], new: Place) -> list[Change]:
        """See `Prover`."""
        return self._changes(replace(known, old=(*known.old, *more)) if more else known, new)

    def _changes(self, known: Known, new: Place) -> list[Change]:
        self._steps += 1
        if self._steps > _MOST_STEPS:
            raise _TooLongError
        claim = (frozenset(id(one.schema) for one in known.old), id(new.schema), known.chosen)
        begun = self._under_way.get(claim)
        if begun is not None:
            # behind a property or an item the value is smaller: this is a proof by induction
            smaller = self._depth > begun
            return [] if smaller else [_unproven(new, "refers to itself without end")]
        self._under_way[claim] = self._depth
        try:
            return self._prove(known, new)
        finally:
            del self._under_way[claim]

    def _prove(self, known: Known, new: Place) -> list[Change]:
        if new.is_trivial or not known.types or any(same(old, new) for old in known.parts):
            return []
        values = self._values(known)
        if values is not None:
            return self._refused(values, new)
        changes = [change for part in parts([new]) for change in self._part(known, part)]
        choice = _choice(known)
        if choice is None or not breaking(changes):
            return changes
        place, keyword = choice
        chosen = known.chosen | {(id(place.schema), keyword)}
        return [
            change
            for index in range(len(place.schema[keyword]))
            for change in self._changes(
                Known((*known.old, place.inside(keyword, index)), chosen), new
            )
        ]

    def _part(self, known: Known, new: Place) -> Iterator[Change]:
        """Yield what `new` itself asks that does not follow; what it refers to is asked elsewhere."""
        if new.schema is False:
            code = _CLOSING.get(str(new.path[-1]) if new.path else "", "value-refused")
            yield Change(new.pointer(), code, "refuses everything that was allowed here")
            return
        for keyword in new.schema:
            if keyword in VALUE_RULES:
                types, rule = VALUE_RULES[keyword]
                if types is None or types & known.types:
                    yield from rule(known, new, keyword)
            elif keyword in INNER_RULES:
                inner_types, inner_rule = INNER_RULES[keyword]
                if inner_types & known.types:
                    yield from inner_rule(self, known, new, keyword)
            elif keyword in _WHOLE_RULES:
                yield from _WHOLE_RULES[keyword](self, known, new, keyword)

    def _values(self, known: Known) -> list[Any] | None:
        """Return every value that was valid, None where they cannot be listed."""
        listed = [*known.all("enum"), *([value] for value in known.all("const"))]
        if listed:
            candidates = listed[0]
        elif known.types <= _ENUMERABLE.keys():
            candidates = [value for name in sorted(known.types) for value in _ENUMERABLE[name]]
        else:
            return None
        return [one for one in candidates if all(self._takes(old, one) for old in known.old)]

    def _refused(self, values: list[Any], new: Place) -> list[Change]:
        refused = [shown(value) for value in values if not self._takes(new, value)]
        if not refused:
            return []
        pointer, code = new.pointer(), "value-refused"
        for part in parts([new]):
            for keyword, its_code in (("enum", "enum-value-removed"), ("const", "const-changed")):
                if isinstance(part.schema, dict) and keyword in part.schema:
                    pointer, code = part.pointer(keyword), its_code
        more = "" if len(refused) <= _MOST_SHOWN else f" and {len(refused) - _MOST_SHOWN} more"
        return [Change(pointer, code, f"no longer takes {', '.join(refused[:_MOST_SHOWN])}{more}")]

    def _takes(self, place: Place, value: Any) -> bool:
        errors = self._validator.descend(value, place.schema, resolver=place.resolver)
        return next(iter(errors), None) is None


def _choice(known: Known) -> tuple[Place, str] | None:
    """Return the next choice between schemas of which one held, None when all were made."""
    for keyword in ("anyOf", "oneOf"):
        for part in known.having(keyword):
            if (id(part.schema), keyword) not in known.chosen:
                return part, keyword
    return None


def _any_of(dependency: _Proof, known: Known, new: Place, keyword: str) -> Iterator[Change]:
    """Every value has one of the forms, each type of value perhaps another."""
    forms = [new.inside(keyword, index) for index in range(len(new.schema[keyword]))]
    whole = _first_that_takes(dependency, known, [], forms)
    if whole is not None:
        yield from whole
        return
    types = known.types - {"fraction"} | ({"number"} if "fraction" in known.types else set())
    types -= {"integer"} if "number" in types else set()
    for name in sorted(types):
        found = None
        if len(types) > 1:
            found = _first_that_takes(dependency, known, [new.of_type(name)], forms)
        if found is None:
            reason = "that one of the forms takes everything that was valid cannot be proven"
            yield Change(new.pointer(keyword), "any-of-changed", reason)
            return
        yield from found


def _first_that_takes(
    dependency: _Proof, known: Known, more: list[Place], forms: list[Place]
) -> list[Change] | None:
    for form in forms:
        changes = dependency.beside(known, more, form)
        if not breaking(changes):
            return changes
    return None


def _one_of(dependency: _Proof, known: Known, new: Place, keyword: str) -> Iterator[Change]:
    """The same choice was there before, or the type of a value tells which form it has."""
    if any(_same_list(old, new, keyword) for old in known.having(keyword)):
        return
    forms = [new.inside(keyword, index) for index in range(len(new.schema[keyword]))]
    for name in sorted(known.types):
        fitting = [form for form in forms if name in Known((form,)).types]
        more = [new.of_type("number" if name == "fraction" else name)]
        found = _first_that_takes(dependency, known, more, fitting)
        if len(fitting) != 1 or found is None:
            yield _unproven(new, "that exactly one of the forms fits cannot be proven", keyword)
            return
        yield from found


def _same_list(old: Place, new: Place, keyword: str) -> bool:
    count = len(new.schema[keyword])
    return len(old.schema[keyword]) == count and all(
        same(old.inside(keyword, index), new.inside(keyword, index)) for index in range(count)
    )


def _not(dependency: _Proof, known: Known, new: Place, keyword: str) -> Iterator[Change]:  # noqa: ARG001
    """The same was excluded before."""
    excluded = new.inside(keyword)
    if not any(same(old.inside(keyword), excluded) for old in known.having(keyword)):
        yield _unproven(new, "that nothing valid is excluded cannot be proven", keyword)


def _if(dependency: _Proof, known: Known, new: Place, keyword: str) -> Iterator[Change]:
    """The condition stood there before, and what follows from it takes what it took; or it asks nothing."""
    branches = [new.inside(one) for one in ("then", "else") if one in new.schema]
    if all(branch.is_trivial for branch in branches):
        return
    for old in known.having(keyword):
        if same(old.inside(keyword), new.inside(keyword)):
            for one in ("then", "else"):
                if one in new.schema:
                    before = [old.inside(one)] if one in old.schema else []
                    yield from dependency.beside(known, before, new.inside(one))
            return
    for branch in branches:
        if breaking(dependency.beside(known, [], branch)):
            yield _unproven(
                new, "that the condition takes what was valid cannot be proven", keyword
            )
            return


def _listed(dependency: _Proof, known: Known, new: Place, keyword: str) -> Iterator[Change]:  # noqa: ARG001
    """Whatever was valid could not be listed, so it is more than this list."""
    yield Change(new.pointer(keyword), f"{keyword}-added", "refuses all values but those listed")


def _unevaluated(dependency: _Proof, known: Known, new: Place, keyword: str) -> Iterator[Change]:
    """What is left over takes what it took, where the schema stands alone."""
    inner = new.inside(keyword)
    of_objects = keyword == "unevaluatedProperties"
    if inner.is_trivial or ("object" if of_objects else "array") not in known.types:
        return
    if of_objects and unevaluated_is_additional(new):
        yield from INNER_RULES["additionalProperties"][1](dependency, known, new, keyword)
    elif not of_objects and unevaluated_is_items(new):
        yield from INNER_RULES["items"][1](dependency, known, new, keyword)
    else:
        yield _unproven(new, "what is left over beside other schemas cannot be told", keyword)


def _dynamic(dependency: _Proof, known: Known, new: Place, keyword: str) -> Iterator[Change]:  # noqa: ARG001
    yield _unproven(new, "what it refers to depends on where validation begins", keyword)


def _unproven(new: Place, reason: str, *steps: str) -> Change:
    return Change(new.pointer(*steps), UNPROVEN, reason)


_WHOLE_RULES = {
    "const": _listed,
    "enum": _listed,
    "anyOf": _any_of,
    "oneOf": _one_of,
    "not": _not,
    "if": _if,
    "$dynamicRef": _dynamic,
    "unevaluatedItems": _unevaluated,
    "unevaluatedProperties": _unevaluated,
}
_FOLLOWED = {"$ref", "allOf"}
"""Parts of the same schema: `parts` follows them."""

DECIDED = frozenset({*VALUE_RULES, *INNER_RULES, *_WHOLE_RULES, *_FOLLOWED})
"""Every keyword that is compared; `then`, `else`, `minContains` and `maxContains` with theirs."""


def reader_notes(old: Place, new: Place) -> list[Change]:
    """Return what readers of the older version may miss or not expect in data of the new one."""
    return list(dict.fromkeys(_notes(Known((old,)), Known((new,)), new, set())))


def _notes(old: Known, new: Known, place: Place, seen: set[tuple[int, ...]]) -> Iterator[Change]:
    pair = (*(id(one.schema) for one in old.parts), 0, *(id(one.schema) for one in new.parts))
    if not old.parts or pair in seen:
        return
    seen.add(pair)
    wider = new.types - old.types
    if old.types and wider:
        names = ", ".join(type_names(wider))
        yield _note(place.pointer("type"), "type-widened", f"readers may meet {names} now")
    yield from _values(old, new)
    yield from _properties(old, new, place, seen)
    if "array" in old.types & new.types:
        yield from _inner(old.item_places(0), new.item_places(0), seen)


def _values(old: Known, new: Known) -> Iterator[Change]:
    before, parts = old.all("enum"), new.having("enum")
    if before and parts:
        added = [value for value in parts[0].schema["enum"] if value not in before[0]]
        if added:
            listed = ", ".join(shown(value) for value in added)
            yield _note(
                parts[0].pointer("enum"), "enum-value-added", f"readers may meet {listed} now"
            )


def _properties(
    old: Known, new: Known, place: Place, seen: set[tuple[int, ...]]
) -> Iterator[Change]:
    if "object" not in old.types & new.types:
        return
    for name in sorted(old.required - new.required):
        yield _note(
            place.pointer("required"),
            "required-removed",
            f"readers may miss the property {shown(name)} now",
        )
    for name in old.named:
        after = new.property_places(name)
        if name not in new.named and not after:
            yield _note(
                place.pointer("properties"),
                "property-removed",
                f"readers are told nothing of the property {shown(name)} any more",
            )
        else:
            yield from _inner(old.property_places(name), after, seen)


def _inner(old: list[Place], new: list[Place], seen: set[tuple[int, ...]]) -> Iterator[Change]:
    if old and new:
        yield from _notes(Known(tuple(old)), Known(tuple(new)), new[0], seen)


def _note(pointer: str, code: str, message: str) -> Change:
    return Change(pointer, code, message, breaking=False)


@dataclass(frozen=True, slots=True)
class Comparison:
    """What `new` changes against `old`, an earlier minor version of the same type."""

    old: SchemaDocument
    new: SchemaDocument
    changes: tuple[Change, ...]

    @property
    def compatible(self) -> bool:
        """Whether `new` takes everything that `old` took."""
        return not any(change.breaking for change in self.changes)


def compare_versions(
    documents: Sequence[SchemaDocument], *, strict: bool = False
) -> tuple[Comparison, ...]:
    """Compare each version with every earlier one of its major version, the nearest first.

    What the comparison with a nearer one tells already is not repeated. Raises ConfigError for unsound schemas.
    """
    registry = check_documents(documents)

    def place(document: SchemaDocument) -> Place:
        return Place(document.content, registry.resolver(base_uri=document.id))

    comparisons: list[Comparison] = []
    ordered = sorted(documents, key=lambda document: (document.type, document.version))
    for new in ordered:
        told: set[Change] = set()
        for old in reversed(ordered):
            if (old.type, old.version[0]) != (new.type, new.version[0]):
                continue
            if old.version >= new.version:
                continue
            changes = [
                *incompatibilities(place(old), place(new), registry, strict=strict),
                *reader_notes(place(old), place(new)),
            ]
            fresh = tuple(change for change in changes if change not in told)
            told.update(fresh)
            comparisons.append(Comparison(old, new, fresh))
    return tuple(comparisons)


@dataclass(frozen=True, slots=True)
class PublicationProblem:
    """A published version that is not what it was: its file, a stable code, and what is wrong."""

    file: str
    code: str
    message: str


def version_name(document: SchemaDocument) -> str:
    """Return the name under which a version is recorded, `<type>/<major>.<minor>.json`."""
    return "{}/{}.{}.json".format(document.type, *document.version)


def publication_problems(
    documents: Sequence[SchemaDocument], published: Mapping[str, str]
) -> Iterator[PublicationProblem]:
    """Yield every version of `published`, SHA-256 by name, whose file has changed or is gone."""
    present = {version_name(document): document for document in documents}
    for name, digest in sorted(published.items()):
        document = present.get(name)
        if document is None:
            yield PublicationProblem(name, "published-removed", "was published and is not there")
        elif document.digest != digest:
            yield PublicationProblem(
                document.origin, "published-changed", "was published and has changed since"
            )


def unpublished(
    documents: Sequence[SchemaDocument], published: Mapping[str, str]
) -> dict[str, str]:
    """Return the SHA-256 by name of every version that is not among `published`."""
    named = {version_name(document): document.digest for document in documents}
    return {name: digest for name, digest in sorted(named.items()) if name not in published}
