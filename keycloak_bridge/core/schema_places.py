"""Places in schemas that are compared: what stands there, where, and what else holds for the same value."""

import json
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any
from urllib.parse import unquote

from keycloak_bridge.core.json_text import pointer
from keycloak_bridge.core.schema_walk import (
    REFERENCES,
    SchemaResolver,
    direct_subschemas,
    inner_resolver,
)
from keycloak_bridge.core.violations import ASSERTING

Steps = tuple[str | int, ...]

TYPES = frozenset({"null", "boolean", "object", "array", "string", "integer", "fraction"})
"""The disjoint types of values; `number` is `integer` and `fraction`."""


# the same objects each time: a proof knows schemas by identity
_OF_TYPE = {name: {"type": name} for name in (*TYPES - {"fraction"}, "number")}


@dataclass(frozen=True, slots=True)
class Place:
    """A schema, what resolves the references in it, and the path to it in its file.

    Behind a reference that leaves the file the path is that of the reference.
    """

    schema: Any
    resolver: SchemaResolver
    path: Steps = ()
    elsewhere: bool = False

    @property
    def is_trivial(self) -> bool:
        """Whether every value is valid here."""
        return not asserts(self.schema)

    def pointer(self, *steps: str | int) -> str:
        """Return the JSON pointer to this place, or to what stands at `steps` below it."""
        return pointer(self.path if self.elsewhere else (*self.path, *steps))

    def inside(self, *steps: str | int) -> "Place":
        """Return the schema at `steps`."""
        schema = self.schema
        for step in steps:
            schema = schema[step]
        path = self.path if self.elsewhere else (*self.path, *steps)
        return Place(schema, inner_resolver(self.resolver, schema), path, self.elsewhere)

    def of_type(self, name: str) -> "Place":
        """Return a schema for the same value that takes the one type."""
        return Place(_OF_TYPE[name], self.resolver, self.path, elsewhere=True)

    def beside(self) -> list["Place"]:
        """Return the schemas for the same value that stand in this one, or that it refers to."""
        if not isinstance(self.schema, dict):
            return []
        steps: list[Steps] = [(one,) for one in ("if", "then", "else", "not") if one in self.schema]
        for keyword in ("allOf", "anyOf", "oneOf"):
            steps += [(keyword, index) for index in range(len(self.schema.get(keyword, ())))]
        steps += [("dependentSchemas", name) for name in self.schema.get("dependentSchemas", ())]
        found = [self.inside(*one) for one in steps]
        return [*found, self.target()] if "$ref" in self.schema else found

    def is_endless(self, above: frozenset[int] = frozenset()) -> bool:
        """Say whether the schema refers to itself for the same value, so that no check of it would end."""
        if id(self.schema) in above:
            return True
        deeper = above | {id(self.schema)}
        return any(isinstance(p.schema, dict) and p.is_endless(deeper) for p in self.beside())

    def target(self, keyword: str = "$ref") -> "Place":
        """Return the schema that the reference names."""
        reference = self.schema[keyword]
        found = self.resolver.lookup(reference)
        if not self.elsewhere and (reference == "#" or reference.startswith("#/")):
            steps = unquote(reference).split("/")[1:]
            path: Steps = tuple(one.replace("~1", "/").replace("~0", "~") for one in steps)
            return Place(found.contents, found.resolver, path)
        path = self.path if self.elsewhere else (*self.path, keyword)
        return Place(found.contents, found.resolver, path, elsewhere=True)


def asserts(schema: Any) -> bool:
    """Say whether `schema` refuses anything at all, as far as its keywords tell."""
    return schema is not True and (
        schema is False or any(keyword in ASSERTING for keyword in schema)
    )


def parts(places: Iterable[Place]) -> tuple[Place, ...]:
    """Return every schema that holds for a value that is valid at all `places`: those, and what they refer to."""
    found: dict[int, Place] = {}
    waiting = list(places)
    while waiting:
        place = waiting.pop(0)
        if place.is_trivial or id(place.schema) in found:
            continue
        found[id(place.schema)] = place
        if isinstance(place.schema, dict):
            waiting += [place.inside("allOf", i) for i in range(len(place.schema.get("allOf", ())))]
            if "$ref" in place.schema:
                waiting.append(place.target())
    return tuple(found.values())


def types_of(schema: Any) -> frozenset[str]:
    """Return the types that the keyword `type` leaves."""
    if not isinstance(schema, dict) or "type" not in schema:
        return TYPES
    named = schema["type"] if isinstance(schema["type"], list) else [schema["type"]]
    return frozenset(
        one for name in named for one in (("integer", "fraction") if name == "number" else (name,))
    )


def same(one: Place, other: Place) -> bool:
    """Say whether two schemas assert the same in the same words; titles, examples and the like do not count."""
    return _same(one, other, set())


def _same(one: Place, other: Place, assumed: set[tuple[int, int]]) -> bool:
    if isinstance(one.schema, bool) or isinstance(other.schema, bool):
        return one.schema is other.schema
    pair = (id(one.schema), id(other.schema))
    if pair in assumed:
        return True
    assumed.add(pair)
    words, others = _keywords(one.schema), _keywords(other.schema)
    # what a dynamic reference means depends on where validation began
    if "$dynamicRef" in words or words.keys() != others.keys():
        return False
    inner, other_inner = _subschemas(one.schema), _subschemas(other.schema)
    if inner != other_inner or any(
        json.dumps(value, sort_keys=True) != json.dumps(others[word], sort_keys=True)
        for word, value in words.items()
        if word not in {steps[0] for steps in inner} and word not in REFERENCES
    ):
        return False
    if "$ref" in words and not _same(one.target(), other.target(), assumed):
        return False
    return all(_same(one.inside(*steps), other.inside(*steps), assumed) for steps in inner)


def _keywords(schema: dict[str, Any]) -> dict[str, Any]:
    return {keyword: value for keyword, value in schema.items() if keyword in ASSERTING}


def _subschemas(schema: dict[str, Any]) -> set[Steps]:
    return {steps for steps, _ in direct_subschemas(schema) if steps[0] in ASSERTING}
