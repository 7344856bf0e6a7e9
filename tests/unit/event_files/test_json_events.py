"""Files are cut into events without being held in memory."""

import io
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from keycloak_bridge.domain.errors import ConfigError, EventDecodeError
from keycloak_bridge.event_files import json_events as event_files
from keycloak_bridge.event_files.json_events import EventText, read_events, split_events
from keycloak_bridge.events.decode import EnvelopeRules, decode

LIMIT = 100


def split(content: bytes, name: str = "x.json", max_bytes: int = LIMIT) -> list[tuple[int, bytes]]:
    """Return line and body of every event."""
    events = split_events(io.BytesIO(content), name, max_bytes=max_bytes)
    return [(event.line, event.body) for event in events]


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b"", []),
        (b" \n\n", []),
        (b'{"a":1}', [(1, b'{"a":1}')]),
        (b'\n{\n "a":1\n}\n', [(2, b'{\n "a":1\n}')]),
        (b'{"a":1}\n\n{"b":2}\n', [(1, b'{"a":1}'), (3, b'{"b":2}')]),
        (b'{"a":}\n{"b":2}', [(1, b'{"a":}'), (2, b'{"b":2}')]),
        (b"no json", [(1, b"no json")]),
        (b'\n[\n {"a": [1, {}]},\n\n "b,]"\n]', [(3, b'{"a": [1, {}]}'), (5, b'"b,]"')]),
        (b'["\\\\", "\\"]", "\\n"]', [(1, b'"\\\\"'), (1, b'"\\"]"'), (1, b'"\\n"')]),
        (b"[1,,2]", [(1, b"1"), (1, b""), (1, b"2")]),
        (b"[1, 2", [(1, b"1"), (1, b"2"), (1, b"")]),
        (b"[1] x", [(1, b"1"), (1, b"x")]),
        (b"\xef\xbb\xbf[1]", [(1, b"1")]),
        (b'\xef\xbb\xbf{"a":1}\n{"b":2}', [(1, b'{"a":1}'), (2, b'{"b":2}')]),
    ],
)
def test_the_content_decides_about_the_form(
    content: bytes, expected: list[tuple[int, bytes]]
) -> None:
    """One event over several lines, one a line, or an array; with line numbers."""
    assert expected == split(content)


@pytest.mark.parametrize(
    ("content", "line"), [(b"[", 1), (b"[1,\n", 2), (b'[1,\n{"a": [', 2), (b'["a\n]', 2)]
)
def test_an_array_that_does_not_end_is_said_to_be_cut_off(content: bytes, line: int) -> None:
    """Behind whatever was there, since events may be missing."""
    *others, last = split_events(io.BytesIO(content), "x.json", max_bytes=LIMIT)

    assert [None] * len(others) == [event.unreadable for event in others]
    assert (line, b"") == (last.line, last.body)
    with pytest.raises(EventDecodeError) as caught:
        decode(last.record(), EnvelopeRules())
    assert "unreadable-record" == caught.value.code
    assert caught.value.message.endswith("the array does not end; the file is cut off")


@pytest.mark.parametrize("name", ["x.ndjson", "x.jsonl", "X.NDJSON"])
def test_the_name_decides_about_the_form(name: str) -> None:
    """Such a file has an event a line, whatever the first line is."""
    assert [(1, b"["), (2, b"1")] == split(b"[\n1\n", name)


@pytest.mark.parametrize(
    "content",
    [
        b'{"a":"' + b"x" * 300 + b'"}\n{"b":1}',
        b'[{"a":"' + b"x" * 300 + b'"},{"b":1}]',
        b'{\n"a":"' + b"x" * 300,
    ],
)
def test_a_long_event_is_cut_behind_the_limit(content: bytes) -> None:
    """The decoder sees that it is too large, and what follows is read as usual."""
    first, *others = split(content)

    assert LIMIT + 1 == len(first[1])
    assert others in ([], [(2, b'{"b":1}')], [(1, b'{"b":1}')])


@given(
    values=st.lists(
        st.recursive(
            st.text() | st.integers() | st.booleans(),
            lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
        )
    ),
    indent=st.sampled_from((None, 2)),
    chunk_bytes=st.integers(1, 9),
)
def test_every_array_is_cut_into_its_elements(
    values: list[Any], indent: int | None, chunk_bytes: int
) -> None:
    """However it is laid out, and wherever the pieces of reading end."""
    text = json.dumps(values, ensure_ascii=False, indent=indent).encode()
    before, event_files._CHUNK_BYTES = event_files._CHUNK_BYTES, chunk_bytes
    try:
        found = split(text, max_bytes=10_000)
    finally:
        event_files._CHUNK_BYTES = before

    assert values == [json.loads(body) for _, body in found]


def test_memory_is_bounded() -> None:
    """An endless stream gives its first events at once."""

    class Endless(io.RawIOBase):
        def readable(self) -> bool:
            return True

        def readinto(self, buffer: Any) -> int:
            text = (b'{"a":1}\n' * (len(buffer) // 8 + 1))[: len(buffer) // 8 * 8]
            buffer[: len(text)] = text
            return len(text)

    events: Iterator[EventText] = split_events(
        io.BufferedReader(Endless()), "stdin", max_bytes=LIMIT
    )

    assert [1, 2, 3] == [next(events).line for _ in range(3)]


@pytest.mark.parametrize("name", ["nope.json", "."])
def test_unreadable_files_are_named(name: str) -> None:
    """A missing file and a folder."""
    with pytest.raises(ConfigError) as caught:
        list(read_events(name, max_bytes=LIMIT))

    assert caught.value.message.startswith(f"{name}: cannot be read: ")


def test_a_file_is_read_by_its_path(tmp_path: Path) -> None:
    """Each event has a place as compilers write it, and is a record that the decoder takes."""
    path = tmp_path / "x.json"
    path.write_bytes(b"{}")

    (event,) = read_events(str(path), max_bytes=LIMIT)

    assert EventText(str(path), 1, b"{}") == event
    record = event.record()
    assert (f"{path}:1", b"{}", None, ()) == (event.place, record.value, record.key, record.headers)
