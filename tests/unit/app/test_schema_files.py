"""Schema files are read and checked once, and every problem is reported with file and pointer."""

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from keycloak_bridge.app.published_schemas import read_published, write_published
from keycloak_bridge.app.schema_files import load_schemas
from keycloak_bridge.domain.errors import ConfigError


def write(folder: Path, name: str, content: Any) -> Path:
    """Write `content` as `name`; text stays as it is."""
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    return path


def problems(*folders: Path) -> list[str]:
    """Return the lines of the error that loading raises."""
    with pytest.raises(ConfigError) as caught:
        load_schemas(folders)
    assert caught.value.code == "schema"
    assert caught.value.remedy
    return caught.value.message.splitlines()


def test_folder_adds_types_and_versions(tmp_path: Path) -> None:
    """A user's schemas stand beside the shipped ones and may refer to them."""
    shipped = "urn:keycloak-bridge:schema:user.created:1.0"
    write(tmp_path, "user.created/1.2.json", {"$id": "urn:acme:user:1.2", "$ref": shipped})
    write(tmp_path, "user.renamed/10.0.json", {"$id": "urn:acme:renamed"})
    write(tmp_path, "README.md", "not a schema")
    write(tmp_path, "user.renamed/notes.txt", "not a schema")
    write(tmp_path, ".git/1.0.json", "not a schema")

    catalog = load_schemas([tmp_path])

    assert catalog.schema_id("user.created") == "urn:acme:user:1.2"
    assert catalog.has_property("user.created", ("email",))
    renamed = [one for one in catalog.documents if one.type == "user.renamed"]
    assert [one.origin for one in renamed] == [f"{tmp_path}/user.renamed/10.0.json"]


def test_all_problems_of_all_files_are_told_together(tmp_path: Path) -> None:
    """Files that cannot be read do not hide what the others have wrong.

    No folder can redefine a published contract, and no reference is followed to another host.
    """
    write(tmp_path, "a/1.0.json", "{")
    write(tmp_path, "a/latest.json", {})
    write(tmp_path, "a/1.01.json", {})
    write(tmp_path, "b/1.0.json", '{"$id": "urn:b", "$id": "urn:c"}')
    write(tmp_path, "c/1.0.json", {"$id": "urn:c", "properties": {"x": {"pattern": "("}}})
    (tmp_path / "d" / "1.0.json").mkdir(parents=True)
    write(tmp_path, "e/1.0.json", {}).write_bytes(b"\xff")
    remote = {"$id": "urn:f", "allOf": [{"$ref": "https://json.example/user.json"}]}
    write(tmp_path, "f/1.0.json", remote)
    taken = "urn:keycloak-bridge:schema:user.created:1.0"
    write(tmp_path, "user.created/1.0.json", {"$id": taken})

    lines = [line.removeprefix(f"{tmp_path}/") for line in problems(tmp_path)]

    assert [line.split(": ")[:2] for line in lines] == [
        ["a/1.0.json", "the value is not JSON"],
        ["a/1.01.json", "must be named <major>.<minor>.json"],
        ["a/latest.json", "must be named <major>.<minor>.json"],
        ["b/1.0.json", "an object names the property /$id more than once"],
        ["d/1.0.json", "is no regular file"],
        ["e/1.0.json", "the value is not UTF-8"],
        ["user.created/1.0.json", "/$id"],
        ["c/1.0.json", "/properties/x/pattern"],
        ["f/1.0.json", "/allOf/0/$ref"],
    ]
    assert "line 1, column 2" in lines[0]
    assert lines[-3].endswith(": is taken by schemas/user.created/1.0.json")
    assert lines[-1].split(": ")[2].startswith("'https://json.example/")


SCHEMA = {"$id": "urn:example:x", "type": "object"}
LAYOUT = "schemas are <type>/<major>.<minor>.json in the folder that is named"


@pytest.mark.parametrize("name", [None, "README.md", ".git/x.y/1.0.json"])
def test_a_folder_without_a_schema_is_a_mistake(tmp_path: Path, name: str | None) -> None:
    """Whoever names a folder has schemas in it."""
    if name is not None:
        write(tmp_path, name, "")

    assert [f"{tmp_path}: holds no schema; {LAYOUT}"] == problems(tmp_path)


@pytest.mark.parametrize("name", ["1.0.json", "deep/x.y/1.0.json", "x.y/1.0.yaml", "x.y.yml"])
def test_a_schema_in_another_place_is_a_mistake(tmp_path: Path, name: str) -> None:
    """Beside the folders of the types, below them, or in another language: it would be passed over in silence."""
    write(tmp_path, "a.b/1.0.json", SCHEMA)
    write(tmp_path, name, SCHEMA)

    assert [f"{tmp_path}/{name}: is not read; {LAYOUT}"] == problems(tmp_path)


def test_what_lies_beside_schemas_is_passed_over(tmp_path: Path) -> None:
    """Documentation, samples, and what is hidden."""
    write(tmp_path, "a.b/1.0.json", SCHEMA)
    for name in ("README.md", "a.b/README.md", ".x/1.0.json", "a.b/.1.0.json.swp", "_x/a.yaml", "a.b/samples/one.json"):  # fmt: skip
        write(tmp_path, name, "")

    assert "a.b/1.0.json" in {one.name for one in load_schemas((tmp_path,)).documents}


def test_what_is_no_file_is_not_waited_for(tmp_path: Path) -> None:
    """A FIFO has no end before somebody writes to it."""
    write(tmp_path, "a.b/1.0.json", SCHEMA)
    os.mkfifo(tmp_path / "a.b/1.1.json")
    (tmp_path / "a.b/1.2.json").symlink_to("nothing")

    assert [
        f"{tmp_path}/a.b/1.1.json: is no regular file",
        f"{tmp_path}/a.b/1.2.json: cannot be read: No such file or directory",
    ] == problems(tmp_path)


def test_folder_must_exist(tmp_path: Path) -> None:
    """A misspelt folder is no empty folder."""
    assert problems(tmp_path / "none") == [f"schemas.folders: {tmp_path}/none is not a folder"]


def test_folder_must_be_readable(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Missing permissions are reported, not raised."""

    def refuse(_: Path) -> Iterator[Path]:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "iterdir", refuse)

    (line,) = problems(tmp_path)

    assert line.endswith("cannot be read: Permission denied")


# the record of published versions

DIGESTS = {"b/1.0.json": "b" * 64, "a/1.0.json": "a" * 64}


def test_what_is_written_is_read(tmp_path: Path) -> None:
    """In a stable order, and with nothing left beside the file."""
    file = tmp_path / "published.json"

    write_published(file, DIGESTS)

    assert DIGESTS == read_published(file)
    assert ["a/1.0.json", "b/1.0.json"] == list(read_published(file))
    assert [file] == list(tmp_path.iterdir())


@pytest.mark.parametrize(
    "text", ["{", "[]", '{"a/1.0.json": 1}', '{"a/1.0.json": "A1"}', '{"a": "", "a": ""}']
)
def test_a_broken_record_is_refused(tmp_path: Path, text: str) -> None:
    """It is evidence, so nothing is guessed."""
    file = tmp_path / "published.json"
    file.write_text(text)

    with pytest.raises(ConfigError) as caught:
        read_published(file)

    assert "published" == caught.value.code


def test_a_missing_record_is_told(tmp_path: Path) -> None:
    """A misspelt name proves nothing."""
    with pytest.raises(ConfigError) as caught:
        read_published(tmp_path / "none.json")

    assert "--record" in (caught.value.remedy or "")
