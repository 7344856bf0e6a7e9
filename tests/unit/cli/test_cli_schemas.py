"""`schemas` lists and shows."""

import json
from pathlib import Path

import pytest
from cli_harness import call

USER_CREATED = "urn:keycloak-bridge:schema:user.created:1.1"


@pytest.fixture
def own_folder() -> str:
    """A folder with a schema of the user's own."""
    folder = Path("own/user.moved")
    folder.mkdir(parents=True)
    schema = {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "$id": "urn:example:user.moved:2.3",
        "title": "A user moved",
        "type": "object",
    }
    (folder / "2.3.json").write_text(json.dumps(schema))
    return "schemas.folders=own"


def test_list(own_folder: str) -> None:
    """Type, version, id and origin of every schema, aligned."""
    lines = call("schemas", "list", "--set", own_folder).stdout.splitlines()
    rows = {line.split()[0]: line.split() for line in lines}  # the newest version comes last

    assert ["TYPE", "VERSION", "ID", "FROM"] == rows["TYPE"]
    assert ["1.1", USER_CREATED, "schemas/user.created/1.1.json"] == rows["user.created"][1:]
    assert ["2.3", "urn:example:user.moved:2.3"] == rows["user.moved"][1:3]
    assert {"dead-letter", "user.invitation.due", "user.provisioning.result"} <= rows.keys()


@pytest.mark.parametrize("name", ["user.created", "user.created/1.1", USER_CREATED])
def test_show(name: str) -> None:
    """The newest of a type, a version, or by id, as JSON."""
    assert USER_CREATED == json.loads(call("schemas", "show", name).stdout)["$id"]


def test_show_own(own_folder: str) -> None:
    """Schemas of the user are shown the same way."""
    shown = json.loads(call("schemas", "show", "user.moved/2.3", "--set", own_folder).stdout)

    assert "A user moved" == shown["title"]


@pytest.mark.parametrize("name", ["nope", "user.created/9.9", "urn:nope"])
def test_show_unknown(name: str) -> None:
    """Exit code 2, and how to find the right name."""
    result = call("schemas", "show", name)

    assert (2, "") == (result.exit_code, result.stdout)
    assert "`keycloak-bridge schemas list`" in result.stderr


def test_a_broken_schema_is_named() -> None:
    """A folder with a broken schema is an error with the file's name."""
    folder = Path("own/x")
    folder.mkdir(parents=True)
    (folder / "1.0.json").write_text("{")
    result = call("schemas", "list", "--set", "schemas.folders=own")

    assert 2 == result.exit_code
    assert "own/x/1.0.json" in result.stderr
