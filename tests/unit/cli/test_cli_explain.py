import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from cli_harness import Bench
from stage_harness import DEAD_LETTERS, RESULTS, event_of

from keycloak_bridge.domain.errors import EventValidationError
from keycloak_bridge.domain.events import Message, Outcome, Record, Result
from keycloak_bridge.messages.dead_letters import dead_letter_message
from keycloak_bridge.messages.results import result_message

EMAIL = "planted.mail@acme.example"


@pytest.fixture
def bench(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Bench:
    """A realm with the user u-1, and two results about it."""
    made = Bench(tmp_path, monkeypatch)
    made.run("apply", made.file(event_of(data={"department": "R&D"})))
    tell(made, result("event-0", "created", "username", "email", "attributes.department"), day=1)
    tell(made, result("event-1", "updated", "attributes.department"), day=2)
    return made


def result(event_id: str, action: str | None, *changed: str, **facts: Any) -> Result:
    """Return the result of an event of u-1, provisioned unless told otherwise."""
    told: dict[str, Any] = {"outcome": Outcome.PROVISIONED, "user_id": "u-1", **facts}
    return Result(
        action=action,
        event_id=event_id,
        event_type="user.updated",
        schema_id="urn:x:1.0",
        changed=changed,
        mapping="3f1c5b0e9a72",
        **told,
    )


def tell(bench: Bench, told: Result, *, day: int) -> None:
    """Put a result into its topic."""
    origin = Record("user-events", 3, 40 + day, 0, b"u-1", b"{}")
    time = datetime(2026, 11, day, tzinfo=UTC)
    put(bench, result_message(told, topic=RESULTS, time=time, origin=origin))


def put(bench: Bench, message: Message) -> None:
    """Put a message into its topic."""
    log = bench.log[message.topic]
    log.append(Record(message.topic, 0, len(log), 0, message.key, message.value, message.headers))


def explained(bench: Bench, *words: str) -> dict[str, Any]:
    """Return what is told of a user as an object."""
    told: dict[str, Any] = json.loads(bench.run("explain", "--format", "json", *words).stdout)
    return told


def test_each_target_names_the_event_that_set_it_last(bench: Bench) -> None:
    """Id, type, time, record, schema and mapping; what no result speaks of stands without an event."""
    targets = explained(bench, "u-1")["targets"]

    assert {
        "event": "event-1",
        "type": "user.updated",
        "time": "2026-11-02T00:00:00.000000Z",
        "record": "user-events/3@42",
        "schema": "urn:x:1.0",
        "mapping": "3f1c5b0e9a72",
    } == targets["attributes.department"]
    assert "event-0" == targets["email"]["event"]
    assert targets["firstName"]["event"] is None
    assert not [name for name in targets if "bridge" in name]


@pytest.mark.parametrize("word", ["u-1", EMAIL, EMAIL.upper(), "keycloak-id"])
def test_a_user_has_many_names(bench: Bench, word: str) -> None:
    """The id in user management, username or e-mail, the Keycloak id."""
    keycloak_id = bench.keycloak.users()[0]["id"]

    told = explained(bench, keycloak_id if word == "keycloak-id" else word)

    assert ("u-1", keycloak_id) == (told["user"], told["keycloakId"])
    assert [b"u-1"] == bench.keys
    assert 0 == bench.open_readers


def test_the_state_of_the_user_is_told(bench: Bench) -> None:
    """Bookkeeping, invitation, credentials, required actions."""
    told = explained(bench, "u-1")

    assert (True, False, []) == (told["enabled"], told["credentials"], told["requiredActions"])
    assert {"id": "event-1", "time": "2026-11-01T08:00:00.000000Z"} == told["lastEvent"]
    assert ("sent", "event-1") == (told["invitation"]["state"], told["invitation"]["event"])
    assert {"open": 0, "total": 0} == told["deadLetters"]


def test_only_the_last_outcomes_are_shown(bench: Bench) -> None:
    """The oldest first, as many as were asked for."""
    tell(bench, result("event-2", None, outcome=Outcome.SKIPPED, reason="stale"), day=3)

    assert ["event-0", "event-1", "event-2"] == [
        one["event"] for one in explained(bench, "u-1")["outcomes"]
    ]
    assert [("event-2", "skipped", "stale")] == [
        (one["event"], one["outcome"], one["reason"])
        for one in explained(bench, "u-1", "--last", "1")["outcomes"]
    ]
    assert [] == explained(bench, "u-1", "--last", "0")["outcomes"]


def test_values_are_shown_on_request_only(bench: Bench) -> None:
    """Neither names nor addresses nor attributes, unless somebody wants them on the terminal."""
    hidden = bench.run("explain", "u-1").stdout
    shown = bench.run("explain", "u-1", "--show-values").stdout

    assert [False, False] == [text in hidden for text in (EMAIL, "R&D")]
    assert [True, True] == [text in shown for text in (EMAIL, "R&D")]
    assert "value" not in explained(bench, "u-1")["targets"]["email"]


def test_people_read_the_same(bench: Bench) -> None:
    """Facts, a table of targets, a table of outcomes."""
    text = bench.run("explain", "u-1").stdout

    assert "user u-1\n" == text.splitlines(keepends=True)[0]
    for part in (
        "the mail went out, caused by event-1",
        "credentials       none yet",
        "required actions  none",
        "attributes.department",
        "user-events/3@42",
        "provisioned created",
    ):
        assert part in text


def test_dead_letters_of_the_user_are_counted(bench: Bench) -> None:
    """With the command that lists them."""
    for user_id in ("u-1", "u-2"):
        record = Record(
            "user-events", 0, 7, 0, user_id.encode(), json.dumps(event_of(user_id)).encode()
        )
        letter = dead_letter_message(
            record,
            EventValidationError("the data breaks its schema"),
            topic=DEAD_LETTERS,
            stage="schema",
            group="test",
            schema_id=None,
            event_id="event-1",
            time=datetime(2026, 11, 3, tzinfo=UTC),
            bridge_version="0",
        )
        put(bench, letter)

    assert {"open": 1, "total": 1} == explained(bench, "u-1")["deadLetters"]
    assert (
        "keycloak-bridge dead-letters list --all --user u-1" in bench.run("explain", "u-1").stdout
    )


def test_results_may_stand_on_another_partition(bench: Bench) -> None:
    """A topic that got more partitions: where the key's own has nothing, all are read."""
    bench.wrong_partition = True

    assert 2 == len(explained(bench, "u-1")["outcomes"])


def test_a_deleted_user_lives_on_in_its_results(bench: Bench) -> None:
    """What became of it is told although the realm has it no more."""
    bench.keycloak.delete_user(bench.keycloak.users()[0]["id"])
    tell(bench, result("event-2", "deleted"), day=3)

    told = explained(bench, "u-1")

    assert (None, {}, "deleted") == (
        told["keycloakId"],
        told["targets"],
        told["outcomes"][-1]["action"],
    )
    assert "the realm has no such user" in bench.run("explain", "u-1").stdout


def test_a_user_of_the_realm_alone_has_no_events(bench: Bench) -> None:
    """Somebody made it by hand: its state is told, and no topic is read."""
    bench.keycloak.add_user({"username": "admin", "enabled": False})

    told = explained(bench, "admin")

    assert (None, False, [], []) == (told["user"], told["enabled"], told["outcomes"], bench.keys)
    assert told["invitation"] is None
    assert "invitation        none" in bench.run("explain", "admin").stdout


def test_nobody_is_a_sentence(bench: Bench) -> None:
    """Exit 1 for a user that neither the realm nor the topics know."""
    told = bench.run("explain", "nobody")

    assert (1, "", True) == (told.exit_code, told.stdout, "know such a user" in told.stderr)
