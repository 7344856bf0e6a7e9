import errno
import gzip
import io
import json
import os
import signal
import sys
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from bridge_harness import wait_until
from cli_harness import WRITES, Bench, Terminal, data_of

from keycloak_bridge.backfill.journal import RejectFile, read_journal
from keycloak_bridge.backfill.run import RunState
from keycloak_bridge.cli.backfill import ProgressSentence, progress_shown, span
from keycloak_bridge.domain.users import UserRepresentation
from keycloak_bridge.keycloak.partial_import import RealmAccess
from keycloak_bridge.ops.clock import SystemClock
from keycloak_bridge.testing.in_memory_keycloak import InMemoryImporter

HEADER = "userId,email,givenName,familyName,tenantId,department,active,roles\n"
AS_OF = "2026-11-10T08:00:00Z"
BACKLOG = ("--set", "burst.backlog=1")
NO_BRAKE = ("--set", "brake.in_a_row=0", "--set", "brake.share=0")


@pytest.fixture
def bench(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Bench:
    """An empty realm that is as the bridge wants it, and a clock that runs."""
    made = Bench(tmp_path, monkeypatch)
    monkeypatch.setattr(
        "keycloak_bridge.backfill.run.connect_realm",
        lambda _: (made.keycloak, None, SystemClock()),
    )
    return made


def row(number: int, rest: str = "R&D,,") -> str:
    """Return a line of a table with HEADER."""
    return f"u-{number},u-{number}@acme.example,Ada,Lovelace,tenant-1,{rest}\n"


def write(bench: Bench, name: str, text: str | bytes) -> str:
    """Write a file and return its name."""
    (bench.folder / name).write_bytes(text.encode() if isinstance(text, str) else text)
    return name


def read(bench: Bench, name: str) -> str:
    """Return the text of a file."""
    return (bench.folder / name).read_text()


def ids(bench: Bench) -> list[str]:
    """Return the ids in user management of all users of the realm."""
    return sorted(one["attributes"]["userId"][0] for one in bench.keycloak.users())


class Run(NamedTuple):
    """A run with --format json: its exit code, its summary (empty where it has none) and standard error."""

    code: int
    summary: dict[str, Any]
    stderr: str

    @property
    def counts(self) -> tuple[int, dict[str, int]]:
        """The exit code, and what became of the lines."""
        return self.code, self.summary["counts"]


def run(bench: Bench, *words: str, settings: tuple[str, ...] = (), stdin: str | bytes = "") -> Run:
    """Run a backfill."""
    result = bench.run(*settings, "backfill", "--format", "json", *words, stdin=stdin)
    lines = result.stdout.splitlines()
    return Run(result.exit_code, json.loads(lines[-1]) if lines else {}, result.stderr)


def test_a_compressed_table_comes_by_standard_input(bench: Bench) -> None:
    """Known by its first bytes; columns are renamed or left out, lists and booleans are read as in reconcile."""
    table = (
        "Mail;userId;givenName;familyName;active;roles;note\na@x.example;7;Ada;L;TRUE;viewer;x\n"
    )
    options = ("--column", "Mail=email", "--column", "note=", "--delimiter", ";", "--as-of", AS_OF)

    result = run(bench, *options, "-", stdin=gzip.compress(table.encode()))

    assert 0 == result.code, result.stderr
    (user,) = bench.keycloak.users()
    assert ("a@x.example", ["7"]) == (user["email"], user["attributes"]["userId"])
    assert {"viewer"} == bench.keycloak.realm_roles_of(user["id"])
    assert ["2026-11-10T08:00:00.000000Z"] == user["attributes"]["bridgeEventTime"]
    assert user["attributes"]["bridgeEventId"][0].startswith("backfill-")
    assert (bench.folder / "stdin.backfill.json").exists()


@pytest.mark.parametrize("source", ["users.csv", "-"])
def test_a_large_realm_is_not_listed_for_a_small_file(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, source: str
) -> None:
    """Its size tells that few users are left; standard input may bring any number."""
    listed, counted = threading.Event(), threading.Event()

    def everybody() -> Iterator[UserRepresentation]:
        listed.set()
        yield from ()

    def count() -> int:
        counted.set()
        return 10_000

    realm = RealmAccess(everybody, count, InMemoryImporter(bench.keycloak), lambda: 0.001)
    monkeypatch.setattr(
        "keycloak_bridge.backfill.run.connect_realm",
        lambda _: (bench.keycloak, realm, SystemClock()),
    )
    table = HEADER + "".join(map(row, range(40)))
    write(bench, "users.csv", table)

    result = run(bench, "--as-of", AS_OF, source, settings=BACKLOG, stdin=table)

    assert (0, {"created": 40}) == result.counts
    assert counted.wait(60.0)
    wait_until(lambda: "known-users" not in {one.name for one in threading.enumerate()})
    assert (source == "-") == listed.is_set()


def test_rows_that_are_no_csv_do_not_affect_others(bench: Bench) -> None:
    """A quote too many, another encoding: refused with their line, and the next line is a new row."""
    bad = b'u-2,u-2@acme.example,"A"da,L,,,,\nu-3,u-3@acme.example,J\xfcrgen,L,,,,\n'
    file = write(bench, "users.csv", (HEADER + row(1)).encode() + bad + row(4).encode())

    result = run(bench, file)

    assert 1 == result.code, result.stderr
    assert HEADER.encode() + bad == (bench.folder / "users.csv.rejects.csv").read_bytes()
    assert ["u-1", "u-4"] == ids(bench)


def test_a_long_cell_is_refused_for_what_it_breaks(bench: Bench) -> None:
    """Its schema where the row is within events.max_bytes, else its size: never for quotes, which are as they must be."""
    rows = [row(number).replace("R&D", "x" * size) for number, size in ((1, 200_000), (2, 1 << 20))]
    file = write(bench, "users.csv", HEADER + "".join(rows) + row(3))

    result = run(bench, file)

    assert (1, {"created": 1, "rejected": 2}) == result.counts, result.stderr
    reasons = map(json.loads, read(bench, "users.csv.rejects.report.ndjson").splitlines())
    # two workers, so that either may be first
    assert {"schema-violation", "too-large"} == {one["reason"] for one in reasons}
    assert '"keyword": "quotes"' not in read(bench, "users.csv.rejects.report.ndjson")


def test_a_file_may_have_any_name(bench: Bench) -> None:
    """What is no UTF-8 is written as an escape; rejects and journal are beside it as always."""
    name = os.fsdecode(b"m\xfcller.ndjson")
    file = write(bench, name, json.dumps(data_of(1)) + '\n{"userId": "u-2"}\n')

    first, again = run(bench, file), run(bench, file)

    assert (1, {"created": 1, "rejected": 1}) == first.counts, first.stderr
    assert (1, True, 2) == (again.code, again.summary["complete"], again.summary["doneEarlier"])
    assert '{"userId": "u-2"}\n' == read(bench, f"{name}.rejects.ndjson")
    result = bench.run("backfill", "--restart", file)
    assert r"m\udcfcller.ndjson.rejects.ndjson exists already" in result.stderr
    (bench.folder / f"{name}.rejects.ndjson").unlink()
    (bench.folder / f"{name}.rejects.report.ndjson").unlink()
    result = bench.run("backfill", "--restart", file)
    assert r"1 rejected: m\udcfcller.ndjson.rejects.ndjson" in result.stdout


def test_a_document_of_many_is_read_too(bench: Bench) -> None:
    """An array over many lines; what is refused of it is one line each."""
    file = write(bench, "users.json", json.dumps([data_of(1), {"userId": "u-2"}], indent=2))

    assert (1, {"created": 1, "rejected": 1}) == run(bench, file).counts
    assert {"userId": "u-2"} == json.loads(read(bench, "users.json.rejects.ndjson"))


def test_users_of_one_file_follow_those_of_the_one_before(bench: Bench) -> None:
    """Files are one after the other, so the last word is the last file's."""
    one = bench.file(*(data_of(1, department=f"D{n}") for n in range(20)), name="1.ndjson")
    two = bench.file(data_of(1, department="last"), name="2.ndjson")

    assert (0, {"created": 1, "updated": 20}) == run(bench, "--as-of", AS_OF, one, two).counts
    assert ["last"] == bench.keycloak.users()[0]["attributes"]["department"]


def test_a_dry_run_writes_nothing_at_all(bench: Bench) -> None:
    """Neither users nor files; it prints what would be refused and why."""
    run(bench, "--as-of", AS_OF, bench.file(data_of(1), data_of(2), name="before.ndjson"))
    bench.keycloak.calls.clear()
    rows = row(1, ",,") + row(2, "R&D,,") + row(3) + "u-4,nobody\n"
    file = write(bench, "users.csv", HEADER + rows)
    files = sorted(bench.folder.iterdir())

    text = bench.run("backfill", "--dry-run", "--as-of", "1 s", file)
    summary = run(bench, "--dry-run", "--as-of", "1 s", file).summary

    assert (1, True) == (text.exit_code, "users.csv:5: refused" in text.stdout)
    expected = {"unchanged": 1, "would be created": 1, "would be refused": 1, "would be updated": 1}
    assert {"lines": 4, "counts": expected} == summary
    assert [] == bench.calls(*WRITES)
    assert files == sorted(bench.folder.iterdir())


@pytest.mark.parametrize(
    ("lines", "words", "says"),
    [
        ([data_of(1, department="other"), data_of(2)], (), "--restart"),
        ([data_of(1), data_of(2)], ("--as-of", AS_OF), "another asOf"),
        ([data_of(1), data_of(2)], ("--column", "x="), "another columns"),
    ],
)
def test_a_run_continues_with_the_same_lines_and_options_only(
    bench: Bench, lines: list[Any], words: tuple[str, ...], says: str
) -> None:
    """Else half of the users would be something else."""
    run(bench, bench.file(data_of(1), data_of(2)))

    result = run(bench, *words, bench.file(*lines))

    assert (2, True) == (result.code, says in result.stderr)


def test_a_run_continues_where_lines_were_added(bench: Bench) -> None:
    """The same command, although its age is another time by then; the first one counts."""
    run(bench, "--as-of", "5 minutes", bench.file(data_of(1)))
    times = json.loads(read(bench, "events.ndjson.backfill.json"))["task"]["asOf"]

    second = run(bench, "--as-of", "5 minutes", bench.file(data_of(1), data_of(2)))

    assert (0, {"created": 1}) == second.counts, second.stderr
    assert times == json.loads(read(bench, "events.ndjson.backfill.json"))["task"]["asOf"]


def test_rejects_of_an_earlier_run_are_never_overwritten(bench: Bench) -> None:
    """They may be fixed at that moment."""
    file = bench.file({"userId": "u-1"}, data_of(2))
    run(bench, file)

    again = run(bench, "--restart", file)
    bench.file({"userId": "fixed"}, name="events.ndjson.rejects.ndjson")
    edited = run(bench, file)

    assert (2, True) == (again.code, "move it" in again.stderr)
    assert (2, True) == (edited.code, "was changed" in edited.stderr)


def test_rejects_that_cannot_be_written_are_refused_at_the_start(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As a journal is: it waited for ever, after it had written the others to the realm."""
    (bench.folder / "out").mkdir()

    def refuse(file: Path) -> None:
        raise PermissionError(errno.EACCES, "Permission denied", str(file))

    monkeypatch.setattr("keycloak_bridge.backfill.journal.check_appendable", refuse)
    result = run(bench, "--rejects", "out", bench.file(data_of(1), {"userId": "u-2"}))

    assert (2, {}) == (result.code, result.summary)
    assert "out/events.ndjson.rejects.ndjson: the rejects cannot be written" in result.stderr
    assert [] == bench.calls(*WRITES)
    assert not list(bench.folder.glob("*.backfill.json"))


def test_a_reject_counts_when_it_is_written(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """Once, however often a full disk did not take it."""
    add, full = RejectFile.add, iter([True, True, True, False])

    def failing(file: RejectFile, rejects: Sequence[Any]) -> None:
        if next(full, False):
            raise OSError(errno.ENOSPC, "No space left on device")
        add(file, rejects)

    monkeypatch.setattr(RejectFile, "add", failing)
    result = run(bench, bench.file({"userId": "u-1"}, data_of(2)))

    assert (1, {"created": 1, "rejected": 1}) == result.counts, result.stderr


def test_the_brake_stops_it_and_the_same_command_continues(bench: Bench) -> None:
    """A wrong column or mapping refuses every user; twenty are enough to see that."""
    file = write(bench, "users.csv", HEADER + "".join(f"u-{n},no,A,B,,,,\n" for n in range(50)))

    first = run(bench, file)
    rest = bench.run(*NO_BRAKE, "backfill", file)

    assert (3, False) == (first.code, first.summary["complete"]), first.stderr
    assert "dead letters in a row" in first.stderr
    kept = read(bench, "users.csv.rejects.csv").splitlines()
    assert sorted(f"u-{n},no,A,B,,,," for n in range(50)) == sorted(kept[1:])
    assert (1, True) == (rest.exit_code, "fix them, then feed them" in rest.stdout)


def test_mails_are_sent_on_request_only(bench: Bench) -> None:
    """--invite mails new users; later, an event that asks for an invitation does."""
    without = run(bench, bench.file(data_of(1), name="1.ndjson"))
    (unmailed,) = bench.keycloak.users()
    with_mail = run(bench, "--invite", bench.file(data_of(2), name="2.ndjson"))
    asking = write(bench, "ids.csv", "userId\nu-1\n")
    options = ("--invite", "--type", "user.invitation.requested", asking)
    later, again = run(bench, *options), run(bench, "--restart", *options)

    assert [0, 0, 0, 0] == [one.code for one in (without, with_mail, later, again)]
    assert "bridgeInvitation" not in unmailed["attributes"]
    assert {"created": 1, "mailed": 1} == with_mail.summary["counts"]
    assert 1 == later.summary["counts"]["mailed"]
    assert "mailed" not in again.summary["counts"]
    assert ["u-2@acme.example", "u-1@acme.example"] == [one.email for one in bench.keycloak.mails]


def test_mails_are_under_their_limit(bench: Bench) -> None:
    """It stops the run; the next one sends the rest."""
    file = bench.file(data_of(1), data_of(2))
    settings = ("--set", "limits.mails=1/1 h", "--set", "delivery.workers=1")

    first = run(bench, "--invite", file, settings=settings)
    second = run(bench, "--invite", file, settings=settings)

    assert (3, 0) == (first.code, second.code), first.stderr
    assert "1 mails were sent" in first.stderr
    assert 2 == len(bench.keycloak.mails)


def test_a_cut_gzip_file_is_reported(bench: Bench) -> None:
    """What could be read is done; exit 2."""
    packed = gzip.compress("".join(f"{json.dumps(data_of(n))}\n" for n in range(9)).encode())

    result = run(bench, write(bench, "users.ndjson.gz", packed[:-12]))

    assert (2, True) == (result.code, "cut short" in result.stderr)


def test_events_in_an_envelope_of_the_producer(bench: Bench) -> None:
    """As on the topic; with --type the lines are data all the same."""
    names = {"id": "body.no", "type": "body.what", "data": "body.user"}
    envelope = tuple(f"envelope.{name}={text}" for name, text in names.items())
    settings = tuple(word for one in envelope for word in ("--set", one))
    event = bench.file({"no": 7, "what": "user.created", "user": data_of(1)}, name="1.ndjson")
    data = bench.file(data_of(2), name="2.ndjson")

    enveloped = run(bench, event, settings=settings)
    plain = run(bench, "--type", "user.created", data, settings=settings)
    table = run(bench, write(bench, "3.csv", HEADER + row(3)), settings=settings)

    assert [0, 0, 2] == [one.code for one in (enveloped, plain, table)], enveloped.stderr
    assert ["u-1", "u-2"] == ids(bench)


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("--type", "user.unknown", "events.ndjson"), "no schema"),
        (("--type", "urn:keycloak-bridge:schema:user.created:1.0", "events.ndjson"), "no schema"),
        (("--delimiter", "||", "events.ndjson"), "one character"),
        (("--delimiter", '"', "users.csv"), "no quotation mark"),
        (("--delimiter", "\n", "users.csv"), "no line break"),
        (("--delimiter", "\r", "users.csv"), "no line break"),
        (("--column", "email", "events.ndjson"), "HEADER="),
        (("-", "-"), "read once"),
        (("-",), "--as-of"),
        (("missing.csv",), "cannot be read"),
        (("events.ndjson", "events.ndjson"), "same name"),
        (("wrong.csv",), "givenName"),
    ],
)
def test_wrong_usage_is_exit_2(bench: Bench, words: tuple[str, ...], says: str) -> None:
    """Before anything is written; of a table that can never be right, its first line is enough to see that."""
    bench.file(data_of(1))
    write(bench, "wrong.csv", "userId,Mail\nu-1,x\n")

    result = run(bench, *words, stdin=json.dumps(data_of(1)))

    assert (2, True) == (result.code, says in result.stderr), result.stderr
    assert [] == bench.calls(*WRITES)
    assert [] == list(bench.folder.glob("wrong.csv.*"))


@pytest.mark.parametrize("content", ["", " \n\n", "[]"], ids=["empty", "blank", "no elements"])
@pytest.mark.parametrize("words", [(), ("--dry-run",)], ids=["run", "dry run"])
def test_nothing_is_no_success(bench: Bench, words: tuple[str, ...], content: str) -> None:
    """What was to write the users has probably failed; a table without rows has its header."""
    piped = run(bench, *words, "-", stdin=content)
    named = run(bench, *words, write(bench, "none.json", content))
    table = run(bench, *words, write(bench, "none.csv", HEADER))

    assert [2, 2, 0] == [one.code for one in (piped, named, table)]
    assert "stdin: contains no event" in piped.stderr
    assert "none.json: contains no event" in named.stderr
    assert [] == bench.calls(*WRITES)


def test_the_journal_can_be_elsewhere(bench: Bench) -> None:
    """And the rejects in a folder; another file is no journal."""
    (bench.folder / "out").mkdir()
    options = ("--journal", "done.json", "--rejects", "out", "--quiet", bench.file({"userId": "1"}))

    assert 1 == run(bench, *options).code
    assert 1 == read_journal(bench.folder / "done.json")[1].commit.offset  # type: ignore[index]
    assert 2 == len(list((bench.folder / "out").iterdir()))
    write(bench, "done.json", "{}")
    assert 2 == run(bench, *options).code


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 3), (signal.SIGINT, 130)])
def test_a_signal_ends_it_with_a_summary(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, number: signal.Signals, code: int
) -> None:
    """What was begun is done, and the next run does the rest."""
    lines = 1500  # more than are ever in hand before the end is noticed
    handlers: dict[int, Any] = {}
    monkeypatch.setattr(signal, "signal", handlers.__setitem__)
    create = bench.keycloak.create

    def ending(representation: UserRepresentation) -> str:
        if not bench.keycloak.users():
            handlers[number](number, None)
        return create(representation)

    monkeypatch.setattr(bench.keycloak, "create", ending)
    file = bench.file(*map(data_of, range(lines)))
    few = ("--set", "delivery.workers=1", "--set", "delivery.max_records=10")
    first = run(bench, file, settings=few)
    monkeypatch.setattr(bench.keycloak, "create", create)
    second = run(bench, file)

    assert (code, False) == (first.code, first.summary["complete"]), first.stderr
    assert 1 <= first.summary["done"] < lines
    assert (0, True) == (second.code, second.summary["complete"])
    assert lines == second.summary["done"] == len(bench.keycloak.users())


@pytest.mark.parametrize(
    ("seen", "state", "expected"),
    [
        (
            ((60.0, 60), (70.0, 1060)),
            RunState(done=2060, read=2100, share_read=0.5, rejected=3),
            "2060 of about 4200 done, 100/s, 21 s left, 3 rejected",
        ),
        ((), RunState(done=400, read=420, share_read=None, rejected=0), "400 done, 5/s"),
    ],
)
def test_rate_and_rest_are_those_of_the_last_seconds(
    seen: tuple[tuple[float, int], ...], state: RunState, expected: str
) -> None:
    """What was slow a minute ago does not count; of a pipe neither total nor time left is known."""
    progress = ProgressSentence(0.0, 0)
    for now_s, done in seen:
        progress.update(now_s, RunState(done, done, None, 0))

    assert expected == progress.update(80.0, state)


@pytest.mark.parametrize(
    ("seconds", "expected"), [(0.4, "0 s"), (59, "59 s"), (61, "1 min 1 s"), (7260, "2 h 1 min")]
)
def test_durations_have_two_units_at_most(seconds: float, expected: str) -> None:
    """The smaller ones do not matter."""
    assert expected == span(seconds)


@pytest.mark.parametrize(
    ("stream", "quiet", "lines"), [(io.StringIO(), False, 6), (io.StringIO(), True, 0), (Terminal(), False, None)]
)  # fmt: skip
def test_progress_goes_to_standard_error(
    monkeypatch: pytest.MonkeyPatch, stream: io.StringIO, quiet: bool, lines: int | None
) -> None:
    """Of a run of a minute: a line every ten seconds, nothing when quiet, on a terminal a bar with the same words."""
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setattr(sys, "stderr", stream)
    seconds = 0.0

    def state() -> RunState:
        return RunState(int(seconds * 10), int(seconds * 10), seconds / 60, 0)

    with progress_shown(state, quiet=quiet, now=lambda: seconds) as tick:
        for second in range(1, 61):
            seconds = float(second)
            tick()

    shown = stream.getvalue()
    assert lines is None or lines == len(shown.splitlines())
    assert quiet or "600 of about 600 done" in shown
    assert lines != 6 or "backfill: 100 of about 600 done, 10/s, 50 s left" == shown.splitlines()[0]
