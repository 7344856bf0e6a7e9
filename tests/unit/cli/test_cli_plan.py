import json
from typing import Any

import pytest
from cli_harness import WRITES, Bench, smallest_mapping, updated
from stage_harness import event_of

from keycloak_bridge.domain.errors import KeycloakAuthError, KeycloakUnavailableError

OTHER = {"email": "other@acme.example"}
IGNORING = ("--set", "events.ignore_types=order.placed")


def planned(bench: Bench, event: dict[str, Any], *words: str) -> dict[str, Any]:
    """Return the only row of the plan of one event."""
    (row,) = bench.lines(*words, "plan", bench.file(event))
    return row


LATER: dict[str, Any] = {"event_id": "event-2", "time": "2026-11-02T08:00:00Z"}


@pytest.mark.parametrize(
    ("applied", "event", "settings", "outcome", "reason"),
    [
        (event_of(), event_of(**LATER), (), "unchanged", None),
        (event_of(**LATER), event_of(), (), "skip", "stale"),
        (event_of(), event_of("u-2"), (), "refused", "conflict"),
        (None, event_of(), ("--set", "mapping.file=mapping.toml"), "skip", "out-of-scope"),
        (None, event_of(type="order.placed"), IGNORING, "ignored", "events.ignore_types"),
    ],
    ids=["bookkeeping alone", "older", "name taken", "out of scope", "ignored type"],
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
    (bench.folder / "mapping.toml").write_text(smallest_mapping('when = "data.active == `true`"'))
    if applied is not None:
        bench.run("apply", bench.file(applied))

    row = planned(bench, event, *settings)

    assert (outcome, reason) == (row["outcome"], row.get("reason"))
    if outcome == "unchanged":
        assert ([], bench.keycloak.users()[0]["id"]) == (row["changes"], row["keycloakId"])
    assert applied or not bench.keycloak.calls


def test_every_event_is_a_row(bench: Bench) -> None:
    """Exit 1; where it is and what would come of it, and for people the broken rules and the totals."""
    file = bench.file(event_of(), "{oops", event_of("u-2", "event-2", data={"email": ...}))

    text, (created, broken, refused) = bench.run("plan", file), bench.lines("plan", file)

    assert 1 == text.exit_code
    assert "events.ndjson:1: create user u-1" in text.stdout
    assert "  /data/email: is required (required)\n" in text.stdout
    assert "1 create, 2 refused" == text.stdout.splitlines()[-1]
    assert ["events.ndjson:1", "events.ndjson:2"] == [created["place"], broken["place"]]
    assert {"place", "event", "user", "keycloakId", "outcome", "changes"} == created.keys()
    assert {"place", "outcome", "reason", "message", "violations"} == broken.keys()
    assert ["not-json", "schema-violation"] == [broken["reason"], refused["reason"]]


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
    assert 4 == bench.run("plan", "--from-topic", "--exit-code").exit_code
    assert ([], 0) == (bench.calls(*WRITES), bench.open_readers)


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


@pytest.mark.parametrize("content", ["", " \n\n", "[]"], ids=["empty", "blank", "no elements"])
@pytest.mark.parametrize(
    "command", ["plan", "plan --fold", "plan --summary-only", "apply", "reconcile", "validate"]
)
def test_nothing_is_no_success(bench: Bench, command: str, content: str) -> None:
    """What was to write the events has probably failed: `false | keycloak-bridge apply -`."""
    (bench.folder / "none.json").write_text(content)

    piped = bench.run(*command.split(), "-", stdin=content)
    named = bench.run(*command.split(), "none.json")

    assert [(2, ""), (2, "")] == [(one.exit_code, one.stdout) for one in (piped, named)]
    assert "stdin: contains no event" in piped.stderr
    assert "none.json: contains no event" in named.stderr
    assert [] == bench.calls(*WRITES)
