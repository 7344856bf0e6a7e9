import json
from pathlib import Path

import pytest
from cli_harness import Bench
from stage_harness import event_of

from keycloak_bridge.domain.errors import KeycloakAuthError, KeycloakUnavailableError

WRITES = ("create", "update", "join_group", "grant_realm_roles", "execute_actions_email")


@pytest.fixture
def bench(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Bench:
    """An empty realm."""
    return Bench(tmp_path, monkeypatch)


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

    result = bench.run("plan", "--format", "json", bench.file(later))

    told = json.loads(result.stdout)
    assert ("update", "u-1") == (told["outcome"], told["user"])
    assert [
        {
            "operation": "update",
            "target": "attributes.department",
            "before": ["R&D"],
            "after": ["Sales"],
        }
    ] == told["changes"]
    assert [] == bench.calls(*WRITES)


def test_the_same_event_again_changes_nothing(bench: Bench) -> None:
    """What was applied is what is planned: nothing."""
    file = bench.file(event_of())
    bench.run("apply", file)

    told = json.loads(bench.run("plan", "--format", "json", file).stdout)

    assert ("unchanged", []) == (told["outcome"], told["changes"])
    assert bench.keycloak.users()[0]["id"] == told["keycloakId"]


def test_a_later_event_without_changes_is_unchanged_for_people(bench: Bench) -> None:
    """Bookkeeping alone is nothing that anybody plans for."""
    bench.run("apply", bench.file(event_of()))
    later = event_of(event_id="event-2", time="2026-11-02T08:00:00Z")

    told = json.loads(bench.run("plan", "--format", "json", bench.file(later)).stdout)

    assert ("unchanged", []) == (told["outcome"], told["changes"])


def test_an_older_event_is_skipped(bench: Bench) -> None:
    """The reason is the one of the results topic."""
    bench.run("apply", bench.file(event_of(event_id="event-2", time="2026-11-02T08:00:00Z")))

    told = json.loads(bench.run("plan", "--format", "json", bench.file(event_of())).stdout)

    assert ("skip", "stale") == (told["outcome"], told["reason"])


def test_json_is_one_object_a_line(bench: Bench) -> None:
    """Programs read line by line; each says where its event stood and what would come of it."""
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
    """Exit 1; pointer, rule and keyword of each violation, and a sum at the end."""
    file = bench.file(event_of(data={"email": ...}), event_of("u-2", "event-2"))

    result = bench.run("plan", file)

    assert 1 == result.exit_code
    assert "events.ndjson:1: refused (schema-violation)" in result.stdout
    assert "/data/email: is required (required)" in result.stdout
    assert "1 create, 1 refused" == result.stdout.splitlines()[-1]


def test_a_conflict_is_refused(bench: Bench) -> None:
    """Somebody else holds the name."""
    bench.keycloak.add_user({"username": "planted.mail@acme.example", "enabled": True})

    told = json.loads(bench.run("plan", "--format", "json", bench.file(event_of())).stdout)

    assert ("refused", "conflict") == (told["outcome"], told["reason"])


def test_an_event_out_of_scope_is_skipped(bench: Bench) -> None:
    """The mapping's `when` decides before Keycloak is asked."""
    mapping = bench.folder / "mapping.toml"
    mapping.write_text(
        'matching = ["attributes.userId"]\nwhen = "data.active == `true`"\n'
        '[user]\nusername = "data.email"\n[user.attributes]\nuserId = "data.userId"\n'
    )

    result = bench.run(
        "--set", f"mapping.file={mapping}", "plan", "--format", "json", bench.file(event_of())
    )

    told = json.loads(result.stdout)
    assert ("skip", "out-of-scope") == (told["outcome"], told["reason"])
    assert [] == bench.keycloak.calls


def test_an_ignored_type_is_ignored(bench: Bench) -> None:
    """As `run` does it: no schema and no Keycloak is asked, and nothing is refused."""
    order = event_of(type="order.placed", data={"email": ...})

    result = bench.run(
        *("--set", "events.ignore_types=order.placed", "plan", bench.file(order, order))
    )

    assert (0, []) == (result.exit_code, bench.keycloak.calls)
    assert "events.ndjson:1: ignored user u-1 (events.ignore_types)" in result.stdout
    assert "2 ignored" == result.stdout.splitlines()[-1]


def test_standard_input_is_a_file_too(bench: Bench) -> None:
    """`-` reads what is piped in."""
    result = bench.run("plan", "-", stdin=json.dumps(event_of()))

    assert 0 == result.exit_code
    assert "stdin:1: create user u-1" in result.stdout


@pytest.mark.parametrize(
    ("error", "code"), [(KeycloakUnavailableError("away"), 3), (KeycloakAuthError("no"), 2)]
)
def test_a_keycloak_that_does_not_answer_is_a_sentence(
    bench: Bench, error: Exception, code: int
) -> None:
    """What keeps every event from being planned ends the command."""
    bench.keycloak.fail("find", error)  # type: ignore[arg-type]

    result = bench.run("plan", bench.file(event_of(), event_of()))

    assert code == result.exit_code
    assert f"error: {error}" in result.stderr


def test_no_file_is_a_matter_of_usage(bench: Bench) -> None:
    """Exit 2 for a missing argument and for a missing file, each with a sentence."""
    assert [2, 2] == [
        bench.run("plan").exit_code,
        bench.run("plan", "nowhere.json").exit_code,
    ]
    assert "nowhere.json" in bench.run("plan", "nowhere.json").stderr


def test_help_teaches(bench: Bench) -> None:
    """The forms of a file, that nothing is written, and an example."""
    text = " ".join(bench.run("plan", "--help").stdout.split())

    assert all(part in text for part in ("NDJSON", "write nothing", "--format", "Examples:"))
