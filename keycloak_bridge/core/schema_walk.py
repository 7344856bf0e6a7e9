"""Where a JSON Schema holds schemas, and which properties it describes."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from referencing import Resource
from referencing.jsonschema import DRAFT202012

from keycloak_bridge.core.patterns import compile_pattern

Path = tuple[str, ...]

REFERENCES = ("$ref", "$dynamicRef")
"""The keywords that name another schema."""

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
_MEANS_MORE = ("properties", "patternProperties", *REFERENCES, *_IN_LIST)


class SchemaResolver(Protocol):
    """Finds what a reference names, as seen from one place; `referencing` makes them."""

    def lookup(self, ref: str) -> Any:
        """Return `contents`, the named schema, and `resolver`, what finds references from there."""
        ...

    def in_subresource(self, subresource: Resource[Any]) -> "SchemaResolver":
        """Return what finds references inside a schema at this place."""
        ...


@dataclass(frozen=True, slots=True)
class _Place:
    """A schema, and what resolves the references in it."""

    schema: Any
    resolver: SchemaResolver

    def inside(self, schema: Any) -> "_Place":
        return _Place(schema, inner_resolver(self.resolver, schema))


def inner_resolver(resolver: SchemaResolver, schema: Any) -> SchemaResolver:
    """Return what resolves the references in `schema`, which stands where `resolver` is used."""
    return resolver.in_subresource(DRAFT202012.create_resource(schema))


def direct_subschemas(schema: Mapping[str, Any]) -> Iterator[tuple[tuple[str | int, ...], Any]]:
    """Yield the schemas directly inside `schema`, each with its path from there."""
    for keyword in _BY_NAME:
        named = schema.get(keyword)
        if isinstance(named, dict):
            yield from (((keyword, name), sub) for name, sub in named.items())
    for keyword in _IN_LIST:
        listed = schema.get(keyword)
        if isinstance(listed, list):
            yield from (((keyword, index), sub) for index, sub in enumerate(listed))
    for keyword in _SINGLE:
        if keyword in schema:
            yield (keyword,), schema[keyword]


def has_property(schema: Any, path: Path, resolver: SchemaResolver) -> bool:
    """Say whether `schema` describes a property at `path`.

    References and combined schemas are followed, lists are passed through to their items, and below a property that
    may hold any object every path is as good as another.
    """
    here = _expanded(_Place(schema, resolver))
    for name in path:
        here = [
            part for place in here for child in _children(place, name) for part in _expanded(child)
        ]
        if any(_is_open(place.schema) for place in here):
            return True
    return bool(here)


def _expanded(place: _Place) -> list[_Place]:
    """Return `place` and every schema that describes the same value, or the items of the same list."""
    parts: list[_Place] = []
    waiting = [place]
    seen: set[int] = set()
    while waiting:
        part = waiting.pop()
        if id(part.schema) not in seen:
            seen.add(id(part.schema))
            parts.append(part)
            waiting += _beside(part)
    return parts


def _beside(place: _Place) -> Iterator[_Place]:
    schema = place.schema
    if not isinstance(schema, dict):
        return
    for keyword in REFERENCES:
        if keyword in schema:
            target = place.resolver.lookup(schema[keyword])
            yield _Place(target.contents, target.resolver)
    for keyword in _IN_LIST:
        yield from map(place.inside, schema.get(keyword, ()))
    for keyword in ("then", "else", "items"):
        if keyword in schema:
            yield place.inside(schema[keyword])
    yield from map(place.inside, schema.get("dependentSchemas", {}).values())


def _children(place: _Place, name: str) -> list[_Place]:
    schema = place.schema
    if not isinstance(schema, dict):
        return []
    named = schema.get("properties", {})
    found = [named[name]] if name in named else []
    for pattern, sub in schema.get("patternProperties", {}).items():
        if compile_pattern(pattern).search(name):
            found.append(sub)
    others = schema.get("additionalProperties")
    if not found and isinstance(others, dict):
        found.append(others)
    return [place.inside(sub) for sub in found]


def _is_open(schema: Any) -> bool:
    """Say whether nothing is known of what is inside."""
    if schema is True:
        return True
    if not isinstance(schema, dict) or any(keyword in schema for keyword in _MEANS_MORE):
        return False
    types = schema.get("type", ["object"])
    may_be_object = "object" in types if isinstance(types, list) else types == "object"
    return may_be_object and schema.get("additionalProperties", True) is True
