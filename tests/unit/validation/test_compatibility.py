"""Whatever is called compatible accepts every value that was valid; any other change is reported by pointer and code."""

import re
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from referencing import Registry
from schema_cases import VALUES, changes, closed, places, version_pairs

from keycloak_bridge.validation import compatibility
from keycloak_bridge.validation.compatibility import (
    breaking,
    compare_versions,
    reader_notes,
)
from keycloak_bridge.validation.documents import SchemaDocument
from keycloak_bridge.validation.validator import compile_schema

TEXT = {"type": "string"}
NUMBER = {"type": "number"}
LIST = {"type": "array"}
OBJECT = {"type": "object", "properties": {"a": TEXT}}
LOOP = {"$ref": "#/$defs/x", "$defs": {"x": {"$ref": "#/$defs/x"}}}
TREE = {"properties": {"a": TEXT, "b": {"$ref": "#"}}}


def found(old: Any, new: Any, *, strict: bool = False) -> list[tuple[str, str]]:
    return [(one.pointer, one.code) for one in breaking(changes(old, new, strict=strict))]


@pytest.mark.parametrize(
    ("old", "new", "pointer", "code"),
    [
        (OBJECT, OBJECT | {"required": ["a"]}, "/required/0", "required-added"),
        ({"type": ["string", "null"]}, TEXT, "/type", "type-narrowed"),
        (NUMBER, {"type": "integer"}, "/type", "type-narrowed"),
        ({}, TEXT, "/type", "type-narrowed"),
        (TEXT, NUMBER, "/type", "type-changed"),
        ({"properties": {"a": TEXT}}, {"properties": {"a": NUMBER}}, "/properties/a/type", "type-changed"),
        ({"enum": ["a", "b"]}, {"enum": ["b"]}, "/enum", "enum-value-removed"),
        ({"enum": [1]}, {"enum": [True]}, "/enum", "enum-value-removed"),
        ({"type": "boolean"}, {"enum": [True]}, "/enum", "enum-added"),
        (TEXT, {"enum": ["a"]}, "/enum", "enum-added"),
        (TEXT, {"const": "a"}, "/const", "const-added"),
        ({"const": "a"}, {"const": "b"}, "/const", "const-changed"),
        ({"const": "ab"}, {"maxLength": 1}, "", "value-refused"),
        (NUMBER, NUMBER | {"minimum": 0}, "/minimum", "bound-tightened"),
        ({"minimum": 1}, {"exclusiveMinimum": 1}, "/exclusiveMinimum", "bound-tightened"),
        ({"maximum": 2}, {"maximum": 1}, "/maximum", "bound-tightened"),
        (TEXT, {"minLength": 1}, "/minLength", "bound-tightened"),
        ({"maxLength": 2}, {"maxLength": 1}, "/maxLength", "bound-tightened"),
        (LIST, {"maxItems": 1}, "/maxItems", "bound-tightened"),
        (OBJECT, {"minProperties": 1}, "/minProperties", "bound-tightened"),
        ({"multipleOf": 2}, {"multipleOf": 4}, "/multipleOf", "multiple-of-changed"),
        (TEXT, {"pattern": "^a"}, "/pattern", "pattern-added"),
        ({"pattern": "^ab"}, {"pattern": "^a"}, "/pattern", "pattern-changed"),
        (TEXT, {"format": "email"}, "/format", "format-added"),
        ({"format": "date"}, {"format": "email"}, "/format", "format-changed"),
        ({"format": "uri-reference"}, {"format": "uri"}, "/format", "format-changed"),
        (OBJECT, OBJECT | {"additionalProperties": False}, "/additionalProperties", "additional-properties-closed"),
        (OBJECT, OBJECT | {"unevaluatedProperties": False}, "/unevaluatedProperties", "unproven"),
        (OBJECT | {"additionalProperties": False}, {"additionalProperties": False}, "/additionalProperties", "property-removed"),
        ({"additionalProperties": TEXT}, {"properties": {"a": NUMBER}}, "/properties/a/type", "type-changed"),
        ({"patternProperties": {"^a": TEXT}}, {"properties": {"ab": NUMBER}}, "/properties/ab/type", "type-changed"),
        (OBJECT, {"patternProperties": {"^a": NUMBER}}, "/patternProperties", "unproven"),
        ({"type": "object"}, {"propertyNames": {"maxLength": 2}}, "/propertyNames", "unproven"),
        (OBJECT, {"dependentRequired": {"a": ["b"]}}, "/dependentRequired", "dependent-required-added"),
        (OBJECT, {"dependentSchemas": {"a": {"required": ["b"]}}}, "/dependentSchemas", "unproven"),
        ({"items": TEXT}, {"items": NUMBER}, "/items/type", "type-changed"),
        (LIST, {"prefixItems": [TEXT], "items": False}, "/items", "items-closed"),
        ({"prefixItems": [TEXT, TEXT]}, {"prefixItems": [TEXT], "items": NUMBER}, "/items/type", "type-narrowed"),
        (LIST, {"uniqueItems": True}, "/uniqueItems", "unique-items-added"),
        (LIST, {"contains": TEXT}, "/contains", "contains-changed"),
        ({"contains": TEXT}, {"contains": TEXT, "minContains": 2}, "/contains", "contains-changed"),
        ({"anyOf": [TEXT, NUMBER]}, {"anyOf": [TEXT, LIST]}, "/anyOf", "any-of-changed"),
        ({"oneOf": [{"minLength": 1}, NUMBER]}, {"oneOf": [{}, NUMBER]}, "/oneOf", "unproven"),
        (TEXT, {"not": {"const": "a"}}, "/not", "unproven"),
        (TEXT, {"if": {"const": "a"}, "then": {"minLength": 2}}, "/if", "unproven"),
        (OBJECT, {"anyOf": [{}, {}], "unevaluatedProperties": False}, "/unevaluatedProperties", "unproven"),
        ({}, LOOP, "", "unproven"),
        ({}, {"properties": {"a": {"$dynamicRef": "#"}}}, "/properties/a/$dynamicRef", "unproven"),
        (OBJECT, {"properties": {"a": {"$ref": "#/$defs/x"}}, "$defs": {"x": {"maxLength": 1}}}, "/$defs/x/maxLength", "bound-tightened"),
        (TREE, {"properties": {"a": NUMBER, "b": {"$ref": "#"}}}, "/properties/a/type", "type-changed"),
        ({"type": "object"}, OBJECT, "/properties/a/type", "type-narrowed"),
        ({"required": ["a"]}, OBJECT, "/type", "type-narrowed"),
    ],
)  # fmt: skip
def test_a_breaking_change_is_reported(old: Any, new: Any, pointer: str, code: str) -> None:
    """With its place in the new schema and the rule that it breaks."""
    assert (pointer, code) in found(old, new)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (OBJECT | {"required": ["a"]}, OBJECT),
        (TEXT, {"type": ["string", "null"]}),
        ({"type": "integer"}, NUMBER),
        ({"enum": ["a"]}, {"enum": ["a", "b"]}),
        ({"enum": ["a", "b"]}, {"minLength": 1, "pattern": "^[ab]$"}),
        ({"const": 1}, {"const": 1.0}),
        (TEXT, TEXT | {"minimum": 7, "maxItems": 0}),
        ({"exclusiveMinimum": 1}, {"minimum": 1}),
        ({"maxLength": 1}, {"maxLength": 2}),
        ({"pattern": "^a"}, {"pattern": "^a", "title": "another"}),
        (OBJECT | {"additionalProperties": False}, OBJECT),
        (OBJECT | {"additionalProperties": False}, {"properties": {"a": TEXT, "b": TEXT}, "additionalProperties": False}),
        (TEXT, {"anyOf": [NUMBER, TEXT]}),
        ({"anyOf": [TEXT, LIST]}, {"type": ["array", "string"]}),
        ({"oneOf": [TEXT, {"minLength": 2}]}, {"oneOf": [TEXT, {"minLength": 2}]}),
        ({"allOf": [TEXT, {"maxLength": 2}]}, {"type": "string", "maxLength": 2}),
        (TEXT, {"allOf": [{"$ref": "#/$defs/x"}], "$defs": {"x": TEXT}}),
        ({"anyOf": [TEXT, LIST]}, {"anyOf": [NUMBER, LIST, TEXT]}),
        ({"oneOf": [TEXT, LIST]}, {"oneOf": [LIST, TEXT, NUMBER]}),
        ({"not": TEXT}, {"not": {**TEXT, "title": "no texts"}}),
        ({"if": TEXT, "then": {"maxLength": 1}}, {"then": {"maxLength": 1}, "if": TEXT, "title": "same"}),
        ({"multipleOf": 2, "uniqueItems": True}, {"uniqueItems": True, "multipleOf": 2}),
        ({"patternProperties": {"^a": TEXT}, "additionalProperties": LIST}, {"patternProperties": {"^a": TEXT}, "additionalProperties": {}}),
        (TREE, {"properties": {"a": {}, "b": {"$ref": "#"}}}),
        (TREE, {"$ref": "#/$defs/t", "$defs": {"t": {"properties": {"a": TEXT, "b": {"$ref": "#/$defs/t"}}}}}),
        ({"type": "string", "not": {}, "enum": [1]}, False),
        ({}, True),
        (False, {"type": "string"}),
    ],
)  # fmt: skip
def test_a_harmless_change_is_proven(old: Any, new: Any) -> None:
    """For any data, with `strict`."""
    assert [] == found(old, new, strict=True)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ({"required": ["a", "b"]}, {"minProperties": 2}),
        ({"multipleOf": 4}, {"multipleOf": 2}),
        ({"type": "integer"}, {"multipleOf": 1}),
        ({"format": "uri"}, {"format": "uri-reference"}),
        ({"prefixItems": [TEXT], "items": False}, {"maxItems": 1, "uniqueItems": True}),
        ({"prefixItems": [TEXT, TEXT], "items": TEXT}, {"items": TEXT}),
        ({"contains": TEXT, "minContains": 2}, {"contains": TEXT}),
        (OBJECT | {"additionalProperties": False}, OBJECT | {"unevaluatedProperties": False}),
        ({"patternProperties": {"^a": TEXT}, "additionalProperties": False}, {"patternProperties": {"^a": {}}, "additionalProperties": False}),
        ({"propertyNames": {"maxLength": 2}}, {"propertyNames": {"type": "string", "maxLength": 3}}),
        ({"type": ["string", "array"]}, {"anyOf": [LIST, TEXT]}),
        ({"type": ["string", "number"]}, {"oneOf": [NUMBER, TEXT]}),
        ({"if": TEXT, "then": {"maxLength": 1}}, {"if": TEXT, "then": {"maxLength": 2}}),
        ({"if": TEXT, "then": {"maxLength": 1}}, {"if": TEXT}),
        (OBJECT, {"properties": {"a": TEXT}, "patternProperties": {"^b": NUMBER}}),
        (OBJECT, {"properties": {"a": TEXT, "b": TEXT}, "dependentRequired": {"b": ["c"]}}),
    ],
)  # fmt: skip
def test_what_is_not_compared_is_never_called_compatible(old: Any, new: Any) -> None:
    """These changes are harmless, but proving them is not worth the code."""
    assert found(old, new)


def test_a_new_optional_property_is_noted() -> None:
    """The older version did not write it; other data may have it, which is breaking with `strict`."""
    new = {"properties": {"a": TEXT, "b": NUMBER}}

    assert [("property-added", False)] == [
        (one.code, one.breaking) for one in changes(OBJECT, new, strict=False)
    ]
    assert [("/properties/b", "property-added")] == found(OBJECT, new, strict=True)


@pytest.mark.parametrize(
    "old",
    [
        {"properties": {"a": {}, "b": {}}},
        {"properties": {"a": {}}, "required": ["b"]},
        {"properties": {"a": {}}, "patternProperties": {"^b": True}},
        {"properties": {"a": {}}, "anyOf": [{"properties": {"b": TEXT}}, {}]},
        {"properties": {"a": {}}, "if": {"required": ["b"]}, "then": {"minProperties": 2}},
        {"properties": {"a": {}}, "anyOf": [{"additionalProperties": TEXT}, {}]},
        {"properties": {"a": {}}, "anyOf": [{}, {}], "unevaluatedProperties": TEXT},
        {"type": "object"},
    ],
)
def test_a_property_that_was_mentioned_is_not_new(old: Any) -> None:
    """Even under a condition only; and an object of which no property is described may have any."""
    assert found(old, {"properties": {"b": NUMBER}})


def test_what_is_too_intricate_is_not_proven(monkeypatch: pytest.MonkeyPatch) -> None:
    """A schema that takes too many steps ends as an incompatibility, not as a hanging command."""
    monkeypatch.setattr(compatibility, "_MOST_STEPS", 10)
    choices = [{"anyOf": [{"minLength": n}, {"maxLength": n}]} for n in range(1, 16)]

    assert [("", "unproven")] == found({"allOf": choices}, TEXT)


# drawing schemas is slow on a busy machine
NO_DEADLINE = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
THOROUGH = settings(NO_DEADLINE, max_examples=300)


def valid(schema: Any) -> list[Any]:
    """Return those values that the schema takes; none of a schema that refers to itself without end."""
    validator = compile_schema(schema, Registry())
    try:
        return [value for value in VALUES if validator.is_valid(value)]
    except RecursionError:
        return []


def refused(old: Any, new: Any) -> list[Any]:
    validator = compile_schema(new, Registry())
    return [value for value in valid(old) if not validator.is_valid(value)]


EVENTS_PAGE = Path(__file__).parents[3] / "docs" / "events.md"
DOCUMENTED = set(re.findall(r"`([a-z]+(?:-[a-z]+)+|unproven)`", EVENTS_PAGE.read_text("utf-8")))


@THOROUGH
@given(version_pairs(combined=True))
def test_what_is_compatible_takes_all_that_was_valid(pair: tuple[Any, Any]) -> None:
    """With `strict`: for any data; and every code is in the table of docs/events.md."""
    old, new = pair
    made = changes(old, new, strict=True)
    assert {change.code for change in made} <= DOCUMENTED
    if not breaking(made):
        assert [] == refused(old, new)


@THOROUGH
@given(version_pairs(combined=False))
def test_what_is_compatible_takes_all_that_was_written(pair: tuple[Any, Any]) -> None:
    """A property of which nothing was said is not in data that was written by the older version."""
    old, new = pair
    made = changes(old, new, strict=False)
    assert {change.code for change in made} <= DOCUMENTED
    if not breaking(made):
        assert [] == refused(closed(old), new)


@NO_DEADLINE
@given(version_pairs(combined=True), st.booleans())
def test_a_version_is_compatible_with_itself(pair: tuple[Any, Any], strict: bool) -> None:
    """Nothing is found where nothing changed."""
    old, _ = pair

    assert [] == changes(old, dict(old), strict=strict)


@pytest.mark.parametrize("combined", [False, True])
def test_the_cases_are_not_trivial(combined: bool) -> None:
    """Among the random pairs are compatible ones and others."""
    found: set[bool] = set()

    @NO_DEADLINE
    @given(version_pairs(combined=combined))
    def compare(pair: tuple[Any, Any]) -> None:
        found.add(bool(breaking(changes(*pair, strict=True))))

    compare()

    assert {False, True} == found


def document(version: tuple[int, int], content: Any, event_type: str = "t") -> SchemaDocument:
    name = "{}.{}".format(*version)
    whole = {"$id": f"urn:test:{event_type}:{name}", **content}
    return SchemaDocument(event_type, version, whole, f"folder/{event_type}/{name}.json")


def compared(*documents: SchemaDocument) -> list[tuple[str, str | None, str]]:
    return [(one.file, one.older, one.code) for one in compare_versions(documents)]


def test_a_version_is_compared_with_all_earlier_ones_of_its_major() -> None:
    """The nearest first; other types and major versions are not compared."""
    documents = [
        document((1, 10), {"enum": [1]}),
        document((1, 2), {"enum": [2]}),
        document((1, 0), {"enum": [3]}),
        document((2, 0), {"enum": [4]}),
        document((1, 0), {"enum": [5]}, "u"),
    ]

    breaks = [found[:2] for found in compared(*documents) if found[2] == "enum-value-removed"]

    assert [
        ("folder/t/1.2.json", "1.0"),
        ("folder/t/1.10.json", "1.2"),
        ("folder/t/1.10.json", "1.0"),
    ] == breaks


def test_a_property_cannot_come_back_as_another() -> None:
    """A version is compared with those before the one that left the property out, too."""
    others = {"a": TEXT}
    versions = [
        document((1, 0), {"properties": {**others, "b": TEXT}}),
        document((1, 1), {"properties": others}),
        document((1, 2), {"properties": {**others, "b": {"type": "null"}}}),
    ]

    found = [(one.file, one.older) for one in compare_versions(versions) if one.breaking]

    assert [("folder/t/1.2.json", "1.0")] == found


def test_a_change_is_reported_once() -> None:
    """Three versions, one narrowing: one report of it, at the root."""
    versions = [document((1, 0), {}), document((1, 1), {}), document((1, 2), TEXT)]

    assert [("folder/t/1.2.json", "1.1", "type-narrowed")] == compared(*versions)


def test_one_version_may_refer_to_the_other() -> None:
    """A new version often is the older one and more."""
    versions = [
        document((1, 0), {"properties": {"a": TEXT}}),
        document((1, 1), {"$ref": "urn:test:t:1.0", "properties": {"b": TEXT}}),
    ]

    assert [("folder/t/1.1.json", "1.0", "property-added")] == compared(*versions)


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        ({"properties": {"a": TEXT}}, {}, [("/properties", "property-removed")]),
        ({"required": ["a"]}, {}, [("/required", "required-removed")]),
        (TEXT, {"type": ["string", "null"]}, [("/type", "type-widened")]),
        ({"enum": ["a"]}, {"enum": ["a", "b"]}, [("/enum", "enum-value-added")]),
        ({"properties": {"a": TEXT}}, {"properties": {"a": {}}}, []),
        (
            {"items": {"properties": {"a": TEXT}}},
            {"items": {"properties": {"a": {"type": ["string", "null"]}}}},
            [("/items/properties/a/type", "type-widened")],
        ),
        ({"properties": {"a": {"$ref": "#"}}}, {"properties": {"a": {"$ref": "#"}}}, []),
    ],
)
def test_readers_get_notes(old: Any, new: Any, expected: list[tuple[str, str]]) -> None:
    """None of them is breaking."""
    before, after, _ = places(old, new)
    notes = reader_notes(before, after)

    assert expected == [(note.pointer, note.code) for note in notes]
    assert not any(note.breaking for note in notes)
