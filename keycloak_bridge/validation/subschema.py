"""A schema inside a schema file, and what it says of one property.

What it contains, what it refers to, and which other schemas apply to the same value; how long a property's texts are, which
values it has, and whether it is required.
"""

import json
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import unquote

from referencing import Registry
from referencing.jsonschema import DRAFT202012

from keycloak_bridge.domain.json_reader import pointer
from keycloak_bridge.domain.patterns import compile_pattern
from keycloak_bridge.validation.validator import ASSERTING

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
_SAME_TYPE = (*REFERENCES, "allOf", "anyOf", "oneOf", "then", "else", "dependentSchemas")
_DESCRIBING = (*REFERENCES, *_IN_LIST, "then", "else", "items", "dependentSchemas")


@dataclass(frozen=True, slots=True)
class Subschema:
    """A schema, what resolves the references in it, and the path to it in its file.

    Behind a reference that leaves the file the path is that of the reference.
    """

    schema: Any
    resolver: Any  # of `referencing`, which does not export its class
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

    @property
    def has_alternatives(self) -> bool:
        """Whether it describes its properties in several ways, of which one holds."""
        return any(self.get(one, None) for one in ("anyOf", "oneOf", "if", "dependentSchemas"))

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
            if keyword in keywords and self.get(keyword, None) is not None:
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


def endless(start: Subschema) -> Subschema | None:
    """Return a schema at or behind `start` that refers to itself for the same value, so that no check of it would end."""
    done: set[int] = set()
    above: dict[int, Iterator[Subschema]] = {}  # the way down, in its order
    waiting = [start]
    while waiting or above:
        if waiting:
            place = waiting.pop()
            if not isinstance(place.schema, dict) or id(place.schema) in done:
                continue
            if id(place.schema) in above:
                return place
            above[id(place.schema)] = place.under(*_SAME_VALUE, "$dynamicRef")
        name, inner = next(reversed(above.items()))
        following = next(inner, None)
        if following is None:
            done.add(name)
            del above[name]
        else:
            waiting.append(following)
    return None


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


def property_types(schema: Subschema, path: Path) -> frozenset[str] | None:
    """Return the JMESPath types that `schema` leaves the property at `path`; None for all of them, empty where it has none.

    Never fewer than it leaves: what depends on a condition, and every alternative, counts.
    """
    here = follow([schema], *_DESCRIBING)
    for index, name in enumerate(path, start=1):
        if any(_is_open(one) or one.has_alternatives for one in here):
            return None
        children = [child for one in here for child in _described(one, name)]
        here = follow(children, *(_SAME_TYPE if index == len(path) else _DESCRIBING))
    saying = [one for one in here if not (_delegates(one) and "type" not in one.schema)]
    types = frozenset[str]().union(*(types_of(one.schema) for one in saying))
    if types == TYPES:
        return None
    return frozenset("number" if one in ("integer", "fraction") else one for one in types)


def _delegates(schema: Subschema) -> bool:
    """Say whether other schemas, which are looked at as well, say which types it leaves."""
    return any(schema.get(one, None) for one in ("$ref", "allOf", "anyOf", "oneOf"))


def _described(schema: Subschema, name: str) -> list[Subschema]:
    steps: list[Steps] = [("properties", name)] if name in schema.get("properties") else []
    steps += [
        ("patternProperties", pattern)
        for pattern in schema.get("patternProperties")
        if compile_pattern(pattern).is_in(name)
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


_ALTERNATIVES = ("anyOf", "oneOf", "if", "not", "dependentSchemas", "$dynamicRef")
_SHORT_FORMATS = frozenset(("date", "date-time", "ipv4", "ipv6", "time", "uuid"))
_WIDTH_PART = re.compile(
    r"(?P<one>\\[dDwWsS.+*?^$|/-]|\[(?:\\.|[^\]\\])*\]|[^\\\[\](){}|*+?^$])"
    r"(?P<times>\{(?P<least>[0-9]+)(?P<more>,(?P<most>[0-9]*))?\}|[*+?])?"
)


@dataclass(frozen=True, slots=True)
class PropertyFacts:
    """What holds for every value of a property; `partial` when the schema says more, in alternatives."""

    types: frozenset[str] = TYPES
    required: bool = False
    min_length: int = 0
    max_length: int | None = None
    patterns: tuple[str, ...] = ()
    formats: frozenset[str] = frozenset()
    values: tuple[Any, ...] | None = None
    max_items: int | None = None
    item: "PropertyFacts | None" = None
    partial: bool = False

    @property
    def may_be_endless(self) -> bool:
        """Whether nothing in the schema limits the length of a text."""
        if self.max_length is not None or self.values is not None or self.partial:
            return False
        if "string" not in self.types or self.formats & _SHORT_FORMATS:
            return False
        return all(_has_no_end(pattern) for pattern in self.patterns)

    @property
    def longest(self) -> int | None:
        """The greatest length of a text, where it is known."""
        widths = [width for pattern in self.patterns if (width := widest(pattern)) is not None]
        limits = [*widths, *([] if self.max_length is None else [self.max_length])]
        return min(limits, default=None)


def property_facts(schema: Subschema, path: Path) -> PropertyFacts | None:
    """Return what `schema` says of the property at `path`; None where it does not describe it by name."""
    here = applied([schema])
    required, partial = True, False
    for name in path:
        named = [one for one in here if name in one.get("properties", {})]
        if not named:
            return None
        required = required and any(name in one.get("required") for one in here)
        partial = partial or _has_alternatives(here)
        inner = [one.inside("properties", name) for one in named]
        here = (*applied(inner), *(one for one in inner if one.is_trivial))
    return _facts(here, required=required, partial=partial)


def widest(pattern: str) -> int | None:
    """Return how long a text that matches the whole pattern can be; None where that is unlimited or hard to tell."""
    if not (pattern.startswith("^") and pattern.endswith("$")) or pattern.endswith("\\$"):
        return None
    body, position, width = pattern[1:-1], 0, 0
    while position < len(body):
        part = _WIDTH_PART.match(body, position)
        if part is None:
            return None
        most = _most(part)
        if most is None:
            return None
        width += most
        position = part.end()
    return width


def _most(part: re.Match[str]) -> int | None:
    times = part["times"]
    if times is None or times == "?":
        return 1
    if times in ("*", "+"):
        return None
    if part["more"] is None:
        return int(part["least"])
    return int(part["most"]) if part["most"] else None


def _has_no_end(pattern: str) -> bool:
    """Say whether the pattern is one that certainly limits no length; of a complicated one nothing is said."""
    if widest(pattern) is not None:
        return False
    anchored = pattern.startswith("^") and pattern.endswith("$")
    return not anchored or not re.search(r"[(|{\\]", pattern)


def _facts(places: Sequence[Subschema], *, required: bool, partial: bool) -> PropertyFacts:
    schemas = [one.schema for one in places if isinstance(one.schema, dict)]
    items = [inner for one in places for inner in one.under("items")]
    values = [tuple(one["enum"]) for one in schemas if "enum" in one]
    values += [(one["const"],) for one in schemas if "const" in one]
    return PropertyFacts(
        types=frozenset.intersection(TYPES, *map(types_of, schemas)),
        required=required,
        min_length=max((one.get("minLength", 0) for one in schemas), default=0),
        max_length=_least(schemas, "maxLength"),
        patterns=tuple(one["pattern"] for one in schemas if "pattern" in one),
        formats=frozenset(one["format"] for one in schemas if "format" in one),
        values=min(values, key=len, default=None),
        max_items=_least(schemas, "maxItems"),
        item=_facts(applied(items), required=False, partial=partial) if items else None,
        partial=partial or _has_alternatives(places),
    )


def _least(schemas: Sequence[dict[str, Any]], keyword: str) -> int | None:
    return min((int(one[keyword]) for one in schemas if keyword in one), default=None)


def _has_alternatives(places: Sequence[Subschema]) -> bool:
    return any(one.get(word, None) is not None for one in places for word in _ALTERNATIVES)
