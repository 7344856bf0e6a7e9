"""`schemas` lists, shows and checks: new versions against older ones, published ones against what they were."""

import json
from pathlib import Path
from typing import Any

import pytest
from cli_harness import call

DIALECT = "https://json-schema.org/draft/2020-12/schema"
FIRST: dict[str, Any] = {"type": "object", "properties": {"a": {"type": "string"}}}
USER_CREATED = "urn:keycloak-bridge:schema:user.created:1.1"
RECORD = ("--published", "published.json", "--record")
OWN = ("--set", "schemas.folders=own")


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


def published() -> dict[str, str]:
    """Return what is recorded as published."""
    recorded: dict[str, str] = json.loads(Path("published.json").read_text())
    return recorded


def findings(*words: str) -> list[tuple[str, str, str, bool]]:
    """Return file, pointer and code of what is found, and whether it is breaking."""
    report = json.loads(call("schemas", "check", "own", "--format", "json", *words).stdout)
    return [
        (one["file"], one["pointer"], one["code"], one["breaking"]) for one in report["findings"]
    ]


def test_list() -> None:
    """Type, version, id and origin of every schema, aligned, the newest version last."""
    lines = call("schemas", "list", *OWN).stdout.splitlines()
    rows = {line.split()[0]: line.split() for line in lines}

    assert ["TYPE", "VERSION", "ID", "FROM"] == rows["TYPE"]
    assert ["1.1", USER_CREATED, "schemas/user.created/1.1.json"] == rows["user.created"][1:]
    assert ["1.0", "urn:example:user.moved:1.0"] == rows["user.moved"][1:3]
    assert {"dead-letter", "user.invitation.due", "user.provisioning.result"} <= rows.keys()


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("user.created", USER_CREATED),
        ("user.created/1.1", USER_CREATED),
        (USER_CREATED, USER_CREATED),
        ("user.moved/1.0", "urn:example:user.moved:1.0"),
    ],
)
def test_show(name: str, expected: str) -> None:
    """The newest of a type, a version, or by id, as JSON; those of the user too."""
    assert expected == json.loads(call("schemas", "show", name, *OWN).stdout)["$id"]


def test_the_shipped_schemas_are_compatible() -> None:
    """Without any argument, those are checked."""
    result = call("schemas", "check")

    *findings, verdict = result.stdout.splitlines()
    assert 0 == result.exit_code
    assert "every minor version accepts what earlier ones accepted" in verdict
    assert {"note"} == {one.partition(":")[0] for one in findings}


def test_a_compatible_version_passes() -> None:
    """A note is no error."""
    schema("1.1", {**FIRST, "properties": {**FIRST["properties"], "b": {"type": "null"}}})
    result = call("schemas", "check", "own")

    assert 0 == result.exit_code
    assert result.stdout.startswith("note: own/user.moved/1.1.json: /properties/b: ")
    assert 1 == call("schemas", "check", "own", "--strict").exit_code


def test_an_incompatible_version_is_an_error() -> None:
    """File, pointer, rule, the version it breaks, and what to do; then nothing is recorded."""
    schema("1.1", {**FIRST, "required": ["a"]})
    result = call("schemas", "check", "own")
    error, fix, _ = result.stdout.splitlines()

    assert 1 == result.exit_code
    assert error.startswith("error: own/user.moved/1.1.json: /required/0: ")
    assert error.endswith("(against 1.0) [required-added]")
    assert "new major version" in fix
    assert [("own/user.moved/1.1.json", "/required/0", "required-added", True)] == findings()
    assert 1 == call("schemas", "check", "own", *RECORD).exit_code
    assert not Path("published.json").exists()


def test_folders_come_from_the_settings_unless_named() -> None:
    """An argument overrides [schemas]."""
    schema("1.1", {**FIRST, "required": ["a"]})
    schema("1.0", FIRST, "other")

    assert 1 == call("schemas", "check", *OWN).exit_code
    assert 0 == call("schemas", "check", "other", *OWN).exit_code


@pytest.mark.parametrize(
    "words",
    [
        *(("show", name) for name in ("nope", "user.created/9.9", "urn:nope")),
        ("check", "own", "--record"),
        ("check", "own", "--published", "none.json"),
    ],
)
def test_wrong_usage(words: tuple[str, ...]) -> None:
    """Exit code 2, nothing on standard output, and of an unknown schema how to find the right name."""
    result = call("schemas", *words)

    assert (2, "") == (result.exit_code, result.stdout)
    assert ("`keycloak-bridge schemas list`" in result.stderr) is (words[0] == "show")


@pytest.mark.parametrize("command", [("list", *OWN), ("check", "own")])
def test_a_broken_schema_is_named(command: tuple[str, ...]) -> None:
    """With file and pointer."""
    schema("1.1", {"type": "text"})

    result = call("schemas", *command)

    assert (2, True) == (result.exit_code, "own/user.moved/1.1.json: /type" in result.stderr)


def test_published_versions_are_recorded_once() -> None:
    """New ones are added; what is recorded stays as it is, also when its file has changed."""
    assert 0 == call("schemas", "check", "own", *RECORD).exit_code
    before = published()
    schema("1.1", {**FIRST, "title": "more"})
    assert 0 == call("schemas", "check", "own", *RECORD).exit_code
    after = published()
    schema("1.0", {**FIRST, "title": "changed"})
    result = call("schemas", "check", "own", *RECORD)

    assert ["user.moved/1.0.json"] == list(before)
    assert before.items() < after.items()
    assert ["user.moved/1.0.json", "user.moved/1.1.json"] == list(after)
    assert (1, after) == (result.exit_code, published())


def test_a_record_that_may_not_be_looked_for_is_named() -> None:
    """It may be there, so nothing is written over it."""
    name = "x" * 300
    result = call("schemas", "check", "own", "--published", name, "--record")

    assert (2, "") == (result.exit_code, result.stdout)
    assert f"{name}: cannot be read: File name too long" in result.stderr


def test_a_change_of_a_published_version_is_an_error() -> None:
    """Changed, removed; a new one that was not recorded yet is a note."""
    schema("0.9", FIRST)
    call("schemas", "check", "own", *RECORD)
    schema("0.9", FIRST).unlink()
    schema("1.0", {**FIRST, "title": "changed"})
    schema("1.1", FIRST)

    assert [
        ("own/user.moved/1.0.json", "", "published-changed", True),
        ("own/user.moved/1.1.json", "", "unrecorded", False),
        ("user.moved/0.9.json", "", "published-removed", True),
    ] == sorted(findings("--published", "published.json"))


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ('{"$schema": "https://json-schema.org/draft/2020-12/schema"}', "/$id: is missing"),
        ('{"type": "object"}', "/$id: is missing"),
        ('{"$id": null}', "/$id: "),
        ('[{"type": "object"}]', "must be a JSON object"),
        ("true", "must be a JSON object"),
        ("null", "must be a JSON object"),
        ('"text"', "must be a JSON object"),
        ("1", "must be a JSON object"),
        ("", "not JSON"),
        ('{"$id": "urn:a", "$schema": ["x"]}', "/$schema: "),
        ('{"$id": "urn:a", "properties": {"a": {"$id": "http://["}}}', "/properties/a/$id: "),
        ('{"$id": "urn:a", "properties": {"a": {"$ref": "http://["}}}', "/properties/a/$ref: "),
    ],
)
def test_every_command_refuses_an_odd_file_alike(text: str, reason: str) -> None:
    """What `check-config` says of it, and exit code 2; no file makes a command crash."""
    Path("own/user.created").mkdir(parents=True)
    Path("own/user.created/1.100.json").write_text(text)

    folder = str(Path("own").absolute())
    settings = ("--set", f"schemas.folders={folder}")

    results = [
        call("schemas", "check", folder),
        call("schemas", "check", folder, *RECORD),
        call("schemas", "list", *settings),
        call("check-config", *settings),
    ]

    assert [2] * 4 == [one.exit_code for one in results]
    assert len({one.stderr.replace("schemas: ", "") for one in results}) == 1
    assert "own/user.created/1.100.json: " in results[0].stderr
    assert reason in results[0].stderr


def test_an_unknown_format_is_a_note_or_an_error() -> None:
    """By `schemas.unknown_formats`, wherever schemas are loaded; the note is printed once."""
    schema("1.0", {"properties": {"a": {"format": "int64"}}})
    strict = {"KEYCLOAK_BRIDGE_SCHEMAS_UNKNOWN_FORMATS": "error"}

    noted = call("schemas", "check", "own")
    refused = call("schemas", "check", "own", **strict)

    lines = [one for one in noted.stdout.splitlines() if "int64" in one]
    assert (0, 1) == (noted.exit_code, len(lines))
    assert lines[0].startswith("note: own/user.moved/1.0.json: /properties/a/format: 'int64'")
    assert "int64" in call("check-config", *OWN).stdout
    assert (2, True) == (refused.exit_code, "/properties/a/format: 'int64'" in refused.stderr)
    assert 2 == call("check-config", *OWN, **strict).exit_code
