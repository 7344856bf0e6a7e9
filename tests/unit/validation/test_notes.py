"""What has no effect in a schema is noted, once, with the nearest right word."""

from typing import Any

import pytest

from keycloak_bridge.app.schema_files import load_schemas
from keycloak_bridge.events.formats import FORMATS
from keycloak_bridge.validation.catalog import SchemaCatalog
from keycloak_bridge.validation.documents import SchemaDocument


def notes(content: Any) -> list[tuple[str, str, str]]:
    """Return pointer, code and reason of each note on a schema."""
    document = SchemaDocument("user.created", (1, 0), {"$id": "urn:a", **content}, "1.0.json")
    return [(one.pointer, one.code, one.reason) for one in SchemaCatalog([document]).notes]


def catalog(schema: Any) -> SchemaCatalog:
    content = {"$id": "urn:a", "properties": {"x": schema}}
    return SchemaCatalog([SchemaDocument("user.created", (1, 0), content, "1.0.json")])


@pytest.mark.parametrize("name", ["int64", "password", "phone", "e-mail", "x" * 10_000])
def test_an_unknown_format_only_describes(name: str) -> None:
    """As JSON Schema says; the note names it."""
    ((pointer, code, reason),) = notes({"properties": {"a": {"format": name}}})

    assert ("/properties/a/format", "unknown-format") == (pointer, code)
    assert name in reason
    assert ("; did you mean 'email'?" in reason) is (name == "e-mail")
    assert catalog({"format": name}).violations("user.created", {"x": "anything"}) == ()


def test_every_format_of_the_specification_is_known() -> None:
    """All of section 7.3 of JSON Schema Validation, 2020-12."""
    specified = {
        *("date-time", "date", "time", "duration", "email", "idn-email", "hostname", "regex"),
        *("idn-hostname", "ipv4", "ipv6", "uri", "uri-reference", "iri", "iri-reference", "uuid"),
        *("uri-template", "json-pointer", "relative-json-pointer"),
    }

    assert specified <= FORMATS.keys()


def test_a_note_on_what_is_used_twice_comes_once() -> None:
    """Its place is where it stands."""
    used = {"$ref": "#/components/X"}
    content = {
        "properties": {"a": used, "b": used},
        "components": {"X": {"format": "phone"}},
    }

    assert [one[0] for one in notes(content)] == ["/components/X/format"]


@pytest.mark.parametrize(
    ("schema", "pointer", "hint"),
    [
        ({"requried": ["a"]}, "/requried", "did you mean 'required'?"),
        ({"properties": {"a": {"maxlength": 5}}}, "/properties/a/maxlength", "'maxLength'?"),
        ({"properties": {"a": {"typ": "string"}}}, "/properties/a/typ", "did you mean 'type'?"),
        ({"items": {"enums": [1]}}, "/items/enums", "did you mean 'enum'?"),
        ({"propertis": {}}, "/propertis", "did you mean 'properties'?"),
        ({"ref": "#"}, "/ref", "did you mean '$ref'?"),
        ({"properties": {"a": {"nullable": True}}}, "/properties/a/nullable", 'add "null"'),
        ({"dependencies": {"a": ["b"]}}, "/dependencies", "dependentRequired or dependentSchemas"),
        ({"definitions": {}}, "/definitions", "use $defs"),
        ({"additionalItems": False}, "/additionalItems", "use prefixItems"),
        ({"id": "urn:b"}, "/id", "use $id"),
        ({"not": {"example": 1}}, "/not/example", "use examples"),
        ({"openapi": "3.1.0", "components": {}}, "/openapi", '"#/components/schemas/User"'),
    ],
)
def test_a_keyword_that_has_no_effect_is_noted(schema: Any, pointer: str, hint: str) -> None:
    """Misspelt ones and those of other drafts, with what is right."""
    ((where, code, reason),) = notes(schema)

    assert (pointer, "unknown-keyword") == (where, code)
    assert reason.startswith("is no keyword")
    assert hint in reason


def test_what_is_no_keyword_of_anybody_is_an_annotation() -> None:
    """Own words are allowed, and names of properties are no keywords."""
    own = {"x-requried": 1, "javaType": "a.B", "sensitive": True, "": 1}

    assert notes({**own, "properties": {"typ": {}, "requried": {}, "nullable": True}}) == []
    assert notes({"examples": [{"typ": 1}], "enum": [{"maxlength": 1}]}) == []


def test_the_shipped_schemas_give_no_notes() -> None:
    """They say what they mean."""
    assert load_schemas().notes == []
