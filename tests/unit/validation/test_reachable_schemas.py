"""Whatever a reference can reach is checked at start, wherever it stands in the file."""

import json
from typing import Any

import pytest

from keycloak_bridge.domain.errors import ConfigError
from keycloak_bridge.validation.catalog import SchemaCatalog
from keycloak_bridge.validation.documents import SchemaDocument

ORIGIN = "own/user.created/1.0.json"
FAR = "https://example.com/far.json"
PLACES = (
    ("components", "schemas", "X"),
    ("models", "X"),
    ("x-types", "X"),
    ("examples", 0),
    ("default",),
    ("const",),
    ("$defs", "group", "X"),
    ("definitions", "group", "deeper", "X"),
    ("properties", "a", "x-inner", "X"),
)


def schema_with(hidden: Any, place: tuple[str | int, ...]) -> dict[str, Any]:
    """Return a schema that has `hidden` at `place` and refers to it."""
    content: Any = {"$id": "urn:a", "properties": {}}
    here = content
    for step, following in zip(place, [*place[1:], None], strict=True):
        inner: Any = hidden if following is None else [] if following == 0 else {}
        if isinstance(here, list):
            here.append(inner)
        else:
            here[step] = inner
        here = here[step]
    content.setdefault("properties", {})["used"] = {"$ref": "#/" + "/".join(map(str, place))}
    loaded: dict[str, Any] = json.loads(json.dumps(content))  # each place is an object of its own
    return loaded


def problem_of(*contents: Any) -> str:
    """Return what is wrong with schemas of which the first is version 1.0."""
    with pytest.raises(ConfigError) as caught:
        SchemaCatalog(
            SchemaDocument(
                "user.created", (1, number), content, f"own/user.created/1.{number}.json"
            )
            for number, content in enumerate(contents)
        )
    assert caught.value.code == "schema"
    return caught.value.message


@pytest.mark.parametrize("place", PLACES, ids=lambda place: "/".join(map(str, place)))
@pytest.mark.parametrize(
    ("hidden", "steps"),
    [
        ({"pattern": "("}, "/pattern"),
        ({"$ref": FAR}, "/$ref"),
        ({"type": "strnig"}, "/type"),
        ({"properties": []}, "/properties"),
        ({"properties": {"b": {"anyOf": [{"$ref": FAR}]}}}, "/properties/b/anyOf/0/$ref"),
        ({"items": [{"type": "string"}]}, "/items"),
        ({"$id": "http://[", "type": "string"}, "/$id"),
        ([], ""),
        ("text", ""),
        (None, ""),
    ],
    ids=str,
)
def test_a_fault_anywhere_is_named_with_its_pointer(
    place: tuple[str | int, ...], hidden: Any, steps: str
) -> None:
    """At start; an event would meet it as `internal-error`, or would not be judged at all."""
    pointer = "/" + "/".join(map(str, place)) + steps

    assert f"{ORIGIN}: {pointer}: " in problem_of(schema_with(hidden, place))


def test_what_a_hidden_schema_refers_to_is_checked_too() -> None:
    """And so on, also through another file, where the pointer is that of the reference."""
    chain = {
        "$id": "urn:a",
        "properties": {"a": {"$ref": "#/models/A"}, "b": {"$ref": "urn:b#/models/B"}},
        "models": {"A": {"items": {"$ref": "#/models/C"}}, "C": {"pattern": "("}},
    }
    other = {"$id": "urn:b", "models": {"B": {"format": "date", "minimum": "1"}}}

    problems = problem_of(chain, other)

    assert "1.0.json: /models/C/pattern: is not a regular expression" in problems
    assert "1.0.json: /properties/b/$ref" in problems


def test_a_hidden_schema_that_refers_to_itself_without_end_is_found() -> None:
    """As one in `$defs` is."""
    hidden = schema_with({"anyOf": [{"$ref": "#/models/X"}]}, ("models", "X"))

    assert "/models/X: refers to itself without end" in problem_of(hidden)


def test_what_no_reference_names_is_no_schema() -> None:
    """An example may hold what would be a bad schema."""
    data = {"pattern": "(", "$ref": FAR}

    SchemaCatalog(
        [
            SchemaDocument(
                "user.created", (1, 0), {"$id": "urn:a", "examples": [data], "x-more": data}, ORIGIN
            )
        ]
    )


def test_one_finding_is_named_once() -> None:
    """However many vocabularies of the metaschema see it."""
    lines = problem_of({"$id": "urn:a", "properties": {"a": {"items": [{}]}}}).splitlines()

    assert len(lines) == 1
