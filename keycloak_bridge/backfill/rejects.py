"""What a backfill could not bring in: the lines as they were, to mend and feed again, and beside them the reasons."""

import json
import os
import threading
import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from keycloak_bridge.backfill.journal import sync_folder
from keycloak_bridge.domain.errors import BridgeError, BrokerUnavailableError, ConfigError
from keycloak_bridge.domain.events import Message, Record
from keycloak_bridge.domain.ports import Acknowledgement
from keycloak_bridge.event_files.json_events import PLACE_HEADER, RAW_HEADER
from keycloak_bridge.messages.dead_letters import DEAD_LETTER_PREFIX

_REPORT = ".report.ndjson"


class _Arrival:
    """The acknowledgement of one reject; at most one asks for it."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._done: Callable[[BridgeError | None], None] | None = None
        self._arrived: tuple[BridgeError | None] | None = None

    def then(self, done: Callable[[BridgeError | None], None]) -> None:
        """Have `done` called once, from any thread."""
        with self._lock:
            self._done, arrived = done, self._arrived
        if arrived is not None:
            done(*arrived)

    def arrive(self, error: BridgeError | None = None) -> None:
        """Let it arrive."""
        with self._lock:
            self._arrived, done = (error,), self._done
        if done is not None:
            done(error)


@dataclass(frozen=True, slots=True)
class _Reject:
    offset: int
    line: int
    raw: bytes
    told: Mapping[str, Any]
    arrival: _Arrival


class RejectFile:
    """The rejects of one input in `file`, with `header` as first line, and their reasons beside it.

    A reason is on disk before its line is, so after a crash the reasons tell which lines are whole. `source` is how the
    input is called. Nothing is created before there is something to write. Used by one thread.
    """

    def __init__(self, file: Path, source: str, header: Callable[[], bytes]) -> None:
        self.file = file
        self.report = file.with_name(file.name.removesuffix(file.suffix) + _REPORT)
        self.offsets: set[int] = set()
        self._source = source
        self._header = header
        self._size = self._crc = self._lines = self._report_size = 0

    @property
    def state(self) -> tuple[int, int]:
        """Length and CRC-32 of what is certainly on disk."""
        return self._size, self._crc

    def begin(self) -> None:
        """Make sure that nothing of an earlier run is overwritten; raises ConfigError."""
        there = next((one for one in (self.file, self.report) if one.exists()), None)
        if there is not None:
            raise ConfigError(
                f"{there} is there already, with what an earlier backfill refused",
                code="rejects",
                remedy="feed it, or move it and its report away",
            )

    def go_on(self, state: tuple[int, int]) -> None:
        """Go on behind the last reject that is whole; raises ConfigError where the file was edited since `state`."""
        if not self.file.exists() and not self.report.exists():
            return  # whoever mends them took them away
        size, crc = state
        content = self.file.read_bytes() if self.file.exists() else b""
        if len(content) < size or zlib.crc32(content[:size]) != crc:
            raise self._edited()
        entries, report_size = self._entries(len(content))
        end = entries[-1]["end"] if entries else 0
        torn = self.report.exists() and self.report.stat().st_size > report_size
        if end < size or (len(content) > end and not torn):
            raise self._edited()
        self.offsets = {entry["offset"] for entry in entries}
        self._size, self._crc = end, zlib.crc32(content[:end])
        self._lines, self._report_size = content[:end].count(b"\n"), report_size
        self._cut()

    def add(self, rejects: Sequence[_Reject]) -> None:
        """Write and sync reasons and lines; raises OSError, with both files as before as far as they can be."""
        new = not self._size
        reasons, lines = [], bytearray(self._header() if new else b"")
        for one in rejects:
            first = self._lines + lines.count(b"\n") + 1
            lines += one.raw + b"\n"
            told = {"file": self._source, "line": one.line, "rejectsLine": first, **one.told}
            told |= {"offset": one.offset, "end": self._size + len(lines)}
            reasons.append(json.dumps(told, ensure_ascii=False) + "\n")
        text = "".join(reasons).encode()
        try:
            _append(self.report, text)
            _append(self.file, lines)
            if new:
                sync_folder(self.file)
        except OSError:
            self._cut()
            raise
        self._size += len(lines)
        self._crc = zlib.crc32(lines, self._crc)
        self._lines += lines.count(b"\n")
        self._report_size += len(text)
        self.offsets.update(one.offset for one in rejects)

    def _entries(self, size: int) -> tuple[list[Mapping[str, Any]], int]:
        """Return the reasons whose lines are whole in a file of `size` bytes, and where they end in the report."""
        entries: list[Mapping[str, Any]] = []
        report = self.report.read_bytes() if self.report.exists() else b""
        at = 0
        for line in report.splitlines(keepends=True):
            try:
                entry = json.loads(line)
                whole = line.endswith(b"\n") and entry["end"] <= size
            except (ValueError, LookupError, TypeError):
                whole = False
            if not whole:
                break
            entries.append(entry)
            at += len(line)
        return entries, at

    def _cut(self) -> None:
        for file, size in ((self.file, self._size), (self.report, self._report_size)):
            if file.exists():
                os.truncate(file, size)

    def _edited(self) -> ConfigError:
        return ConfigError(
            f"{self.file} was changed while its backfill is not done",
            code="rejects",
            remedy="move it and its report away, mend it there and feed it by itself; then go on here",
        )


class Rejects:
    """Where dead letters of a backfill go: a MessageSink and LetterArchive over one RejectFile an input.

    Safe to share between threads, but for `sync`: nothing counts as written before that.
    """

    def __init__(self, files: Sequence[RejectFile]) -> None:
        self._files = files
        self._lock = threading.Lock()
        self._waiting: list[tuple[int, _Reject]] = []

    @property
    def files(self) -> Sequence[RejectFile]:
        """One an input, in their order."""
        return self._files

    @property
    def state(self) -> Mapping[str, tuple[int, int]]:
        """Length and CRC-32 of each file that has rejects, by the number of its input."""
        return {str(at): one.state for at, one in enumerate(self._files) if one.offsets}

    def __len__(self) -> int:
        return sum(len(one.offsets) for one in self._files)

    def begin(self) -> None:
        """Refuse to write over what an earlier run left; raises ConfigError."""
        for one in self._files:
            one.begin()

    def go_on(self, state: Mapping[str, tuple[int, int]]) -> None:
        """Go on behind what was written when `state` was so; raises ConfigError where a file was edited since."""
        for at, one in enumerate(self._files):
            one.go_on(state.get(str(at), (0, 0)))

    def publish(self, message: Message) -> Acknowledgement:
        """Take a dead letter; it is acknowledged by the next `sync`, at once where it stands in its file already."""
        headers = dict(message.headers)
        told = {
            name.removeprefix(DEAD_LETTER_PREFIX): (value or b"").decode("utf-8", "replace")
            for name, value in message.headers
            if name.startswith(DEAD_LETTER_PREFIX)
        }
        file, _, line = (headers.get(PLACE_HEADER) or b"0:0").partition(b":")
        offset, arrival = int(told["offset"]), _Arrival()
        raw = headers.get(RAW_HEADER, message.value) or b""
        reject = _Reject(offset, int(line), raw, _reason(told), arrival)
        with self._lock:
            if offset in self._files[int(file)].offsets:
                arrival.arrive()
            else:
                self._waiting.append((int(file), reject))
        return arrival

    def holds(self, record: Record) -> bool:
        """Say whether the record stands in its file of rejects."""
        with self._lock:
            return any(record.offset in one.offsets for one in self._files)

    def sync(self) -> None:
        """Write what waits, sync it, and acknowledge it; what the disk does not take is to be tried again."""
        with self._lock:
            waiting, self._waiting = self._waiting, []
        for number, file in enumerate(self._files):
            rejects = sorted((one for at, one in waiting if at == number), key=_offset)
            if not rejects:
                continue
            problem: BridgeError | None = None
            try:
                with self._lock:
                    file.add(rejects)
            except OSError as error:
                problem = BrokerUnavailableError(
                    f"{file.file}: the rejects cannot be written: {error.strerror}", code="rejects"
                )
            for one in rejects:
                one.arrival.arrive(problem)

    def close(self) -> None:
        """Nothing is open between two syncs."""


def _reason(told: Mapping[str, str]) -> Mapping[str, Any]:
    """Return what is told of a reject: ids, places and sentences, and no value of the event."""
    reason: dict[str, Any] = {
        "event": told.get("event-id"),
        "step": told.get("stage"),
        "reason": told.get("code"),
        "message": told.get("message"),
        "remedy": told.get("action"),
    }
    if "errors" in told:
        reason["violations"] = json.loads(told["errors"])
    return {name: value for name, value in reason.items() if value is not None}


def _offset(reject: _Reject) -> int:
    return reject.offset


def _append(file: Path, content: bytes | bytearray) -> None:
    with file.open("ab") as stream:
        stream.write(content)
        stream.flush()
        os.fsync(stream.fileno())
