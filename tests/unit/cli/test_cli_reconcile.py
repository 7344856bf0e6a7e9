import json
from pathlib import Path
from typing import Any

import pytest
from cli_harness import event_of
from log_bench import LogBench

WRITES = ("create", "update", "join", "leave", "delete", "execute_actions_email")
HEADER = "userId,email,givenName,familyName,tenantId,department,active,roles,attributes.floor\n"


@pytest.fixture
def bench(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> LogBench:
    """A realm with the user u-1 and empty topics."""
    made = LogBench(tmp_path, monkeypatch)
    made.run("apply", "--no-invite", made.file(user("u-1", department="R&D")))
    made.keycloak.calls.clear()
    return made


def user(user_id: str, event_id: str | None = None, **data: Any) -> dict[str, Any]:
    """Return an event of a user with an address of its own."""
    names = {"givenName": "Ada", "familyName": "Lovelace", "phoneNumber": ...}
    data = {"email": f"{user_id}@acme.example", **names, **data}
    return event_of(user_id, event_id or f"event-{user_id}", data=data)


def table(bench: LogBench, *rows: str) -> str:
    """Write a CSV file and return its name."""
    (bench.folder / "users.csv").write_text(HEADER + "".join(f"{row}\n" for row in rows), "utf-8")
    return "users.csv"


def row(user_id: str, department: str = "R&D", rest: str = ",,") -> str:
    """Return a line of that file."""
    return f"{user_id},{user_id}@acme.example,Ada,Lovelace,tenant-1,{department},{rest}"


def outcomes(lines: list[dict[str, Any]]) -> list[tuple[str, str]]:
    """Return user and outcome of each row."""
    return [(line["user"], line["outcome"]) for line in lines[:-1]]


def moved(**data: Any) -> dict[str, Any]:
    """Return a later event that says everything about u-1."""
    return {**user("u-1", "event-2", **data), "time": "2026-11-05T08:00:00Z"}


def test_what_is_missing_and_what_differs_is_listed(bench: LogBench) -> None:
    """Who agrees is only counted, and nothing is written."""
    bench.publish(moved(department="Sales"), user("u-2"))

    result = bench.run("reconcile", "--from-topic")
    lines = bench.lines("reconcile", "--from-topic")

    assert 0 == result.exit_code
    assert [("u-1", "differing"), ("u-2", "missing")] == outcomes(lines)
    assert {"totals": {"differing": 1, "missing": 1}, "written": {}} == lines[-1]
    assert "1 differing, 1 missing\n" == result.stdout.splitlines(keepends=True)[-1]
    assert [] == bench.calls(*WRITES)
    assert 4 == bench.run("reconcile", "--from-topic", "--exit-code").exit_code


def test_a_realm_that_agrees_has_no_rows(bench: LogBench) -> None:
    """The same events again."""
    bench.publish(user("u-1", department="R&D"))

    result = bench.run("reconcile", "--from-topic", "--exit-code")

    assert (0, "1 agrees\n") == (result.exit_code, result.stdout)


def test_apply_repairs_without_a_mail(bench: LogBench) -> None:
    """What was missing is there, what differed is as it shall be, and the second time there is nothing to do."""
    bench.publish(moved(department="Sales"), user("u-2"))

    first = bench.lines("reconcile", "--from-topic", "--apply")
    second = bench.lines("reconcile", "--from-topic", "--apply")

    assert [("u-1", "updated"), ("u-2", "created")] == [
        (line["user"], line["action"]) for line in first[:-1]
    ]
    assert {"created": 1, "updated": 1} == first[-1]["written"]
    assert [{"totals": {"agrees": 2}, "written": {}}] == second
    assert [] == bench.keycloak.mails
    departments = [one["attributes"].get("department") for one in bench.keycloak.users()]
    assert ["Sales"] == departments[0]


def test_mails_are_sent_where_that_is_wished(bench: LogBench) -> None:
    """To those that are created."""
    bench.publish(user("u-2"))

    bench.run("reconcile", "--from-topic", "--apply", "--invite")

    assert ["u-2@acme.example"] == [mail.email for mail in bench.keycloak.mails]


def test_a_deleted_and_recreated_user_is_removed_and_created(bench: LogBench) -> None:
    """Both steps, where deleting means removing."""
    before = bench.keycloak.users()[0]["id"]
    deleted = event_of("u-1", "event-2", type="user.deleted", time="2026-11-05T08:00:00Z")
    again = {**user("u-1", "event-3"), "time": "2026-11-06T08:00:00Z"}
    bench.publish({**deleted, "data": {"userId": "u-1"}}, again)
    removing = ("--set", "lifecycle.deleted=delete", "reconcile", "--from-topic")

    told = bench.lines(*removing)
    bench.lines(*removing, "--apply")

    assert 2 == len(told)
    assert before == told[0]["keycloakId"]
    (after,) = bench.keycloak.users()
    assert before != after["id"]
    assert ["u-1"] == after["attributes"]["userId"]


def test_rows_of_a_table_are_events(bench: LogBench) -> None:
    """Lists, booleans and properties within others; an empty cell says nothing; commas as in every CSV."""
    file = table(bench, row("u-1"), row("u-2", '"Legal, Tax"', "false,viewer; viewer,"))

    bench.run("reconcile", "--apply", file)
    again = bench.lines("reconcile", "--apply", file)

    first, second = bench.keycloak.users()
    assert [{"totals": {"agrees": 2}, "written": {}}] == again
    assert (True, ["R&D"]) == (first["enabled"], first["attributes"]["department"])
    assert (False, ["Legal, Tax"]) == (second["enabled"], second["attributes"]["department"])
    assert {"viewer"} == bench.keycloak.realm_roles_of(second["id"])
    assert second["attributes"]["bridgeEventId"][0].startswith("row-")


def test_a_row_that_breaks_the_schema_is_refused_with_its_line(bench: LogBench) -> None:
    """Exit 1; the others are compared all the same."""
    file = table(bench, row("u-1"), row("u-2", rest="perhaps,,"), "u-3,nobody")

    result = bench.run("reconcile", "--format", "json", file)

    lines = [json.loads(line) for line in result.stdout.splitlines()]
    assert 1 == result.exit_code
    assert [("users.csv:3", "/data/active"), ("users.csv:4", "/data/email")] == [
        (line["place"], line["violations"][0]["pointer"]) for line in lines[:-1]
    ]
    assert {"agrees": 1, "refused": 2} == lines[-1]["totals"]


@pytest.mark.parametrize("text", ["", "userId,,email\n", "userId,userId\n", b"userId\n\xff\n"])
def test_what_is_no_table_is_a_sentence(bench: LogBench, text: str | bytes) -> None:
    """Exit 2, and how to mend it."""
    raw = text.encode() if isinstance(text, str) else text
    (bench.folder / "users.csv").write_bytes(raw)

    result = bench.run("reconcile", "users.csv")

    assert (2, True) == (result.exit_code, "users.csv" in result.stderr)


def test_orphans_are_reported(bench: LogBench) -> None:
    """Those with an id in user management of whom nothing speaks; others of the realm are no business of ours."""
    bench.run("apply", "--no-invite", bench.file(user("u-2")))
    bench.keycloak.add_user({"username": "admin", "enabled": True})
    file = table(bench, row("u-1"))

    ignored = bench.lines("reconcile", file)
    lines = bench.lines("reconcile", "--orphans", "report", file)

    assert {"agrees": 1} == ignored[-1]["totals"]
    assert [("u-2", "orphaned")] == outcomes(lines)
    assert all(one["enabled"] for one in bench.keycloak.users())


def test_orphans_are_disabled_only_with_apply(bench: LogBench) -> None:
    """A dry run shows the change; then it is done once."""
    bench.run("apply", "--no-invite", bench.file(user("u-2")))
    disable = ("reconcile", "--orphans", "disable", table(bench, row("u-1")))

    dry = bench.lines(*disable)
    still = [one["enabled"] for one in bench.keycloak.users()]
    done = bench.lines(*disable, "--apply")
    again = bench.lines(*disable, "--apply")

    assert [("u-2", "orphaned")] == outcomes(dry) == outcomes(done)
    assert ("enabled", False) == tuple(dry[0]["changes"][0][name] for name in ("target", "after"))
    assert [True, True] == still
    assert [True, False] == [one["enabled"] for one in bench.keycloak.users()]
    assert [{"totals": {"agrees": 2}, "written": {}}] == again


@pytest.mark.parametrize("rows", [(), ("u-1,nobody",)])
def test_nobody_is_an_orphan_of_half_a_population(bench: LogBench, rows: tuple[str, ...]) -> None:
    """Empty or refused in part: no orphans are told and none is touched."""
    result = bench.run("reconcile", "--apply", "--orphans", "disable", table(bench, *rows))

    assert (2, True) == (result.exit_code, "orphans cannot be told" in result.stderr)
    assert bench.keycloak.users()[0]["enabled"]


def test_a_limit_stops_the_repair(bench: LogBench) -> None:
    """What was written stays and is counted; exit 3 with what to do, and the same command goes on with the rest."""
    bench.run("apply", "--no-invite", bench.file(*(user(f"u-{number}") for number in (2, 3, 4))))
    limited = ("--set", "limits.disables=2/1 h", "reconcile", "--orphans", "disable", "--apply")
    file = table(bench, row("u-1"))

    first = bench.run(*limited, file)
    second = bench.run(*limited, file)

    assert (3, 0) == (first.exit_code, second.exit_code)
    assert "stopped before the end: 2 users" in first.stderr
    assert "1 agrees, 2 orphaned\nwritten: 2 updated\n" in first.stdout
    assert [True, False, False, False] == [one["enabled"] for one in bench.keycloak.users()]


@pytest.mark.parametrize(
    "words",
    [
        (),
        ("--invite", "events.ndjson"),
        ("--from-topic", "--since", "1 day", "--orphans", "report"),
    ],
)
def test_wishes_that_do_not_go_together_are_refused(
    bench: LogBench, words: tuple[str, ...]
) -> None:
    """Exit 2 before anything is read."""
    assert 2 == bench.run("reconcile", *words).exit_code
    assert [] == bench.keycloak.calls
