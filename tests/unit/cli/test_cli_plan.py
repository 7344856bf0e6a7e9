import json
from typing import Any

import pytest
from cli_harness import WRITES, Bench, updated
from stage_harness import event_of

from keycloak_bridge.domain.errors import KeycloakAuthError, KeycloakUnavailableError

DAY_MS = 86_400_000
OTHER = {"email": "other@acme.example"}
IGNORING = ("--set", "events.ignore_types=order.placed")
SCOPED = (
    'matching = ["attributes.userId"]\nwhen = "data.active == `true`"\n'
    '[user]\nusername = "data.email"\n[user.attributes]\nuserId = "data.userId"\n'
)


def planned(bench: Bench, event: dict[str, Any], *words: str) -> dict[str, Any]:
    """Return the only row of the plan of one event."""
    (row,) = bench.lines(*words, "plan", bench.file(event))
    return row


def test_a_new_user_is_planned_and_not_written(bench: Bench) -> None:
    """Every attribute it would get is shown, and Keycloak is only asked."""
    result = bench.run("plan", bench.file(event_of(data={"groups": ["/staff"]})))

    assert 0 == result.exit_code
    assert "events.ndjson:1: create user u-1" in result.stdout
    assert all(
        part in result.stdout for part in ("attributes.tenantId", "tenant-1", "/staff", "invite")
    )
    assert "bridgeEventId" not in result.stdout
    assert [] == bench.calls(*WRITES)


def test_a_change_shows_now_and_then(bench: Bench) -> None:
    """Only what differs, with both values."""
    bench.run("apply", "--no-invite", bench.file(event_of(data={"department": "R&D"})))
    bench.keycloak.calls.clear()
    later = event_of(event_id="event-2", time="2026-11-02T08:00:00Z", data={"department": "Sales"})

    row = planned(bench, later)

    assert ("update", "u-1") == (row["outcome"], row["user"])
    assert [
        {
            "operation": "update",
            "target": "attributes.department",
            "before": ["R&D"],
            "after": ["Sales"],
        }
    ] == row["changes"]
    assert [] == bench.calls(*WRITES)


LATER: dict[str, Any] = {"event_id": "event-2", "time": "2026-11-02T08:00:00Z"}


@pytest.mark.parametrize(
    ("applied", "event", "settings", "outcome", "reason"),
    [
        (event_of(), event_of(), (), "unchanged", None),
        (event_of(), event_of(**LATER), (), "unchanged", None),
        (event_of(**LATER), event_of(), (), "skip", "stale"),
        (event_of(), event_of("u-2"), (), "refused", "conflict"),
        (None, event_of(), ("--set", "mapping.file=mapping.toml"), "skip", "out-of-scope"),
        (None, event_of(type="order.placed"), IGNORING, "ignored", "events.ignore_types"),
    ],
    ids=["again", "bookkeeping alone", "older", "name taken", "out of scope", "ignored type"],
)
def test_each_outcome_has_its_reason(
    bench: Bench,
    applied: dict[str, Any] | None,
    event: dict[str, Any],
    settings: tuple[str, ...],
    outcome: str,
    reason: str | None,
) -> None:
    """The reason is the one of the results topic; what is out of scope or ignored does not ask Keycloak."""
    (bench.folder / "mapping.toml").write_text(SCOPED)
    if applied is not None:
        bench.run("apply", bench.file(applied))

    row = planned(bench, event, *settings)

    assert (outcome, reason) == (row["outcome"], row.get("reason"))
    if outcome == "unchanged":
        assert ([], bench.keycloak.users()[0]["id"]) == (row["changes"], row["keycloakId"])
    assert applied or not bench.keycloak.calls


def test_json_is_one_object_a_line(bench: Bench) -> None:
    """Each says where its event is and what would come of it."""
    file = bench.file(event_of(), "{oops", event_of("u-2", "event-2"))

    result = bench.run("plan", "--format", "json", file)

    lines = [json.loads(line) for line in result.stdout.splitlines()]
    assert 1 == result.exit_code
    assert [
        ("events.ndjson:1", "create"),
        ("events.ndjson:2", "refused"),
        ("events.ndjson:3", "create"),
    ] == [(line["place"], line["outcome"]) for line in lines]
    assert {"place", "event", "user", "keycloakId", "outcome", "changes"} == set(lines[0])
    assert {"place", "outcome", "reason", "message", "violations"} == set(lines[1])
    assert "not-json" == lines[1]["reason"]


def test_refused_events_are_explained_and_counted(bench: Bench) -> None:
    """Exit 1; pointer, rule and keyword of each violation, and the totals at the end."""
    file = bench.file(event_of(data={"email": ...}), event_of("u-2", "event-2"))

    result = bench.run("plan", file)

    assert 1 == result.exit_code
    assert "events.ndjson:1: refused (schema-violation)" in result.stdout
    assert "/data/email: is required (required)" in result.stdout
    assert "1 create, 1 refused" == result.stdout.splitlines()[-1]


def test_standard_input_is_a_file_too(bench: Bench) -> None:
    """`-` reads what is piped in."""
    result = bench.run("plan", "-", stdin=json.dumps(event_of()))

    assert 0 == result.exit_code
    assert "stdin:1: create user u-1" in result.stdout


@pytest.mark.parametrize(
    ("error", "code"), [(KeycloakUnavailableError("away"), 3), (KeycloakAuthError("no"), 2)]
)
def test_a_keycloak_that_does_not_answer_ends_the_command(
    bench: Bench, error: KeycloakUnavailableError, code: int
) -> None:
    """No event could be planned."""
    bench.keycloak.fail("find", error)

    result = bench.run("plan", bench.file(event_of(), event_of()))

    assert code == result.exit_code
    assert f"error: {error}" in result.stderr


def test_the_events_of_a_user_are_one_row(bench: Bench) -> None:
    """Their combined result is planned, once, and the totals are the last line."""
    bench.publish(
        event_of(data={"department": "R&D"}),
        updated("u-1", "event-2", department="Sales"),
        event_of("u-2", "event-3", data=OTHER),
    )

    first, second, totals = bench.lines("plan", "--from-topic")

    assert ("u-1", "event-2", 2, None, "create") == tuple(
        first[name] for name in ("user", "event", "events", "keycloakId", "outcome")
    )
    targets = {change["target"]: change["after"] for change in first["changes"]}
    assert ["Sales"] == targets["attributes.department"]
    assert ("u-2", 1, "create") == (second["user"], second["events"], second["outcome"])
    assert {"totals": {"create": 2}} == totals
    assert [] == bench.calls(*WRITES)
    assert 0 == bench.open_readers


def test_folded_events_that_were_applied_are_unchanged(bench: Bench) -> None:
    """Applied one by one, then folded: nothing to do, and no changes for a script."""
    events = (event_of(), updated("u-1", "event-2", department="Sales"))
    bench.run("apply", "--no-invite", bench.file(*events))
    bench.publish(*events)

    result = bench.run("plan", "--from-topic", "--exit-code", "--format", "json")

    row, totals = (json.loads(line) for line in result.stdout.splitlines())
    assert (0, "unchanged", []) == (result.exit_code, row["outcome"], row["changes"])
    assert {"totals": {"unchanged": 1}} == totals


def test_a_folded_change_shows_against_the_live_realm(bench: Bench) -> None:
    """Now and then, and exit 4 for a script that asked."""
    bench.run("apply", "--no-invite", bench.file(event_of(data={"department": "R&D"})))
    bench.publish(updated("u-1", "event-2", department="Sales"))

    result = bench.run("plan", "--from-topic", "--exit-code")

    assert 4 == result.exit_code
    assert "u-1: update" in result.stdout
    assert all(word in result.stdout for word in ("attributes.department", "R&D", "Sales"))
    assert 0 == bench.run("plan", "--from-topic").exit_code


def test_refused_events_and_conflicts_are_told_apart(bench: Bench) -> None:
    """A refused one has its place in the topic; a conflict is a user's. Both are exit 1, whatever changes."""
    bench.keycloak.add_user({"username": "planted.mail@acme.example", "enabled": True})
    bench.publish(
        event_of("u-3", "event-3", data={"email": ...}),
        event_of(),
        event_of("u-2", "event-2", data=OTHER),
        b"{oops",
    )

    result = bench.run("plan", "--from-topic", "--exit-code", "--format", "json")

    refused, broken, conflict, created, totals = map(json.loads, result.stdout.splitlines())
    assert 1 == result.exit_code
    assert ("user-events/1@0", "refused", "schema-violation", "u-3") == tuple(
        refused[name] for name in ("place", "outcome", "reason", "user")
    )
    assert ("user-events/1@3", "not-json") == (broken["place"], broken["reason"])
    assert ("u-1", "conflict", "conflict") == tuple(
        conflict[name] for name in ("user", "outcome", "reason")
    )
    assert "create" == created["outcome"]
    assert {"totals": {"conflict": 1, "create": 1, "refused": 2}} == totals


def test_a_range_is_read(bench: Bench) -> None:
    """From a time on, and up to another; times and ages."""
    for day in range(3):
        event = event_of(f"u-{day}", f"event-{day}", data={"email": f"user{day}@acme.example"})
        bench.publish(event, timestamp_ms=day * DAY_MS)
    second = ("--since", "1970-01-02T00:00:00Z", "--until", "1970-01-03T00:00:00Z")

    within = bench.lines("plan", "--from-topic", *second)
    recent = bench.run("plan", "--from-topic", "--since", "2 hours", "--summary-only")

    assert ["u-1"] == [row["user"] for row in within[:-1]]
    assert (0, "nothing to plan\n") == (recent.exit_code, recent.stdout)


def test_a_topic_has_a_name(bench: Bench) -> None:
    """The one of the settings, or another; a missing one is a clear error."""
    bench.log["legacy-users"] = []
    bench.publish(event_of(), topic="legacy-users")

    assert "u-1" == bench.lines("plan", "--from-topic=legacy-users")[0]["user"]
    assert 2 == bench.run("plan", "--from-topic", "nowhere").exit_code


def test_files_are_folded_on_request(bench: Bench) -> None:
    """Without it each event is a row; with it each user."""
    file = bench.file(event_of(), updated("u-1", "event-2", department="Sales"), "{oops")

    single = [row["outcome"] for row in bench.lines("plan", file)]
    refused, folded, totals = bench.lines("plan", "--fold", file)

    assert ["create", "refused", "refused"] == single
    assert "events.ndjson:3" == refused["place"]
    assert ("u-1", 2, "create") == (folded["user"], folded["events"], folded["outcome"])
    assert {"totals": {"create": 1, "refused": 1}} == totals


def test_a_summary_is_the_totals_alone(bench: Bench) -> None:
    """For people a line, for programs an object; of single events as of folded users."""
    file = bench.file(event_of(), event_of("u-2", "event-2", type="order.placed"))
    command = (*IGNORING, "plan", "--summary-only")

    assert "1 create, 1 ignored\n" == bench.run(*command, file).stdout
    assert "1 create, 1 ignored\n" == bench.run(*command, "--fold", file).stdout
    assert [{"totals": {"create": 1, "ignored": 1}}] == bench.lines(*command, "--fold", file)


@pytest.mark.parametrize(
    "words",
    [
        (),
        ("nowhere.json",),
        ("--since", "1 day", "events.ndjson"),
        ("events.ndjson", "--from-topic"),
        ("--from-topic", "--since", "yesterday"),
    ],
)
def test_wrong_usage(bench: Bench, words: tuple[str, ...]) -> None:
    """Exit 2 before anything is asked; a missing file is named."""
    bench.file(event_of())

    result = bench.run("plan", *words)

    assert (2, []) == (result.exit_code, bench.keycloak.calls)
    assert set(words) & {"nowhere.json"} <= set(result.stderr.replace(":", " ").split())
