"""What has no effect in a schema is noted, once, with the nearest right word."""

from typing import Any

import pytest

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
