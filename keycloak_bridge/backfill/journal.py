"""The journal of a backfill: how far it is, so that a run that was killed goes on without doing its work again."""

import contextlib
import json
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from keycloak_bridge.domain.errors import BrokerUnavailableError, ConfigError
from keycloak_bridge.domain.events import Commit
from keycloak_bridge.event_files.json_events import Mark

_FORMAT = 1
_BEGINNING = Commit(0)
_NOTHING = Mark()


@dataclass(frozen=True, slots=True)
class Progress:
    """What is done of a task: `commit` as a consumer group has it, what the files held that far, and the rejects.

    `at_commit` and `at_reach` say what the lines before the commit were, and all lines that were ever taken up.
    `rejects` are length and CRC-32 of each file of rejects, by the number of its input.
    """

    commit: Commit = _BEGINNING
    at_commit: Mark = _NOTHING
    at_reach: Mark = _NOTHING
    rejects: Mapping[str, tuple[int, int]] = field(default_factory=dict)


class Journal:
    """One file, always whole: what a task is and how far it is done. Used by one thread.

    `task` is what must be the same for a run to go on: plain JSON.
    """

    def __init__(self, file: Path, task: Mapping[str, Any], progress: Progress) -> None:
        self._file = file
        self._task = dict(task)
        self.progress = progress

    @classmethod
    def open(cls, file: Path, task: Mapping[str, Any], *, restart: bool = False) -> "Journal":
        """Return the journal of `task`, which goes on unless `restart` or new; it is on disk already.

        Raises ConfigError when `file` is the journal of another task, or none.
        """
        found = None if restart else read_journal(file)
        if found is None or is_other_beginning(found, task):
            journal = cls(file, task, Progress())
            with _must_be_written(file):
                journal._write(journal.progress)
            return journal
        earlier, progress = found
        other = sorted(name for name in task if earlier.get(name) != task[name])
        if other:
            raise ConfigError(
                f"{file} is the journal of a backfill with another {', '.join(other)}",
                code="journal",
                remedy="give the same files and options as then, another --journal, or --restart to begin anew",
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
            "atReach": [progress.at_reach.lines, progress.at_reach.digest],
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
            Mark(*content["atCommit"]),
            Mark(*content["atReach"]),
            {name: (size, crc) for name, (size, crc) in content["rejects"].items()},
        )
        task: Mapping[str, Any] = content["task"]
        known = content["format"] == _FORMAT
    except FileNotFoundError:
        return None
    except OSError as error:
        raise ConfigError(
            f"{file}: cannot be read: {error.strerror}", remedy="let the journal be read"
        ) from error
    except (ValueError, LookupError, TypeError, AttributeError):
        known = False
    if not known:
        raise ConfigError(
            f"{file} is no journal of a backfill that this version can read",
            code="journal",
            remedy="name another one with --journal, or give --restart to write a new one",
        )
    return task, progress


def is_other_beginning(
    found: tuple[Mapping[str, Any], Progress] | None, task: Mapping[str, Any]
) -> bool:
    """Say whether a journal is of another task of which nothing was done, so that nobody needs it."""
    return found is not None and found[1] == Progress() and found[0] != task


def sync_folder(file: Path) -> None:
    """Have the name of a new file on disk too."""
    folder = os.open(file.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


@contextlib.contextmanager
def _must_be_written(file: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise ConfigError(
            f"{file}: the journal cannot be written: {error.strerror}",
            code="journal",
            remedy="name another one with --journal",
        ) from error
