"""Rows of a CSV file with the bytes they were made of, so that a refused one can be handed back as it was."""

import csv
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, BinaryIO

from keycloak_bridge.backfill_lines import Line
from keycloak_bridge.cli.csv_users import check_header, row_data
from keycloak_bridge.core.errors import ConfigError

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
