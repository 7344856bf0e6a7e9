import json
from collections.abc import Iterator
from importlib import resources
from typing import Any

import pytest
from cli_harness import Bench, InMemoryTopicReader
from stage_harness import event_of

from keycloak_bridge.domain.errors import KeycloakUnavailableError
from keycloak_bridge.domain.events import Record
from keycloak_bridge.domain.users import GROUPS

HEADER = "userId,email,givenName,familyName,tenantId,department,active,roles,attributes.floor\n"


@pytest.fixture
def bench(bench: Bench) -> Bench:
    """A realm with the user u-1 and empty topics."""
    add(bench, "u-1", department="R&D")
    bench.keycloak.calls.clear()
    return bench


def add(bench: Bench, *user_ids: str, **data: Any) -> None:
    """Apply an event of each of these users."""
    bench.run("apply", "--no-invite", bench.file(*(user(one, **data) for one in user_ids)))


def user(user_id: str, event_id: str | None = None, **data: Any) -> dict[str, Any]:
    """Return an event of a user with an address of its own."""
    names = {"givenName": "Ada", "familyName": "Lovelace", "phoneNumber": ...}
    data = {"email": f"{user_id}@acme.example", **names, **data}
    return event_of(user_id, event_id or f"event-{user_id}", data=data)


def table(bench: Bench, *rows: str) -> str:
    """Write a CSV file and return its name."""
    (bench.folder / "users.csv").write_text(HEADER + "".join(f"{row}\n" for row in rows), "utf-8")
    return "users.csv"


def row(user_id: str, department: str = "R&D", rest: str = ",,") -> str:
    """Return a line of that file."""
    return f"{user_id},{user_id}@acme.example,Ada,Lovelace,tenant-1,{department},{rest}"


ROW = row("u-1")
ORPHANS = [f"u-{at}" for at in range(2, 13)]


def outcomes(lines: list[dict[str, Any]]) -> list[tuple[str, str]]:
    """Return user and outcome of each row."""
    return [(line["user"], line["outcome"]) for line in lines[:-1]]


def mapping_file(bench: Bench, name: str, extra: str, *, staff: bool = True) -> None:
    """Write the shipped mapping with `extra` before it, without `staff` so that no event may join /staff."""
    mapping = resources.files("keycloak_bridge").joinpath("default_mapping.toml").read_text()
    if not staff:
        mapping = mapping.replace('"/staff", "/staff/engineering", ', "")
    (bench.folder / name).write_text(f"{extra}\n{mapping}", "utf-8")


def enabled(bench: Bench) -> list[bool]:
    """Return which users of the realm are enabled."""
    return [one["enabled"] for one in bench.keycloak.users()]


def moved(**data: Any) -> dict[str, Any]:
    """Return a later event that says everything about u-1."""
    return {**user("u-1", "event-2", **data), "time": "2026-11-05T08:00:00Z"}


def test_mails_are_under_their_limit(bench: Bench) -> None:
    """The next run sends the rest, to a user that was created without its mail too."""
    bench.publish(user("u-2"), user("u-3"))
    limited = ("--set", "limits.mails=1/1 h", "--set", "delivery.workers=1")
    command = (*limited, "reconcile", "--from-topic", "--apply", "--invite")

    first = bench.run(*command)
    second = bench.run(*command)

    assert (3, 0) == (first.exit_code, second.exit_code)
    assert "stopped before the end: 1 mails were sent" in first.stderr
    assert ["u-2@acme.example", "u-3@acme.example"] == [one.email for one in bench.keycloak.mails]


@pytest.mark.parametrize(("invite", "mails"), [((), 0), (("--invite",), 1)])
def test_a_changed_address_is_verified_by_a_mail_only_with_invite(
    bench: Bench, invite: tuple[str, ...], mails: int
) -> None:
    """Without a mail it stays unverified, and a later run with --invite mails."""
    account = bench.keycloak.users()[0]
    bench.keycloak.update(account["id"], {**account, "emailVerified": True})
    bench.publish(moved(email="ada@new.example", department="R&D"))
    verifying = ("--set", "lifecycle.email_change=verify", "reconcile", "--from-topic", "--apply")

    bench.run(*verifying, *invite)
    mailed = len(bench.keycloak.mails)
    verified = bench.keycloak.users()[0]["emailVerified"]
    bench.run(*verifying, "--invite")

    assert (mails, False) == (mailed, verified)
    assert ["ada@new.example"] == [one.email for one in bench.keycloak.mails]


def test_a_deleted_and_recreated_user_is_removed_and_created(bench: Bench) -> None:
    """Both steps, where deleting means removing; the dry run reports the conflict that would keep it from it."""
    before = bench.keycloak.users()[0]["id"]
    deleted = event_of("u-1", "event-2", type="user.deleted", time="2026-11-05T08:00:00Z")
    bench.publish(deleted, {**user("u-1", "event-3"), "time": "2026-11-06T08:00:00Z"})
    removing = ("--set", "lifecycle.deleted=delete", "reconcile", "--from-topic")

    bench.keycloak.join(before, GROUPS, ["/staff"])
    mapping_file(bench, "mapping.toml", 'protected_groups = ["/staff"]', staff=False)
    protected = bench.lines("--set", "mapping.file=mapping.toml", *removing)
    planned = bench.lines(*removing)
    bench.lines(*removing, "--apply")

    assert [("u-1", "conflict")] == outcomes(protected)
    assert 2 == len(planned)
    assert before == planned[0]["keycloakId"]
    (after,) = bench.keycloak.users()
    assert before != after["id"]
    assert ["u-1"] == after["attributes"]["userId"]


def test_a_row_that_cannot_be_a_user_is_refused_with_its_line(bench: Bench) -> None:
    """Exit 1; it breaks the schema, or is larger than an event may be. The others are compared all the same."""
    file = table(bench, ROW, row("u-2", rest="perhaps,,"), "u-3,nobody", row("u-4", "x" * 2000))

    result = bench.run("--set", "events.max_bytes=2000", "reconcile", "--format", "json", file)

    *refused, totals = (json.loads(line) for line in result.stdout.splitlines())
    assert (1, {"agrees": 1, "refused": 3}) == (result.exit_code, totals["totals"])
    assert [
        ("users.csv:3", "schema-violation", ["/data/active"]),
        ("users.csv:4", "schema-violation", ["/data"]),
        ("users.csv:5", "too-large", []),
    ] == [
        (one["place"], one["reason"], [broken["pointer"] for broken in one["violations"]])
        for one in refused
    ]


def test_orphans_are_reported(bench: Bench) -> None:
    """Those with an id in user management that no event mentions, however many; other users are left alone."""
    add(bench, *ORPHANS)
    bench.keycloak.add_user({"username": "admin", "enabled": True})
    file = table(bench, ROW)

    ignored = bench.lines("reconcile", file)
    lines = bench.lines("reconcile", "--orphans", "report", file)

    assert {"agrees": 1} == ignored[-1]["totals"]
    assert 4 == bench.run("reconcile", "--orphans", "report", "--exit-code", file).exit_code
    assert {"agrees": 1, "orphaned": len(ORPHANS)} == lines[-1]["totals"]
    assert [(one, "orphaned") for one in ORPHANS] == outcomes(lines)
    assert all(enabled(bench))


def test_a_topic_whose_beginning_is_gone_can_be_compared(bench: Bench) -> None:
    """It is the same population where orphans do not matter; a realm that agrees has no rows."""
    bench.publish(user("u-1", department="R&D"))
    bench.cut = True

    result = bench.run("reconcile", "--from-topic", "--exit-code")

    assert (0, "1 agrees\n") == (result.exit_code, result.stdout)


@pytest.mark.parametrize(
    ("events", "message"),
    [
        ((), "orphans cannot be determined"),
        (("u-1,nobody",), "orphans cannot be determined"),
        (("--from-topic",), "orphans cannot be determined"),
        ((ROW,), "11 users of the realm"),
    ],
    ids=["empty", "refused in part", "without its beginning", "smaller than the orphans"],
)
def test_no_orphan_is_disabled_of_half_a_population(
    bench: Bench, events: tuple[str, ...], message: str
) -> None:
    """Empty, refused in part, cut off by retention, or so small that it must be the file of another realm."""
    add(bench, *ORPHANS)
    bench.publish(user("u-1", department="R&D"))
    bench.cut = True
    source = events[0] if "--from-topic" in events else table(bench, *events)

    result = bench.run("reconcile", "--apply", "--orphans", "disable", source)

    assert (2, True) == (result.exit_code, message in result.stderr)
    assert all(enabled(bench))


@pytest.mark.parametrize("event_type", ["nope", "urn:keycloak-bridge:schema:user.created:1.0"])
def test_rows_are_of_a_type_that_has_a_schema(bench: Bench, event_type: str) -> None:
    """Another one is wrong usage, as in `backfill` and `validate`: no row can be right."""
    file = table(bench, ROW)
    data = bench.file({"userId": "u-1"}, name="data.json")

    for words in (
        ("reconcile", file),
        ("reconcile", "--orphans", "report", file),
        ("validate", data),
    ):
        result = bench.run(words[0], "--type", event_type, *words[1:])
        assert (2, "") == (result.exit_code, result.stdout)
        assert f"--type: {event_type} has no schema" in result.stderr
        assert "schemas list" in result.stderr


def test_the_name_of_a_type_is_the_producers(bench: Bench) -> None:
    """As on the topic, and as in `backfill`."""
    named = ("--set", "envelope.types=person.new=user.created")

    result = bench.run("reconcile", *named, "--type", "person.new", table(bench, ROW))

    assert (0, "1 agrees\n") == (result.exit_code, result.stdout)


def test_a_table_is_known_by_its_suffix_in_capitals_too(bench: Bench) -> None:
    """As Windows writes it."""
    (bench.folder / table(bench, ROW)).rename(bench.folder / "USERS.CSV")

    result = bench.run("reconcile", "USERS.CSV")

    assert (0, "1 agrees\n") == (result.exit_code, result.stdout)


def test_a_user_that_is_created_meanwhile_is_no_orphan(bench: Bench) -> None:
    """The bridge runs on: its event came too late to be read."""
    bench.publish(user("u-1", department="R&D"))
    read = InMemoryTopicReader.read

    def read_and_create(reader: InMemoryTopicReader) -> Iterator[Record]:
        yield from read(reader)
        bench.keycloak.add_user({"username": "u-9", "attributes": {"userId": ["u-9"]}})

    bench.monkeypatch.setattr(InMemoryTopicReader, "read", read_and_create)

    lines = bench.lines("reconcile", "--orphans", "report", "--from-topic")

    assert [{"totals": {"agrees": 1}, "written": {}}] == lines


def test_what_was_written_is_reported_when_keycloak_goes_away(bench: Bench) -> None:
    """Of the users in hand too; exit 3, and nothing is begun after the first failure."""
    bench.publish(*(user(f"u-{at}") for at in range(2, 8)))
    bench.keycloak.fail("create", KeycloakUnavailableError("no connection"), after_effect=True)

    result = bench.run("reconcile", "--from-topic", "--apply", "--summary-only")

    (written,) = [one for one in result.stdout.splitlines() if "written" in one] or [""]
    created = len(bench.calls("create"))
    assert (3, True) == (result.exit_code, "no connection" in result.stderr)
    assert (f"written: {created - 1} created" if created > 1 else "") == written


def test_a_row_out_of_scope_is_no_orphan(bench: Bench) -> None:
    """The population mentions its user, although no user is made of it."""
    add(bench, "u-2")
    mapping_file(bench, "mapping.toml", "when = \"data.userId != 'u-2'\"")
    file = table(bench, ROW, row("u-2"))

    scoped = ("--set", "mapping.file=mapping.toml", "reconcile", "--apply", "--orphans", "disable")
    lines = bench.lines(*scoped, file)

    assert {"agrees": 1, "ignored": 1} == lines[-1]["totals"]
    assert all(enabled(bench))


def test_an_orphan_that_any_mapping_protects_is_left_alone(bench: Bench) -> None:
    """What one mapping protects is protected from all."""
    add(bench, "u-2")
    orphan = bench.keycloak.users()[-1]["id"]
    bench.keycloak.join(orphan, GROUPS, ["/staff"])
    mapping_file(bench, "strict.toml", 'protected_groups = ["/staff"]', staff=False)
    (bench.folder / "bridge.toml").write_text('[mapping.files]\n"user.updated" = "strict.toml"\n')
    file = table(bench, ROW)

    lines = bench.lines(
        *("--config", "bridge.toml", "reconcile", "--apply", "--orphans", "disable", file)
    )

    assert {"agrees": 1, "conflict": 1} == lines[-1]["totals"]
    assert "protected-user" == lines[0]["reason"]
    assert all(enabled(bench))


def test_a_limit_stops_the_repair(bench: Bench) -> None:
    """What was written stays and is counted; exit 3 with what to do, and the same command goes on with the rest."""
    add(bench, "u-2", "u-3", "u-4")
    limited = ("--set", "limits.disables=2/1 h", "reconcile", "--orphans", "disable", "--apply")
    file = table(bench, ROW)

    first = bench.run(*limited, file)
    second = bench.run(*limited, file)

    assert (3, 0) == (first.exit_code, second.exit_code)
    assert "stopped before the end: 2 users" in first.stderr
    assert "1 agrees, 2 orphaned\nwritten: 2 updated\n" in first.stdout
    assert [True, False, False, False] == enabled(bench)
