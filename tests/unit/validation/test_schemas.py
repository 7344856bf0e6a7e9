"""Shipped schemas are sound, documented by examples that hold, and never change once published."""

import hashlib
import json
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft202012Validator
from referencing import Registry

from keycloak_bridge.app.schema_files import load_schemas
from keycloak_bridge.domain.events import USER_CREATED, USER_EVENTS, USER_UPDATED
from keycloak_bridge.validation.subschema import CONTAINERS, Subschema, follow

SCHEMAS = Path(__file__).parents[3] / "schemas"
FILES = sorted(path.relative_to(SCHEMAS).as_posix() for path in SCHEMAS.rglob("*.json"))
PUBLISHED: dict[str, str] = json.loads(
    Path(__file__).with_name("published_schemas.json").read_text(encoding="utf-8")
)
CATALOG = load_schemas()


def content(name: str) -> Any:
    return json.loads((SCHEMAS / name).read_text(encoding="utf-8"))


def subschemas(name: str) -> list[Any]:
    root = Subschema.root(content(name), Registry())
    return [one.schema for one in follow([root], *CONTAINERS)]


@pytest.mark.parametrize("name", FILES)
def test_schema_is_one_of_its_draft(name: str) -> None:
    """Metaschema, id, title and description."""
    schema = content(name)
    kind, version = name.removesuffix(".json").split("/")

    Draft202012Validator.check_schema(schema)

    assert schema["$schema"] == "https://json-schema.org/draft/2020-12/schema"
    assert schema["$id"] == f"urn:keycloak-bridge:schema:{kind}:{version}"
    assert schema["title"]
    assert schema["description"]


@pytest.mark.parametrize("name", FILES)
def test_every_property_is_described(name: str) -> None:
    """A contract is read by people."""
    for schema in subschemas(name):
        for described in (
            schema.get("properties", {}) if isinstance(schema, dict) else {}
        ).values():
            assert described.get("description"), described


@pytest.mark.parametrize("name", FILES)
def test_examples_hold(name: str) -> None:
    """By their version, and by the newest, which applies where an event names none; a producer may add a field."""
    schema = content(name)
    kind = name.split("/", maxsplit=1)[0]

    assert schema["examples"]
    for example in schema["examples"]:
        more = {**example, "added": {"later": True}}
        for data, version in ((example, schema["$id"]), (more, schema["$id"]), (example, None)):
            assert CATALOG.violations(kind, data, version) == ()


@pytest.mark.parametrize("name", FILES)
def test_nothing_refers_outside_the_file(name: str) -> None:
    """A schema can be used by any validator, without a network."""
    references = [
        sub[keyword]
        for sub in subschemas(name)
        if isinstance(sub, dict)
        for keyword in ("$ref", "$dynamicRef")
        if keyword in sub
    ]

    assert [one for one in references if not one.startswith("#")] == []


def test_published_schemas_never_change() -> None:
    """A change needs a new version; a new file is entered into published_schemas.json."""
    actual = {name: hashlib.sha256((SCHEMAS / name).read_bytes()).hexdigest() for name in FILES}

    assert actual == PUBLISHED


@pytest.mark.parametrize("kind", USER_EVENTS)
def test_every_event_names_its_user_alike(kind: str) -> None:
    """One key, one subject and one external id for the whole life of a user."""
    user_id = CATALOG.document(kind)["properties"]["userId"]

    assert "userId" in CATALOG.document(kind)["required"]
    assert user_id == CATALOG.document(USER_CREATED)["properties"]["userId"]


def test_an_update_can_say_whatever_a_creation_can() -> None:
    """The same properties of the same form, and null besides."""
    created = CATALOG.document(USER_CREATED)["properties"]
    updated = CATALOG.document(USER_UPDATED)["properties"]

    assert updated.keys() - created.keys() == {"complete"}
    assert created.keys() - updated.keys() == set()
    for name in created.keys() - {"userId"}:
        assert "null" in updated[name]["type"], name
        assert set(updated[name]["type"]) - {"null"} == _types(created[name]), name


def _types(schema: Any) -> set[str]:
    return {schema["type"]} if isinstance(schema["type"], str) else set(schema["type"])
