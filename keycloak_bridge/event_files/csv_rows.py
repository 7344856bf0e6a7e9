"""Users in a CSV file with a header, each row as the data of an event.

Rows of a CSV file with the bytes they were made of, so that a refused one can be handed back as it was.
"""

import csv
import hashlib
import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from keycloak_bridge.app.interpretation import Interpretation
from keycloak_bridge.domain.errors import ConfigError, EventValidationError, Violation
from keycloak_bridge.domain.events import CloudEvent, Record
from keycloak_bridge.event_files.json_events import Line
from keycloak_bridge.events.json_reader import parse_json
from keycloak_bridge.pipeline.interpret import Prepared, Skipped

SUFFIX = ".csv"
SEPARATOR = ";"
"""Stands between the values of a list."""

_SOURCE = "/keycloak-bridge/reconcile"
_WORDS = {"true": True, "false": False}


def csv_records(file: str, schema: Mapping[str, Any]) -> Iterator[Record]:
    """Yield a record for each row, with the data as its value; raises ConfigError for what is no CSV file.

    A column is named after a property, `attributes.costCenter` after one within another; an empty cell is an absent
    property. What the schema calls a list is split, a number or a boolean is read as one. A row with more or fewer cells
    than the header has no value: nobody knows which cell is which.
    """
    try:
        with Path(file).open(encoding="utf-8-sig", newline="") as stream:
            rows = csv.DictReader(stream, strict=True)
            check_header(file, rows.fieldnames)
            for row in rows:
                even = None not in row and None not in row.values()
                value = json.dumps(row_data(row, schema)).encode() if even else None
                yield Record(file, 0, rows.line_num, 0, None, value)
    except OSError as error:
        raise ConfigError(
            f"{file}: cannot be read: {error.strerror}", remedy="Name an existing file of users."
        ) from error
    except (csv.Error, UnicodeDecodeError) as error:
        raise ConfigError(
            f"{file}: is no CSV in UTF-8", remedy="export it anew, with commas and a header"
        ) from error


def read_csv_record(
    record: Record, event_type: str, interpretation: Interpretation
) -> Prepared | Skipped:
    """Return what schema and mapping make of a row; raises EventError.

    The event has an id made of its content, so that the same row again is the same event, and no time, so that it never
    is older than what was applied before.
    """
    value = record.value
    if value is None:
        raise EventValidationError(
            "the row has more or fewer cells than the header",
            remedy="put cells with a comma into quotes, and export the file anew if its end is missing",
            violations=(Violation("/data", "cells", "must have as many cells as the header"),),
        )
    identity = hashlib.sha256(value).hexdigest()[:16]
    event = CloudEvent(
        id=f"row-{identity}",
        source=_SOURCE,
        type=event_type,
        subject=None,
        time=None,
        dataschema=None,
        data=parse_json(value),
    )
    return interpretation.interpreter.prepare(event)


def check_header(file: str, names: Any) -> None:
    """Raise ConfigError unless `names` are a name for every column, each once."""
    if not names or any(not (name or "").strip() for name in names):
        raise ConfigError(
            f"{file}: the first line must name every column",
            remedy="name them as the properties of the event's data, such as userId,email,givenName",
        )
    stripped = {name.strip() for name in names}
    if len(stripped) != len(names):
        raise ConfigError(f"{file}: a column stands there twice", remedy="leave one of them out")
    for name in sorted(stripped):
        if any(other.startswith(f"{name}.") for other in stripped):
            raise ConfigError(
                f"{file}: the column {name} stands beside columns within it",
                remedy="leave one of them out",
            )


def row_data(row: Mapping[str, str], schema: Mapping[str, Any]) -> dict[str, Any]:
    """Return the data of an event from the cells of a row by the names of their columns; see `csv_records`."""
    data: dict[str, Any] = {}
    for name, text in row.items():
        if text.strip():
            *outer, last = name.strip().split(".")
            inner, rules = data, schema
            for part in outer:
                inner = inner.setdefault(part, {})
                rules = _property(rules, part)
            inner[last] = _value(text.strip(), _property(rules, last))
    return data


def _property(schema: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    found = (schema.get("properties") or {}).get(name, {})
    return found if isinstance(found, dict) else {}


def _value(text: str, schema: Mapping[str, Any]) -> Any:
    """Return the cell as the type that the schema names first; what cannot be read so is left to the schema to refuse."""
    named = schema.get("type", "string")
    kinds = [named] if isinstance(named, str) else list(named)
    if "array" in kinds:
        return [part.strip() for part in text.split(SEPARATOR) if part.strip()]
    if "boolean" in kinds:
        return _WORDS.get(text.lower(), text)
    if "integer" in kinds or "number" in kinds:
        try:
            return int(text) if text.lstrip("-").isdecimal() else float(text)
        except ValueError:
            return text
    return text


_BYTE_ORDER_MARK = b"\xef\xbb\xbf"
_UNDECODED = re.compile("[\udc80-\udcff]")


@dataclass(frozen=True, slots=True)
class TableRules:
    """How tables are read: what separates cells, which property each renamed column is (none: it is left out)."""

    delimiter: str
    columns: Mapping[str, str]
    schema: Mapping[str, Any]
    max_bytes: int


@dataclass(frozen=True, slots=True)
class Header:
    """The first line of a table as it stands there, and the property of each column; empty ones are left out."""

    raw: bytes
    properties: tuple[str, ...]

    def data(self, cells: Sequence[str], schema: Mapping[str, Any]) -> dict[str, Any]:
        """Return the data of the event that a row is."""
        named = {
            name: cell for name, cell in zip(self.properties, cells, strict=True) if name.strip()
        }
        return row_data(named, schema)


def read_header(stream: BinaryIO, name: str, rules: TableRules) -> Header:
    """Return the header, which `stream` then stands behind; raises ConfigError for one that cannot be."""
    lines = _Lines(stream, rules.max_bytes)
    row = next(_rows(lines, 0, rules.delimiter), None)
    if row is None or row.cells is None:
        check_header(name, ())
    assert row is not None  # noqa: S101 # check_header raises
    columns = row.cells or ()
    missing = sorted(set(rules.columns) - {column.strip() for column in columns})
    if missing:
        raise ConfigError(
            f"{name}: there is no column {', '.join(missing)}, which --column names",
            remedy="write it as it stands in the first line, or give --delimiter",
        )
    check_header(name, columns)
    properties = tuple(rules.columns.get(one.strip(), one.strip()) for one in columns)
    check_header(name, [one for one in properties if one])
    _check_required(name, properties, rules.schema)
    return Header(row.raw, properties)


def _check_required(name: str, properties: Sequence[str], schema: Mapping[str, Any]) -> None:
    """Refuse a table of which no row could ever be valid; its first line may be no header, so it is not quoted."""
    given = {one.partition(".")[0] for one in properties}
    missing = [one for one in schema.get("required", ()) if one not in given]
    if missing:
        raise ConfigError(
            f"{name}: no column is the property {', '.join(missing)}",
            remedy="name the columns as the properties, or say which is which: --column 'E-Mail=email'",
        )


def read_rows(
    stream: BinaryIO, file: int, header: Header, rules: TableRules, *, first: int
) -> Iterator[Line]:
    """Yield every row behind the header; `first` is the number of the line that `stream` stands at."""
    lines = _Lines(stream, rules.max_bytes, first)
    for line in _rows(lines, file, rules.delimiter):
        if line.broken is None and len(line.cells or ()) != len(header.properties):
            yield Line(file, line.number, line.raw, broken="cells")
        else:
            yield line


class _Lines:
    """The lines of a stream as text, remembering the bytes of those that were taken."""

    def __init__(self, stream: BinaryIO, max_bytes: int, first: int = 1) -> None:
        self._read: Callable[[int], bytes] = stream.readline
        self._max_bytes = max_bytes
        self.number = first
        self.taken = bytearray()
        self.too_large = False

    def __iter__(self) -> Iterator[str]:
        while line := self._read(self._max_bytes):
            if self.number == 1:
                line = line.removeprefix(_BYTE_ORDER_MARK)
            self.too_large = self.too_large or len(self.taken) + len(line) >= self._max_bytes
            self.taken += line[: self._max_bytes - len(self.taken)]
            rest = line
            while rest and not rest.endswith(b"\n"):
                rest = self._read(self._max_bytes)  # behind the limit; nothing at the end
            self.number += 1
            yield line.decode("utf-8", "surrogateescape")

    def take(self) -> bytes:
        """Return the bytes since the last call, without the line break at their end."""
        raw = bytes(self.taken).removesuffix(b"\n").removesuffix(b"\r")
        self.taken.clear()
        self.too_large = False
        return raw


def _rows(lines: _Lines, file: int, delimiter: str) -> Iterator[Line]:
    """Yield every row that says something; one that is no CSV is yielded as broken, and the next line begins anew."""
    reader = csv.reader(lines, delimiter=delimiter, strict=True)
    while True:
        number, broken, cells = lines.number, None, None
        try:
            cells = next(reader)
        except StopIteration:
            return
        except csv.Error:
            broken = "quotes"
        if lines.too_large:
            broken = "too-large"
        raw = lines.take()
        if broken is None and any(map(_UNDECODED.search, cells or ())):
            broken = "wrong-encoding"
        if broken is not None:
            yield Line(file, number, raw, broken=broken)
        elif any(cell.strip() for cell in cells or ()):
            yield Line(file, number, raw, tuple(cells or ()))
