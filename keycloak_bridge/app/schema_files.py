"""Files of schemas: the shipped ones, those in the user's folders, and the record of published versions."""

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from hashlib import sha256
from importlib.resources import files
from importlib.resources.abc import Traversable
from pathlib import Path

from keycloak_bridge.domain.errors import ConfigError, EventDecodeError
from keycloak_bridge.events.json_reader import parse_json
from keycloak_bridge.validation.catalog import (
    SchemaCatalog,
    SchemaDocument,
    SchemaProblem,
    check_documents,
    schema_error,
)

_SHIPPED = "keycloak_bridge.schemas"
_FILE_NAME = re.compile(r"(0|[1-9][0-9]{0,5})\.(0|[1-9][0-9]{0,5})\.json")
_LARGEST_FILE = 1_048_576
_DEEPEST_NESTING = 64


def load_schemas(folders: Sequence[Path] = ()) -> SchemaCatalog:
    """Return the catalog of the shipped schemas and of those in `folders`, everything compiled.

    A folder holds `<type>/<major>.<minor>.json`. Raises ConfigError (code `schema`) with one line, of file, pointer and
    reason, for every problem that was found.
    """
    return SchemaCatalog(load_documents(folders))


def load_documents(folders: Sequence[Path] = ()) -> tuple[SchemaDocument, ...]:
    """Return the shipped schemas and those in `folders` as they were read; raises ConfigError (code `schema`)."""
    documents: list[SchemaDocument] = []
    problems: list[SchemaProblem] = []
    for folder, shown in _folders(folders):
        for kind, file in _schema_files(folder):
            found = _read(kind, file, f"{shown}/{kind}/{file.name}")
            if isinstance(found, SchemaDocument):
                documents.append(found)
            else:
                problems.append(found)
    if not problems:
        return tuple(documents)
    try:
        check_documents(documents)
    except ConfigError as error:
        # Problems of the readable files are reported together with files that could not be read.
        raise schema_error(problems, also=error.message) from error
    raise schema_error(problems)


def _folders(folders: Sequence[Path]) -> Iterator[tuple[Traversable, str]]:
    yield files(_SHIPPED), "schemas"
    for folder in folders:
        if not folder.is_dir():
            raise ConfigError(
                f"schemas.folders: {folder} is not a folder",
                code="schema",
                remedy="name an existing folder that holds <type>/<major>.<minor>.json",
            )
        yield folder, str(folder)


def _schema_files(folder: Traversable) -> Iterator[tuple[str, Traversable]]:
    """Yield every JSON file one level down, with the name of its folder, in order of their names."""
    for kind in _entries(folder):
        if kind.is_dir() and not kind.name.startswith((".", "_")):
            for file in _entries(kind):
                if file.name.endswith(".json"):
                    yield kind.name, file


def _entries(folder: Traversable) -> list[Traversable]:
    try:
        return sorted(folder.iterdir(), key=lambda entry: entry.name)
    except OSError as error:
        raise ConfigError(
            f"schemas.folders: {folder} cannot be read: {error.strerror}",
            code="schema",
            remedy="let the bridge's user read the folder",
        ) from error


def _read(kind: str, file: Traversable, origin: str) -> SchemaDocument | SchemaProblem:
    version = _FILE_NAME.fullmatch(file.name)
    if version is None:
        return SchemaProblem(origin, "", "must be named <major>.<minor>.json")
    try:
        text = file.read_bytes()
        content = parse_json(text, max_bytes=_LARGEST_FILE, max_depth=_DEEPEST_NESTING)
    except OSError as error:
        return SchemaProblem(origin, "", f"cannot be read: {error.strerror}")
    except EventDecodeError as error:
        return SchemaProblem(origin, "", error.message)
    digest = sha256(text).hexdigest()
    return SchemaDocument(kind, (int(version[1]), int(version[2])), content, origin, digest)


_DIGEST = re.compile(r"[0-9a-f]{64}")


def read_published(file: Path) -> dict[str, str]:
    """Return what `file` records; raises ConfigError (code `published`)."""
    try:
        recorded = parse_json(file.read_bytes())
    except FileNotFoundError:
        raise _unusable(file, "does not exist", "`--record` creates it") from None
    except OSError as error:
        raise _unusable(file, f"cannot be read: {error.strerror}", "let it be read") from error
    except EventDecodeError as error:
        raise _unusable(file, error.message, _RESTORE) from error
    if not isinstance(recorded, dict) or not all(map(_is_digest, recorded.values())):
        raise _unusable(file, "must be an object of SHA-256 sums by name", _RESTORE)
    return recorded


def write_published(file: Path, published: Mapping[str, str]) -> None:
    """Write `published` as a whole or not at all; raises ConfigError (code `published`)."""
    text = json.dumps(dict(sorted(published.items())), indent=2) + "\n"
    beside = file.with_name(f"{file.name}.new")
    try:
        beside.write_text(text, encoding="utf-8")
        beside.replace(file)
    except OSError as error:
        raise _unusable(
            file, f"cannot be written: {error.strerror}", "let its folder be written to"
        ) from error


_RESTORE = "restore it from version control"


def _is_digest(value: object) -> bool:
    return isinstance(value, str) and _DIGEST.fullmatch(value) is not None


def _unusable(file: Path, reason: str, remedy: str) -> ConfigError:
    return ConfigError(f"{file}: {reason}", code="published", remedy=remedy)
