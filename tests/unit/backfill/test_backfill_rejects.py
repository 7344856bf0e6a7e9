import json
from datetime import UTC, datetime
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from keycloak_bridge.backfill.rejects import RejectFile, Rejects
from keycloak_bridge.domain.errors import (
    BridgeError,
    BrokerUnavailableError,
    ConfigError,
    EventValidationError,
    Violation,
)
from keycloak_bridge.domain.events import Message, Record
from keycloak_bridge.event_files.json_events import PLACE_HEADER, RAW_HEADER, TOPIC
from keycloak_bridge.messages.dead_letters import dead_letter_message


def record_of(offset: int, *, raw: bytes | None = None) -> Record:
    """Return the record of a line of the first file."""
    headers: tuple[tuple[str, bytes | None], ...] = ((PLACE_HEADER, b"0:%d" % (offset + 2)),)
    if raw is not None:
        headers = (*headers, (RAW_HEADER, raw))
    return Record(TOPIC, 0, offset, 0, None, b'{"userId": "u-%d"}' % offset, headers)


def letter(record: Record) -> Message:
    """Return its dead letter."""
    rule = Violation("/data/email", "required", "is required")
    error = EventValidationError("the data breaks its schema", violations=(rule,))
    return dead_letter_message(
        record,
        error,
        topic="dead-letters",
        stage="schema",
        group="g",
        schema_id=None,
        event_id=f"event-{record.offset}",
        time=datetime(2026, 11, 1, tzinfo=UTC),
        bridge_version="0",
    )


def opened(folder: Path, header: bytes = b"") -> Rejects:
    """Return the rejects of one file."""
    return Rejects([RejectFile(folder / "users.rejects.csv", "users", lambda: header)])


def publish(rejects: Rejects, *offsets: int) -> list[BridgeError | None]:
    """Publish letters, sync, and return what became of them."""
    arrived: list[BridgeError | None] = []
    for offset in offsets:
        rejects.publish(letter(record_of(offset))).then(arrived.append)
    rejects.sync()
    return arrived


def test_a_reject_counts_once_it_is_on_disk(tmp_path: Path) -> None:
    """The line as it was, and its reason with places and without values."""
    rejects = opened(tmp_path, b"userId,email\n")
    arrived: list[BridgeError | None] = []
    rejects.publish(letter(record_of(3, raw=b'u-3,"a\nb"'))).then(arrived.append)
    assert ([], [], 0) == (arrived, list(tmp_path.iterdir()), len(rejects))

    rejects.sync()

    assert [None] == arrived
    assert b'userId,email\nu-3,"a\nb"\n' == (tmp_path / "users.rejects.csv").read_bytes()
    (reason,) = (tmp_path / "users.rejects.report.ndjson").read_text().splitlines()
    told = json.loads(reason)
    assert ("users", 5, 2, 3) == tuple(told[n] for n in ("file", "line", "rejectsLine", "offset"))
    assert ("event-3", "schema", "schema-violation") == (
        told["event"],
        told["step"],
        told["reason"],
    )
    assert "/data/email" == told["violations"][0]["pointer"]


def test_a_line_stands_there_once(tmp_path: Path) -> None:
    """In this run and in the next one, which knows from the reasons."""
    rejects = opened(tmp_path)
    assert [None, None] == publish(rejects, 1, 2)
    assert [None, None] == publish(rejects, 2, 5)
    later = opened(tmp_path)
    later.go_on(rejects.state)

    assert [None, None, None] == publish(later, 5, 1, 9)

    assert 4 == len(later)
    assert (True, False) == (later.holds(record_of(9)), later.holds(record_of(8)))
    assert 4 == len((tmp_path / "users.rejects.csv").read_bytes().splitlines())


@settings(max_examples=40, deadline=None)
@given(torn=st.integers(0, 70), reasons_torn=st.booleans(), data=st.data())
def test_what_a_crash_tore_is_cut_off(
    tmp_path_factory: pytest.TempPathFactory, torn: int, reasons_torn: bool, data: st.DataObject
) -> None:
    """Reasons are written first; wherever the crash came, whole lines with their reasons are left, and no other."""
    folder = tmp_path_factory.mktemp("torn")
    rejects = opened(folder)
    publish(rejects, 1)
    state = rejects.state
    lines, report = folder / "users.rejects.csv", folder / "users.rejects.report.ndjson"
    before = report.stat().st_size
    publish(rejects, 2, 3, 4)
    if reasons_torn:  # no line was written by then
        size = data.draw(st.integers(before, report.stat().st_size))
        report.write_bytes(report.read_bytes()[:size])
        lines.write_bytes(lines.read_bytes()[: state["0"][0]])
    else:
        size = min(state["0"][0] + torn, lines.stat().st_size)
        lines.write_bytes(lines.read_bytes()[:size])

    later = opened(folder)
    later.go_on(state)
    publish(later, 1, 2, 3, 4)

    kept = sorted(json.loads(line)["userId"] for line in lines.read_bytes().splitlines())
    assert ["u-1", "u-2", "u-3", "u-4"] == kept
    told = [json.loads(line) for line in report.read_text().splitlines()]
    assert [1, 2, 3, 4] == [one["rejectsLine"] for one in told]


@pytest.mark.parametrize("edit", [b"{}\n", b""])
def test_a_file_that_somebody_edits_is_not_touched(tmp_path: Path, edit: bytes) -> None:
    """Changed, or longer than its reasons say."""
    rejects = opened(tmp_path)
    publish(rejects, 1)
    file = tmp_path / "users.rejects.csv"
    edited = edit or file.read_bytes() + b"{}\n"
    file.write_bytes(edited)

    with pytest.raises(ConfigError, match="was changed"):
        opened(tmp_path).go_on(rejects.state)
    assert edited == file.read_bytes()


def test_a_new_run_writes_over_nothing(tmp_path: Path) -> None:
    """Neither lines nor reasons; what was taken away is no matter to one that goes on."""
    rejects = opened(tmp_path)
    publish(rejects, 1)

    with pytest.raises(ConfigError, match="there already"):
        opened(tmp_path).begin()
    for file in tmp_path.iterdir():
        file.unlink()
    later = opened(tmp_path)
    later.go_on(rejects.state)

    assert (0, {}) == (len(later), later.state)


def test_a_full_disk_is_tried_again(tmp_path: Path) -> None:
    """The record does not count as done, and neither file keeps half of it."""
    folder = tmp_path / "folder"
    rejects = opened(folder)
    (failed,) = publish(rejects, 1)
    folder.mkdir()

    assert isinstance(failed, BrokerUnavailableError)
    assert [None] == publish(rejects, 1)
    rejects.close()
    assert 1 == len(rejects)
