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
_SUFFIXES = (".json", ".yaml", ".yml")
_LAYOUT = "schemas are <type>/<major>.<minor>.json in the folder that is named"
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
        count = len(documents) + len(problems)
        for file, place, is_schema in _files(folder):
            kind = place.rpartition("/")[0]
            found = (
                _read_schema(kind, file, f"{shown}/{place}")
                if is_schema
                else _misplaced(f"{shown}/{place}")
            )
            if isinstance(found, SchemaDocument):
                documents.append(found)
            else:
                problems.append(found)
        if len(documents) + len(problems) == count:
            problems.append(SchemaProblem(shown, "", f"holds no schema; {_LAYOUT}"))
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


def _files(folder: Traversable) -> Iterator[tuple[Traversable, str, bool]]:
    """Yield every schema one level down, and what looks like one elsewhere, by name: file, place, whether it is in its place.

    What lies beside schemas, such as a README, is passed over; so is what begins with "." or "_".
    """
    for kind in _entries(folder):
        if kind.name.startswith((".", "_")):
            continue
        if not _is_folder(kind):
            if kind.name.endswith(_SUFFIXES):
                yield kind, kind.name, False
            continue
        for file in _entries(kind):
            place = f"{kind.name}/{file.name}"
            if file.name.startswith((".", "_")):
                continue
            if file.name.endswith(_SUFFIXES):
                yield file, place, file.name.endswith(".json")
            elif _is_folder(file):
                for deeper in _entries(file):
                    if _FILE_NAME.fullmatch(deeper.name):
                        yield deeper, f"{place}/{deeper.name}", False


def _is_folder(entry: Traversable) -> bool:
    try:
        return entry.is_dir()
    except OSError as error:
        raise _unreadable(entry, error) from error


def _misplaced(origin: str) -> SchemaProblem:
    return SchemaProblem(origin, "", f"is not read; {_LAYOUT}")


def _entries(folder: Traversable) -> list[Traversable]:
    try:
        return sorted(folder.iterdir(), key=lambda entry: entry.name)
    except OSError as error:
        raise _unreadable(folder, error) from error


def _unreadable(folder: Traversable, error: OSError) -> ConfigError:
    return ConfigError(
        f"schemas.folders: {folder} cannot be read: {error.strerror}",
        code="schema",
        remedy="let the bridge's user read the folder",
    )


def _is_missing(file: Traversable) -> bool:
    """Say whether `file` is a link to nothing, whose error of reading says more."""
    return isinstance(file, Path) and not file.exists()


def _read_schema(kind: str, file: Traversable, origin: str) -> SchemaDocument | SchemaProblem:
    version = _FILE_NAME.fullmatch(file.name)
    if version is None:
        return SchemaProblem(origin, "", "must be named <major>.<minor>.json")
    try:
        if not file.is_file() and not _is_missing(file):  # a FIFO would be waited for
            return SchemaProblem(origin, "", "is no regular file")
        text = file.read_bytes()
        content = parse_json(text, max_bytes=_LARGEST_FILE, max_depth=_DEEPEST_NESTING)
    except OSError as error:
        return SchemaProblem(origin, "", f"cannot be read: {error.strerror}")
    except EventDecodeError as error:
        return SchemaProblem(origin, "", error.message)
    digest = sha256(text).hexdigest()
    return SchemaDocument(kind, (int(version[1]), int(version[2])), content, origin, digest)
