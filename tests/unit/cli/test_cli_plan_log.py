import json
from pathlib import Path
from typing import Any

import pytest
from cli_harness import Bench
from stage_harness import event_of

WRITES = ("create", "update", "join", "leave", "delete", "execute_actions_email")
DAY_MS = 86_400_000


@pytest.fixture
def bench(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Bench:
    """An empty realm and empty topics."""
    return Bench(tmp_path, monkeypatch)


def updated(user_id: str, event_id: str, **data: Any) -> dict[str, Any]:
    """Return a later event that says a part of the user."""
    event = event_of(user_id, event_id, type="user.updated", time="2026-11-02T08:00:00Z")
    return {**event, "data": {"userId": user_id, **data}}


def test_the_events_of_a_user_are_one_row(bench: Bench) -> None:
    """What they come to is planned, once, and the totals stand in the last line."""
    bench.publish(
        event_of(data={"department": "R&D"}),
        updated("u-1", "event-2", department="Sales"),
        event_of("u-2", "event-3", data={"email": "other@acme.example"}),
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


def test_a_user_as_it_shall_be_is_unchanged(bench: Bench) -> None:
    """Applied one by one, then folded: nothing to do, and nothing to tell a script of."""
    events = (event_of(), updated("u-1", "event-2", department="Sales"))
    bench.run("apply", "--no-invite", bench.file(*events))
    bench.publish(*events)

    result = bench.run("plan", "--from-topic", "--exit-code", "--format", "json")

    row, totals = (json.loads(line) for line in result.stdout.splitlines())
    assert (0, "unchanged", []) == (result.exit_code, row["outcome"], row["changes"])
    assert {"totals": {"unchanged": 1}} == totals


def test_a_change_shows_against_the_live_realm(bench: Bench) -> None:
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
        event_of("u-2", "event-2", data={"email": "other@acme.example"}),
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
        email = f"user{day}@acme.example"
        event = event_of(f"u-{day}", f"event-{day}", data={"email": email})
        bench.publish(event, timestamp_ms=day * DAY_MS)
    second = ("--since", "1970-01-02T00:00:00Z", "--until", "1970-01-03T00:00:00Z")

    within = bench.lines("plan", "--from-topic", *second)
    recent = bench.run("plan", "--from-topic", "--since", "2 hours", "--summary-only")

    assert ["u-1"] == [row["user"] for row in within[:-1]]
    assert (0, "nothing to plan\n") == (recent.exit_code, recent.stdout)


def test_a_topic_has_a_name(bench: Bench) -> None:
    """The one of the settings, or another; one that is not there is a sentence."""
    bench.log["legacy-users"] = []
    bench.publish(event_of(), topic="legacy-users")

    assert "u-1" == bench.lines("plan", "--from-topic=legacy-users")[0]["user"]
    assert 2 == bench.run("plan", "--from-topic", "nowhere").exit_code


def test_files_are_folded_where_that_is_wished(bench: Bench) -> None:
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
    ignoring = ("--set", "events.ignore_types=order.placed", "plan", "--summary-only")

    assert "1 create, 1 ignored\n" == bench.run(*ignoring, file).stdout
    assert "1 create, 1 ignored\n" == bench.run(*ignoring, "--fold", file).stdout
    assert [{"totals": {"create": 1, "ignored": 1}}] == bench.lines(*ignoring, "--fold", file)


@pytest.mark.parametrize(
    "words",
    [
        ("--since", "1 day", "events.ndjson"),
        ("events.ndjson", "--from-topic"),
        ("--from-topic", "--since", "yesterday"),
    ],
)
def test_what_does_not_go_together_is_a_matter_of_usage(
    bench: Bench, words: tuple[str, ...]
) -> None:
    """Exit 2 before anything is asked."""
    bench.file(event_of())

    assert 2 == bench.run("plan", *words).exit_code
    assert [] == bench.keycloak.calls
