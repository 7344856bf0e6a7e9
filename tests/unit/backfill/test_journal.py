import json
from pathlib import Path
from typing import Any

import pytest

from keycloak_bridge.backfill.journal import (
    Journal,
    LineDigest,
    LinesRead,
    Progress,
    read_journal,
)
from keycloak_bridge.domain.errors import BrokerUnavailableError, ConfigError
from keycloak_bridge.domain.events import Commit
from keycloak_bridge.event_files.csv_rows import Line

TASK: dict[str, Any] = {"files": ["users.csv"], "type": "user.created"}
PROGRESS = Progress(Commit(7, "kb1:x"), LinesRead(7, "aa"), LinesRead(9, "bb"), {"0": (10, 11)})


def test_what_was_saved_is_read_back(tmp_path: Path) -> None:
    """By the same run and by the next one."""
    file = tmp_path / "journal.json"
    journal = Journal.open(file, TASK)
    assert (TASK, Progress()) == read_journal(file)

    journal.save(PROGRESS)

    assert PROGRESS == journal.progress == Journal.open(file, TASK).progress
    assert Progress() == Journal.open(file, TASK, restart=True).progress
    assert ["journal.json"] == [one.name for one in tmp_path.iterdir()]


def test_a_journal_of_another_task_is_refused(tmp_path: Path) -> None:
    """Naming what differs; --restart takes it."""
    file = tmp_path / "journal.json"
    Journal.open(file, TASK).save(PROGRESS)
    other = {**TASK, "type": "user.updated"}

    with pytest.raises(ConfigError, match="another type"):
        Journal.open(file, other)
    assert Progress() == Journal.open(file, other, restart=True).progress


def test_a_journal_of_nothing_is_replaced(tmp_path: Path) -> None:
    """An option that was misspelt at first can be corrected."""
    file = tmp_path / "journal.json"
    Journal.open(file, {**TASK, "type": "user.updated"})

    Journal.open(file, TASK)

    assert (TASK, Progress()) == read_journal(file)


@pytest.mark.parametrize("text", ["", "[]", "{}", json.dumps({"format": 2}), "\x00"])
def test_another_file_is_left_alone(tmp_path: Path, text: str) -> None:
    """It may be needed."""
    file = tmp_path / "journal.json"
    file.write_text(text)

    with pytest.raises(ConfigError, match="not a journal"):
        Journal.open(file, TASK)
    assert text == file.read_text()


def test_a_journal_that_cannot_be_written_is_reported(tmp_path: Path) -> None:
    """At the start it is a mistake, later it may pass."""
    with pytest.raises(ConfigError, match="cannot be written"):
        Journal.open(tmp_path / "missing" / "journal.json", TASK)
    file = tmp_path / "folder" / "journal.json"
    file.parent.mkdir()
    journal = Journal.open(file, TASK)
    file.unlink()
    file.parent.rmdir()

    with pytest.raises(BrokerUnavailableError, match="cannot be written"):
        journal.save(PROGRESS)
    assert Progress() == journal.progress


def test_digests_tell_lines_apart() -> None:
    """By content, place and number; a line break moved from one line to the next is seen too."""
    one, two = Line(0, 1, b"ab"), Line(0, 2, b"c")
    digests = set()
    for lines in ((), (one,), (one, two), (two, one), (Line(0, 1, b"a"), Line(0, 2, b"bc"))):
        digest = LineDigest()
        for line in lines:
            digest.add(line)
        digests.add(digest.read())

    assert 5 == len(digests)
    assert LinesRead() in digests
