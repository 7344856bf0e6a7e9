"""What a schema says of a property, read through references and combined schemas."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from referencing import Registry
from referencing.jsonschema import DRAFT202012

from keycloak_bridge.validation.subschema import (
    PropertyFacts,
    Subschema,
    property_facts,
    property_types,
    widest,
)

ID = "urn:test:schema"


def facts(schema: dict[str, Any], *path: str) -> PropertyFacts | None:
    content = {"$schema": "https://json-schema.org/draft/2020-12/schema", "$id": ID, **schema}
    registry: Registry[Any] = Registry().with_resource(ID, DRAFT202012.create_resource(content))
    return property_facts(Subschema.root(content, registry.crawl()), path)


def one(schema: Any, **more: Any) -> PropertyFacts:
    found = facts({"properties": {"a": schema}, **more}, "a")
    assert found is not None
    return found


@pytest.mark.parametrize(
    ("schema", "expected"),
    [
        ({"type": "string", "maxLength": 5}, (5, False)),
        ({"type": "string"}, (None, True)),
        ({"type": "string", "pattern": "^[A-Z]{2}$"}, (2, False)),
        ({"type": "string", "pattern": "^[A-Z]{2}$", "maxLength": 1}, (1, False)),
        ({"type": "string", "pattern": "[A-Z]{2}"}, (None, True)),
        ({"type": "string", "pattern": "^[A-Z]+$"}, (None, True)),
        ({"type": "string", "pattern": "^(A|BB)$"}, (None, False)),
        ({"type": "string", "format": "uuid"}, (None, False)),
        ({"type": "string", "enum": ["a"]}, (None, False)),
        ({"type": "integer"}, (None, False)),
        ({"type": "string", "anyOf": [{"maxLength": 5}]}, (None, False)),
        ({"$ref": "#/$defs/short"}, (7, False)),
        ({"allOf": [{"$ref": "#/$defs/short"}, {"maxLength": 6}]}, (6, False)),
        (True, (None, True)),
    ],
)
def test_lengths(schema: Any, expected: tuple[int | None, bool]) -> None:
    """The least limit counts; where alternatives or a hard pattern may limit, nothing is claimed."""
    defs = {"short": {"type": "string", "maxLength": 7}}
    found = one(schema, **{"$defs": defs})

    assert expected == (found.longest, found.may_be_endless)


def test_required_all_the_way() -> None:
    """A property is always there only if all above it are."""
    inner = {"properties": {"b": {"type": "string"}}, "required": ["b"]}
    found = [
        facts({"properties": {"a": inner}, "required": required}, "a", "b")
        for required in (["a"], [])
    ]

    assert [True, False] == [one is not None and one.required for one in found]


def test_unnamed_properties_are_unknown() -> None:
    """Nothing is said about what the schema does not name."""
    assert facts({"properties": {"a": {}}}, "b") is None
    assert facts({"additionalProperties": {"type": "string"}}, "b") is None


def test_lists_values_and_types() -> None:
    """Items are facts of their own; const is an enum of one."""
    found = one({"type": "array", "maxItems": 3, "items": {"type": "string", "maxLength": 9}})

    assert (frozenset({"array"}), 3) == (found.types, found.max_items)
    assert found.item is not None
    assert 9 == found.item.longest
    assert ("x",) == one({"const": "x"}).values
    assert (1, ("^a$",)) == (one({"minLength": 1}).min_length, one({"pattern": "^a$"}).patterns)


@pytest.mark.parametrize(
    ("pattern", "expected"),
    [
        ("^\\+[1-9][0-9]{1,14}$", 16),
        ("^a?b$", 2),
        ("^[a-z]{3}$", 3),
        ("^[a-z]{3,}$", None),
        ("^a*$", None),
        ("^(ab)$", None),
        ("a", None),
        ("^a\\$", None),
        ("^$", 0),
    ],
)
def test_widths(pattern: str, expected: int | None) -> None:
    """Simple anchored patterns limit the length of a match."""
    assert expected == widest(pattern)


@given(st.text(max_size=20))
def test_any_pattern_gets_an_answer(pattern: str) -> None:
    """No pattern breaks the reading."""
    width = widest(pattern)

    assert width is None or width >= 0


@pytest.mark.parametrize(
    ("schema", "expected"),
    [
        ({"type": "string"}, {"string"}),
        ({"type": ["integer", "null"]}, {"number", "null"}),
        ({"type": "array", "items": {"type": "string"}}, {"array"}),
        ({"$ref": "#/$defs/text"}, {"string"}),
        ({"allOf": [{"$ref": "#/$defs/text"}, {"type": "string"}]}, {"string"}),
        ({"anyOf": [{"type": "string"}, {"type": "boolean"}]}, {"string", "boolean"}),
        ({"anyOf": [{"type": "string"}, {"minLength": 1}]}, None),
        ({"type": "string", "if": {}, "then": {"type": "number"}}, {"string", "number"}),
        ({"minLength": 1}, None),
        (True, None),
        (False, None),
        ({}, None),
    ],
)
def test_types_are_never_fewer_than_a_schema_leaves(schema: Any, expected: set[str] | None) -> None:
    """An alternative, a condition or a schema without `type` leaves more; what says nothing of it leaves all."""
    content = {
        "$id": ID,
        "properties": {"a": schema},
        "$defs": {"text": {"type": "string"}},
    }
    registry: Registry[Any] = Registry().with_resource(ID, DRAFT202012.create_resource(content))
    root = Subschema.root(content, registry.crawl())

    assert expected == property_types(root, ("a",))
    assert frozenset() == property_types(root, ("b",))


@pytest.mark.parametrize(
    "schema",
    [
        {"anyOf": [{"properties": {"a": {"type": "string"}}}, {"properties": {"b": {}}}]},
        {"dependentSchemas": {"b": {"properties": {"a": {"type": "string"}}}}},
        {"type": "object"},
    ],
)
def test_an_alternative_that_does_not_name_the_property_leaves_it_all_types(schema: Any) -> None:
    """Only one of several forms speaks of it, or none."""
    content = {"$id": ID, "properties": {"o": schema}}
    registry: Registry[Any] = Registry().with_resource(ID, DRAFT202012.create_resource(content))

    assert property_types(Subschema.root(content, registry.crawl()), ("o", "a")) is None
