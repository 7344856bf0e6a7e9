"""A schema inside a schema file: what it contains, what it refers to, and which other schemas apply to the same value."""

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Protocol
from urllib.parse import unquote

from referencing import Registry, Resource
from referencing.jsonschema import DRAFT202012

from keycloak_bridge.events.json_reader import pointer
from keycloak_bridge.validation.validator import ASSERTING, compile_pattern

Path = tuple[str, ...]
Steps = tuple[str | int, ...]

REFERENCES = ("$ref", "$dynamicRef")
"""The keywords that name another schema."""

TYPES = frozenset({"null", "boolean", "object", "array", "string", "integer", "fraction"})
"""The disjoint types of values; `number` is `integer` and `fraction`."""

_BY_NAME = ("$defs", "definitions", "properties", "patternProperties", "dependentSchemas")
_IN_LIST = ("allOf", "anyOf", "oneOf", "prefixItems")
_SINGLE = (
    "additionalProperties",
    "contains",
    "contentSchema",
    "else",
    "if",
    "items",
    "not",
    "propertyNames",
    "then",
    "unevaluatedItems",
    "unevaluatedProperties",
)
CONTAINERS = (*_BY_NAME, *_IN_LIST, *_SINGLE)
"""The keywords whose values are or contain schemas."""

_SAME_VALUE = ("if", "then", "else", "not", "allOf", "anyOf", "oneOf", "dependentSchemas", "$ref")
_DESCRIBING = (*REFERENCES, *_IN_LIST, "then", "else", "items", "dependentSchemas")


class SchemaResolver(Protocol):
    """Finds what a reference names, as seen from one place; `referencing` makes them."""

    def lookup(self, ref: str) -> Any:
        """Return `contents`, the named schema, and `resolver`, what finds references from there."""
        ...

    def in_subresource(self, subresource: Resource[Any]) -> "SchemaResolver":
        """Return what finds references inside a schema at this place."""
        ...


@dataclass(frozen=True, slots=True)
class Subschema:
    """A schema, what resolves the references in it, and the path to it in its file.

    Behind a reference that leaves the file the path is that of the reference.
    """

    schema: Any
    resolver: SchemaResolver
    path: Steps = ()
    elsewhere: bool = False

    @classmethod
    def root(cls, content: Any, registry: Registry[Any]) -> "Subschema":
        """Return the whole schema `content`, which is in `registry` by its `$id`."""
        return cls(content, registry.resolver(base_uri=content["$id"]))

    @property
    def is_trivial(self) -> bool:
        """Whether no keyword can refuse a value."""
        return self.schema is True or (self.schema is not False and not self.asserting())

    def asserting(self) -> dict[str, Any]:
        """Return the keywords of an object schema that can refuse a value; all others only describe."""
        return {word: value for word, value in self.schema.items() if word in ASSERTING}

    def get(self, keyword: str, default: Any = ()) -> Any:
        """Return the keyword's value; a boolean schema has no keywords."""
        return self.schema.get(keyword, default) if isinstance(self.schema, dict) else default

    def pointer(self, *steps: str | int) -> str:
        """Return the JSON pointer to this schema, or to what is at `steps` below it."""
        return pointer(self.path if self.elsewhere else (*self.path, *steps))

    def inside(self, *steps: str | int) -> "Subschema":
        """Return the schema at `steps`."""
        schema = self.schema
        for step in steps:
            schema = schema[step]
        path = self.path if self.elsewhere else (*self.path, *steps)
        resolver = self.resolver.in_subresource(DRAFT202012.create_resource(schema))
        return Subschema(schema, resolver, path, self.elsewhere)

    def steps(self, *keywords: str) -> Iterator[Steps]:
        """Yield the path of every schema directly under `keywords`."""
        for keyword in keywords:
            value = self.get(keyword, None)
            if value is None:
                continue
            if keyword in _BY_NAME:
                yield from ((keyword, name) for name in value)
            elif keyword in _IN_LIST:
                yield from ((keyword, index) for index in range(len(value)))
            elif keyword in _SINGLE:
                yield (keyword,)

    def under(self, *keywords: str) -> Iterator["Subschema"]:
        """Yield every schema directly under `keywords`; for a reference, the schema that it names."""
        yield from (self.inside(*steps) for steps in self.steps(*keywords))
        for keyword in REFERENCES:
            if keyword in keywords and self.get(keyword):
                yield self.target(keyword)

    def target(self, keyword: str = "$ref") -> "Subschema":
        """Return the schema that the reference names."""
        reference = self.schema[keyword]
        found = self.resolver.lookup(reference)
        if not self.elsewhere and (reference == "#" or reference.startswith("#/")):
            steps = unquote(reference).split("/")[1:]
            path: Steps = tuple(one.replace("~1", "/").replace("~0", "~") for one in steps)
            return Subschema(found.contents, found.resolver, path)
        path = self.path if self.elsewhere else (*self.path, keyword)
        return Subschema(found.contents, found.resolver, path, elsewhere=True)

    def is_endless(self, above: frozenset[int] = frozenset()) -> bool:
        """Say whether the schema refers to itself for the same value, so that no check of it would end."""
        if id(self.schema) in above:
            return True
        deeper = above | {id(self.schema)}
        return any(
            isinstance(one.schema, dict) and one.is_endless(deeper)
            for one in self.under(*_SAME_VALUE)
        )


def has_property(schema: Subschema, path: Path) -> bool:
    """Say whether `schema` describes a property at `path`.

    References and combined schemas are followed, lists are passed through to their items, and below a property that
    may be any object every path is accepted.
    """
    here = follow([schema], *_DESCRIBING)
    for name in path:
        here = follow([child for one in here for child in _described(one, name)], *_DESCRIBING)
        if any(_is_open(one) for one in here):
            return True
    return bool(here)


def _described(schema: Subschema, name: str) -> list[Subschema]:
    steps: list[Steps] = [("properties", name)] if name in schema.get("properties") else []
    steps += [
        ("patternProperties", pattern)
        for pattern in schema.get("patternProperties")
        if compile_pattern(pattern).search(name)
    ]
    if not steps and isinstance(schema.get("additionalProperties"), dict):
        steps.append(("additionalProperties",))
    return [schema.inside(*one) for one in steps]


def _is_open(schema: Subschema) -> bool:
    """Say whether nothing is known of what is inside."""
    more = ("properties", "patternProperties", *REFERENCES, *_IN_LIST)
    if schema.schema is False or any(schema.get(one, None) is not None for one in more):
        return False
    may_be_object = "object" in types_of(schema.schema)
    return may_be_object and schema.get("additionalProperties", True) is True


def follow(start: Iterable[Subschema], *keywords: str) -> list[Subschema]:
    """Return `start` and all that can be reached from there through `keywords`, each schema once."""
    found: dict[int, Subschema] = {}
    waiting = list(start)
    while waiting:
        place = waiting.pop(0)
        if id(place.schema) not in found:
            found[id(place.schema)] = place
            waiting += place.under(*keywords)
    return list(found.values())


def same_value(start: Iterable[Subschema]) -> list[Subschema]:
    """Return `start` and every schema that may apply to the same value, conditionally or not."""
    return follow(start, *_SAME_VALUE)


def applied(start: Iterable[Subschema]) -> tuple[Subschema, ...]:
    """Return every schema that refuses something and applies to a value that is valid under all of `start`."""
    return tuple(one for one in follow(start, "allOf", "$ref") if not one.is_trivial)


def types_of(schema: Any) -> frozenset[str]:
    """Return the types that the keyword `type` leaves."""
    if not isinstance(schema, dict) or "type" not in schema:
        return TYPES
    named = schema["type"] if isinstance(schema["type"], list) else [schema["type"]]
    return frozenset(
        one for name in named for one in (("integer", "fraction") if name == "number" else (name,))
    )


def same(one: Subschema, other: Subschema, _assumed: set[tuple[int, int]] | None = None) -> bool:
    """Say whether two schemas assert the same in the same words; titles, examples and the like do not count."""
    if isinstance(one.schema, bool) or isinstance(other.schema, bool):
        return one.schema is other.schema
    assumed = set() if _assumed is None else _assumed
    pair = (id(one.schema), id(other.schema))
    if pair in assumed:
        return True
    assumed.add(pair)
    words, others = one.asserting(), other.asserting()
    # what a dynamic reference means depends on where validation began
    if "$dynamicRef" in words or words.keys() != others.keys():
        return False
    inner = set(one.steps(*words))
    if inner != set(other.steps(*words)):
        return False
    plain = words.keys() - {steps[0] for steps in inner} - {"$ref"}
    # as text, since true equals 1 in Python
    if any(
        json.dumps(words[w], sort_keys=True) != json.dumps(others[w], sort_keys=True) for w in plain
    ):
        return False
    if "$ref" in words and not same(one.target(), other.target(), assumed):
        return False
    return all(same(one.inside(*steps), other.inside(*steps), assumed) for steps in inner)
