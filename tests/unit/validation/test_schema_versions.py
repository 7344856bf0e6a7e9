"""Every minor version is held to all earlier ones of its major version, and readers are told what changes for them."""

from typing import Any

import pytest
from schema_cases import places

from keycloak_bridge.domain.errors import ConfigError
from keycloak_bridge.validation.compatibility import compare_versions, reader_notes
from keycloak_bridge.validation.schema_checks import SchemaDocument

TEXT = {"type": "string"}


def document(version: tuple[int, int], content: Any, event_type: str = "t") -> SchemaDocument:
    """Return a version of a schema."""
    name = "{}.{}".format(*version)
    whole = {"$id": f"urn:test:{event_type}:{name}", **content}
    return SchemaDocument(event_type, version, whole, f"folder/{event_type}/{name}.json")


def test_a_version_is_compared_with_all_earlier_ones_of_its_major() -> None:
    """The nearest first; other types and major versions are no matter."""
    documents = [
        document((1, 10), {}),
        document((1, 2), {}),
        document((1, 0), {}),
        document((2, 0), {}),
        document((1, 0), {}, "u"),
    ]

    pairs = [(one.old.version, one.new.version) for one in compare_versions(documents)]

    assert [((1, 0), (1, 2)), ((1, 2), (1, 10)), ((1, 0), (1, 10))] == pairs


def test_a_major_version_may_change_everything() -> None:
    """That is what it is for."""
    assert () == compare_versions([document((1, 0), TEXT), document((2, 0), {"type": "null"})])


def test_a_property_cannot_come_back_as_another() -> None:
    """What the version between left out is still held to the one before."""
    others = {"a": TEXT}
    versions = [
        document((1, 0), {"properties": {**others, "b": TEXT}}),
        document((1, 1), {"properties": others}),
        document((1, 2), {"properties": {**others, "b": {"type": "null"}}}),
    ]

    verdicts = {
        (one.old.version[1], one.new.version[1]): one.compatible
        for one in compare_versions(versions)
    }

    assert {(0, 1): True, (1, 2): True, (0, 2): False} == verdicts


def test_what_is_told_once_is_not_repeated() -> None:
    """Three versions, one narrowing: one report of it."""
    versions = [document((1, 0), {}), document((1, 1), {}), document((1, 2), TEXT)]

    codes = [[change.code for change in one.changes] for one in compare_versions(versions)]

    assert [[], ["type-narrowed"], []] == codes


def test_unsound_schemas_are_refused() -> None:
    """There is nothing to compare."""
    with pytest.raises(ConfigError):
        compare_versions([document((1, 0), {"type": "text"})])


def test_one_version_may_refer_to_the_other() -> None:
    """A new version often is the older one and more."""
    versions = [
        document((1, 0), {"properties": {"a": TEXT}}),
        document((1, 1), {"$ref": "urn:test:t:1.0", "properties": {"b": TEXT}}),
    ]

    (comparison,) = compare_versions(versions)

    assert ["property-added"] == [change.code for change in comparison.changes]


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        ({"properties": {"a": TEXT}}, {}, [("/properties", "property-removed")]),
        ({"required": ["a"]}, {}, [("/required", "required-removed")]),
        (TEXT, {"type": ["string", "null"]}, [("/type", "type-widened")]),
        ({"enum": ["a"]}, {"enum": ["a", "b"]}, [("/enum", "enum-value-added")]),
        (
            {"properties": {"a": TEXT}},
            {"properties": {"a": {}}},
            [],
        ),
        (
            {"items": {"properties": {"a": TEXT}}},
            {"items": {"properties": {"a": {"type": ["string", "null"]}}}},
            [("/items/properties/a/type", "type-widened")],
        ),
        ({"properties": {"a": {"$ref": "#"}}}, {"properties": {"a": {"$ref": "#"}}}, []),
    ],
)
def test_readers_are_told_what_changes_for_them(
    old: Any, new: Any, expected: list[tuple[str, str]]
) -> None:
    """Notes, none of which is breaking."""
    before, after, _ = places(old, new)
    notes = reader_notes(before, after)

    assert expected == [(note.pointer, note.code) for note in notes]
    assert not any(note.breaking for note in notes)
