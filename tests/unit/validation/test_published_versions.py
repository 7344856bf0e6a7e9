"""A published version is what it was, or the change is told."""

import pytest

from keycloak_bridge.validation.compatibility import publication_problems, unpublished, version_name
from keycloak_bridge.validation.schema_checks import SchemaDocument

ONE = SchemaDocument("t", (1, 0), {}, "own/t/1.0.json", "aa")
TWO = SchemaDocument("t", (1, 1), {}, "own/t/1.1.json", "bb")


def test_a_version_is_recorded_by_folder_and_name() -> None:
    """Wherever the folders stand."""
    assert "t/1.0.json" == version_name(ONE)


@pytest.mark.parametrize(
    ("published", "expected"),
    [
        ({}, []),
        ({"t/1.0.json": "aa"}, []),
        ({"t/1.0.json": "bb"}, [("own/t/1.0.json", "published-changed")]),
        ({"t/0.9.json": "aa"}, [("t/0.9.json", "published-removed")]),
    ],
)
def test_a_change_of_a_published_version_is_told(
    published: dict[str, str], expected: list[tuple[str, str]]
) -> None:
    """Changed and removed ones; versions that are new are no problem."""
    found = publication_problems([ONE, TWO], published)

    assert expected == [(problem.file, problem.code) for problem in found]


def test_new_versions_are_those_that_are_not_recorded() -> None:
    """A recorded one is never among them, whatever its sum."""
    assert {"t/1.1.json": "bb"} == unpublished([ONE, TWO], {"t/1.0.json": "other"})
