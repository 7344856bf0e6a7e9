import errno
import json
import os
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from keycloak_bridge.backfill.files import TOPIC
from keycloak_bridge.backfill.journal import (
    Journal,
    LineDigest,
    LinesRead,
    Progress,
    RejectFile,
    Rejects,
    read_journal,
)
from keycloak_bridge.domain.errors import (
    BridgeError,
    BrokerUnavailableError,
    ConfigError,
    EventValidationError,
    Violation,
)
from keycloak_bridge.domain.events import Commit, Outcome, Result
from keycloak_bridge.event_files.csv_rows import Line
from keycloak_bridge.event_files.file_records import FileRecord

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


def test_a_journal_of_nothing_is_replaced(tmp_path: Path) -> None:
    """An option that was misspelt at first can be corrected."""
    file = tmp_path / "journal.json"
    Journal.open(file, {**TASK, "type": "user.updated"})

    Journal.open(file, TASK)

    assert (TASK, Progress()) == read_journal(file)


def test_a_journal_belongs_to_one_realm(tmp_path: Path) -> None:
    """What was brought into one realm is not in another; an older version's journal does not say which it was."""
    file = tmp_path / "journal.json"
    Journal.open(file, TASK).save(PROGRESS)
    assert PROGRESS == Journal.open(file, {**TASK, "realm": "acme"}).progress
    Journal.open(file, {**TASK, "realm": "acme"}, restart=True).save(PROGRESS)

    with pytest.raises(ConfigError, match="another realm"):
        Journal.open(file, {**TASK, "realm": "partners"})


@pytest.mark.parametrize(
    "text",
    ["", "[]", "{}", json.dumps({"format": 2}), "\x00", "[" * 100_000, '{"a":' * 100_000, "\ud800"],
    ids=map(str, range(8)),
)
def test_another_file_is_left_alone(tmp_path: Path, text: str) -> None:
    """It may be needed."""
    file = tmp_path / "journal.json"
    content = text.encode("utf-8", "surrogatepass")
    file.write_bytes(content)

    with pytest.raises(ConfigError, match="not a journal"):
        Journal.open(file, TASK)
    assert content == file.read_bytes()


ODD: Sequence[Any] = (None, True, 1.5, -1, "7", "x", [], {}, ["a", "b"])


@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("format", (None, True, 1.0, 2, "1")),
        ("task", (None, [], 5, "x", {"asOf": 5}, {"asOf": [5]}, {"asOf": ["x"]}, {"asOf": "2026"})),
        ("offset", (*ODD, 10, 6, 99999)),
        ("note", (None, 5, [], {})),
        ("atCommit", (*ODD, [7], [7, 5], [7, "aa", 1], [-1, "aa"], [7.0, "aa"], [8, "aa"])),
        ("atReach", (*ODD, [9], [9, None], [True, "bb"], [6, "bb"])),
        (
            "rejects",
            (None, 5, [], [[1, 2]], {"0": ["a", "b"]}, {"0": [1]}, {"0": [1, -2]}, {"0": 1}),
        ),
    ],
)
def test_a_journal_that_was_edited_is_none(
    tmp_path: Path, name: str, values: Sequence[Any]
) -> None:
    """Of an offset that cannot be, lines would count as done that nobody has read."""
    file = tmp_path / "journal.json"
    Journal.open(file, TASK).save(PROGRESS)
    content = json.loads(file.read_bytes())

    for value in (*values, ...):
        edited = {**content, name: value}
        if value is ...:
            del edited[name]
        file.write_text(json.dumps(edited))
        with pytest.raises(ConfigError, match="not a journal"):
            Journal.open(file, TASK)
        assert edited == json.loads(file.read_bytes()), value


@pytest.mark.parametrize(
    "edit",
    [
        {"offset": None},
        {"offset": []},
        {"offset": -1},
        {"offset": True},
        {"end": True},
        {"end": "23"},
        {"end": -1},
        {"end": 0},
    ],
    ids=str,
)
def test_reasons_that_were_edited_are_none(tmp_path: Path, edit: dict[str, Any]) -> None:
    """As lines that have no reason: the run does not go on over them."""
    rejects = opened(tmp_path)
    written(rejects, 1)
    report = tmp_path / "users.rejects.report.ndjson"
    good = json.loads(report.read_bytes())
    texts = [json.dumps({**good, **edit}), json.dumps([good]), "[" * 100_000]

    for text in texts:
        report.write_text(f"{text}\n")
        with pytest.raises(ConfigError, match="was changed"):
            opened(tmp_path).resume(rejects.state)
        assert f"{text}\n" == report.read_text()


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


RULE = Violation("/data/email", "required", "is required")
ERROR = EventValidationError("the data breaks its schema", violations=(RULE,))


def record_of(offset: int, raw: bytes | None = None) -> FileRecord:
    """Return the record of a line of the first file."""
    value = b'{"userId": "u-%d"}' % offset if raw is None else raw
    return FileRecord(TOPIC, 0, offset, 0, None, value, line=offset + 2)


def opened(folder: Path, header: bytes = b"") -> Rejects:
    """Return the rejects of one file."""
    return Rejects([RejectFile(folder / "users.rejects.csv", "users", header)])


def reject(rejects: Rejects, *records: FileRecord | int) -> list[BridgeError | None]:
    """Add rejects, and return the list in which their acknowledgements arrive."""
    arrived: list[BridgeError | None] = []
    for record in (record_of(one) if isinstance(one, int) else one for one in records):
        result = Result(Outcome.REJECTED, event_id=f"event-{record.offset}")
        rejects.add(record, ERROR, result, "schema").then(arrived.append)
    return arrived


def written(rejects: Rejects, *offsets: int) -> list[BridgeError | None]:
    """Add rejects, sync, and return what was acknowledged."""
    arrived = reject(rejects, *offsets)
    rejects.sync()
    return arrived


def test_what_is_kept_on_disk_is_private(tmp_path: Path) -> None:
    """Rejects are personal data, and their reasons and the journal tell of it."""
    Journal.open(tmp_path / "journal.json", TASK).save(PROGRESS)
    written(opened(tmp_path), 1, 2)

    files = list(tmp_path.iterdir())
    assert 3 == len(files)
    assert {0o600} == {one.stat().st_mode & 0o777 for one in files}


@pytest.mark.parametrize("name", ["users.rejects.csv", "users.rejects.report.ndjson"])
def test_rejects_go_through_no_link(tmp_path: Path, name: str) -> None:
    """Neither of a new run nor of one that continues; nothing is written where the link leads."""
    target = tmp_path / "target"
    (tmp_path / name).symlink_to(target)
    uses: list[Callable[[Rejects], object]] = [
        Rejects.begin,
        lambda rejects: rejects.resume({}),
        lambda rejects: written(rejects, 1),
    ]
    for use in uses:
        with pytest.raises(ConfigError, match=f"{name}: is a symbolic link") as caught:
            use(opened(tmp_path))
        assert "unsafe-file" == caught.value.code
    assert not target.exists()


def test_a_journal_is_neither_read_nor_written_through_a_link(tmp_path: Path) -> None:
    """Whatever stands where it leads."""
    file, target = tmp_path / "journal.json", tmp_path / "target"
    Journal.open(target, TASK).save(PROGRESS)
    before = target.read_bytes()
    file.symlink_to(target)

    for restart in (False, True):
        with pytest.raises(ConfigError, match="is a symbolic link"):
            Journal.open(file, TASK, restart=restart)
    assert before == target.read_bytes()


def test_a_reject_counts_once_it_is_on_disk(tmp_path: Path) -> None:
    """The line as it was, and its reason with places and without values."""
    rejects = opened(tmp_path, b"userId,email\n")
    arrived = reject(rejects, record_of(3, b'u-3,"a\nb"'))
    assert ([], [], 0) == (arrived, list(tmp_path.iterdir()), len(rejects))

    rejects.sync()

    assert [None] == arrived
    assert b'userId,email\nu-3,"a\nb"\n' == (tmp_path / "users.rejects.csv").read_bytes()
    (reason,) = (tmp_path / "users.rejects.report.ndjson").read_text().splitlines()
    assert {
        "file": "users",
        "line": 5,
        "rejectsLine": 2,
        "event": "event-3",
        "step": "schema",
        "reason": "schema-violation",
        "message": "the data breaks its schema",
        "remedy": "correct the data in user management and publish the event again",
        "violations": [{"pointer": "/data/email", "keyword": "required", "message": "is required"}],
        "offset": 3,
        "end": 23,
    } == json.loads(reason)


def test_a_line_is_there_once(tmp_path: Path) -> None:
    """In this run and in the next one, which knows from the reasons."""
    rejects = opened(tmp_path)
    assert [None, None] == written(rejects, 1, 2)
    assert [None, None] == written(rejects, 2, 5)
    later = opened(tmp_path)
    later.resume(rejects.state)

    assert [None, None, None] == written(later, 5, 1, 9)

    assert 4 == len(later)
    assert (True, False) == (later.holds(record_of(9)), later.holds(record_of(8)))
    assert 4 == len((tmp_path / "users.rejects.csv").read_bytes().splitlines())


@settings(max_examples=40, deadline=None)
@given(torn=st.integers(0, 70), reasons_torn=st.booleans(), data=st.data())
def test_what_a_crash_tore_is_cut_off(
    tmp_path_factory: pytest.TempPathFactory, torn: int, reasons_torn: bool, data: st.DataObject
) -> None:
    """Reasons are written first; wherever the crash came, only complete lines with their reasons are left."""
    folder = tmp_path_factory.mktemp("torn")
    rejects = opened(folder)
    written(rejects, 1)
    state = rejects.state
    lines, report = folder / "users.rejects.csv", folder / "users.rejects.report.ndjson"
    before = report.stat().st_size
    written(rejects, 2, 3, 4)
    if reasons_torn:  # no line was written by then
        size = data.draw(st.integers(before, report.stat().st_size))
        report.write_bytes(report.read_bytes()[:size])
        lines.write_bytes(lines.read_bytes()[: state["0"][0]])
    else:
        size = min(state["0"][0] + torn, lines.stat().st_size)
        lines.write_bytes(lines.read_bytes()[:size])

    later = opened(folder)
    later.resume(state)
    written(later, 1, 2, 3, 4)

    kept = sorted(json.loads(line)["userId"] for line in lines.read_bytes().splitlines())
    assert ["u-1", "u-2", "u-3", "u-4"] == kept
    reasons = [json.loads(line) for line in report.read_text().splitlines()]
    assert [1, 2, 3, 4] == [one["rejectsLine"] for one in reasons]


@pytest.mark.parametrize("edit", [b"{}\n", b""])
def test_an_edited_file_is_not_touched(tmp_path: Path, edit: bytes) -> None:
    """Changed, or longer than its reasons say."""
    rejects = opened(tmp_path)
    written(rejects, 1)
    file = tmp_path / "users.rejects.csv"
    edited = edit or file.read_bytes() + b"{}\n"
    file.write_bytes(edited)

    with pytest.raises(ConfigError, match="was changed"):
        opened(tmp_path).resume(rejects.state)
    assert edited == file.read_bytes()


def test_a_new_run_overwrites_nothing(tmp_path: Path) -> None:
    """Neither lines nor reasons; a run continues without files that were taken away."""
    rejects = opened(tmp_path)
    written(rejects, 1)

    with pytest.raises(ConfigError, match="exists already"):
        opened(tmp_path).begin()
    for file in tmp_path.iterdir():
        file.unlink()
    later = opened(tmp_path)
    later.resume(rejects.state)

    assert (0, {}) == (len(later), later.state)


def test_a_name_that_is_not_utf_8_is_told_as_it_can_be(tmp_path: Path) -> None:
    """A file from an older machine may have any bytes as its name; the report is JSON all the same."""
    name = os.fsdecode(b"m\xfcller")
    rejects = Rejects([RejectFile(tmp_path / f"{name}.rejects.ndjson", name)])

    assert [None] == written(rejects, 1)
    (reason,) = (tmp_path / f"{name}.rejects.report.ndjson").read_bytes().decode().splitlines()
    assert name == json.loads(reason)["file"]
    later = Rejects([RejectFile(tmp_path / f"{name}.rejects.ndjson", name)])
    later.resume(rejects.state)
    assert 1 == len(later)


@pytest.mark.parametrize("error", [ConfigError("unsafe"), UnicodeError()], ids=["own", "foreign"])
def test_what_could_not_be_written_waits(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    """Whatever the reason was: one that is neither written nor waits would be in hand for ever."""
    files = [RejectFile(tmp_path / f"{name}.csv", name) for name in "abc"]
    rejects = Rejects(files)
    arrived = reject(rejects, *(replace(record_of(one), file=one) for one in range(3)))
    add, faults = RejectFile.add, [error, error]

    def failing(file: RejectFile, new: Sequence[Any]) -> None:
        if file is files[1] and faults:
            raise faults.pop()
        add(file, new)

    monkeypatch.setattr(RejectFile, "add", failing)
    for _ in range(2):
        with pytest.raises(type(error)):
            rejects.sync()
    assert [None] == arrived
    rejects.sync()

    assert [None] * 3 == arrived
    assert [1, 1, 1] == [len(one.file.read_bytes().splitlines()) for one in files]


def test_what_follows_an_acknowledgement_may_fail(tmp_path: Path) -> None:
    """What is in its file is not written again, and the others are acknowledged at the next call."""
    rejects = opened(tmp_path)

    def failing(_: BridgeError | None) -> None:
        raise ZeroDivisionError

    rejects.add(record_of(1), ERROR, Result(Outcome.REJECTED), "schema").then(failing)
    arrived = reject(rejects, 2)
    with pytest.raises(ZeroDivisionError):
        rejects.sync()
    rejects.sync()

    assert [None] == arrived
    assert 2 == len((tmp_path / "users.rejects.csv").read_bytes().splitlines())


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT, errno.EIO])
def test_a_full_disk_is_tried_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    """The record does not count as done, and neither file keeps half of it."""
    rejects = opened(tmp_path)
    with monkeypatch.context() as broken:
        broken.setattr(os, "fsync", raising(number))
        (failed,) = written(rejects, 1)

    assert isinstance(failed, BrokerUnavailableError)
    assert {b""} == {one.read_bytes() for one in tmp_path.iterdir()}
    assert [None] == written(rejects, 1)
    assert 1 == len(rejects)


def raising(number: int) -> Callable[[object], None]:
    """Return what fails as the system does with this error."""

    def fail(_: object) -> None:
        raise OSError(number, os.strerror(number))

    return fail


@pytest.mark.parametrize("number", [errno.EACCES, errno.EROFS, errno.EPERM, errno.ENOTDIR])
def test_what_waiting_does_not_mend_ends_the_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    """The folder that was taken away while it ran, too; what is not written waits, and does not count."""
    rejects = opened(tmp_path)
    with monkeypatch.context() as broken:
        broken.setattr(os, "fsync", raising(number))
        arrived = reject(rejects, 1)
        with pytest.raises(ConfigError, match="the rejects cannot be written") as caught:
            rejects.sync()

    assert ("rejects", [], 0) == (caught.value.code, arrived, len(rejects))
    assert "--rejects" in (caught.value.remedy or "")
    rejects.sync()
    assert [None] == arrived


FIRST_USES: dict[str, Callable[[Rejects], None]] = {
    "begin": Rejects.begin,
    "resume": lambda rejects: rejects.resume({}),
}


@pytest.mark.parametrize("use", FIRST_USES)
def test_rejects_that_can_never_be_written_are_refused_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, use: str
) -> None:
    """Before anything is written to the realm; nothing is left of the attempt."""
    (tmp_path / "file").touch()
    names = {
        "a folder that is missing": tmp_path / "missing" / "users.rejects.csv",
        "a file in the place of the folder": tmp_path / "file" / "users.rejects.csv",
        "a name that is too long": tmp_path / f"{'n' * 250}.csv",
        "a report whose name is too long": tmp_path / f"{'n' * 245}.csv",
    }
    for name in names.values():
        with pytest.raises(ConfigError, match="cannot be written") as caught:
            FIRST_USES[use](Rejects([RejectFile(name, "users")]))
        assert ("rejects", True) == (caught.value.code, "--rejects" in (caught.value.remedy or ""))
    for number in (errno.EACCES, errno.EROFS):
        with monkeypatch.context() as broken:
            broken.setattr(tempfile, "TemporaryFile", refusing(number))
            with pytest.raises(ConfigError, match=os.strerror(number)):
                FIRST_USES[use](opened(tmp_path))
    FIRST_USES[use](opened(tmp_path))

    assert ["file"] == [one.name for one in tmp_path.iterdir()]


def refusing(number: int) -> Callable[..., object]:
    """Return what makes no file."""

    def refuse(**_: object) -> object:
        raise OSError(number, os.strerror(number))

    return refuse


def test_a_run_continues_behind_rejects_that_it_can_write(tmp_path: Path) -> None:
    """To see whether they can be written changes nothing of them."""
    rejects = opened(tmp_path)
    written(rejects, 1)
    before = {one.name: one.read_bytes() for one in tmp_path.iterdir()}

    opened(tmp_path).resume(rejects.state)

    assert before == {one.name: one.read_bytes() for one in tmp_path.iterdir()}
