"""Each change of a schema that may refuse valid data is told by pointer and code; all others are proven harmless."""

from typing import Any

import pytest
from schema_cases import changes

from keycloak_bridge.validation import compatibility as schema_compatibility
from keycloak_bridge.validation.compatibility import DECIDED, breaking
from keycloak_bridge.validation.validator import ASSERTING

TEXT = {"type": "string"}
NUMBER = {"type": "number"}
LIST = {"type": "array"}
OBJECT = {"type": "object", "properties": {"a": TEXT}}
LOOP = {"$ref": "#/$defs/x", "$defs": {"x": {"$ref": "#/$defs/x"}}}
TREE = {"properties": {"a": TEXT, "b": {"$ref": "#"}}}


def found(old: Any, new: Any, *, strict: bool = False) -> list[tuple[str, str]]:
    """Return pointer and code of each breaking change."""
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
        ({"type": "boolean"}, {"enum": [True]}, "/enum", "enum-value-removed"),
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
        (OBJECT, OBJECT | {"unevaluatedProperties": False}, "/unevaluatedProperties", "additional-properties-closed"),
        (OBJECT | {"additionalProperties": False}, {"additionalProperties": False}, "/additionalProperties", "property-removed"),
        ({"additionalProperties": TEXT}, {"properties": {"a": NUMBER}}, "/properties/a/type", "type-changed"),
        ({"patternProperties": {"^a": TEXT}}, {"properties": {"ab": NUMBER}}, "/properties/ab/type", "type-changed"),
        (OBJECT, {"patternProperties": {"^a": NUMBER}}, "/patternProperties/^a/type", "type-changed"),
        ({"type": "object"}, {"propertyNames": {"maxLength": 2}}, "/propertyNames/maxLength", "bound-tightened"),
        (OBJECT, {"dependentRequired": {"a": ["b"]}}, "/dependentRequired/a", "dependent-required-added"),
        (OBJECT, {"dependentSchemas": {"a": {"required": ["b"]}}}, "/dependentSchemas/a/required/0", "required-added"),
        ({"items": TEXT}, {"items": NUMBER}, "/items/type", "type-changed"),
        (LIST, {"prefixItems": [TEXT], "items": False}, "/items", "items-closed"),
        ({"prefixItems": [TEXT, TEXT]}, {"prefixItems": [TEXT], "items": NUMBER}, "/items/type", "type-changed"),
        (LIST, {"uniqueItems": True}, "/uniqueItems", "unique-items-added"),
        (LIST, {"contains": TEXT}, "/contains", "contains-changed"),
        ({"contains": TEXT}, {"contains": TEXT, "minContains": 2}, "/contains", "contains-changed"),
        ({"anyOf": [TEXT, NUMBER]}, {"anyOf": [TEXT, LIST]}, "/anyOf", "any-of-changed"),
        ({"oneOf": [{"minLength": 1}, NUMBER]}, {"oneOf": [{}, NUMBER]}, "/oneOf", "unproven"),
        (TEXT, {"not": {"const": "a"}}, "/not", "unproven"),
        (TEXT, {"if": {"const": "a"}, "then": {"minLength": 2}}, "/if", "unproven"),
        (OBJECT, {"anyOf": [{}, {}], "unevaluatedProperties": False}, "/unevaluatedProperties", "unproven"),
        ({}, LOOP, "", "unproven"),
        ({}, {"$dynamicRef": "#"}, "/$dynamicRef", "unproven"),
        (OBJECT, {"properties": {"a": {"$ref": "#/$defs/x"}}, "$defs": {"x": {"maxLength": 1}}}, "/$defs/x/maxLength", "bound-tightened"),
        (TREE, {"properties": {"a": NUMBER, "b": {"$ref": "#"}}}, "/properties/a/type", "type-changed"),
        ({"type": "object"}, OBJECT, "/properties/a/type", "type-narrowed"),
        ({"required": ["a"]}, OBJECT, "/type", "type-narrowed"),
    ],
)  # fmt: skip
def test_a_breaking_change_is_told(old: Any, new: Any, pointer: str, code: str) -> None:
    """Where it stands in the new schema, and which rule it breaks."""
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
        ({"required": ["a", "b"]}, {"minProperties": 2}),
        ({"multipleOf": 4}, {"multipleOf": 2}),
        ({"type": "integer"}, {"multipleOf": 1}),
        ({"pattern": "^a"}, {"pattern": "^a", "title": "another"}),
        ({"format": "uri"}, {"format": "uri-reference"}),
        ({"prefixItems": [TEXT], "items": False}, {"maxItems": 1, "uniqueItems": True}),
        ({"prefixItems": [TEXT, TEXT], "items": TEXT}, {"items": TEXT}),
        ({"contains": TEXT, "minContains": 2}, {"contains": TEXT}),
        (OBJECT | {"additionalProperties": False}, OBJECT),
        (OBJECT | {"additionalProperties": False}, OBJECT | {"unevaluatedProperties": False}),
        (OBJECT | {"additionalProperties": False}, {"properties": {"a": TEXT, "b": TEXT}, "additionalProperties": False}),
        ({"patternProperties": {"^a": TEXT}, "additionalProperties": False}, {"patternProperties": {"^a": {}}, "additionalProperties": False}),
        ({"propertyNames": {"maxLength": 2}}, {"propertyNames": {"type": "string", "maxLength": 3}}),
        (TEXT, {"anyOf": [NUMBER, TEXT]}),
        ({"type": ["string", "array"]}, {"anyOf": [LIST, TEXT]}),
        ({"type": ["string", "number"]}, {"oneOf": [NUMBER, TEXT]}),
        ({"anyOf": [TEXT, LIST]}, {"type": ["array", "string"]}),
        ({"oneOf": [TEXT, {"minLength": 2}]}, {"oneOf": [TEXT, {"minLength": 2}]}),
        ({"allOf": [TEXT, {"maxLength": 2}]}, {"type": "string", "maxLength": 2}),
        (TEXT, {"allOf": [{"$ref": "#/$defs/x"}], "$defs": {"x": TEXT}}),
        ({"not": TEXT}, {"not": {**TEXT, "title": "no texts"}}),
        ({"if": TEXT, "then": {"maxLength": 1}}, {"if": TEXT, "then": {"maxLength": 2}}),
        ({"if": TEXT, "then": {"maxLength": 1}}, {"if": TEXT}),
        (TREE, {"properties": {"a": {}, "b": {"$ref": "#"}}}),
        (TREE, {"$ref": "#/$defs/t", "$defs": {"t": {"properties": {"a": TEXT, "b": {"$ref": "#/$defs/t"}}}}}),
        ({"type": "string", "not": {}, "enum": [1]}, False),
        ({}, True),
        (False, {"type": "string"}),
    ],
)  # fmt: skip
def test_a_harmless_change_is_proven(old: Any, new: Any) -> None:
    """Whatever any data may hold."""
    assert [] == found(old, new, strict=True)


@pytest.mark.parametrize(
    "new",
    [
        {"properties": {"a": TEXT, "b": NUMBER}},
        {"properties": {"a": TEXT}, "patternProperties": {"^b": NUMBER}},
        {"properties": {"a": TEXT, "b": TEXT}, "dependentRequired": {"b": ["c"]}},
    ],
)
def test_a_new_optional_property_is_noted(new: Any) -> None:
    """The older version did not write it; whether other data has it nobody knows, which `strict` minds."""
    notes = [one.code for one in changes(OBJECT, new, strict=False) if not one.breaking]

    assert ["property-added"] == notes
    assert [] == found(OBJECT, new)
    assert "property-added" in [code for _, code in found(OBJECT, new, strict=True)]


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
def test_a_property_that_was_spoken_of_is_not_new(old: Any) -> None:
    """However conditionally; and where none is described all are free."""
    assert found(old, {"properties": {"b": NUMBER}})


def test_every_keyword_is_decided() -> None:
    """No keyword that can refuse a value is passed over."""
    beside_others = {"then", "else", "minContains", "maxContains"}

    assert ASSERTING - beside_others == DECIDED


def test_what_is_too_intricate_is_not_proven(monkeypatch: pytest.MonkeyPatch) -> None:
    """A schema that takes too many steps ends as an incompatibility, not as a hanging command."""
    monkeypatch.setattr(schema_compatibility, "_MOST_STEPS", 100)
    choices = [{"anyOf": [{"minLength": n}, {"maxLength": n}]} for n in range(1, 16)]

    assert [("", "unproven")] == found({"allOf": choices}, {"type": "string"})
