"""`schemas check` holds new versions to the older ones, and published ones to what they were."""

import json
from pathlib import Path
from typing import Any

import pytest
from cli_harness import call

DIALECT = "https://json-schema.org/draft/2020-12/schema"
FIRST = {"type": "object", "properties": {"a": {"type": "string"}}}


def schema(version: str, content: Any, folder: str = "own") -> Path:
    """Write a version of the type user.moved and return its file."""
    file = Path(folder) / "user.moved" / f"{version}.json"
    file.parent.mkdir(parents=True, exist_ok=True)
    head = {"$schema": DIALECT, "$id": f"urn:example:user.moved:{version}"}
    file.write_text(json.dumps({**head, **content}))
    return file


@pytest.fixture(autouse=True)
def _first_version() -> None:
    schema("1.0", FIRST)


def findings(*words: str) -> list[tuple[str, str, str, bool]]:
    """Return file, pointer and code of what is found, and whether it is breaking."""
    told = json.loads(call("schemas", "check", "own", "--format", "json", *words).stdout)
    return [(one["file"], one["pointer"], one["code"], one["breaking"]) for one in told["findings"]]


def test_the_shipped_schemas_are_fine() -> None:
    """Without any argument, those are checked."""
    result = call("schemas", "check")

    *findings, verdict = result.stdout.splitlines()
    assert 0 == result.exit_code
    assert "every minor version accepts what earlier ones accepted" in verdict
    assert {"note"} == {one.partition(":")[0] for one in findings}


def test_a_compatible_version_passes() -> None:
    """A note is no error."""
    schema("1.1", {**FIRST, "properties": {**FIRST["properties"], "b": {"type": "null"}}})  # type: ignore[dict-item]
    result = call("schemas", "check", "own")

    assert 0 == result.exit_code
    assert result.stdout.startswith("note: own/user.moved/1.1.json: /properties/b: ")
    assert 1 == call("schemas", "check", "own", "--strict").exit_code


def test_an_incompatible_version_is_told() -> None:
    """File, pointer, rule, the version it breaks, and what to do."""
    schema("1.1", {**FIRST, "required": ["a"]})
    result = call("schemas", "check", "own")
    error, fix, _ = result.stdout.splitlines()

    assert 1 == result.exit_code
    assert error.startswith("error: own/user.moved/1.1.json: /required/0: ")
    assert error.endswith("(against 1.0) [required-added]")
    assert "new major version" in fix
    assert [("own/user.moved/1.1.json", "/required/0", "required-added", True)] == findings()


def test_folders_come_from_the_settings_unless_named() -> None:
    """An argument goes before [schemas]."""
    schema("1.1", {**FIRST, "required": ["a"]})
    schema("1.0", FIRST, "other")
    setting = ("--set", "schemas.folders=own")

    assert 1 == call("schemas", "check", *setting).exit_code
    assert 0 == call("schemas", "check", "other", *setting).exit_code


@pytest.mark.parametrize(
    "words",
    [
        ("nowhere",),
        ("own", "--record"),
        ("own", "--published", "none.json"),
        ("own", "--format", "xml"),
    ],
)
def test_wrong_usage(words: tuple[str, ...]) -> None:
    """Exit code 2, and nothing on standard output."""
    result = call("schemas", "check", *words)

    assert (2, "") == (result.exit_code, result.stdout)


def test_a_broken_schema_is_told() -> None:
    """As everywhere, with file and pointer."""
    schema("1.1", {"type": "text"})
    result = call("schemas", "check", "own")

    assert 2 == result.exit_code
    assert "own/user.moved/1.1.json: /type" in result.stderr


def test_published_versions_are_recorded_once() -> None:
    """New ones are added; what is recorded stays as it is, also when its file has changed."""
    record = ("--published", "published.json", "--record")
    assert 0 == call("schemas", "check", "own", *record).exit_code
    before = json.loads(Path("published.json").read_text())
    schema("1.1", {**FIRST, "title": "more"})
    assert 0 == call("schemas", "check", "own", *record).exit_code
    after = json.loads(Path("published.json").read_text())
    schema("1.0", {**FIRST, "title": "changed"})
    result = call("schemas", "check", "own", *record)

    assert ["user.moved/1.0.json"] == list(before)
    assert before.items() < after.items()
    assert ["user.moved/1.0.json", "user.moved/1.1.json"] == list(after)
    assert 1 == result.exit_code
    assert after == json.loads(Path("published.json").read_text())


def test_an_incompatible_version_is_not_recorded() -> None:
    """Nothing is, until all is well."""
    schema("1.1", {**FIRST, "required": ["a"]})
    result = call("schemas", "check", "own", "--published", "published.json", "--record")

    assert 1 == result.exit_code
    assert not Path("published.json").exists()


def test_a_change_of_a_published_version_is_told() -> None:
    """Changed, removed, and new ones that nobody recorded yet."""
    schema("0.9", FIRST)
    call("schemas", "check", "own", "--published", "published.json", "--record")
    schema("0.9", FIRST).unlink()
    schema("1.0", {**FIRST, "title": "changed"})
    schema("1.1", FIRST)

    assert [
        ("own/user.moved/1.0.json", "", "published-changed", True),
        ("own/user.moved/1.1.json", "", "unrecorded", False),
        ("user.moved/0.9.json", "", "published-removed", True),
    ] == sorted(findings("--published", "published.json"))
