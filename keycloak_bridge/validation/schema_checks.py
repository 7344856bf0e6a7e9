"""Everything that can be wrong with schemas, found before an event needs them.

Where a JSON Schema holds schemas, and which properties it describes.

Places in schemas that are compared: what stands there, where, and what else holds for the same value.
"""

import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol
from urllib.parse import unquote

from jsonschema import Draft202012Validator
from referencing import Registry, Resource
from referencing.exceptions import Unresolvable
from referencing.jsonschema import DRAFT202012

from keycloak_bridge.domain.errors import ConfigError
from keycloak_bridge.events.formats import FORMATS, is_uri
from keycloak_bridge.events.json_reader import pointer
from keycloak_bridge.validation.validator import ASSERTING, compile_pattern

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


DIALECT = "https://json-schema.org/draft/2020-12/schema"
_OWN_ID = re.compile(r"urn:keycloak-bridge:schema:([^:]+):([0-9]+)\.([0-9]+)")
_METASCHEMA = Draft202012Validator(Draft202012Validator.META_SCHEMA)


@dataclass(frozen=True, slots=True)
class SchemaDocument:
    """A parsed schema file: which type and version it is for, where it came from, and the SHA-256 of its bytes."""

    type: str
    version: tuple[int, int]
    content: Any
    origin: str
    digest: str = ""

    @property
    def id(self) -> str:
        """The schema's `$id`."""
        return str(self.content["$id"])


@dataclass(frozen=True, slots=True)
class SchemaProblem:
    """What is wrong with a schema file, and where in it (JSON pointer)."""

    origin: str
    pointer: str
    reason: str

    def __str__(self) -> str:
        where = f"{self.origin}: {self.pointer}" if self.pointer else self.origin
        return f"{where}: {self.reason}"


def schema_error(problems: Sequence[SchemaProblem], *, also: str = "") -> ConfigError:
    """Return one error with a line for each problem, and the lines `also` behind them."""
    return ConfigError(
        "\n".join([*map(str, problems), *also.splitlines()]),
        code="schema",
        remedy="correct the schema files, or take their folder out of schemas.folders",
    )


def check_documents(documents: Sequence[SchemaDocument]) -> Registry[Any]:
    """Return the registry of `documents`, in which every reference resolves and which fetches nothing.

    Raises ConfigError (code `schema`) with one line for every problem.
    """
    problems = [problem for document in documents for problem in _document_problems(document)]
    if problems:
        raise schema_error(problems)
    problems += _repeated(documents)
    registry: Registry[Any] = Registry().with_resources(
        (document.id, DRAFT202012.create_resource(document.content)) for document in documents
    )
    for document in documents:
        resolver = registry.resolver(base_uri=document.id)
        problems += _content_problems(document.origin, document.content, resolver)
    if problems:
        raise schema_error(problems)
    return registry.crawl()


def _document_problems(document: SchemaDocument) -> Iterator[SchemaProblem]:
    content, origin = document.content, document.origin
    if not isinstance(content, dict):
        yield SchemaProblem(origin, "", "must be a JSON object")
        return
    if content.get("$schema", DIALECT) != DIALECT:
        yield SchemaProblem(origin, "/$schema", f"must be {DIALECT}, the one supported draft")
        return
    for error in _METASCHEMA.iter_errors(content):
        yield SchemaProblem(origin, pointer(error.absolute_path), f"is no schema: {error.message}")
    yield from _id_problems(document)


def _id_problems(document: SchemaDocument) -> Iterator[SchemaProblem]:
    schema_id = document.content.get("$id")
    if schema_id is None:
        yield SchemaProblem(document.origin, "/$id", "is missing")
        return
    if not isinstance(schema_id, str) or not is_uri(schema_id) or "#" in schema_id:
        yield SchemaProblem(
            document.origin, "/$id", "must be a URI with scheme and without fragment"
        )
        return
    named = _OWN_ID.fullmatch(schema_id)
    if named and (named[1], int(named[2]), int(named[3])) != (document.type, *document.version):
        yield SchemaProblem(
            document.origin, "/$id", "does not agree with the file's folder and name"
        )


def _repeated(documents: Sequence[SchemaDocument]) -> Iterator[SchemaProblem]:
    by_id: dict[str, str] = {}
    by_version: dict[tuple[str, tuple[int, int]], str] = {}
    for document in documents:
        other = by_id.setdefault(document.id, document.origin)
        if other != document.origin:
            yield SchemaProblem(document.origin, "/$id", f"is taken by {other}")
        version = (document.type, document.version)
        twin = by_version.setdefault(version, document.origin)
        if twin not in (document.origin, other):
            yield SchemaProblem(document.origin, "", f"has the type and version of {twin}")


def _content_problems(
    origin: str, root: Mapping[str, Any], resolver: SchemaResolver
) -> Iterator[SchemaProblem]:
    waiting: list[tuple[tuple[str | int, ...], Any, SchemaResolver]] = [((), root, resolver)]
    while waiting:
        path, schema, resolver = waiting.pop(0)
        if not isinstance(schema, dict):
            continue
        for step, reason in _keyword_problems(schema, resolver):
            yield SchemaProblem(origin, pointer((*path, *step)), reason)
        waiting += [
            ((*path, *step), sub, inner_resolver(resolver, sub))
            for step, sub in direct_subschemas(schema)
        ]


def _keyword_problems(
    schema: Mapping[str, Any], resolver: SchemaResolver
) -> Iterator[tuple[tuple[str, ...], str]]:
    name = schema.get("format")
    if name is not None and name not in FORMATS:
        yield ("format",), f"'{name}' is not a format that is checked; known: {', '.join(FORMATS)}"
    patterns = [(("patternProperties", text), text) for text in schema.get("patternProperties", ())]
    if "pattern" in schema:
        patterns.append((("pattern",), schema["pattern"]))  # type: ignore[arg-type]
    for step, text in patterns:
        if problem := _pattern_problem(text):
            yield step, problem
    for keyword in REFERENCES:
        if keyword in schema and not _resolves(resolver, schema[keyword]):
            yield (
                (keyword,),
                f"'{schema[keyword]}' names no schema of these folders; nothing is fetched",
            )


def _pattern_problem(text: str) -> str | None:
    try:
        compile_pattern(text)
    except (re.error, OverflowError, RecursionError) as error:
        return f"is not a regular expression that can be used: {error}"
    return None


def _resolves(resolver: SchemaResolver, ref: str) -> bool:
    try:
        resolver.lookup(ref)
    except (Unresolvable, LookupError, ValueError):
        return False
    return True


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
