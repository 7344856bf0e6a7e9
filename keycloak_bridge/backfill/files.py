"""The files of a backfill: opened, decompressed, read line by line, and each line decoded to an event."""

import contextlib
import gzip
import hashlib
import io
import json
import sys
import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, BinaryIO, cast

from keycloak_bridge.app.interpretation import Interpretation
from keycloak_bridge.domain.errors import (
    BridgeError,
    ConfigError,
    EventContext,
    EventError,
)
from keycloak_bridge.domain.events import CloudEvent, Record, UserEvent
from keycloak_bridge.domain.json_reader import check_texts
from keycloak_bridge.domain.times import format_time
from keycloak_bridge.event_files import csv_rows
from keycloak_bridge.event_files.csv_rows import (
    Header,
    Line,
    TableRules,
    read_header,
    read_rows,
    unreadable_row,
)
from keycloak_bridge.event_files.file_records import FileRecord
from keycloak_bridge.event_files.json_events import STDIN, no_event, split_events
from keycloak_bridge.events.cloudevents import RawEnvelope, parse_value
from keycloak_bridge.events.decode import EnvelopeRules, decode, event_of, peek

TOPIC = "backfill"
"""What the files of a run are called where a record must have a topic; they are its one partition."""

_GZIP_MAGIC = b"\x1f\x8b"
_GZIP_SUFFIX = ".gz"
_JSON_SUFFIXES = frozenset((".json", ".ndjson", ".jsonl"))
_SPACE = b"\xef\xbb\xbf \t\r\n"
_BUFFER_BYTES = 1 << 16
_SOURCE = "/keycloak-bridge/backfill"
_ID_LENGTH = 32


class _CountingStream(io.RawIOBase):
    """A stream that counts the bytes that are read of it."""

    def __init__(self, stream: BinaryIO) -> None:
        self._stream = stream
        self.count = 0

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: "memoryview | bytearray") -> int:  # type: ignore[override] # any buffer
        # only what is there: a pipe must not be waited for until a whole buffer is full
        read = getattr(self._stream, "read1", self._stream.read)
        content = read(len(buffer))
        buffer[: len(content)] = content
        self.count += len(content)
        return len(content)


class InputFile:
    """One opened file, or standard input; read once.

    `header` is that of a table. `size_bytes` and `modified` are not known of standard input.
    """

    def __init__(self, number: int, source: str, raw: BinaryIO, rules: TableRules) -> None:
        """Find out what `raw` holds; raises ConfigError and OSError."""
        self.number = number
        self.name = _name_of(source)
        self.header: Header | None = None
        self.size_bytes: int | None = None
        self.modified: datetime | None = None
        if source != STDIN:
            status = Path(source).stat()
            self.size_bytes = status.st_size
            self.modified = datetime.fromtimestamp(status.st_mtime, UTC).replace(microsecond=0)
        self._counted = _CountingStream(raw)
        stream: io.BufferedReader[Any] = io.BufferedReader(self._counted, _BUFFER_BYTES)
        if stream.peek(2)[:2] == _GZIP_MAGIC:
            unpacked = gzip.GzipFile(fileobj=stream)
            stream = io.BufferedReader(cast("io.RawIOBase", unpacked), _BUFFER_BYTES)
        self._stream = cast("BinaryIO", stream)
        self._unpacked_name = self.name.removesuffix(_GZIP_SUFFIX)
        head = stream.peek(_BUFFER_BYTES)
        if self._looks_like_table(head):
            self.header = read_header(self._stream, self.name, rules)
        elif not head:
            raise no_event(self.name)

    def _looks_like_table(self, head: bytes) -> bool:
        suffix = Path(self._unpacked_name).suffix.lower()
        if suffix == csv_rows.SUFFIX or suffix in _JSON_SUFFIXES:
            return suffix == csv_rows.SUFFIX
        first = head.lstrip(_SPACE)[:1]
        return bool(first) and first not in b"{["

    @property
    def read_bytes(self) -> int:
        """How many of its bytes on disk were read."""
        return self._counted.count

    def lines(self, rules: TableRules) -> Iterator[Line]:
        """Yield every event of it; raises ConfigError where it ends in the middle, or where there are none and no header."""
        with _as_config_error(self.name):
            if self.header is not None:
                yield from read_rows(self._stream, self.number, self.header, rules)
                return
            found = False
            for text in split_events(self._stream, self._unpacked_name, max_bytes=rules.max_bytes):
                # JSON has line breaks between its parts only
                body = text.body.rstrip(b"\r").replace(b"\r", b" ").replace(b"\n", b" ")
                found = True
                yield Line(self.number, text.line, body, unreadable=text.unreadable)
            if not found:
                raise no_event(self.name)


@dataclass(frozen=True, slots=True)
class InputFiles:
    """All files of a run, in their order."""

    files: Sequence[InputFile]
    rules: TableRules

    @classmethod
    @contextlib.contextmanager
    def opened(cls, sources: Sequence[str], rules: TableRules) -> "Iterator[InputFiles]":
        """Open all of `sources`, and close them in the end; raises ConfigError."""
        files = []
        with contextlib.ExitStack() as stack:
            for number, source in enumerate(sources):
                with _as_config_error(_name_of(source)):
                    raw = cast("BinaryIO", sys.stdin.buffer)
                    if source != STDIN:
                        raw = stack.enter_context(Path(source).open("rb", buffering=0))
                    files.append(InputFile(number, source, raw, rules))
            yield cls(files, rules)

    def lines(self) -> Iterator[Line]:
        """Yield every event, file by file."""
        for one in self.files:
            yield from one.lines(self.rules)

    def share_read(self) -> float | None:
        """Return which part of the files was read, None where their size is not known."""
        sizes = [one.size_bytes for one in self.files]
        whole = sum(size for size in sizes if size is not None)
        if None in sizes or not whole:
            return None
        return min(1.0, sum(one.read_bytes for one in self.files) / whole)


def _name_of(source: str) -> str:
    return "stdin" if source == STDIN else source


@contextlib.contextmanager
def _as_config_error(name: str) -> Iterator[None]:
    try:
        yield
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise ConfigError(
            f"{name}: the gzip data is damaged or cut short",
            remedy="copy the file again; what was read before the damage is done",
        ) from error
    except OSError as error:
        raise ConfigError(
            f"{name}: cannot be read: {error.strerror}",
            remedy="Name an existing file of users, or - for standard input.",
        ) from error


@dataclass(frozen=True, slots=True)
class LineDecoder:
    """Decodes lines to events.

    A line of data alone is an event of `event_type`, at the time of its file in `times`. Its id is made of its content,
    so that the same line again is the same event. With `enveloped` every line is an event in the producer's envelope.
    """

    interpretation: Interpretation
    event_type: str
    times: Sequence[datetime | None]
    headers: Sequence[Header | None]
    schema: Mapping[str, Any]
    enveloped: bool = False

    def record(self, line: Line, offset: int) -> FileRecord:
        """Return the record of `line`; its key is the user's id, so that the events of a user keep their order.

        A line that is no event gets the error as its event. No schema has seen the data yet. Raises ConfigError for data
        whose file has no time.
        """
        user_id, event = self._decoded(line)
        key = user_id.encode("utf-8", "surrogatepass") if user_id else None
        return FileRecord(
            TOPIC, 0, offset, 0, key, line.raw, file=line.file, line=line.number, event=event
        )

    def _decoded(self, line: Line) -> tuple[str | None, CloudEvent | EventError]:
        """Return the user's id and the event of `line`, or why there is none."""
        rules = self.interpretation.rules
        if line.broken is not None:
            return None, unreadable_row(line.broken, rules.limits.max_bytes)
        if line.cells is not None:
            return self._row(line, line.cells)
        record = Record(TOPIC, 0, 0, 0, None, line.raw, unreadable=line.unreadable)
        if self.enveloped or line.unreadable is not None:
            return peek(record, rules).subject, _decode(record, rules)
        problem = None
        try:
            body = parse_value(record, rules.limits)
        except EventError as error:
            problem = error
            try:  # whose later events must wait for this one to be fixed
                body = json.loads(line.raw)
            except (ValueError, RecursionError):
                return None, problem
        if isinstance(body, dict) and "specversion" not in body:
            return self._data_event(line, body, line.raw, problem)
        return self._user_of_event(body), problem or _decode(record, rules)

    def _row(self, line: Line, cells: Sequence[str]) -> tuple[str | None, CloudEvent | EventError]:
        header = self.headers[line.file]
        assert header is not None  # noqa: S101 # a row belongs to a table
        data = header.data(cells, self.schema)
        content = json.dumps(data, ensure_ascii=False).encode("utf-8", "surrogatepass")
        try:
            check_texts(data)
        except EventError as error:
            return self._data_event(line, data, content, error)
        return self._data_event(line, data, content)

    def _data_event(
        self, line: Line, data: Any, content: bytes, problem: EventError | None = None
    ) -> tuple[str | None, CloudEvent | EventError]:
        """Return the user's id and the event whose data is `data`, with an id made of `content`, or its `problem`."""
        time = self.times[line.file]
        if time is None:
            raise ConfigError(
                "standard input has no time of its own",
                remedy="give --as-of, the time when the export was taken, so that nothing newer is overwritten",
            )
        user_id = self._user_of(self.event_type, data)
        digest = hashlib.sha256(self.event_type.encode() + b"\n" + content).hexdigest()
        attributes = {
            "id": f"backfill-{digest[:_ID_LENGTH]}",
            "source": _SOURCE,
            "type": self.event_type,
            "time": format_time(time),
            **({"subject": user_id} if user_id else {}),
        }
        if problem is None:
            try:
                return user_id, event_of(RawEnvelope(attributes, data), self.interpretation.rules)
            except EventError as error:
                problem = error
        problem.context = EventContext("decode", attributes["id"], self.event_type, user_id)
        return user_id, problem

    def _user_of_event(self, body: Any) -> str | None:
        if not isinstance(body, dict):
            return None
        subject, kind = body.get("subject"), body.get("type")
        if isinstance(subject, str) and subject:
            return subject
        return self._user_of(kind, body.get("data")) if isinstance(kind, str) else None

    def _user_of(self, kind: str, data: Any) -> str | None:
        """Return the id in user management that the mapping finds in `data`, which no schema has seen yet."""
        if not isinstance(data, dict):
            return None
        known = self.interpretation
        event_type = known.rules.types.get(kind, kind)
        try:
            schema_id = known.catalog.schema_id(event_type)
            event = UserEvent("", "", event_type, None, None, schema_id, data)
            return known.mapping.serving(event).identify(event).value
        except BridgeError:
            return None


def _decode(record: Record, rules: EnvelopeRules) -> CloudEvent | EventError:
    try:
        return decode(record, rules)
    except EventError as error:
        return error
