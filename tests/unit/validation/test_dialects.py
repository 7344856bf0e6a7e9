"""A schema of an older draft means what its draft says, and its faults are named as its author wrote it."""

import gzip
import hashlib
import json
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jsonschema.validators import validator_for

from keycloak_bridge.app.schema_files import load_schemas
from keycloak_bridge.domain.errors import ConfigError
from keycloak_bridge.validation.catalog import SchemaCatalog
from keycloak_bridge.validation.documents import SchemaDocument

DRAFT_4 = "http://json-schema.org/draft-04/schema#"
DRAFT_6 = "http://json-schema.org/draft-06/schema#"
DRAFT_7 = "http://json-schema.org/draft-07/schema#"
DRAFT_2019 = "https://json-schema.org/draft/2019-09/schema"
DRAFT_2020 = "https://json-schema.org/draft/2020-12/schema"
ALL = (DRAFT_4, DRAFT_6, DRAFT_7, "http://json-schema.org/draft-07/schema", DRAFT_2019)
VALUES: tuple[Any, ...] = (
    *(None, True, 0, 1, 1.0, -1, 2.5, "", "a", "abc", [], [1], ["a"], ["a", 1], ["a", "b", 3]),
    *(
        [1, 2, 3, 4],
        {},
        {"a": 1},
        {"a": "x"},
        {"a": 1, "b": 2},
        {"b": 1},
        {"c": {}},
        {"c": {"c": 1}},
    ),
    *({"a": {"a": {}}}, {"a": [1, "b"]}, {"items": [1]}, {"foo": {"bar": 1}}, {"dependencies": 1}),
)


def document(schema: Any, dialect: str) -> SchemaDocument:
    content = {"$schema": dialect, "$id": "urn:a", **schema}
    loaded = json.loads(json.dumps(content))
    return SchemaDocument("user.created", (1, 0), loaded, "1.0.json")


@pytest.mark.parametrize("dialect", ALL)
@pytest.mark.parametrize(
    "schema",
    [
        {"items": [{"type": "string"}, {"type": "integer"}]},
        {"items": [{"type": "string"}], "additionalItems": False},
        {"items": [{"type": "string"}], "additionalItems": {"type": "integer"}},
        {"items": {"type": "string"}, "additionalItems": False},
        {"additionalItems": False},
        {"prefixItems": [{"type": "null"}]},
        {"dependencies": {"a": ["b"], "c": {"minProperties": 2}}},
        {"dependentRequired": {"a": ["b"]}, "dependentSchemas": {"b": False}},
        {"definitions": {"s": {"type": "string"}}, "properties": {"a": {"$ref": "#/definitions/s"}}},
        {"properties": {"a": {"$ref": "#/definitions/s", "maxLength": 0}}, "definitions": {"s": {}}},
        {"items": [{"type": "string"}], "properties": {"a": {"$ref": "#/items/0"}}},
        {"items": [{}], "additionalItems": {"type": "null"}, "not": {"$ref": "#/additionalItems"}},
        {"dependencies": {"a": {"minProperties": 2}}, "properties": {"c": {"$ref": "#/dependencies/a"}}},
        {"properties": {"dependencies": {"type": "null"}, "items": {"type": "null"}}},
        {"properties": {"items": {"maxItems": 0}, "a": {"$ref": "#/properties/items"}}},
        {"x": {"Y": {"items": [{"type": "string"}]}}, "properties": {"a": {"$ref": "#/x/Y"}}},
        {"x": {"Y": {"properties": {"c": {"$ref": "#/x/Y"}}, "type": "object"}}, "$defs": {}, "properties": {"c": {"$ref": "#/x/Y"}}},
        {"if": {"type": "string"}, "then": {"minLength": 2}, "else": {"type": "array"}},
        {"contains": {"type": "integer"}, "minContains": 2, "maxContains": 3},
        {"contains": {"type": "integer"}, "minContains": 0},
        {"unevaluatedProperties": False, "properties": {"a": {}}},
        {"exclusiveMinimum": 0, "maximum": 2},
        {"propertyNames": {"maxLength": 1}, "const": {"a": 1}},
        {"properties": {"a": {"$ref": "#"}, "c": {"$ref": "#"}}, "additionalProperties": False},
        {"type": "object", "patternProperties": {"^a": {"items": [{"type": "integer"}]}}},
        {"allOf": [{"items": [{"type": "string"}]}], "anyOf": [{"minItems": 1}, {"type": "object"}]},
    ],
    ids=lambda schema: json.dumps(schema)[:60],
)  # fmt: skip
def test_a_value_is_judged_as_its_draft_says(schema: Any, dialect: str) -> None:
    """By the bridge, quickly or in words, as by the library's implementation of that draft."""
    if dialect == DRAFT_4 and "exclusiveMinimum" in schema:
        schema = {"minimum": 0, "exclusiveMinimum": True, "maximum": 2, "exclusiveMaximum": False}
    whole = document(schema, dialect)
    before = json.dumps(whole.content)
    catalog = SchemaCatalog([whole])
    plain = validator_for(whole.content)(whole.content)

    said = [not catalog.violations("user.created", value) for value in VALUES]

    assert [plain.is_valid(value) for value in VALUES] == said
    assert before == json.dumps(whole.content) == json.dumps(catalog.document("urn:a"))


@pytest.mark.parametrize("anchored", [True, False])
@pytest.mark.parametrize("beside", [{}, {"$ref": "#/definitions/s"}])
def test_recursion_of_2019_is_followed(anchored: bool, beside: Any) -> None:
    """With `$recursiveAnchor` and without."""
    anchor = {"$recursiveAnchor": True} if anchored else {}
    tree = {
        **anchor,
        "definitions": {"s": {}},
        "type": "object",
        "properties": {"c": {**beside, "$recursiveRef": "#", "allOf": [True]}},
    }
    catalog = SchemaCatalog([document(tree, DRAFT_2019)])

    assert catalog.violations("user.created", {"c": {"c": {}}}) == ()
    assert [one.pointer for one in catalog.violations("user.created", {"c": {"c": 1}})] == [
        "/data/c/c"
    ]


def test_an_anchor_of_draft_7_is_found() -> None:
    """Which is an `$id` there."""
    schema = {
        "definitions": {"s": {"$id": "#s", "type": "string"}},
        "properties": {"a": {"$ref": "#s"}},
    }
    catalog = SchemaCatalog([document(schema, DRAFT_7)])

    assert len(catalog.violations("user.created", {"a": 1})) == 1


def test_a_schema_of_draft_4_names_itself_by_id() -> None:
    """And so do those inside it; a `$id` that somebody adds counts for the whole."""
    schema = {
        "id": "https://acme.example/user.json",
        "definitions": {
            "s": {"id": "name.json", "type": "string"},
            "t": {"id": "#t", "maximum": 1},
        },
        "properties": {"a": {"$ref": "name.json"}, "b": {"$ref": "#t"}, "id": {"type": "string"}},
    }
    named = SchemaDocument("user.created", (1, 0), {"$schema": DRAFT_4, **schema}, "1.0.json")
    for one, whole in ((named, schema["id"]), (document(schema, DRAFT_4), "urn:a")):
        catalog = SchemaCatalog([one])
        found = [
            catalog.violations("user.created", {name: 2}, str(whole)) for name in ("a", "b", "id")
        ]
        assert [[f"/data/{name}"] for name in ("a", "b", "id")] == [
            [violation.pointer for violation in violations] for violations in found
        ]


def test_a_fault_of_draft_4_is_named_where_it_stands() -> None:
    """In the words of the file."""
    wrong = {"$schema": DRAFT_4, "id": "name", "items": [{"minimum": 1, "exclusiveMinimum": 0}]}
    with pytest.raises(ConfigError) as caught:
        SchemaCatalog([SchemaDocument("user.created", (1, 0), wrong, "1.0.json")])

    assert "1.0.json: /id: must be a URI" in caught.value.message
    assert "1.0.json: /items/0/exclusiveMinimum: " in caught.value.message


@pytest.mark.parametrize("draft", [DRAFT_6, DRAFT_7, DRAFT_2019, DRAFT_2020])
def test_an_empty_fragment_of_an_id_means_nothing(draft: str) -> None:
    """References inside the schema and from others work, and an event may name it either way."""
    uri = "https://acme.example/user.json"
    schema = {
        "$id": f"{uri}#",
        "definitions": {"s": {"type": "string"}},
        "properties": {"a": {"$ref": "#/definitions/s"}, "b": {"$ref": f"{uri}#/definitions/s"}},
    }
    other = {"$id": "https://acme.example/other.json", "properties": {"c": {"$ref": "user.json#"}}}
    catalog = SchemaCatalog(
        [document(schema, draft), replace(document(other, draft), type="user.updated")]
    )

    for name in (uri, f"{uri}#"):
        found = catalog.violations("user.created", {"a": 1, "b": 2}, name)
        assert ["/data/a", "/data/b"] == [one.pointer for one in found]
    assert ["/data/c/a"] == [
        one.pointer for one in catalog.violations("user.updated", {"c": {"a": 1}})
    ]


@pytest.mark.parametrize("draft", [DRAFT_4, DRAFT_6, DRAFT_7, DRAFT_2019, DRAFT_2020])
def test_a_draft_is_known_by_either_scheme(draft: str) -> None:
    """People write http: for https: and the other way round; both mean one draft."""
    other = draft.replace("https:", "http:") if "https:" in draft else "https" + draft[4:]
    schema = {"items": [{"type": "string"}]} if draft != DRAFT_2020 else {"prefixItems": [False]}
    found = [
        SchemaCatalog([document(schema, one)]).violations("user.created", [1])
        for one in (draft, other, other.rstrip("#"))
    ]

    assert 1 == len(found[0])
    assert [found[0]] * 3 == found


@pytest.mark.parametrize(
    ("schema", "pointer"),
    [
        ({"items": [{"pattern": "("}]}, "/items/0/pattern"),
        ({"items": [{}], "additionalItems": {"pattern": "("}}, "/additionalItems/pattern"),
        ({"dependencies": {"a": {"$ref": "urn:b"}}}, "/dependencies/a/$ref"),
        ({"items": [{"x": {"items": [{"pattern": "("}]}, "$ref": "#/items/0/x"}]}, "/items/0"),
        ({"models": {"X": {"items": [{"pattern": "("}]}}, "not": {"$ref": "#/models/X"}}, "/models/X/items/0/pattern"),
        ({"models": {"X": {"type": "strnig"}}, "not": {"$ref": "#/models/X"}}, "/models/X/type"),
        ({"items": [{}, {"items": [{"type": "strnig"}]}]}, "/items/1/items/0/type: is no schema"),
        ({"required": "a"}, "/required"),
        ({"dependencies": {"a": 1}}, "/dependencies/a"),
    ],
)  # fmt: skip
def test_a_fault_is_named_where_it_stands(schema: Any, pointer: str) -> None:
    """In the words of the file, not in those of the newest draft."""
    with pytest.raises(ConfigError) as caught:
        SchemaCatalog([document(schema, DRAFT_7)])

    assert f"1.0.json: {pointer}" in caught.value.message


def test_notes_know_the_draft() -> None:
    """What the draft has is no mistake; what is misspelt is."""
    schema = {"definitions": {"s": {}}, "items": [{"maxlength": 1}], "dependencies": {"a": ["b"]}}
    (note,) = SchemaCatalog([document(schema, DRAFT_7)]).notes

    assert "/items/0/maxlength" == note.pointer


def test_schemas_of_several_drafts_live_together(tmp_path: Any) -> None:
    """Beside the shipped ones, and by name of property."""
    file = tmp_path / "user.created" / "1.100.json"
    file.parent.mkdir()
    file.write_text(json.dumps(document({"properties": {"a": {"items": [{}]}}}, DRAFT_7).content))

    assert load_schemas([tmp_path]).has_property("user.created", ("a",))


SUITE = gzip.decompress(Path(__file__).with_name("json-schema-suite-older.json.gz").read_bytes())
SUITE_SHA256 = "9ed0913be636be8017a3c2f209b4324af33f2e9e2365c6c8cc2cb7ae7f468797"
FOLDERS = {"draft4": DRAFT_4, "draft6": DRAFT_6, "draft7": DRAFT_7, "draft2019-09": DRAFT_2019}


def test_suite_is_the_official_one() -> None:
    """The file in the repository is the one that its notice names."""
    assert hashlib.sha256(SUITE).hexdigest() == SUITE_SHA256


@pytest.mark.parametrize("folder", FOLDERS)
def test_official_suite(folder: str) -> None:
    """Its answers, for every schema but those with remote references or a metaschema of their own."""
    wrong: list[Any] = []
    refused: list[str] = []
    judged = 0
    for file, groups in json.loads(SUITE)[folder].items():
        for group in groups:
            if not isinstance(group["schema"], dict) or file in ("vocabulary.json", "format.json"):
                continue
            schema = {"$id": "urn:a", **group["schema"], "$schema": FOLDERS[folder]}
            try:
                catalog = SchemaCatalog(
                    [SchemaDocument("user.created", (1, 0), schema, "1.0.json")]
                )
            except ConfigError as error:
                refused.append(error.message)
                continue
            for case in group["tests"]:
                judged += 1
                if (not catalog.violations("user.created", case["data"])) is not case["valid"]:
                    wrong.append((file, group["description"], case["description"]))

    assert wrong == []
    assert [one for one in refused if "names no schema that is known here" not in one] == []
    assert judged > 500


WORDS = (
    *(
        "$id",
        "id",
        "minimum",
        "exclusiveMinimum",
        "$ref",
        "$schema",
        "$anchor",
        "$recursiveRef",
        "$recursiveAnchor",
        "$dynamicRef",
    ),
    *("$defs", "definitions", "dependencies", "items", "additionalItems", "properties", "allOf"),
    *("not", "if", "type", "required", "enum", "const", "pattern", "format", "x", "examples"),
)
ODD = st.recursive(
    st.sampled_from(
        [
            *(
                None,
                True,
                0,
                -1,
                "",
                "a",
                "#",
                "#/",
                "#/x",
                "#/items/0",
                "#/x/items/0/x",
                "http://[",
            ),
            *(
                "urn:a",
                "urn:a#/x",
                "#a",
                "(",
                r"\\p{L}",
                "string",
                "#/definitions/x",
                "../x",
                "%zz",
            ),
        ]
    ),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(WORDS), inner, max_size=4)
    ),
    max_leaves=12,
)


@settings(max_examples=400, deadline=None)
@given(ODD, st.sampled_from([*ALL, None, DRAFT_2020]))
def test_no_schema_however_odd_raises_anything_else(odd: Any, dialect: str | None) -> None:
    """It is sound, or it is refused; then every value is judged."""
    content = {**odd, "$id": "urn:a"} if isinstance(odd, dict) else odd
    if isinstance(content, dict) and dialect:
        content = {**content, "$schema": dialect}
    content = json.loads(json.dumps(content))

    with suppress(ConfigError):
        catalog = SchemaCatalog([SchemaDocument("user.created", (1, 0), content, "1.0.json")])
        for value in VALUES:
            catalog.violations("user.created", value)
