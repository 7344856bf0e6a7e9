import csv
import io
from collections.abc import Mapping
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from keycloak_bridge.domain.errors import ConfigError
from keycloak_bridge.event_files.csv_rows import TableRules, read_header, read_rows
from keycloak_bridge.event_files.records import Line

SCHEMA: dict[str, Any] = {
    "required": ["userId"],
    "properties": {"roles": {"type": "array"}, "active": {"type": "boolean"}},
}


def read(
    content: bytes, columns: Mapping[str, str] | None = None, max_bytes: int = 1000
) -> tuple[Any, list[Line]]:
    """Return header and rows of a table."""
    rules = TableRules(",", columns or {}, SCHEMA, max_bytes)
    stream = io.BytesIO(content)
    header = read_header(stream, "users.csv", rules)
    return header, list(read_rows(stream, 0, header, rules))


def test_rows_keep_their_bytes_and_their_lines() -> None:
    """Line breaks in quotes, Windows' line ends, a byte order mark; a row that says nothing is left out."""
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
    """The one behind it is read as ever."""
    _, rows = read(b"userId,name\n" + row + b"\n2,b\n")

    assert [(reason, 2), (None, 3)] == [(one.broken, one.number) for one in rows]
    assert row[:1000] == rows[0].raw


def test_an_open_quote_ends_with_the_file() -> None:
    """Everything behind it is one row that cannot be read."""
    _, rows = read(b'userId,name\n1,"a\n2,b\n')

    assert [("quotes", b'1,"a\n2,b')] == [(one.broken, one.raw) for one in rows]


def test_columns_are_renamed_and_left_out() -> None:
    """By what stands in the first line."""
    header, (row,) = read(
        b"No, Rollen ,note\n1,a;b,x\n", {"No": "userId", "Rollen": "roles", "note": ""}
    )

    assert {"userId": "1", "roles": ["a", "b"]} == header.data(row.cells, SCHEMA)


def test_a_column_that_is_not_there_is_a_slip() -> None:
    """Of whoever wrote --column."""
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
