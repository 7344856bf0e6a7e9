"""Random schemas, random changes to them, and a great many small values."""

import copy
import random
from itertools import product
from typing import Any

from hypothesis import strategies as st
from referencing import Registry
from referencing.jsonschema import DRAFT202012

from keycloak_bridge.validation.compatibility import Change, incompatibilities
from keycloak_bridge.validation.subschema import Subschema


def places(old: Any, new: Any) -> tuple[Subschema, Subschema, Registry[Any]]:
    """Return the places of two schemas that stand alone, and the registry of both."""
    documents = {"urn:old": old, "urn:new": new}
    registry: Registry[Any] = Registry().with_resources(
        (name, DRAFT202012.create_resource(content)) for name, content in documents.items()
    )
    before, after = (
        Subschema(content, registry.resolver(base_uri=name)) for name, content in documents.items()
    )
    return before, after, registry


def changes(old: Any, new: Any, *, strict: bool) -> list[Change]:
    before, after, registry = places(old, new)
    return incompatibilities(before, after, registry, strict=strict)


NAMES = ("a", "b", "c")
_SCALARS = (
    None,
    True,
    False,
    -1,
    0,
    1,
    2,
    3,
    0.5,
    2.0,
    "",
    "a",
    "ab",
    "abc",
    "2026-11-02",
    "urn:a",
)
_TYPES = ("null", "boolean", "object", "array", "string", "integer", "number")
_COUNTS = st.integers(0, 3)
_FLAGS = st.booleans()


def _values() -> list[Any]:
    chance = random.Random(42)  # noqa: S311 # the same values each time
    found: list[Any] = [*_SCALARS, [], {}]
    found += [[one] for one in _SCALARS]
    found += [{name: one} for name, one in product(NAMES, _SCALARS)]
    for _ in range(160):
        found.append([chance.choice(found) for _ in range(chance.randint(2, 3))])
        names = chance.sample(NAMES, chance.randint(1, 3))
        found.append({name: chance.choice(found) for name in names})
    return found


VALUES = _values()
"""Values to try schemas with."""


def _lists_of(inner: st.SearchStrategy[Any]) -> st.SearchStrategy[list[Any]]:
    return st.lists(inner, min_size=1, max_size=2)


def _by_name(inner: st.SearchStrategy[Any]) -> st.SearchStrategy[dict[str, Any]]:
    return st.dictionaries(st.sampled_from(NAMES), inner, max_size=2)


_PLAIN: dict[str, st.SearchStrategy[Any]] = {
    "type": st.one_of(
        st.sampled_from(_TYPES), st.lists(st.sampled_from(_TYPES), min_size=1, unique=True)
    ),
    "enum": st.lists(st.sampled_from([*_SCALARS, [], {"a": 1}]), min_size=1, max_size=3),
    "const": st.sampled_from(_SCALARS),
    "minimum": _COUNTS,
    "maximum": _COUNTS,
    "exclusiveMinimum": _COUNTS,
    "exclusiveMaximum": _COUNTS,
    "multipleOf": st.sampled_from([0.5, 1, 2, 4]),
    "minLength": _COUNTS,
    "maxLength": _COUNTS,
    "pattern": st.sampled_from(["^a", "b", "^$"]),
    "format": st.sampled_from(["date", "uri", "uri-reference"]),
    "minItems": _COUNTS,
    "maxItems": _COUNTS,
    "uniqueItems": _FLAGS,
    "minProperties": _COUNTS,
    "maxProperties": _COUNTS,
    "required": st.lists(st.sampled_from(NAMES), unique=True, max_size=2),
    "dependentRequired": _by_name(st.lists(st.sampled_from(NAMES), unique=True, max_size=1)),
    "minContains": _COUNTS,
    "maxContains": _COUNTS,
}


def _structures(inner: st.SearchStrategy[Any]) -> dict[str, st.SearchStrategy[Any]]:
    return {
        "properties": _by_name(inner),
        "patternProperties": st.dictionaries(
            st.sampled_from(["^a", "b", "."]), inner, min_size=1, max_size=2
        ),
        "additionalProperties": inner,
        "propertyNames": inner,
        "items": inner,
        "prefixItems": _lists_of(inner),
    }


def _combinations(inner: st.SearchStrategy[Any]) -> dict[str, st.SearchStrategy[Any]]:
    return {
        "allOf": _lists_of(inner),
        "anyOf": _lists_of(inner),
        "oneOf": _lists_of(inner),
        "not": inner,
        "if": inner,
        "then": inner,
        "else": inner,
        "contains": inner,
        "dependentSchemas": _by_name(inner),
        "unevaluatedItems": inner,
        "unevaluatedProperties": inner,
        "$ref": st.sampled_from(["#/$defs/x", "#/$defs/y"]),
    }


def _with(keywords: dict[str, st.SearchStrategy[Any]], most: int) -> st.SearchStrategy[Any]:
    some = st.lists(st.sampled_from(sorted(keywords)), max_size=most, unique=True)
    return some.flatmap(lambda names: st.fixed_dictionaries({k: keywords[k] for k in names}))


def _schemas(*, combined: bool) -> st.SearchStrategy[Any]:
    def deeper(inner: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
        more = _combinations(inner) if combined else {}
        return _with(_PLAIN | _structures(inner) | more, 4)

    return st.recursive(st.one_of(_FLAGS, _with(_PLAIN, 2)), deeper, max_leaves=5)


_ANY = {combined: _schemas(combined=combined) for combined in (False, True)}


@st.composite
def version_pairs(draw: st.DrawFn, *, combined: bool) -> tuple[Any, Any]:
    """Draw a schema and one that was made of it by a few changes.

    `combined` ones have references and branches; the others describe an object, as the schemas of events do.
    """
    old = draw(_with(_PLAIN | _structures(_ANY[combined]), 4 if combined else 2))
    if not combined:
        described = st.dictionaries(st.sampled_from(NAMES), _ANY[combined], min_size=1, max_size=2)
        old = {**old, "properties": draw(described)}
    else:
        old = {**old, **draw(_with(_combinations(_ANY[True]), 2))}
        old["$defs"] = {"x": draw(_with(_PLAIN, 2)), "y": draw(_with(_structures(_ANY[True]), 1))}
    new = copy.deepcopy(old)
    for _ in range(draw(st.integers(1, 3))):
        _change(draw, new, _ANY[combined], combined=combined)
    return old, new


def _change(draw: st.DrawFn, root: Any, fresh: st.SearchStrategy[Any], *, combined: bool) -> None:
    keywords = _PLAIN | _structures(fresh) | (_combinations(fresh) if combined else {})
    schema = draw(st.sampled_from(_objects(root)))
    present = [word for word in schema if word in keywords]
    among_present: bool = draw(st.booleans())
    if present and among_present:
        word = draw(st.sampled_from(present))
        if draw(st.booleans()):
            del schema[word]
            return
    else:
        word = draw(st.sampled_from(sorted(keywords)))
    if word == "properties" and schema.get(word):
        # what every new version does: another property beside those that are there
        schema[word] = {**draw(keywords[word]), **schema[word]}
    else:
        schema[word] = draw(keywords[word])


def _objects(schema: Any) -> list[dict[str, Any]]:
    if not isinstance(schema, dict):
        return []
    found = [schema]
    for word, value in schema.items():
        if word in ("properties", "patternProperties", "dependentSchemas", "$defs"):
            found += [one for inner in value.values() for one in _objects(inner)]
        elif word in ("allOf", "anyOf", "oneOf", "prefixItems"):
            found += [one for inner in value for one in _objects(inner)]
        elif word not in ("enum", "const", "dependentRequired"):
            found += _objects(value)
    return found


def closed(schema: Any) -> Any:
    """Return `schema` without combined schemas so that properties of which it says nothing are refused."""
    if isinstance(schema, list):
        return [closed(one) for one in schema]
    if not isinstance(schema, dict):
        return schema
    tight = dict(schema)
    for word in ("properties", "patternProperties"):
        if word in schema:
            tight[word] = {name: closed(inner) for name, inner in schema[word].items()}
    for word in ("items", "prefixItems", "additionalProperties"):
        if word in schema:
            tight[word] = closed(schema[word])
    if schema.get("additionalProperties", True) in (True, {}):
        tight["additionalProperties"] = False
    return tight
