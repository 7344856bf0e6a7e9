"""Read the files of the schemas: the shipped ones, and those in the folders of the user."""

import re
from collections.abc import Iterator, Sequence
from hashlib import sha256
from importlib import resources
from importlib.resources.abc import Traversable
from pathlib import Path

from keycloak_bridge.domain.errors import ConfigError, EventDecodeError
from keycloak_bridge.domain.json_reader import parse_json
from keycloak_bridge.validation.catalog import SchemaCatalog
from keycloak_bridge.validation.documents import (
    SchemaDocument,
    SchemaProblem,
    check_documents,
    schema_error,
)
from keycloak_bridge.validation.notes import refuse_unknown_formats

_SHIPPED = "keycloak_bridge.schemas"
_FILE_NAME = re.compile(r"(0|[1-9][0-9]{0,5})\.(0|[1-9][0-9]{0,5})\.json")
_LARGEST_FILE = 1_048_576
_DEEPEST_NESTING = 64


def load_schemas(folders: Sequence[Path] = (), *, unknown_formats: str = "note") -> SchemaCatalog:
    """Return the catalog of the shipped schemas and of those in `folders`, everything compiled.

    A folder holds `<type>/<major>.<minor>.json`. Raises ConfigError (code `schema`) with one line, of file, pointer and
    reason, for every problem that was found; `unknown_formats` is the setting of that name.
    """
    catalog = SchemaCatalog(load_documents(folders))
    if unknown_formats == "error":
        refuse_unknown_formats(catalog.notes)
    return catalog


def load_documents(folders: Sequence[Path] = ()) -> tuple[SchemaDocument, ...]:
    """Return the shipped schemas and those in `folders` as they were read; raises ConfigError (code `schema`)."""
    documents: list[SchemaDocument] = []
    problems: list[SchemaProblem] = []
    for folder, shown in _folders(folders):
        for kind, file in _schema_files(folder):
            found = _read_schema(kind, file, f"{shown}/{kind}/{file.name}")
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
    yield resources.files(_SHIPPED), "schemas"
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


def _read_schema(kind: str, file: Traversable, origin: str) -> SchemaDocument | SchemaProblem:
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
