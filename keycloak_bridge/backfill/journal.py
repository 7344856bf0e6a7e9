"""The journal of a backfill: how far it is, so that a run that was killed continues without repeating its work."""

import hashlib
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from keycloak_bridge.domain.errors import BrokerUnavailableError, ConfigError
from keycloak_bridge.domain.events import Commit
from keycloak_bridge.event_files.records import Line

_FORMAT = 1


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
    """What is done of a task: `commit` as a consumer group has it, the lines before it, and the rejects.

    `furthest` are all lines that were ever read. `rejects` are length and CRC-32 of each file of rejects, by the number of
    its input.
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
        other = sorted(name for name in task if earlier.get(name) != task[name])
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
        beside = self._file.with_name(f"{self._file.name}.new")
        with beside.open("w", encoding="utf-8") as stream:
            json.dump(content, stream, indent=2)
            stream.write("\n")
            stream.flush()
            os.fsync(stream.fileno())
        beside.replace(self._file)
        sync_folder(self._file)


def read_journal(file: Path) -> tuple[Mapping[str, Any], Progress] | None:
    """Return the task and the progress in `file`, None where there is none; raises ConfigError."""
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
        progress = Progress(
            Commit(content["offset"], content["note"]),
            LinesRead(*content["atCommit"]),
            LinesRead(*content["atReach"]),
            {name: (size, crc) for name, (size, crc) in content["rejects"].items()},
        )
        task: Mapping[str, Any] = content["task"]
        known = content["format"] == _FORMAT
    except FileNotFoundError:
        return None
    except OSError as error:
        raise ConfigError(
            f"{file}: cannot be read: {error.strerror}", remedy="make the journal readable"
        ) from error
    except (ValueError, LookupError, TypeError, AttributeError):
        known = False
    if not known:
        raise ConfigError(
            f"{file} is not a journal of a backfill that this version can read",
            code="journal",
            remedy="name another one with --journal, or give --restart to write a new one",
        )
    return task, progress


def is_new(found: tuple[Mapping[str, Any], Progress] | None, task: Mapping[str, Any]) -> bool:
    """Say whether there is no journal, or one of another task of which nothing was done, which may be replaced."""
    return found is None or (found[1] == Progress() and found[0] != task)


def sync_folder(file: Path) -> None:
    """Write the name of a new file to disk too."""
    folder = os.open(file.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
