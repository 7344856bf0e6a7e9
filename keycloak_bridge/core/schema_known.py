"""What is known of a value because it was valid under the older version of a schema."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import reduce
from math import inf
from typing import Any, Protocol

from keycloak_bridge.core.patterns import compile_pattern
from keycloak_bridge.core.schema_changes import Change
from keycloak_bridge.core.schema_places import TYPES, Place, parts, types_of


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
