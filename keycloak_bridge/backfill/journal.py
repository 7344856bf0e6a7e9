"""What a backfill keeps on disk, so that a run that was killed continues without repeating its work.

The journal says how far it is. The rejects are the lines that could not be brought in, as they were, to be fixed and fed
again; the reasons are beside them.
"""

import contextlib
import errno
import hashlib
import json
import threading
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from itertools import chain
from pathlib import Path
from typing import Any

from keycloak_bridge.domain.errors import BridgeError, BrokerUnavailableError, ConfigError
from keycloak_bridge.domain.events import Commit, Record, Result
from keycloak_bridge.domain.future import Future
from keycloak_bridge.domain.ports import Acknowledgement
from keycloak_bridge.domain.times import parse_time
from keycloak_bridge.event_files.csv_rows import Line
from keycloak_bridge.event_files.file_records import FileRecord
from keycloak_bridge.messages.recommended_actions import recommended_action
from keycloak_bridge.ops.private_files import (
    append_private,
    check_appendable,
    read_private,
    refuse_unsafe,
    replace_file,
    sync_folder,
    truncate_private,
)

_FORMAT = 1
_REPORT = ".report.ndjson"
_MAY_PASS = frozenset((errno.ENOSPC, errno.EDQUOT, errno.EIO))
"""What a disk can be cured of while a run waits; any other error stays until somebody gives another folder."""


@dataclass(frozen=True, slots=True)
class LinesRead:
    """That the first `lines` lines of a run have this digest."""

    lines: int = 0
    digest: str = hashlib.sha256().hexdigest()


class LineDigest:
    """A running digest over all lines that were read."""

    def __init__(self) -> None:
        self.lines = 0
        self._digest = hashlib.sha256()

    def add(self, line: Line) -> None:
        """Take in the next line."""
        self._digest.update(b"%d:%d %d " % (line.file, line.number, len(line.raw)))
        self._digest.update(line.raw)
        self.lines += 1

    def read(self) -> LinesRead:
        """Return what was read until now."""
        return LinesRead(self.lines, self._digest.hexdigest())


@dataclass(frozen=True, slots=True)
class Progress:
    """What is done of a task: `commit` as a consumer group has it, lines before it, and the rejects.

    `at_commit` are all lines before it, or fewer where a record waits while thousands pass it. `furthest` are all lines that
    were ever read. `rejects` are length and CRC-32 of each file of rejects, by the number of its input.
    """

    commit: Commit = Commit(0)  # noqa: RUF009 # a named tuple never changes
    at_commit: LinesRead = LinesRead()
    furthest: LinesRead = LinesRead()
    rejects: Mapping[str, tuple[int, int]] = field(default_factory=dict)


class Journal:
    """One file, always complete: what the task is and how much of it is done. Used by one thread.

    `task` is what must be the same for a run to continue: plain JSON.
    """

    def __init__(self, file: Path, task: Mapping[str, Any], progress: Progress) -> None:
        self._file = file
        self._task = dict(task)
        self.progress = progress

    @classmethod
    def open(cls, file: Path, task: Mapping[str, Any], *, restart: bool = False) -> "Journal":
        """Return the journal of `task`, new where there is none, nothing is done yet or `restart`; it is on disk.

        Raises ConfigError when `file` is the journal of another task, or no journal.
        """
        found = None if restart else read_journal(file)
        if is_new(found, task):
            journal = cls(file, task, Progress())
            try:
                journal._write(journal.progress)
            except OSError as error:
                raise ConfigError(
                    f"{file}: the journal cannot be written: {error.strerror}",
                    code="journal",
                    remedy="name another one with --journal",
                ) from error
            return journal
        assert found is not None  # noqa: S101 # else it is new
        earlier, progress = found
        # an older version's journal does not name the realm
        other = sorted(name for name in task if name in earlier and earlier[name] != task[name])
        if other:
            raise ConfigError(
                f"{file} is the journal of a backfill with another {', '.join(other)}",
                code="journal",
                remedy="give the same files and options as then, another --journal, or --restart to begin again",
            )
        return cls(file, task, progress)

    def save(self, progress: Progress) -> None:
        """Write how far the task is; raises BrokerUnavailableError where the disk does not take it."""
        if progress == self.progress:
            return
        try:
            self._write(progress)
        except OSError as error:
            raise BrokerUnavailableError(
                f"{self._file}: the journal cannot be written: {error.strerror}", code="journal"
            ) from error
        self.progress = progress

    def _write(self, progress: Progress) -> None:
        content = {
            "format": _FORMAT,
            "task": self._task,
            "offset": progress.commit.offset,
            "note": progress.commit.metadata,
            "atCommit": [progress.at_commit.lines, progress.at_commit.digest],
            "atReach": [progress.furthest.lines, progress.furthest.digest],
            "rejects": progress.rejects,
        }
        replace_file(self._file, json.dumps(content, indent=2).encode() + b"\n")


def read_journal(file: Path) -> tuple[Mapping[str, Any], Progress] | None:
    """Return the task and the progress in `file`, None where there is none; raises ConfigError."""
    try:
        text = read_private(file)
        if text is None:
            return None
        found = _read_content(json.loads(text))
    except OSError as error:
        raise ConfigError(
            f"{file}: cannot be read: {error.strerror}", remedy="make the journal readable"
        ) from error
    except (ValueError, LookupError, TypeError, RecursionError):
        found = None
    if found is None:
        raise ConfigError(
            f"{file} is not a journal of a backfill that this version can read",
            code="journal",
            remedy="name another one with --journal, or give --restart to write a new one",
        )
    return found


def _read_content(content: Any) -> tuple[Mapping[str, Any], Progress] | None:
    """Return the task and the progress, None where they cannot be; raises LookupError, TypeError, ValueError too.

    Somebody may have edited it: an offset that cannot be would pass over users.
    """
    task, rejects, note = content["task"], content["rejects"], content["note"]
    if not (isinstance(task, dict) and isinstance(rejects, dict) and isinstance(note, str)):
        return None
    times = task.get("asOf", [])
    if not isinstance(times, list) or not all(map(_is_time, times)):
        return None
    (lines, digest), (most_lines, last_digest) = content["atCommit"], content["atReach"]
    progress = Progress(
        Commit(content["offset"], note),
        LinesRead(lines, digest),
        LinesRead(most_lines, last_digest),
        {name: (size, crc) for name, (size, crc) in rejects.items()},
    )
    rejected = chain(*progress.rejects.values())
    counts = (content["format"], progress.commit.offset, lines, most_lines, *rejected)
    if not (
        all(map(_is_count, counts)) and isinstance(digest, str) and isinstance(last_digest, str)
    ):
        return None
    ordered = lines <= progress.commit.offset <= most_lines
    return (task, progress) if ordered and content["format"] == _FORMAT else None


def _is_count(value: object) -> bool:
    return type(value) is int and value >= 0  # a bool is an int too


def _is_time(value: object) -> bool:
    return value is None or (isinstance(value, str) and parse_time(value) is not None)


def is_new(found: tuple[Mapping[str, Any], Progress] | None, task: Mapping[str, Any]) -> bool:
    """Say whether there is no journal, or one of another task of which nothing was done, which may be replaced."""
    return found is None or (found[1] == Progress() and found[0] != task)


class Written:
    """The acknowledgement of something that goes to a file."""

    def __init__(self) -> None:
        self._future: Future[BridgeError | None] = Future()

    def then(self, done: Callable[[BridgeError | None], None]) -> None:
        """Have `done` called once, from any thread."""
        self._future.add_done_callback(lambda future: done(future.result()))

    def acknowledge(self, error: BridgeError | None = None) -> "Written":
        """Report that it is written, or why not."""
        self._future.set_result(error)
        return self

    @property
    def acknowledged(self) -> bool:
        """Whether it was reported."""
        return self._future.done()


@dataclass(frozen=True, slots=True)
class _Reject:
    record: FileRecord
    reason: Mapping[str, Any]
    written: Written


class Rejects:
    """The rejects of a run, one RejectFile an input; safe to share between threads, but for `sync`.

    Nothing counts as written before `sync`.
    """

    def __init__(self, files: Sequence["RejectFile"]) -> None:
        self.files = files
        self._lock = threading.Lock()
        self._waiting: list[_Reject] = []

    @property
    def state(self) -> Mapping[str, tuple[int, int]]:
        """Length and CRC-32 of each file that has rejects, by the number of its input."""
        return {str(number): one.state for number, one in enumerate(self.files) if one.offsets}

    def __len__(self) -> int:
        return sum(len(one.offsets) for one in self.files)

    def begin(self) -> None:
        """Refuse to overwrite what an earlier run left, and a folder that takes no files; raises ConfigError."""
        for one in self.files:
            one.begin()

    def resume(self, state: Mapping[str, tuple[int, int]]) -> None:
        """Continue behind what was written when `state` was so.

        Raises ConfigError where a file was edited since, or cannot be written.
        """
        for number, one in enumerate(self.files):
            one.resume(state.get(str(number), (0, 0)))

    def add(
        self, record: FileRecord, error: BridgeError, result: Result, step: str
    ) -> Acknowledgement:
        """Take a reject; the next `sync` acknowledges it, or it is acknowledged now when it is in its file already."""
        reason: dict[str, Any] = {
            "event": result.event_id,
            "step": step,
            "reason": error.code,
            "message": error.message,
            "remedy": error.remedy or recommended_action(error.code),
            "violations": [asdict(one) for one in error.violations] or None,
        }
        written = Written()
        with self._lock:
            if record.offset in self.files[record.file].offsets:
                return written.acknowledge()
            known = {name: value for name, value in reason.items() if value is not None}
            self._waiting.append(_Reject(record, known, written))
        return written

    def holds(self, record: Record) -> bool:
        """Say whether the record is in its file of rejects."""
        with self._lock:
            return any(record.offset in one.offsets for one in self.files)

    def sync(self) -> None:
        """Write what waits, sync it, and acknowledge it; what a full disk does not take is to be tried again.

        Raises ConfigError for what can never be written. Whatever is raised, the rejects that are not acknowledged wait
        for the next call.
        """
        with self._lock:
            waiting, self._waiting = self._waiting, []
        try:
            waiting.sort(key=lambda one: one.record.offset)
            for number, file in enumerate(self.files):
                self._write(file, [one for one in waiting if one.record.file == number])
        finally:
            left = [one for one in waiting if not one.written.acknowledged]
            with self._lock:
                self._waiting += left

    def _write(self, file: "RejectFile", rejects: Sequence[_Reject]) -> None:
        problem: BridgeError | None = None
        try:
            with self._lock:
                # one may be there already: what followed the acknowledgement of another failed
                new = [one for one in rejects if one.record.offset not in file.offsets]
                if new:
                    file.add(new)
        except OSError as error:
            if error.errno not in _MAY_PASS:
                raise _unwritable(file.file, error) from error
            problem = BrokerUnavailableError(
                f"{file.file}: the rejects cannot be written: {error.strerror}", code="rejects"
            )
        for one in rejects:
            one.written.acknowledge(problem)


class RejectFile:
    """The rejects of one input in `file`, with `header` as first line, and their reasons beside it.

    A reason is on disk before its line is, so after a crash the reasons say which lines are complete. `source` is the name
    of the input. Nothing is created before there is something to write. Used by one thread.
    """

    def __init__(self, file: Path, source: str, header: bytes = b"") -> None:
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
        """Make sure that nothing of an earlier run is overwritten, and that it can be written; raises ConfigError."""
        with self._writing():
            for one in (self.file, self.report):
                refuse_unsafe(one)
                if one.exists():
                    raise ConfigError(
                        f"{one} exists already, with what an earlier backfill refused",
                        code="rejects",
                        remedy="feed it, or move it and its report away",
                    )
                check_appendable(one)

    def resume(self, state: tuple[int, int]) -> None:
        """Continue behind the last complete reject.

        Raises ConfigError where the file was edited since `state`, or cannot be written.
        """
        with self._writing():
            check_appendable(self.file)
            check_appendable(self.report)
            found, report = read_private(self.file), read_private(self.report)
        if found is None and report is None:
            return  # they were taken away to be fixed
        size, crc = state
        content = found or b""
        if len(content) < size or zlib.crc32(content[:size]) != crc:
            raise self._edited()
        entries, report_size = _entries(report or b"", len(content))
        end = entries[-1]["end"] if entries else 0
        torn = len(report or b"") > report_size
        if end < size or (len(content) > end and not torn):
            raise self._edited()
        self.offsets = {entry["offset"] for entry in entries}
        self._size, self._crc = end, zlib.crc32(content[:end])
        self._lines, self._report_size = content[:end].count(b"\n"), report_size
        with self._writing():
            self._truncate()

    @contextlib.contextmanager
    def _writing(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise _unwritable(self.file, error) from error

    def add(self, rejects: Sequence[_Reject]) -> None:
        """Write and sync reasons and lines.

        Raises OSError, or ConfigError (code `unsafe-file`), with both files as before as far as possible.
        """
        new = not self._size
        reasons, lines = [], bytearray(self._header if new else b"")
        for one in rejects:
            first = self._lines + lines.count(b"\n") + 1
            lines += (one.record.value or b"") + b"\n"
            place = {"file": self._source, "line": one.record.line, "rejectsLine": first}
            end = {"offset": one.record.offset, "end": self._size + len(lines)}
            reasons.append(json.dumps({**place, **one.reason, **end}, ensure_ascii=False) + "\n")
        # the name of a file may be no UTF-8; Python's escape of what cannot be written is JSON's
        text = "".join(reasons).encode("utf-8", "backslashreplace")
        try:
            append_private(self.report, text)
            append_private(self.file, lines)
            if new:
                sync_folder(self.file)
        except BaseException:
            self._truncate()
            raise
        self._size += len(lines)
        self._crc = zlib.crc32(lines, self._crc)
        self._lines += lines.count(b"\n")
        self._report_size += len(text)
        self.offsets.update(one.record.offset for one in rejects)

    def _truncate(self) -> None:
        for file, size in ((self.file, self._size), (self.report, self._report_size)):
            truncate_private(file, size)

    def _edited(self) -> ConfigError:
        return ConfigError(
            f"{self.file} was changed while its backfill is not done",
            code="rejects",
            remedy="move it and its report away, fix it there and feed it by itself; then continue here",
        )


def _unwritable(file: Path, error: OSError) -> ConfigError:
    return ConfigError(
        f"{file}: the rejects cannot be written: {error.strerror}",
        code="rejects",
        remedy="name a folder for them that you may write to with --rejects; the same command continues",
    )


def _entries(report: bytes, size: int) -> tuple[list[Mapping[str, Any]], int]:
    """Return the reasons in `report` whose lines are complete in a file of `size` bytes, and where they end."""
    entries: list[Mapping[str, Any]] = []
    report_size = 0
    for line in report.splitlines(keepends=True):
        try:
            entry = json.loads(line)
            end = entry["end"]
            complete = (
                line.endswith(b"\n")
                and _is_count(entry["offset"])
                and _is_count(end)
                and (entries[-1]["end"] if entries else 0) < end <= size
            )
        except (ValueError, LookupError, TypeError, RecursionError):
            complete = False
        if not complete:
            break
        entries.append(entry)
        report_size += len(line)
    return entries, report_size
