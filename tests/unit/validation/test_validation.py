"""Data keeps every rule of its schema, or every broken rule is reported without its value."""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from records import USER
from referencing import Registry

from keycloak_bridge.domain.errors import (
    ConfigError,
    EventValidationError,
    UnknownSchemaError,
    Violation,
)
from keycloak_bridge.domain.events import CloudEvent, UserEvent
from keycloak_bridge.validation.catalog import SchemaCatalog
from keycloak_bridge.validation.documents import SchemaDocument
from keycloak_bridge.validation.validator import compile_schema

TYPE = "user.created"
OBJECT: Mapping[str, Any] = {"$id": "urn:test:1.0", "type": "object"}


def catalog(*contents: Any) -> SchemaCatalog:
    """Return a catalog of one type whose versions are 1.0, 1.1 and so on."""
    return SchemaCatalog(
        SchemaDocument(TYPE, (1, minor), content, f"folder/{TYPE}/1.{minor}.json")
        for minor, content in enumerate(contents)
    )


def event(data: Any = USER, dataschema: str | None = None, event_type: str = TYPE) -> CloudEvent:
    time = datetime(2026, 11, 1, tzinfo=UTC)
    return CloudEvent("event-1", "/u", event_type, "u-1", time, dataschema, data)


def broken(schema: Mapping[str, Any], value: Any) -> list[tuple[str, str]]:
    """Return what `value` breaks of `schema`, which describes the property `x`."""
    whole = {**OBJECT, "properties": {"x": schema}}
    found = catalog(whole).violations(TYPE, {"x": value})
    return [(one.pointer, f"{one.keyword}: {one.message}") for one in found]


@pytest.mark.parametrize(
    ("schema", "value", "expected"),
    [
        (
            {
                "required": ["a"],
                "dependentRequired": {"a": ["b"]},
                "properties": {"a": False},
                "patternProperties": {"": False},
                "additionalProperties": False,
                "propertyNames": False,
                "pattern": "x",
            },
            1,
            None,
        ),
        ({"type": "string"}, 1, "type: must be a string"),
        ({"type": ["integer", "null"]}, "", "type: must be a whole number or null"),
        ({"minLength": 1}, "", "minLength: must be at least 1 character long"),
        ({"maxLength": 2}, "abc", "maxLength: must be at most 2 characters long"),
        ({"minimum": 3}, 2, "minimum: must be at least 3"),
        ({"maximum": 3}, 4, "maximum: must be at most 3"),
        ({"exclusiveMinimum": 3}, 3, "exclusiveMinimum: must be greater than 3"),
        ({"exclusiveMaximum": 3}, 3, "exclusiveMaximum: must be less than 3"),
        ({"multipleOf": 0.01}, 10**299 + 0.5, None),
        ({"multipleOf": 2}, 3, "multipleOf: must be a multiple of 2"),
        ({"enum": ["a", 1]}, "b", 'enum: must be one of: "a", 1'),
        ({"const": "ä"}, "b", 'const: must be "ä"'),
        ({"pattern": "^a$"}, "a\n", "pattern: must match the pattern ^a$"),
        ({"format": "email"}, "a b@c", "format: must be an e-mail address"),
        ({"required": ["a/b"]}, {}, "/a~1b required: is required"),
        (
            {"dependentRequired": {"a": ["b"]}},
            {"a": 1},
            "/b dependentRequired: is required beside what is given",
        ),
        (
            {"properties": {"a": True}, "additionalProperties": False},
            {"a": 1, "b": 2},
            "/b additionalProperties: is a property that the schema does not know",
        ),
        (
            {"patternProperties": {"^a$": {"type": "null"}}, "additionalProperties": True},
            {"a": 1, "a\n": 1},
            "/a type: must be null",
        ),
        (
            {"patternProperties": {"^a$": True}, "additionalProperties": False},
            {"a": 1, "a\n": 1},
            "/a\ufffd additionalProperties: is a property that the schema does not know",
        ),
        ({"additionalProperties": {"type": "null"}}, {"a": 1}, "/a type: must be null"),
        (
            {"propertyNames": {"maxLength": 1}},
            {"ab": 1},
            "/ab propertyNames: is not an allowed name of a property",
        ),
        ({"minItems": 1}, [], "minItems: must have at least 1 item"),
        ({"maxItems": 2}, [1, 2, 3], "maxItems: must have at most 2 items"),
        ({"maxProperties": 0}, {"a": 1}, "maxProperties: must have at most 0 properties"),
        ({"uniqueItems": True}, [1, 1], "uniqueItems: must not hold an item twice"),
        (
            {"anyOf": [{"minimum": 2}, {"type": "number", "maximum": 0}]},
            1,
            "anyOf: must have at least one of the 2 allowed forms",
        ),
        (
            {"anyOf": [{"type": "null"}, {"type": ["array", "null"]}]},
            1,
            "type: must be null or a list",
        ),
        (
            {"oneOf": [{"type": "null"}, {"minimum": 2}]},
            1,
            "minimum: must be at least 2",
        ),
        (
            {
                "properties": {
                    "a": {
                        "oneOf": [
                            {"type": "null"},
                            {"anyOf": [{"type": "null"}, {"type": "object", "required": ["b"]}]},
                        ]
                    }
                }
            },
            {"a": {}},
            "/a/b required: is required",
        ),
        ({"multipleOf": 0.01}, 19.991, "multipleOf: must be a multiple of 0.01"),
        ({"oneOf": [True, True]}, 1, "oneOf: must have exactly one of the 2 allowed forms"),
        ({"not": {}}, 1, "not: has a form that the schema excludes"),
        (False, 1, "false: is not allowed here"),
        (
            {"if": {"type": "string"}, "then": {"minLength": 2}},
            "a",
            "minLength: must be at least 2 characters long",
        ),
        (
            {"unevaluatedProperties": False},
            {"a": 1},
            "unevaluatedProperties: holds properties that the schema does not know",
        ),
        ({"items": {"type": "string"}}, ["a", 1], "/1 type: must be a string"),
    ],
)
def test_broken_rule_is_reported_in_words(schema: Any, value: Any, expected: str | None) -> None:
    """Pointer, keyword, and the rule with the schema's own parameter."""
    found = [f"{pointer} {rest}" for pointer, rest in broken(schema, value)]

    below = "" if expected is None or expected.startswith("/") else " "
    assert ([] if expected is None else [f"/data/x{below}{expected}"]) == found


def test_all_violations_come_sorted() -> None:
    """One report names everything, by pointer."""
    schema = {**OBJECT, "required": ["c"], "properties": {n: {"type": "null"} for n in "bad"}}

    with pytest.raises(EventValidationError) as caught:
        catalog(schema).validate(event({"b": 1, "a": 1, "d": 1}))

    assert caught.value.code == "schema-violation"
    pointers = [violation.pointer for violation in caught.value.violations]
    assert pointers == ["/data/a", "/data/b", "/data/c", "/data/d"]
    assert caught.value.message.endswith("/data/a must be null, and 3 more")


def test_reports_are_bounded() -> None:
    """A hundred thousand bad items make no hundred thousand violations."""
    schema = {**OBJECT, "properties": {"x": {"items": {"type": "null"}}}}

    with pytest.raises(EventValidationError, match=r"null, and many more$") as caught:
        catalog(schema).validate(event({"x": [1] * 100_000}))

    assert len(caught.value.violations) == 50


@pytest.mark.parametrize(
    ("schema", "value", "expected"),
    [
        ({"maxLength": 9, "format": "email", "pattern": "^(a+)+$"}, "a" * 99 + "!", "maxLength"),
        ({"pattern": "^(a+)+$", "maxLength": 9}, "a" * 99 + "!", "maxLength"),
        ({"maxItems": 1, "items": {"pattern": "^(a+)+$"}}, ["a" * 99 + "!", 1], "maxItems"),
        ({"maxItems": 1, "contains": {"pattern": "^(a+)+$"}}, ["a" * 99 + "!", 1], "maxItems"),
        ({"maxItems": 1, "uniqueItems": True, "unevaluatedItems": False}, [1, 1], "maxItems"),
        (
            {"maxProperties": 1, "propertyNames": {"pattern": "^(a+)+$"}},
            {"a" * 99 + "!": 1, "b": 2},
            "maxProperties",
        ),
        (
            {"maxProperties": 1, "additionalProperties": {"pattern": "^(a+)+$"}},
            {"a": "a" * 99 + "!", "b": 2},
            "maxProperties",
        ),
        (
            {"maxProperties": 1, "properties": {"a": False}, "patternProperties": {"^(a+)+$": {}}},
            {"a" * 99 + "!": 1, "b": 2},
            "maxProperties",
        ),
    ],
)
def test_what_is_too_large_is_not_looked_into(schema: Any, value: Any, expected: str) -> None:
    """It is refused already, and what is in it may take for ever: these patterns do."""
    (found,) = broken(schema, value)

    assert expected in found[1]


ALL_OF_IT = {"allOf": [{"properties": {"a": {"type": "string"}}}, {"required": ["a"]}]}
LEAVE_OUT = "; leave the property out"


@pytest.mark.parametrize(
    ("schema", "value", "expected"),
    [
        ({"properties": {"a": {"type": "string"}}}, {"a": None}, ("/data/x/a", LEAVE_OUT)),
        ({"properties": {"a": {"type": "string"}}, "required": ["a"]}, {"a": None}, ("/data/x/a", "")),
        (ALL_OF_IT, {"a": None}, ("/data/x/a", "")),
        ({"properties": {"a": {"type": "string"}}, "required": ["b"]}, {"a": None, "b": 1}, ("/data/x/a", LEAVE_OUT)),
        ({"properties": {"a": {"type": "string"}}, "dependentRequired": {"b": ["a"]}}, {"a": None, "b": 1}, ("/data/x/a", "")),
        ({"properties": {"a": {"anyOf": [{"type": "string"}, False]}}, "required": ["a"]}, {"a": None}, ("/data/x/a", "")),
        ({"items": {"type": "string"}}, [None], ("/data/x/0", "")),
        ({"items": ALL_OF_IT}, [{"a": "b"}, {"a": None}], ("/data/x/1/a", "")),
        ({"items": {"properties": {"a": {"type": "string"}}}}, [{"a": None}], ("/data/x/0/a", LEAVE_OUT)),
    ],
)  # fmt: skip
def test_a_null_is_left_out_only_where_that_is_an_answer(
    schema: Any, value: Any, expected: tuple[str, str]
) -> None:
    """What is required, or an item of a list, has to be another: nothing is said of `events.nulls`."""
    pointer, advice = expected

    assert [(pointer, f"type: must be a string, not null{advice}")] == broken(schema, value)


def test_long_parameters_are_shortened() -> None:
    """An enumeration of thousands does not fill the dead letter."""
    ((_, message),) = broken({"enum": [str(number) for number in range(5000)]}, "x")

    assert len(message) < 250


SECRET = "s3cr3t-Zq"
SCHEMAS: Sequence[Mapping[str, Any]] = (
    {"type": "integer"},
    {"maxLength": 1},
    {"enum": ["a"]},
    {"const": 1},
    {"pattern": "^$"},
    {"format": "email"},
    {"not": {}},
    {"items": {"type": "null"}, "minItems": 9},
    {"additionalProperties": {"type": "null"}, "minProperties": 9, "required": ["q"]},
    {"oneOf": [{"type": "null"}, False]},
    {"uniqueItems": True, "contains": {"type": "null"}, "prefixItems": [{"type": "null"}]},
    {"unevaluatedProperties": False, "unevaluatedItems": False},
)
PLANTED = st.recursive(
    st.just(SECRET),
    lambda inner: (
        st.lists(inner, min_size=1, max_size=3)
        | st.dictionaries(st.sampled_from("abc"), inner, min_size=1, max_size=3)
    ),
)


@settings(deadline=None)
@given(st.sampled_from(SCHEMAS), PLANTED)
def test_a_value_never_appears_in_a_violation(schema: Mapping[str, Any], value: Any) -> None:
    """What the event holds stays in the event."""
    assert SECRET not in repr(broken(schema, value))


@pytest.mark.parametrize("keyword", ["anyOf", "oneOf"])
def test_a_choice_looks_no_further_than_a_report(keyword: str) -> None:
    """Into a huge instance that has none of the forms."""
    forms = [{"type": "null"}, {"items": {"type": "string"}}, {"items": {"minimum": 2}}, False]
    (error,) = compile_schema({keyword: forms}, Registry()).iter_errors([1] * 1000)

    by_form = error.by_form()  # type: ignore[attr-defined]

    assert [1, 50, 50] == [len(errors) for errors in by_form]
    assert [] == broken({keyword: [{"type": "null"}, {"items": {"type": "string"}}]}, ["a"] * 1000)


def test_valid_event_is_handed_on() -> None:
    """Everything arrives as it was, with the schema that vouches for it."""
    actual = catalog(OBJECT).validate(event())

    time = datetime(2026, 11, 1, tzinfo=UTC)
    assert actual == UserEvent("event-1", "/u", TYPE, "u-1", time, "urn:test:1.0", USER)


def test_newest_version_applies_where_none_is_named() -> None:
    """Versions are numbers: 1.10 is newer than 1.9."""
    documents = [
        SchemaDocument(TYPE, version, {"$id": "urn:test:{}.{}".format(*version)}, "file")
        for version in [(1, 9), (2, 0), (1, 10)]
    ]

    newest = [
        SchemaCatalog(documents).schema_id(TYPE),
        SchemaCatalog(documents[::2]).schema_id(TYPE),
    ]

    assert newest == ["urn:test:2.0", "urn:test:1.10"]


def test_dataschema_chooses_the_version() -> None:
    """An older event is judged by its own schema."""
    versions = catalog(OBJECT, {"$id": "urn:test:1.1", "required": ["more"]})

    assert versions.validate(event(dataschema="urn:test:1.0")).schema_id == "urn:test:1.0"
    with pytest.raises(EventValidationError):
        versions.validate(event())


def test_data_must_be_an_object_whatever_the_schema_says() -> None:
    """A mapping needs properties."""
    with pytest.raises(EventValidationError) as caught:
        catalog({"$id": "urn:test:1.0"}).validate(event([1]))

    assert caught.value.violations == (Violation("/data", "type", "must be an object"),)


@pytest.mark.parametrize(
    ("an_event", "code", "known"),
    [
        (event(event_type="user.renamed"), "unknown-type", "known: user.created"),
        (event(dataschema="urn:other"), "unknown-schema", "known: urn:test:1.0"),
    ],
)
def test_unknown_names_are_answered_with_the_known(
    an_event: CloudEvent, code: str, known: str
) -> None:
    """The message helps to choose; it does not repeat what the event said."""
    with pytest.raises(UnknownSchemaError) as caught:
        catalog(OBJECT).validate(an_event)

    assert caught.value.code == code
    assert known in caught.value.message
    assert "renamed" not in caught.value.message
    assert "urn:other" not in caught.value.message


def test_schemas_refer_to_each_other_and_nothing_is_fetched() -> None:
    """A reference finds schemas of the catalog, in every way of writing it."""
    address = {
        "$id": "urn:test:1.1",
        "$defs": {"city": {"$anchor": "city", "type": "string"}},
        "properties": {"city": {"$ref": "#/$defs/city"}},
    }
    user = {
        **OBJECT,
        "properties": {"home": {"$ref": "urn:test:1.1"}, "born": {"$ref": "urn:test:1.1#city"}},
    }

    found = catalog(user, address).violations(
        TYPE, {"home": {"city": 1}, "born": 2}, "urn:test:1.0"
    )

    assert [violation.pointer for violation in found] == ["/data/born", "/data/home/city"]


@pytest.mark.parametrize(
    ("content", "line"),
    [
        ([], "must be a JSON object"),
        ({}, "/$id: is missing"),
        ({"$id": "user"}, "/$id: must be a URI"),
        ({"$id": "urn:a#b"}, "/$id: "),
        (
            {"$id": "urn:keycloak-bridge:schema:user.created:2.0"},
            "/$id: does not agree with the file's folder and name",
        ),
        ({**OBJECT, "$schema": "http://json-schema.org/draft-03/schema#"}, "/$schema: names no"),
        ({**OBJECT, "items": [{}]}, "/items: is written as in an older draft; use prefixItems"),
        ({**OBJECT, "properties": {"a": {"required": True}}}, "/properties/a/required: is written"),
        ({**OBJECT, "properties": {"a": {"type": "text"}}}, "/properties/a/type: is no schema"),
        ({**OBJECT, "required": "a"}, "/required: is no schema"),
        ({**OBJECT, "items": {"pattern": "("}}, "/items/pattern: is not a regular expression"),
        (
            {**OBJECT, "items": {"pattern": "(?=a)b+"}},
            "/items/pattern: is not a regular expression",
        ),
        ({**OBJECT, "items": {"pattern": r"(a)\1"}}, "/items/pattern: is not a regular expression"),
        (
            {**OBJECT, "patternProperties": {r"\p{X}": True}},
            r"/patternProperties/\p{X}: is not a regular expression",
        ),
        (
            {**OBJECT, "$defs": {"a": {"$ref": "https://example.com/a.json"}}},
            "/$defs/a/$ref: 'https://example.com/a.json' names no schema that is known here",
        ),
        ({**OBJECT, "if": {"$ref": "#/$defs/b"}}, "/if/$ref: '#/$defs/b' names no schema"),
        ({**OBJECT, "$dynamicRef": "#nowhere"}, "/$dynamicRef: '#nowhere' names no schema"),
    ],
)
def test_broken_schema_is_named_with_file_and_pointer(content: Any, line: str) -> None:
    """Before anything is consumed, and without fetching anything."""
    with pytest.raises(ConfigError) as caught:
        catalog(content)

    assert caught.value.message.startswith("folder/user.created/1.0.json: " + line)
    assert caught.value.remedy


def test_all_problems_are_reported_together() -> None:
    """One run reports everything that must be corrected."""
    bad = {"patternProperties": {"[": True}, "pattern": "("}

    with pytest.raises(ConfigError) as caught:
        catalog({**OBJECT, "properties": {"a": bad}}, {**bad, "$id": "urn:test:1.0"})

    assert len(caught.value.message.splitlines()) == 5
    assert "1.1.json: /$id: is taken by folder/user.created/1.0.json" in caught.value.message


def test_two_files_for_one_version_are_an_error() -> None:
    """A user's folder cannot replace a published version."""
    documents = [
        SchemaDocument(TYPE, (1, 0), {"$id": f"urn:{name}"}, name) for name in ("shipped", "own")
    ]

    with pytest.raises(ConfigError, match="own: has the type and version of shipped"):
        SchemaCatalog(documents)


@pytest.mark.parametrize(
    ("schema", "pointer"),
    [
        ({"$ref": "#"}, ""),
        ({"$ref": ""}, ""),
        ({"$defs": {"a": {"allOf": [{"$ref": "#/$defs/a"}]}}}, "/$defs/a"),
        ({"$defs": {"a": {"$ref": "#/$defs/b"}, "b": {"not": {"$ref": "#/$defs/a"}}}}, "/$defs/a"),
        ({"properties": {"a": {"if": {}, "then": {"$ref": "#/properties/a"}}}}, "/properties/a"),
        ({"dependentSchemas": {"a": {"$ref": "#"}}}, ""),
        ({"$dynamicAnchor": "x", "anyOf": [{"$dynamicRef": "#x"}]}, ""),
    ],
)
def test_a_schema_that_refers_to_itself_without_end_is_found_at_start(
    schema: Any, pointer: str
) -> None:
    """No event could be judged by it."""
    with pytest.raises(ConfigError, match="refers to itself without end") as caught:
        catalog({**OBJECT, **schema})

    assert f"{pointer}: refers" in caught.value.message


def test_a_value_that_nests_too_deep_for_its_schema_is_a_violation() -> None:
    """A recursive schema needs several calls for each level; the stack of the process is no matter of the record."""
    tree = {"$ref": "#/$defs/tree"}
    inner = {"allOf": [{"anyOf": [{"properties": {"sub": {"allOf": [tree]}}}, False]}]}
    deep: Any = {"leaf": 1}
    for _ in range(190):
        deep = {"sub": deep}

    found = catalog(
        {
            **OBJECT,
            "$defs": {"tree": {**inner, "unevaluatedItems": False}},
            "properties": {"tree": tree},
        }
    ).violations(TYPE, {"tree": deep})

    assert [("/data", "depth")] == [(one.pointer, one.keyword) for one in found]


UNIT = {"$ref": "#/properties/x/$defs/unit"}
TEAM, SITE = (
    {"properties": {"kind": {"const": kind}, "parent": UNIT}, "required": ["kind"]}
    for kind in ("team", "site")
)
TWICE = [{"properties": {"parent": UNIT}}, {"properties": {"parent": UNIT}}]


@pytest.mark.parametrize(
    "unit",
    [
        {"oneOf": [TEAM, SITE]},
        {"anyOf": [TEAM, SITE]},
        {"if": TEAM, "then": TEAM, "else": SITE},
        {"allOf": [TEAM, TEAM]},
        {"not": {"not": TEAM}, **TEAM},
        {"dependentSchemas": {"parent": TEAM, "kind": TEAM}},
        {"oneOf": [{"type": "null"}, {"type": "object", "allOf": [*TWICE, TEAM]}]},
        {"anyOf": [TEAM, {"properties": {"parent": {"contains": UNIT}}, "required": ["site"]}]},
        {"oneOf": [TEAM, SITE], "unevaluatedItems": False},
        {"allOf": [TEAM, TEAM], "unevaluatedItems": False},
        {
            "$dynamicAnchor": "unit",
            "oneOf": [
                {
                    "properties": {
                        "parent": {"$dynamicRef": "#unit"},
                        "kind": {"const": kind},
                    }
                }
                for kind in ("team", "site")
            ],
        },
    ],
)
def test_a_value_that_nests_is_looked_into_once(unit: Any) -> None:
    """However many ways the schema knows into it: they double with each level, which would take years here."""
    values: list[Any] = [{"kind": "team"}, {"kind": "neither"}]
    for _ in range(30):
        values = [{"parent": one, "kind": "team"} for one in values]

    good, bad = (broken({"$defs": {"unit": unit}, **UNIT}, one) for one in values)

    assert not good
    assert bad


SHAPE = {
    **OBJECT,
    "$defs": {
        "tree": {"properties": {"leaf": {"type": "string"}, "sub": {"$ref": "#/$defs/tree"}}}
    },
    "properties": {
        "name": {"type": "string"},
        "tree": {"$ref": "#/$defs/tree"},
        "map": {"type": "object", "additionalProperties": {"type": "string"}},
        "maps": {"patternProperties": {"^x": {"properties": {"y": {}}}}},
        "list": {"type": "array", "items": {"properties": {"item": {"type": "string"}}}},
        "free": {"type": "object"},
        "open": {"type": ["object", "null"], "additionalProperties": True},
        "closed": {"type": "object", "additionalProperties": False},
        "anything": True,
        "nothing": False,
        "other": {"$ref": "urn:test:1.1"},
    },
    "allOf": [{"properties": {"all": {"type": "string"}}}],
    "then": {"properties": {"then": {"type": "string"}}},
    "dependentSchemas": {"name": {"properties": {"dependent": {"type": "string"}}}},
}


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("name", True),
        ("nmae", False),
        ("name.first", False),
        ("tree.sub.sub.leaf", True),
        ("tree.sub.twig", False),
        ("map.any", True),
        ("map.any.more", False),
        ("maps.x1.y", True),
        ("maps.y1", False),
        ("list.item", True),
        ("list.other", False),
        ("free.a.b", True),
        ("open.a", True),
        ("closed.a", False),
        ("anything.at.all", True),
        ("nothing.at.all", False),
        ("other.city.name", True),
        ("other.town", False),
        ("all", True),
        ("then", True),
        ("dependent", True),
    ],
)
def test_paths_are_found_in_the_schema(path: str, expected: bool) -> None:
    """A mapping that names what no event has is an error at start."""
    other = {
        "$id": "urn:test:1.1",
        "properties": {"city": {"$ref": "#/$defs/city"}},
        "$defs": {"city": {"properties": {"name": {"type": "string"}}}},
    }
    document = SchemaDocument("address", (1, 1), other, "address")
    both = SchemaCatalog([SchemaDocument(TYPE, (1, 0), SHAPE, "user"), document])

    assert both.has_property(TYPE, tuple(path.split("."))) is expected


def test_a_path_of_any_version_counts() -> None:
    """A mapping serves events of several versions."""
    versions = catalog(
        {**OBJECT, "properties": {"old": {}}}, {"$id": "urn:test:1.1", "properties": {"new": {}}}
    )

    known = [versions.has_property(TYPE, (name,)) for name in ("old", "new", "other")]

    assert known == [True, True, False]
    assert not versions.has_property("user.deleted", ("old",))


@pytest.mark.parametrize("draft", ["2020-12/schema", "2019-09/schema"])
@pytest.mark.parametrize("inside", [False, True])
def test_a_schema_that_names_its_draft_is_checked_alike_behind_a_reference(
    draft: str, inside: bool
) -> None:
    """The library would go on with a validator of its own: other patterns, formats and pointers."""
    named: dict[str, Any] = {"$schema": f"https://json-schema.org/draft/{draft}", "required": ["a"], "properties": {"a": {"pattern": "^\\p{Lu}$"}, "next": {"$ref": "#"}}}  # fmt: skip
    content: dict[str, Any] = {**OBJECT, "properties": {"x": {**named, "$id": "urn:test:x"}}}
    if not inside:
        content = {**OBJECT, **named, "properties": {**named["properties"], "x": {"$ref": "#"}}}
    elif not draft.startswith("2020"):
        content["$schema"] = named["$schema"]
    found = catalog(content).violations(TYPE, {"a": "Ä", "x": {"a": "Ä", "next": {}}})

    assert ["/data/x/next/a"] == [one.pointer for one in found]


def test_patterns_are_those_of_ecma() -> None:
    """Of names in every script, for values and for names of properties."""
    assert broken({"pattern": r"^[\p{L}' -]+$"}, "Zoë O'Brien") == []
    assert len(broken({"pattern": r"^[\p{L}' -]+$"}, "R2D2")) == 1
    assert broken({"patternProperties": {r"^\p{L}$": False}}, {"1": 1}) == []
    assert len(broken({"patternProperties": {r"^\p{L}$": False}}, {"é": 1})) == 1
