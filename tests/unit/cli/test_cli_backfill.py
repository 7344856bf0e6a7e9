import gzip
import json
import signal
from pathlib import Path
from typing import Any

import pytest
from cli_harness import Bench
from stage_harness import event_of

from keycloak_bridge.app.connections import SystemClock
from keycloak_bridge.backfill import run as backfill
from keycloak_bridge.backfill.journal import read_journal
from keycloak_bridge.domain.errors import KeycloakUnavailableError
from keycloak_bridge.domain.users import UserRepresentation

WRITES = ("create", "update", "join", "leave", "delete", "execute_actions_email")
HEADER = "userId,email,givenName,familyName,tenantId,department,active,roles\n"
AS_OF = "2026-11-10T08:00:00Z"


@pytest.fixture
def bench(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Bench:
    """An empty realm that is as the bridge wants it, and a clock that runs."""
    made = Bench(tmp_path, monkeypatch)
    monkeypatch.setattr(backfill, "connect_realm", lambda _: (made.keycloak, None, SystemClock()))
    return made


def data_of(number: int, **changes: Any) -> dict[str, Any]:
    """Return the data of a user of its own."""
    return {
        "userId": f"u-{number}",
        "email": f"u-{number}@acme.example",
        "givenName": "Ada",
        "familyName": "Lovelace",
        "tenantId": "tenant-1",
        **changes,
    }


def row(number: int, rest: str = "R&D,,") -> str:
    """Return a line of a table with HEADER."""
    return f"u-{number},u-{number}@acme.example,Ada,Lovelace,tenant-1,{rest}\n"


def write(bench: Bench, name: str, text: str | bytes) -> str:
    """Write a file and return its name."""
    (bench.folder / name).write_bytes(text.encode() if isinstance(text, str) else text)
    return name


def told(result: Any) -> dict[str, Any]:
    """Return the summary of a run with --format json."""
    return json.loads(result.stdout.splitlines()[-1])  # type: ignore[no-any-return]


def ids(bench: Bench) -> list[str]:
    """Return the ids in user management of all users of the realm."""
    return sorted(one["attributes"]["userId"][0] for one in bench.keycloak.users())


def run(bench: Bench, *arguments: str, **options: Any) -> Any:
    """Run a backfill whose summary is JSON."""
    return bench.run("backfill", "--format", "json", *arguments, **options)


def test_lines_of_data_become_users_once(bench: Bench) -> None:
    """The second run has nothing left, and with --restart nothing to write."""
    file = bench.file(data_of(1), data_of(2, department="R&D"))

    first = run(bench, file)
    writes = bench.calls(*WRITES)
    second, again = run(bench, file), run(bench, "--restart", file)

    assert (0, 0, 0) == (first.exit_code, second.exit_code, again.exit_code), first.output
    assert (True, {"created": 2}) == (told(first)["complete"], told(first)["counts"])
    assert (2, {}) == (told(second)["doneEarlier"], told(second)["counts"])
    assert {"unchanged": 2} == told(again)["counts"]
    assert ["u-1", "u-2"] == ids(bench)
    assert writes == bench.calls(*WRITES)
    assert [] == bench.keycloak.mails
    assert all("bridgeInvitation" not in one["attributes"] for one in bench.keycloak.users())


def test_a_packed_table_comes_by_standard_input(bench: Bench) -> None:
    """Known by its first bytes; columns are renamed or left out, lists and booleans are read as in reconcile."""
    table = (
        "Mail;userId;givenName;familyName;active;roles;note\na@x.example;7;Ada;L;TRUE;viewer;x\n"
    )
    options = ("--column", "Mail=email", "--column", "note=", "--delimiter", ";", "--as-of", AS_OF)

    result = run(bench, *options, "-", stdin=gzip.compress(table.encode()))

    assert 0 == result.exit_code, result.output
    (user,) = bench.keycloak.users()
    assert ("a@x.example", ["7"]) == (user["email"], user["attributes"]["userId"])
    assert {"viewer"} == bench.keycloak.realm_roles_of(user["id"])
    assert ["2026-11-10T08:00:00.000000Z"] == user["attributes"]["bridgeEventTime"]
    assert user["attributes"]["bridgeEventId"][0].startswith("backfill-")
    assert (bench.folder / "stdin.backfill.json").exists()


def test_standard_input_must_say_of_when_it_is(bench: Bench) -> None:
    """Data without a time would count as newer than everything."""
    result = run(bench, "-", stdin=json.dumps(data_of(1)))

    assert (2, True) == (result.exit_code, "--as-of" in result.stderr)
    assert [] == bench.calls(*WRITES)


def test_refused_rows_are_mended_and_fed_again(bench: Bench) -> None:
    """They stand there as they were, under their header; the reasons hold no value of theirs."""
    bad = ("u-2,nobody,Ada,Lovelace,tenant-1,,,\n", 'u-3,u-3@acme.example,"Ada\nMaria",Lovelace\n')
    file = write(bench, "users.csv", HEADER + row(1) + bad[0] + bad[1] + row(4))

    first = run(bench, "--as-of", AS_OF, file)
    rejects = (bench.folder / "users.csv.rejects.csv").read_text()
    lines = (bench.folder / "users.csv.rejects.report.ndjson").read_text().splitlines()
    reasons = [json.loads(line) for line in lines]

    assert (1, HEADER + "".join(bad)) == (first.exit_code, rejects), first.output
    assert [(3, 2, "schema-violation"), (4, 3, "schema-violation")] == sorted(
        (one["line"], one["rejectsLine"], one["reason"]) for one in reasons
    )
    assert {"/data/email", "/data"} == {one["violations"][0]["pointer"] for one in reasons}
    assert not [text for text in ("nobody", "Lovelace") if text in "".join(lines)]

    mended = rejects.replace("nobody", "u-2@acme.example").replace("Ada\nMaria", "Ada Maria")
    mended = mended.replace("Lovelace\n", "Lovelace,,,,\n")
    write(bench, "users.csv.rejects.csv", mended)
    second = run(bench, "--as-of", AS_OF, "users.csv.rejects.csv")

    assert (0, {"created": 2}) == (second.exit_code, told(second)["counts"]), second.output
    assert ["u-1", "u-2", "u-3", "u-4"] == ids(bench)


def test_lines_that_are_no_events_are_refused_as_they_were(bench: Bench) -> None:
    """Nothing keeps the others; an event without its data is named by its id."""
    lines = ["{", "[1]", json.dumps({**event_of("u-2"), "data": {}}), '{"userId": "u-3"}']
    file = bench.file(*lines, data_of(1), event_of("u-4", "event-4"))

    result = run(bench, file)

    assert 1 == result.exit_code, result.output
    kept = (bench.folder / "events.ndjson.rejects.ndjson").read_text().splitlines()
    reasons = (bench.folder / "events.ndjson.rejects.report.ndjson").read_text().splitlines()
    assert sorted(lines) == sorted(kept)
    assert {"not-json", "not-a-cloudevent", "schema-violation"} == {
        json.loads(one)["reason"] for one in reasons
    }
    assert ["u-1", "u-4"] == ids(bench)


def test_a_document_of_many_is_read_too(bench: Bench) -> None:
    """An array over many lines; what is refused of it is one line each."""
    file = write(bench, "users.json", json.dumps([data_of(1), {"userId": "u-2"}], indent=2))

    result = run(bench, file)

    assert 1 == result.exit_code, result.output
    (kept,) = (bench.folder / "users.json.rejects.ndjson").read_text().splitlines()
    assert {"userId": "u-2"} == json.loads(kept)


def test_what_changed_later_is_left_alone(bench: Bench) -> None:
    """An export of Friday does not undo what an event of Saturday brought."""
    saturday = event_of("u-1", "event-1", time="2026-11-07T08:00:00Z", data={"department": "New"})
    run(bench, bench.file(saturday))
    file = bench.file(data_of(1, department="Old"), name="friday.ndjson")

    older = run(bench, "--as-of", "2026-11-06T18:00:00Z", file)
    (before,) = bench.keycloak.users()
    newer = run(bench, "--restart", "--as-of", "2026-11-08T18:00:00Z", file)
    (after,) = bench.keycloak.users()

    assert ({"skipped (stale)": 1}, ["New"]) == (
        told(older)["counts"],
        before["attributes"]["department"],
    )
    assert ({"updated": 1}, ["Old"]) == (
        told(newer)["counts"],
        after["attributes"]["department"],
    )


def test_users_of_one_file_follow_those_of_the_one_before(bench: Bench) -> None:
    """Files are one after the other, so the last word is the last file's."""
    one = bench.file(*(data_of(1, department=f"D{n}") for n in range(20)), name="1.ndjson")
    two = bench.file(data_of(1, department="last"), name="2.ndjson")

    result = run(bench, "--as-of", AS_OF, one, two)

    assert {"created": 1, "updated": 20} == told(result)["counts"], result.output
    assert ["last"] == bench.keycloak.users()[0]["attributes"]["department"]


def test_a_dry_run_writes_nothing_at_all(bench: Bench) -> None:
    """Neither users nor files; it tells what would be refused and why."""
    run(bench, "--as-of", AS_OF, bench.file(data_of(1), data_of(2), name="before.ndjson"))
    bench.keycloak.calls.clear()
    rows = row(1, ",,") + row(2, "R&D,,") + row(3) + "u-4,nobody\n"
    file = write(bench, "users.csv", HEADER + rows)
    there = sorted(bench.folder.iterdir())

    text = bench.run("backfill", "--dry-run", "--as-of", "1 s", file)
    summary = told(run(bench, "--dry-run", "--as-of", "1 s", file))

    assert 1 == text.exit_code
    assert "users.csv:5: refused" in text.stdout
    expected = {"unchanged": 1, "would be created": 1, "would be refused": 1, "would be updated": 1}
    assert {"lines": 4, "counts": expected} == summary
    assert [] == bench.calls(*WRITES)
    assert there == sorted(bench.folder.iterdir())


def test_a_killed_run_goes_on(bench: Bench) -> None:
    """With a journal that is behind: what is there is written no second time, and no reject stands there twice."""
    lines = [data_of(n) if n % 5 else {"userId": f"u-{n}"} for n in range(1, 40)]
    file = bench.file(*lines[:20], name="users.ndjson")
    settings = (
        "--set",
        "brake.in_a_row=0",
        "--set",
        "brake.share=0",
        "backfill",
        "--format",
        "json",
    )
    bench.run(*settings, file)
    journal = (bench.folder / "users.ndjson.backfill.json").read_text()
    bench.file(*lines, name="users.ndjson")
    bench.run(*settings, file)
    writes = bench.calls(*WRITES)
    rejects = (bench.folder / "users.ndjson.rejects.ndjson").read_text()

    write(bench, "users.ndjson.backfill.json", journal)
    result = bench.run(*settings, file)

    assert 1 == result.exit_code, result.output
    assert (20, 39, True) == tuple(
        told(result)[name] for name in ("doneEarlier", "done", "complete")
    )
    assert {"unchanged": 16, "rejected": 3} == told(result)["counts"]
    assert writes == bench.calls(*WRITES)
    assert rejects == (bench.folder / "users.ndjson.rejects.ndjson").read_text()
    assert 7 == len(rejects.splitlines())


def test_files_that_changed_are_refused(bench: Bench) -> None:
    """Those lines that were read; what stands behind them may be mended, and more may follow."""
    file = bench.file(data_of(1), data_of(2))
    run(bench, file)
    bench.file(data_of(1, department="other"), data_of(2))
    changed = run(bench, file)
    bench.file(data_of(1))
    shorter = run(bench, file)
    bench.file(data_of(1), data_of(2), data_of(3))
    longer = run(bench, file)

    assert (2, 2, 0) == (changed.exit_code, shorter.exit_code, longer.exit_code), longer.output
    assert "--restart" in changed.stderr
    assert {"created": 1} == told(longer)["counts"]


@pytest.mark.parametrize(
    "others", [("--as-of", AS_OF), ("--type", "user.updated"), ("--column", "x=")]
)
def test_a_run_goes_on_with_the_same_options_only(bench: Bench, others: tuple[str, ...]) -> None:
    """Else half of the users would be of another time, or something else."""
    file = bench.file(data_of(1))
    run(bench, file)

    result = run(bench, *others, file)

    assert (2, True) == (result.exit_code, "another" in result.stderr)


def test_an_age_means_the_time_of_the_first_run(bench: Bench) -> None:
    """The same command goes on, although its age is another time by then."""
    file = bench.file(data_of(1))
    first = run(bench, "--as-of", "5 minutes", file)
    journal = (bench.folder / "events.ndjson.backfill.json").read_text()
    second = run(bench, "--as-of", "5 minutes", file)

    assert (0, 0) == (first.exit_code, second.exit_code), second.output
    assert journal == (bench.folder / "events.ndjson.backfill.json").read_text()


def test_rejects_of_an_earlier_run_are_never_overwritten(bench: Bench) -> None:
    """Somebody may be mending them."""
    file = bench.file({"userId": "u-1"}, data_of(2))
    run(bench, file)

    again = run(bench, "--restart", file)
    bench.file({"userId": "mended"}, name="events.ndjson.rejects.ndjson")
    goes_on = run(bench, file)

    assert (2, 2) == (again.exit_code, goes_on.exit_code)
    assert "move it" in again.stderr
    assert "was changed" in goes_on.stderr


def test_rejects_that_were_taken_away_are_no_matter(bench: Bench) -> None:
    """Whoever mends them may do so elsewhere while the rest is brought in."""
    file = bench.file({"userId": "u-1"}, data_of(2))
    run(bench, file)
    for name in ("events.ndjson.rejects.ndjson", "events.ndjson.rejects.report.ndjson"):
        (bench.folder / name).unlink()
    bench.file({"userId": "u-1"}, data_of(2), {"userId": "u-3"})

    result = run(bench, file)

    assert 1 == result.exit_code, result.output
    assert '{"userId": "u-3"}\n' == (bench.folder / "events.ndjson.rejects.ndjson").read_text()


def test_the_brake_stops_it_and_the_same_command_goes_on(bench: Bench) -> None:
    """A wrong column or mapping refuses everybody; twenty are enough to see that."""
    file = write(bench, "users.csv", HEADER + "".join(f"u-{n},no,A,B,,,,\n" for n in range(50)))

    first = run(bench, file)
    rest = bench.run("--set", "brake.in_a_row=0", "--set", "brake.share=0", "backfill", file)

    assert (3, 1) == (first.exit_code, rest.exit_code), first.output
    assert "dead letters in a row" in first.stderr
    assert False is told(first)["complete"]
    kept = (bench.folder / "users.csv.rejects.csv").read_text().splitlines()
    assert sorted(f"u-{n},no,A,B,,,," for n in range(50)) == sorted(kept[1:])
    assert "fix them, then feed them" in rest.stdout


def test_mails_are_sent_only_where_that_is_wished(bench: Bench) -> None:
    """--invite mails new users; later, an event that asks for an invitation does."""
    without = run(bench, bench.file(data_of(1), name="1.ndjson"))
    with_mail = run(bench, "--invite", bench.file(data_of(2), name="2.ndjson"))
    asking = write(bench, "ids.csv", "userId\nu-1\n")
    options = ("--invite", "--type", "user.invitation.requested", asking)
    later, again = run(bench, *options), run(bench, "--restart", *options)

    assert [0, 0, 0, 0] == [one.exit_code for one in (without, with_mail, later, again)]
    assert {"created": 1, "mailed": 1} == told(with_mail)["counts"]
    assert 1 == told(later)["counts"]["mailed"]
    assert "mailed" not in told(again)["counts"]
    assert ["u-2@acme.example", "u-1@acme.example"] == [one.email for one in bench.keycloak.mails]


def test_mails_are_under_their_limit(bench: Bench) -> None:
    """It stops the run; the next one sends the rest."""
    file = bench.file(data_of(1), data_of(2))
    command = ("--set", "limits.mails=1/1 h", "--set", "delivery.workers=1")

    first = bench.run(*command, "backfill", "--invite", file)
    second = bench.run(*command, "backfill", "--invite", file)

    assert (3, 0) == (first.exit_code, second.exit_code), first.output
    assert "1 mails were sent" in first.stderr
    assert 2 == len(bench.keycloak.mails)


def test_an_outage_is_waited_out(bench: Bench) -> None:
    """As with `run`: nothing is refused because Keycloak is away for a moment."""
    bench.keycloak.fail("create", KeycloakUnavailableError("away"), times=3)

    result = bench.run("--set", "retry.initial=10 ms", "backfill", bench.file(data_of(1)))

    assert (0, True) == (result.exit_code, "1 created" in result.stdout), result.output


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("userId,Mail\nu-1,x\n", "givenName"),
        ("userId,,email\n", "name every column"),
        ("", "name every column"),
        (b"userId\xff,email\n", "name every column"),
    ],
)
def test_a_table_that_can_never_be_right_is_refused_at_once(
    bench: Bench, text: str | bytes, says: str
) -> None:
    """Exit 2, and how to mend it; nothing is created."""
    result = run(bench, write(bench, "users.csv", text))

    assert (2, True) == (result.exit_code, says in result.stderr), result.output
    assert ["users.csv"] == [one.name for one in bench.folder.iterdir()]


def test_rows_that_are_no_csv_keep_nobody_else(bench: Bench) -> None:
    """A quote too many, another encoding: refused with their line, and the next line begins anew."""
    bad = b'u-2,u-2@acme.example,"A"da,L,,,,\nu-3,u-3@acme.example,J\xfcrgen,L,,,,\n'
    file = write(bench, "users.csv", (HEADER + row(1)).encode() + bad + row(4).encode())

    result = run(bench, file)

    assert 1 == result.exit_code, result.output
    assert HEADER.encode() + bad == (bench.folder / "users.csv.rejects.csv").read_bytes()
    assert ["u-1", "u-4"] == ids(bench)


def test_a_packed_file_that_is_cut_is_told(bench: Bench) -> None:
    """What could be read is done; exit 2."""
    packed = gzip.compress("".join(f"{json.dumps(data_of(n))}\n" for n in range(9)).encode())
    file = write(bench, "users.ndjson.gz", packed[:-12])

    result = run(bench, file)

    assert (2, True) == (result.exit_code, "cut short" in result.stderr), result.output


def test_events_in_an_envelope_of_the_producer(bench: Bench) -> None:
    """As on the topic; with --type the lines are data all the same."""
    envelope = (
        "--set",
        "envelope.id=body.no",
        "--set",
        "envelope.type=body.what",
        "--set",
        "envelope.data=body.user",
    )
    event = {"no": 7, "what": "user.created", "user": data_of(1)}
    enveloped = bench.run(*envelope, "backfill", bench.file(event, name="1.ndjson"))
    plain = bench.run(
        *envelope, "backfill", "--type", "user.created", bench.file(data_of(2), name="2.ndjson")
    )
    table = bench.run(*envelope, "backfill", write(bench, "3.csv", HEADER + row(3)))

    assert [0, 0, 2] == [one.exit_code for one in (enveloped, plain, table)], enveloped.output
    assert ["u-1", "u-2"] == ids(bench)


@pytest.mark.parametrize(
    "words",
    [
        ("--type", "user.unknown", "events.ndjson"),
        ("--delimiter", "||", "events.ndjson"),
        ("--column", "email", "events.ndjson"),
        ("-", "-"),
        ("missing.csv",),
        ("events.ndjson", "events.ndjson"),
    ],
)
def test_wrong_usage_is_exit_2(bench: Bench, words: tuple[str, ...]) -> None:
    """Before anything is written."""
    bench.file(data_of(1))

    assert 2 == run(bench, *words).exit_code
    assert [] == bench.calls(*WRITES)


def test_the_journal_can_stand_elsewhere(bench: Bench) -> None:
    """And the rejects in a folder; another file is no journal."""
    (bench.folder / "out").mkdir()
    file = bench.file({"userId": "u-1"})
    options = ("--journal", "done.json", "--rejects", "out", "--quiet", file)

    assert 1 == run(bench, *options).exit_code
    assert 1 == read_journal(bench.folder / "done.json")[1].commit.offset  # type: ignore[index]
    assert 2 == len(list((bench.folder / "out").iterdir()))
    write(bench, "done.json", "{}")
    assert 2 == run(bench, *options).exit_code


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 3), (signal.SIGINT, 130)])
def test_who_ends_it_hears_how_far_it_is(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, number: signal.Signals, code: int
) -> None:
    """What was begun is done, and the next run does the rest."""
    lines = 1500  # more than are ever in hand before the end is noticed
    handlers: dict[int, Any] = {}
    monkeypatch.setattr(signal, "signal", handlers.setdefault)
    create = bench.keycloak.create

    def ending(representation: UserRepresentation) -> str:
        handlers[number](number, None)
        return create(representation)

    monkeypatch.setattr(bench.keycloak, "create", ending)
    file = bench.file(*map(data_of, range(lines)))
    first = run(bench, "--set", "delivery.workers=1", "--set", "delivery.max_records=10", file)
    monkeypatch.setattr(bench.keycloak, "create", create)
    second = run(bench, file)

    assert (code, 0) == (first.exit_code, second.exit_code), first.output
    assert not told(first)["complete"]
    assert 1 <= told(first)["done"] < lines
    assert (True, lines) == (told(second)["complete"], told(second)["done"])
    assert lines == len(bench.keycloak.users())
