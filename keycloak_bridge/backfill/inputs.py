"""The files of a backfill: opened, unpacked, and read line by line as what they are.

What a line of a backfill is to the provision stage: an event as it stands there, or the data of one.
"""

import contextlib
import gzip
import hashlib
import io
import json
import sys
import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, BinaryIO, cast

from keycloak_bridge.app.interpretation import Interpretation
from keycloak_bridge.domain.errors import BridgeError, ConfigError
from keycloak_bridge.domain.events import Record, UserEvent
from keycloak_bridge.domain.times import format_time
from keycloak_bridge.event_files.csv_rows import Header, TableRules, read_header, read_rows
from keycloak_bridge.event_files.json_events import (
    BROKEN_HEADER,
    PLACE_HEADER,
    RAW_HEADER,
    STDIN,
    TOPIC,
    Line,
    split_events,
)
from keycloak_bridge.events.decode import peek

_GZIP_MAGIC = b"\x1f\x8b"
_GZIP_SUFFIX = ".gz"
_TABLE_SUFFIX = ".csv"
_JSON_SUFFIXES = frozenset((".json", ".ndjson", ".jsonl"))
_SPACE = b"\xef\xbb\xbf \t\r\n"
_BUFFER_BYTES = 1 << 16


class _Counted(io.RawIOBase):
    """A stream that counts what is read of it."""

    def __init__(self, stream: BinaryIO) -> None:
        self._stream = stream
        self.count = 0

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: "memoryview | bytearray") -> int:  # type: ignore[override] # any buffer
        # what there is: a pipe must not be waited for until a whole buffer is full
        read = getattr(self._stream, "read1", self._stream.read)
        content = read(len(buffer))
        buffer[: len(content)] = content
        self.count += len(content)
        return len(content)


@dataclass(slots=True)
class Input:
    """One file, or standard input; opened by `open`, read once."""

    number: int
    source: str
    is_table: bool = False
    header: Header | None = None
    size_bytes: int | None = None
    modified: datetime | None = None
    _file: BinaryIO | None = field(default=None, repr=False)
    _counted: _Counted | None = None
    _stream: BinaryIO | None = field(default=None, repr=False)

    @property
    def name(self) -> str:
        """What it is called in messages."""
        return "stdin" if self.source == STDIN else self.source

    @property
    def read_bytes(self) -> int:
        """How much of it was read, as it is on disk."""
        return 0 if self._counted is None else self._counted.count

    @property
    def plain_name(self) -> str:
        """Its name without what a packer added."""
        return self.name.removesuffix(_GZIP_SUFFIX)

    def open(self, rules: TableRules) -> None:
        """Open it and find out what it is; raises ConfigError."""
        with _refusing(self.name):
            if self.source == STDIN:
                raw = cast("BinaryIO", sys.stdin.buffer)
            else:
                raw = Path(self.source).open("rb", buffering=0)  # noqa: SIM115 # closed by close
                self._file = raw
                told = Path(self.source).stat()
                self.size_bytes = told.st_size
                self.modified = datetime.fromtimestamp(told.st_mtime, UTC).replace(microsecond=0)
            self._counted = _Counted(raw)
            stream: io.BufferedReader[Any] = io.BufferedReader(self._counted, _BUFFER_BYTES)
            if stream.peek(2)[:2] == _GZIP_MAGIC:
                packed = gzip.GzipFile(fileobj=stream)
                stream = io.BufferedReader(cast("io.RawIOBase", packed), _BUFFER_BYTES)
            self._stream = cast("BinaryIO", stream)
            self.is_table = self._looks_like_table(stream.peek(_BUFFER_BYTES))
            if self.is_table:
                self.header = read_header(self._stream, self.name, rules)

    def close(self) -> None:
        """Close the file; standard input is the caller's."""
        if self._file is not None:
            self._file.close()

    def lines(self, rules: TableRules) -> Iterator[Line]:
        """Yield every event of it; raises ConfigError where it ends in the middle."""
        stream, header = self._stream, self.header
        if stream is None:
            raise AssertionError("an input is opened before it is read")
        with _refusing(self.name):
            if header is not None:
                first = header.raw.count(b"\n") + 2
                yield from read_rows(stream, self.number, header, rules, first=first)
                return
            texts = split_events(stream, self.plain_name, max_bytes=rules.max_bytes)
            for text in texts:
                # JSON has line breaks between its parts only
                body = text.body.rstrip(b"\r").replace(b"\r", b" ").replace(b"\n", b" ")
                yield Line(self.number, text.line, body)

    def _looks_like_table(self, head: bytes) -> bool:
        suffix = Path(self.plain_name).suffix.lower()
        if suffix == _TABLE_SUFFIX:
            return True
        if suffix in _JSON_SUFFIXES:
            return False
        first = head.lstrip(_SPACE)[:1]
        return bool(first) and first not in b"{["


@dataclass(frozen=True, slots=True)
class Inputs:
    """All files of a run, in their order."""

    files: Sequence[Input]
    rules: TableRules

    @classmethod
    def open(cls, sources: Sequence[str], rules: TableRules) -> "Inputs":
        """Open every one of `sources`; raises ConfigError."""
        inputs = cls([Input(number, source) for number, source in enumerate(sources)], rules)
        try:
            for one in inputs.files:
                one.open(rules)
        except BaseException:
            inputs.close()
            raise
        return inputs

    def close(self) -> None:
        """Close every one."""
        for one in self.files:
            one.close()

    def lines(self) -> Iterator[Line]:
        """Yield every event, file by file."""
        for one in self.files:
            yield from one.lines(self.rules)

    def share_read(self) -> float | None:
        """Return which part of the files was read, None where nobody knows how much there is."""
        sizes = [one.size_bytes for one in self.files]
        whole = sum(size for size in sizes if size is not None)
        if None in sizes or not whole:
            return None
        return min(1.0, sum(one.read_bytes for one in self.files) / whole)


@contextlib.contextmanager
def _refusing(name: str) -> Iterator[None]:
    try:
        yield
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise ConfigError(
            f"{name}: it is packed with gzip, and damaged or cut short",
            remedy="copy it anew; what was read until there is done",
        ) from error
    except OSError as error:
        raise ConfigError(
            f"{name}: cannot be read: {error.strerror}",
            remedy="Name an existing file of users, or - for standard input.",
        ) from error


_SOURCE = b"/keycloak-bridge/backfill"
_ID_LENGTH = 32

Headers = tuple[tuple[str, bytes | None], ...]


@dataclass(frozen=True, slots=True)
class FileEvents:
    """Makes records of lines: the key is the user's id, so that events of a user keep their order.

    Data alone is an event of `event_type` and of the time of its file in `times`; its id is made of its content, so
    that the same line again is the same event. With `enveloped` every line is an event in the producer's envelope.

    `record` raises ConfigError for data whose file has no time.
    """

    interpretation: Interpretation
    event_type: str
    times: Sequence[datetime | None]
    headers: Sequence[Header | None]
    schema: Mapping[str, Any]
    enveloped: bool = False

    def record(self, line: Line, offset: int) -> Record:
        """Return the record of `line`; nothing of it is judged yet."""
        place: Headers = ((PLACE_HEADER, line.place),)
        if line.broken is not None:
            reason = line.broken.encode("ascii")
            return Record(TOPIC, 0, offset, 0, None, line.raw, (*place, (BROKEN_HEADER, reason)))
        if line.cells is not None:
            data = self._row(line)
            value = json.dumps(data, ensure_ascii=False).encode("utf-8", "surrogatepass")
            return self._event_of(data, value, offset, line, (*place, (RAW_HEADER, line.raw)))
        record = Record(TOPIC, 0, offset, 0, None, line.raw, place)
        if self.enveloped:
            return replace(record, key=_bytes(peek(record, self.interpretation.rules).subject))
        try:
            content = json.loads(line.raw)
        except (ValueError, RecursionError):
            return record  # the stage says what it is
        if not isinstance(content, dict):
            return record
        if "specversion" in content:
            return replace(record, key=_bytes(self._subject(content)))
        return self._event_of(content, line.raw, offset, line, place)

    def _row(self, line: Line) -> dict[str, Any]:
        header = self.headers[line.file]
        if header is None or line.cells is None:
            raise AssertionError("a row belongs to a table")
        return header.data(line.cells, self.schema)

    def _event_of(
        self, data: Any, value: bytes, offset: int, line: Line, headers: Headers
    ) -> Record:
        """Return the event whose data is `value`, as a CloudEvent in binary mode: the value stays as it is."""
        user_id = _bytes(self._user_of(self.event_type, data))
        kind = self.event_type.encode()
        digest = hashlib.sha256(kind + b"\n" + value).hexdigest()[:_ID_LENGTH]
        time = self.times[line.file]
        if time is None:
            raise ConfigError(
                "standard input does not say of when its users are",
                remedy="say with --as-of when the export was taken, so that nothing newer is overwritten",
            )
        attributes = {
            "specversion": b"1.0",
            "id": f"backfill-{digest}".encode("ascii"),
            "source": _SOURCE,
            "type": kind,
            "subject": user_id,
            "time": format_time(time).encode("ascii"),
        }
        envelope = tuple((f"ce_{name}", text) for name, text in attributes.items() if text)
        return Record(TOPIC, 0, offset, 0, user_id, value, (*headers, *envelope))

    def _subject(self, content: Mapping[str, Any]) -> str | None:
        subject, kind = content.get("subject"), content.get("type")
        if isinstance(subject, str) and subject:
            return subject
        return self._user_of(kind, content.get("data")) if isinstance(kind, str) else None

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


def _bytes(text: str | None) -> bytes | None:
    return text.encode("utf-8", "surrogatepass") if text else None
