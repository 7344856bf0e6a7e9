"""JSON events in files, one at a time: a single event, a JSON array, or one event a line (NDJSON)."""

import json
import re
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import BinaryIO

from keycloak_bridge.domain.errors import ConfigError
from keycloak_bridge.domain.events import Record, Unreadable

STDIN = "-"
_CHUNK_BYTES = 65_536
_BYTE_ORDER_MARK = b"\xef\xbb\xbf"
_SPACE = b" \t\r\n"
_LINE_SUFFIXES = {".ndjson", ".jsonl"}
_CUT_OFF = Unreadable("the array does not end; the file is cut off")
_STRUCTURE = re.compile(rb'[\\"\[\]{},\n]')


@dataclass(frozen=True, slots=True)
class EventText:
    """One event of a file; a body longer than allowed is cut just behind the limit.

    `unreadable` stands in the place of the events that are missing where the file ends in the middle of an array.
    """

    name: str
    line: int
    body: bytes
    unreadable: Unreadable | None = None

    @property
    def place(self) -> str:
        """File and line, as compilers write it."""
        return f"{self.name}:{self.line}"

    def record(self) -> Record:
        """The event as a Kafka record without key and headers, which the decoder takes for a structured event."""
        return Record(self.name, 0, self.line, 0, None, self.body, unreadable=self.unreadable)


def read_events(source: str, *, max_bytes: int, may_be_empty: bool = False) -> Iterator[EventText]:
    """Yield every event in the file `source`, or in standard input for `-`.

    Raises ConfigError when there is no such file, it cannot be read or, unless it `may_be_empty`, contains no event.
    """
    found = False
    for text in _events_of(source, max_bytes):
        found = True
        yield text
    if not (found or may_be_empty):
        raise no_event("stdin" if source == STDIN else source)


def no_event(name: str) -> ConfigError:
    """Return the error for the file `name` that is empty: what made it has probably failed."""
    return ConfigError(f"{name}: contains no event", remedy="Name a file with an event in it.")


def _events_of(source: str, max_bytes: int) -> Iterator[EventText]:
    if source == STDIN:
        yield from split_events(sys.stdin.buffer, "stdin", max_bytes=max_bytes)
        return
    try:
        with Path(source).open("rb") as stream:
            yield from split_events(stream, source, max_bytes=max_bytes)
    except OSError as error:
        raise ConfigError(
            f"{source}: cannot be read: {error.strerror}",
            remedy="Name an existing file of events, or - for standard input.",
        ) from error


def split_events(stream: BinaryIO, name: str, *, max_bytes: int) -> Iterator[EventText]:
    """Yield every event in `stream`; `name` and the first line decide about its form."""
    limit = max_bytes + 1
    chunks = _chunks(stream)
    head = bytearray()
    for chunk in chunks:
        head += chunk
        if len(head) > limit or b"\n" in _bare(head):
            break
    text = bytes(head)
    everything = chain((text.removeprefix(_BYTE_ORDER_MARK),), chunks)
    parts: Iterator[tuple[int, bytes | None]]
    if Path(name).suffix.lower() in _LINE_SUFFIXES:
        parts = _lines(everything, limit)
    elif _bare(text).startswith(b"["):
        parts = _ArrayScanner(limit).elements(everything)
    elif _is_by_lines(_bare(text)):
        parts = _lines(everything, limit)
    else:
        parts = _document(everything, limit)
    for line, body in parts:
        yield EventText(name, line, body or b"", _CUT_OFF if body is None else None)


def _chunks(stream: BinaryIO) -> Iterator[bytes]:
    """Yield what there is, without waiting for a whole chunk where the stream can do that."""
    read: Callable[[int], bytes] = getattr(stream, "read1", stream.read)
    while chunk := read(_CHUNK_BYTES):
        yield chunk


def _bare(text: bytes | bytearray) -> bytes:
    return bytes(text).removeprefix(_BYTE_ORDER_MARK).lstrip(_SPACE)


def _is_by_lines(text: bytes) -> bool:
    """Say whether the first line is an event by itself, even if a broken one."""
    first = text.partition(b"\n")[0].rstrip(_SPACE)
    with suppress(ValueError, RecursionError):
        json.loads(first)
        return True
    return first.startswith(b"{") and first.endswith(b"}")


def _lines(chunks: Iterable[bytes], limit: int) -> Iterator[tuple[int, bytes]]:
    """Yield every line that holds more than space, with its number."""
    number, body = 1, bytearray()
    for chunk in chunks:
        *ended, rest = chunk.split(b"\n")
        for piece in ended:
            body += piece[: limit - len(body)]
            if body.strip(_SPACE):
                yield number, bytes(body)
            body.clear()
            number += 1
        body += rest[: limit - len(body)]
    if body.strip(_SPACE):
        yield number, bytes(body)


def _document(chunks: Iterable[bytes], limit: int) -> Iterator[tuple[int, bytes]]:
    """Yield everything as one event, with the line where it begins."""
    body = bytearray()
    for chunk in chunks:
        body += chunk[: limit - len(body)]
        if len(body) == limit:
            break
    if text := body.strip(_SPACE):
        yield 1 + body[: body.index(text[:1])].count(b"\n"), bytes(text)


class _ArrayScanner:
    """Cuts an array into its elements by following strings and brackets only.

    What is not JSON inside an element is for the decoder to say; an array that does not end yields None behind its elements.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._line = 1
        self._started_at = 1
        self._depth = 0
        self._in_string = False
        self._escaped = False
        self._body = bytearray()

    def elements(self, chunks: Iterable[bytes]) -> Iterator[tuple[int, bytes | None]]:
        """Yield line and body of every element."""
        for chunk in chunks:
            yield from self._feed(chunk)
        yield from self._take()
        if self._depth > 0:
            yield self._line, None

    def _feed(self, chunk: bytes) -> Iterator[tuple[int, bytes]]:
        position = 0
        for match in _STRUCTURE.finditer(chunk):
            self._keep_text(chunk[position : match.start()])
            position = match.end()
            yield from self._step(match[0])
        self._keep_text(chunk[position:])

    def _step(self, mark: bytes) -> Iterator[tuple[int, bytes]]:
        """Follow one character of structure; yield the element that it ends."""
        escaped, self._escaped = self._escaped, False
        outside = False
        if self._in_string:
            self._escaped = mark == b"\\" and not escaped
            self._in_string = mark != b'"' or escaped
        elif mark == b'"':
            self._in_string = True
        elif mark in (b"[", b"{"):
            self._depth += 1
            outside = self._depth == 1
        elif mark in (b"]", b"}"):
            self._depth -= 1
            outside = self._depth == 0
            if outside:
                yield from self._take()
        elif mark == b"," and self._depth == 1:
            outside = True
            yield from self._take(or_empty=True)
        if not outside:
            self._keep(mark)
        self._line += mark == b"\n"

    def _keep_text(self, text: bytes) -> None:
        if text:
            self._escaped = False
            self._keep(text)

    def _keep(self, text: bytes) -> None:
        if not self._body:
            text = text.lstrip(_SPACE)
            self._started_at = self._line
        self._body += text[: self._limit - len(self._body)]

    def _take(self, *, or_empty: bool = False) -> Iterator[tuple[int, bytes]]:
        body = bytes(self._body).rstrip(_SPACE)
        self._body.clear()
        if body or or_empty:
            yield self._started_at if body else self._line, body
