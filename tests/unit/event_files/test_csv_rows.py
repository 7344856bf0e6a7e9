import csv
import io
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from keycloak_bridge.app.interpretation import Interpretation
from keycloak_bridge.domain.errors import ConfigError, EventError, EventValidationError
from keycloak_bridge.domain.events import CloudEvent
from keycloak_bridge.event_files.csv_rows import (
    Line,
    TableRules,
    csv_records,
    read_header,
    read_rows,
    unreadable_row,
)
from keycloak_bridge.event_files.file_records import FileInterpreter, FileRecord
from keycloak_bridge.settings.model import Settings

SCHEMA: dict[str, Any] = {
    "required": ["userId"],
    "properties": {
        "userId": {"type": "string"},
        "active": {"type": ["boolean", "null"]},
        "roles": {"type": "array"},
        "level": {"type": "integer"},
        "share": {"type": "number"},
        "attributes": {"type": "object", "properties": {"tags": {"type": "array"}}},
        "anything": True,
    },
}


def read(
    content: bytes, columns: Mapping[str, str] | None = None, max_bytes: int = 1000
) -> tuple[Any, list[Line]]:
    """Return header and rows of a table."""
    rules = TableRules(",", columns or {}, SCHEMA, max_bytes)
    stream = io.BytesIO(content)
    header = read_header(stream, "users.csv", rules)
    return header, list(read_rows(stream, 0, header, rules))


def records(folder: Path, text: str | bytes | None) -> list[FileRecord]:
    """Return the records of a file that holds `text`, or is missing."""
    file = folder / "users.csv"
    if text is not None:
        file.write_bytes(text if isinstance(text, bytes) else text.encode("utf-8-sig"))
    return list(csv_records(str(file), "user.created", SCHEMA, max_bytes=500))


@pytest.mark.parametrize(
    ("header", "cells", "expected"),
    [
        ("userId", "007", {"userId": "007"}),
        ("userId,active", "u-1,TRUE", {"userId": "u-1", "active": True}),
        ("active", "perhaps", {"active": "perhaps"}),
        ("roles", "viewer; editor;", {"roles": ["viewer", "editor"]}),
        ("level,share", "-3,0.5", {"level": -3, "share": 0.5}),
        ("level", "three", {"level": "three"}),
        ("level,share", f"{'9' * 400},nan", {"level": "9" * 400, "share": "nan"}),
        ("attributes.tags,attributes.floor", "a;b,3", {"attributes": {"tags": ["a", "b"], "floor": "3"}}),
        ("anything,other", "1,2", {"anything": "1", "other": "2"}),
        ("userId,roles", "u-1,", {"userId": "u-1"}),
        ("userId", '"a, ""quoted"" one"', {"userId": 'a, "quoted" one'}),
    ],
)  # fmt: skip
def test_a_cell_is_what_the_schema_calls_it(
    tmp_path: Path, header: str, cells: str, expected: dict[str, Any]
) -> None:
    """What cannot be read so stays text, which the schema refuses."""
    (record,) = records(tmp_path, f"{header}\n{cells}\n")

    event = record.event
    assert isinstance(event, CloudEvent)
    assert (expected, "user.created", None) == (event.data, event.type, event.time)
    assert (str(tmp_path / "users.csv"), 2) == (record.topic, record.offset)
    assert event.id.startswith("row-")


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("userId,userId.inner\nu-1,x\n", "userId"),
        ("userId, userId\nu-1,u-2\n", "twice"),
        ("", "must name every column"),
        ("userId,,email\n", "must name every column"),
        (b"\xff\nu-1\n", "the first line must be UTF-8"),
        (b'userId,"name"x\nu-1,a\n', "the first line must have its quotes in pairs"),
        (b"userId," + b"x" * 600 + b"\nu-1,a\n", "the first line must be shorter than"),
        (None, "cannot be read"),
    ],
)
def test_a_file_that_cannot_be_right_is_a_sentence(
    tmp_path: Path, text: str | bytes | None, says: str
) -> None:
    """A property that has two forms or two columns, no header in UTF-8, no file at all."""
    with pytest.raises(ConfigError, match=says):
        records(tmp_path, text)


@pytest.mark.parametrize(
    ("cells", "code", "keyword"),
    [
        (b"u-1,Doe, Jane,jane@acme.example", "schema-violation", "cells"),
        (b"u-1,Doe", "schema-violation", "cells"),
        (b"u-1,Doe\xff,x", "schema-violation", "encoding"),
        (b'u-1,"Doe"x,x', "schema-violation", "quotes"),
        (b"u-1,Doe," + b"x" * 500, "too-large", None),
        (b"u-1,Doe," + b"x" * 480, "too-large", None),
        (b"u-1,Doe\x00,x", "invalid-text", None),
    ],
)
def test_an_unreadable_row_is_refused(
    tmp_path: Path, cells: bytes, code: str, keyword: str | None
) -> None:
    """A comma without quotes would move every cell behind it to another property; no cell is repeated, others are read."""
    record, other = records(tmp_path, b"userId,name,email\n" + cells + b"\nu-2,Roe,x\n")
    assert isinstance(other.event, CloudEvent)

    with pytest.raises(EventError) as caught:
        FileInterpreter.of(Interpretation(Settings()).interpreter).interpret(record)

    error = caught.value
    assert code == error.code
    assert "Doe" not in f"{error.message} {error.violations} {error.remedy}"
    if isinstance(error, EventValidationError):
        assert [("/data", keyword)] == [(one.pointer, one.keyword) for one in error.violations]


def test_rows_keep_their_bytes_and_their_lines() -> None:
    """Line breaks in quotes, Windows' line ends, a byte order mark; an empty row is left out."""
    header, rows = read(
        b'\xef\xbb\xbfuserId,"na\nme"\r\n1,"a\r\nb"\r\n,\r\n\r\n2,c', {"na\nme": "note"}
    )

    assert b'userId,"na\nme"' == header.raw
    assert ("userId", "note") == header.properties
    assert [(3, b'1,"a\r\nb"', ("1", "a\r\nb")), (7, b"2,c", ("2", "c"))] == [
        (row.number, row.raw, row.cells) for row in rows
    ]


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        (b"1,2,3", "cells"),
        (b"1", "cells"),
        (b'1,"a"b', "quotes"),
        (b"1,\xff", "wrong-encoding"),
        (b"1," + b"x" * 2000, "too-large"),
    ],
)
def test_a_row_that_cannot_be_read_says_why(row: bytes, reason: str) -> None:
    """The next one is read as usual."""
    _, rows = read(b"userId,name\n" + row + b"\n2,b\n")

    assert [(reason, 2), (None, 3)] == [(one.broken, one.number) for one in rows]
    assert row[:1000] == rows[0].raw


def test_a_cell_may_be_as_long_as_its_row(tmp_path: Path) -> None:
    """Python's own limit of 131,072 characters is none here; an open quote behind a long one is still told as such."""
    long = b"x" * 200_000
    _, rows = read(b"userId,name\n1," + long + b'\n2,"' + long + b'"x\n3,c\n', max_bytes=1 << 20)
    file = tmp_path / "users.csv"
    file.write_bytes(b"userId,name\n1," + long + b"\n")
    (record,) = csv_records(str(file), "user.created", SCHEMA, max_bytes=1 << 20)

    assert [None, "quotes", None] == [one.broken for one in rows]
    assert ("1", long.decode()) == rows[0].cells
    assert isinstance(record.event, CloudEvent)


@pytest.mark.parametrize("lines", [1, 5])
def test_a_row_beyond_the_limit_is_too_large(lines: int) -> None:
    """Also where Python's limit for a cell ends it first, or its cell has many lines."""
    cell = b"\n".join([b"x" * (400_000 // lines)] * lines)
    _, rows = read(b'userId,name\n1,"' + cell + b'"\n2,b\n', max_bytes=200_000)

    assert ("too-large", 2) == (rows[0].broken, rows[0].number)
    assert "2,b" == rows[-1].raw.decode()
    error = unreadable_row("too-large", 200_000)
    assert ("too-large", True) == (error.code, "200000" in error.message)


def test_an_open_quote_ends_with_the_file() -> None:
    """Everything behind it is one row that cannot be read."""
    _, rows = read(b'userId,name\n1,"a\n2,b\n')

    assert [("quotes", b'1,"a\n2,b')] == [(one.broken, one.raw) for one in rows]


def test_columns_are_renamed_and_left_out() -> None:
    """By their names in the first line; a name that is not there is an error."""
    header, (row,) = read(
        b"No, Rollen ,note\n1,a;b,x\n", {"No": "userId", "Rollen": "roles", "note": ""}
    )

    assert {"userId": "1", "roles": ["a", "b"]} == header.data(row.cells, SCHEMA)
    with pytest.raises(ConfigError, match="no column Nummer"):
        read(b"userId\n1\n", {"Nummer": "userId"})


@given(
    st.lists(
        st.lists(
            st.text(st.characters(codec="utf-8", exclude_characters="\x00\r")),
            min_size=2,
            max_size=2,
        ),
        max_size=8,
    )
)
def test_what_a_writer_writes_is_read_and_can_be_written_again(cells: list[list[str]]) -> None:
    """A file of the rows' own bytes is the same table."""
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows([["userId", "name"], *cells])
    content = text.getvalue().encode()

    header, rows = read(content, max_bytes=100_000)
    again = b"".join(part + b"\n" for part in (header.raw, *(row.raw for row in rows)))

    expected = [tuple(row) for row in cells if any(cell.strip() for cell in row)]
    assert expected == [row.cells for row in rows]
    assert expected == [row.cells for row in read(again, max_bytes=100_000)[1]]
