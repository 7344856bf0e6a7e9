"""Events that are decoded while their file is read: users in CSV files with a header, each row as the data of an event.

A column is named after a property of the data, `attributes.costCenter` after one within another. An empty cell is an
absent property. What the schema calls a list is split at `;`, a number or a boolean is read as one.
"""

import csv
import hashlib
import json
import math
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from keycloak_bridge.domain.errors import (
    ConfigError,
    EventDecodeError,
    EventError,
    EventValidationError,
    Violation,
)
from keycloak_bridge.domain.events import CloudEvent, Unreadable
from keycloak_bridge.domain.json_reader import parse_json
from keycloak_bridge.event_files.file_records import FileRecord

SUFFIX = ".csv"
_SEPARATOR = ";"
_SOURCE = "/keycloak-bridge/reconcile"
_BOOLEANS = {"true": True, "false": False}
_BYTE_ORDER_MARK = b"\xef\xbb\xbf"
_UNDECODED = re.compile("[\udc80-\udcff]")
_UNREADABLE_ROWS = {
    "cells": ("cells", "must have as many cells as the header"),
    "wrong-encoding": ("encoding", "must be UTF-8"),
    "quotes": ("quotes", "must have its quotes in pairs, and nothing behind the closing one"),
    "too-large": ("maxLength", "must be shorter than events.max_bytes"),
}
"""By what is wrong with a row: keyword and rule."""


@dataclass(frozen=True, slots=True)
class Line:
    """An event of the file number `file` of a run that begins in line `number`; `raw` is what a file of rejects repeats.

    `cells` are those of a row; `broken` says why the row cannot be read, see `unreadable_row`, and `unreadable` why what is no row
    cannot.
    """

    file: int
    number: int
    raw: bytes
    cells: tuple[str, ...] | None = None
    broken: str | None = None
    unreadable: Unreadable | None = None


def is_table(name: str) -> bool:
    """Say whether a file of that name is a table."""
    return Path(name).suffix.lower() == SUFFIX


def csv_records(
    file: str, event_type: str, schema: Mapping[str, Any], *, max_bytes: int
) -> Iterator[FileRecord]:
    """Yield a record for each row, as an event of `event_type`; raises ConfigError for a file without a header.

    The id of an event is made of its content, so that the same row again is the same event. It has no time, so that it
    never counts as older than what was applied before. A row that cannot be read, or of more than `max_bytes`, is refused.
    """
    rules = TableRules(",", {}, schema, max_bytes)
    try:
        with Path(file).open("rb") as stream:
            header = _header(stream, file, rules)
            for row in read_rows(stream, 0, header, rules):
                event: CloudEvent | EventError
                if row.broken is None:
                    data = header.data(row.cells or (), schema)
                    event = _row_event(event_type, data, max_bytes)
                else:
                    event = unreadable_row(row.broken, max_bytes)
                yield FileRecord(file, 0, row.number, 0, None, None, event=event)
    except OSError as error:
        raise ConfigError(
            f"{file}: cannot be read: {error.strerror}", remedy="Name an existing file of users."
        ) from error


def _row_event(event_type: str, data: Mapping[str, Any], max_bytes: int) -> CloudEvent | EventError:
    text = json.dumps(data).encode()
    try:
        parse_json(text, max_bytes=max_bytes)  # checked as the value of a Kafka record is
    except EventError as error:
        return error
    identity = hashlib.sha256(text).hexdigest()[:16]
    return CloudEvent(f"row-{identity}", _SOURCE, event_type, None, None, None, data)


@dataclass(frozen=True, slots=True)
class TableRules:
    """How tables are read: what separates cells, and which property a renamed column is (none: it is left out)."""

    delimiter: str
    columns: Mapping[str, str]
    schema: Mapping[str, Any]
    max_bytes: int


@dataclass(frozen=True, slots=True)
class Header:
    """The first line of a table as it is in the file, and the property of each column; empty ones are left out."""

    raw: bytes
    properties: tuple[str, ...]

    def data(self, cells: Sequence[str], schema: Mapping[str, Any]) -> dict[str, Any]:
        """Return the data of the event that a row is."""
        named = {
            name: cell for name, cell in zip(self.properties, cells, strict=True) if name.strip()
        }
        return row_data(named, schema)


def read_header(stream: BinaryIO, name: str, rules: TableRules) -> Header:
    """Return the header and leave `stream` behind it; raises ConfigError for one that cannot be right."""
    header = _header(stream, name, rules)
    # the first line may be no header, so it is not quoted
    given = {one.partition(".")[0] for one in header.properties}
    required = [one for one in rules.schema.get("required", ()) if one not in given]
    if required:
        raise ConfigError(
            f"{name}: no column is the property {', '.join(required)}",
            remedy="name the columns as the properties, or say which is which: --column 'E-Mail=email'",
        )
    return header


def _header(stream: BinaryIO, name: str, rules: TableRules) -> Header:
    row = next(_rows(_Lines(stream, rules.max_bytes), 0, rules), None)
    if row is not None and row.broken is not None:
        _, rule = _UNREADABLE_ROWS[row.broken]
        raise ConfigError(
            f"{name}: the first line {rule}",
            remedy="write the names of the columns there, in UTF-8, as in userId,email,givenName",
        )
    raw, columns = (b"", ()) if row is None else (row.raw, row.cells or ())
    _check_header(name, columns)
    missing = sorted(set(rules.columns) - {column.strip() for column in columns})
    if missing:
        raise ConfigError(
            f"{name}: there is no column {', '.join(missing)}, which --column names",
            remedy="write it as it is in the first line, or give --delimiter",
        )
    properties = tuple(rules.columns.get(one.strip(), one.strip()) for one in columns)
    _check_header(name, [one for one in properties if one])
    return Header(raw, properties)


def _check_header(file: str, names: Sequence[str] | None) -> None:
    if not names or any(not (name or "").strip() for name in names):
        raise ConfigError(
            f"{file}: the first line must name every column",
            remedy="name them as the properties of the event's data, such as userId,email,givenName",
        )
    stripped = {name.strip() for name in names}
    if len(stripped) != len(names):
        raise ConfigError(f"{file}: a column is there twice", remedy="leave one of them out")
    for name in sorted(stripped):
        if any(other.startswith(f"{name}.") for other in stripped):
            raise ConfigError(
                f"{file}: the column {name} is there beside columns within it",
                remedy="leave one of them out",
            )


def read_rows(stream: BinaryIO, file: int, header: Header, rules: TableRules) -> Iterator[Line]:
    """Yield every row behind the header, where `read_header` left `stream`."""
    first = header.raw.count(b"\n") + 2
    for line in _rows(_Lines(stream, rules.max_bytes, first), file, rules):
        if line.broken is None and len(line.cells or ()) != len(header.properties):
            yield Line(file, line.number, line.raw, broken="cells")
        else:
            yield line


class _Lines:
    """The lines of a stream as text; it keeps the bytes of those that were taken."""

    def __init__(self, stream: BinaryIO, max_bytes: int, first: int = 1) -> None:
        self._read: Callable[[int], bytes] = stream.readline
        self._max_bytes = max_bytes
        self.number = first
        self.taken = bytearray()
        self.too_large = False

    def __iter__(self) -> Iterator[str]:
        return self

    def __next__(self) -> str:
        """Return the next line; raises csv.Error, which ends the row, where the lines since `take` are too large.

        A line that is cut has lost its closing quote: its row would go on over the rows behind it.
        """
        line = self._read(self._max_bytes)
        if not line:
            raise StopIteration
        if self.number == 1:
            line = line.removeprefix(_BYTE_ORDER_MARK)
        self.too_large = len(self.taken) + len(line) >= self._max_bytes
        self.taken += line[: self._max_bytes - len(self.taken)]
        rest = line
        while rest and not rest.endswith(b"\n"):
            rest = self._read(self._max_bytes)  # behind the limit; nothing at the end
        self.number += 1
        if self.too_large:
            raise csv.Error("the row is too large")
        return line.decode("utf-8", "surrogateescape")

    def take(self) -> bytes:
        """Return the bytes since the last call, without the line break at their end."""
        raw = bytes(self.taken).removesuffix(b"\n").removesuffix(b"\r")
        self.taken.clear()
        self.too_large = False
        return raw


def _rows(lines: _Lines, file: int, rules: TableRules) -> Iterator[Line]:
    """Yield every row that is not empty; after one that is no CSV the next line is a new row."""
    # one limit for all readers of the process, 131,072 characters at first; a row is refused by its bytes
    csv.field_size_limit(max(csv.field_size_limit(), rules.max_bytes))
    reader = csv.reader(lines, delimiter=rules.delimiter, strict=True)
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


def row_data(row: Mapping[str, str], schema: Mapping[str, Any]) -> dict[str, Any]:
    """Return the data of an event from the cells of a row by the names of their columns."""
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
    """Return the cell as a type that the schema names; what cannot be read so stays text, for the schema to refuse."""
    named = schema.get("type", "string")
    kinds = [named] if isinstance(named, str) else list(named)
    if "array" in kinds:
        return [part.strip() for part in text.split(_SEPARATOR) if part.strip()]
    if "boolean" in kinds:
        return _BOOLEANS.get(text.lower(), text)
    if "integer" in kinds or "number" in kinds:
        try:
            number = int(text) if text.lstrip("-").isdecimal() else float(text)
            return number if math.isfinite(number) else text
        except (ValueError, OverflowError):
            return text
    return text


def unreadable_row(reason: str, max_bytes: int) -> EventError:
    """Return the error for a row that cannot be read: `cells`, `wrong-encoding`, `quotes` or `too-large`."""
    if reason == "too-large":  # the code that an event of this size has
        return EventDecodeError(
            f"the row has more than the {max_bytes} bytes that are allowed",
            code="too-large",
            remedy="shorten it, or raise events.max_bytes",
        )
    keyword, rule = _UNREADABLE_ROWS[reason]
    return EventValidationError(
        f"the row cannot be read: it {rule}",
        remedy="put cells with a comma or a line break into quotes, and export the row as UTF-8",
        violations=(Violation("/data", keyword, rule),),
    )
