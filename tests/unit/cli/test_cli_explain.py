import json
from datetime import UTC, datetime
from typing import Any

import pytest
from cli_harness import Bench, updated
from dead_letter_cases import letter_record, stored
from stage_harness import DEAD_LETTERS, RESULTS, event_of

from keycloak_bridge.domain.events import Outcome, Record, Result
from keycloak_bridge.domain.users import UserRepresentation
from keycloak_bridge.messages.results import result_message

EMAIL = "planted.mail@acme.example"


@pytest.fixture
def bench(bench: Bench) -> Bench:
    """A realm with the user u-1, and two results about it."""
    bench.run("apply", bench.file(event_of(data={"department": "R&D"})))
    publish_result(
        bench, 1, "event-0", "created", changed=("username", "email", "attributes.department")
    )
    publish_result(bench, 2, "event-1", "updated", changed=("attributes.department",))
    return bench


def publish_result(bench: Bench, day: int, event_id: str, action: str | None, **facts: Any) -> None:
    """Publish the result of an event of u-1, provisioned unless `facts` say otherwise."""
    result = Result(
        **{"outcome": Outcome.PROVISIONED, **facts},
        action=action,
        event_id=event_id,
        event_type="user.updated",
        user_id="u-1",
        schema_id="urn:x:1.0",
        mapping="3f1c5b0e9a72",
    )
    origin = Record("user-events", 3, 40 + day, 0, b"u-1", b"{}")
    time = datetime(2026, 11, day, tzinfo=UTC)
    message = result_message(result, topic=RESULTS, time=time, origin=origin)
    bench.log[RESULTS].append(stored(message, (0, day)))


def explained(bench: Bench, *words: str) -> dict[str, Any]:
    """Return the explanation of a user as an object."""
    explanation: dict[str, Any] = json.loads(
        bench.run("explain", "--format", "json", *words).stdout
    )
    return explanation


@pytest.mark.parametrize("word", ["u-1", EMAIL, EMAIL.upper(), "keycloak-id"])
def test_a_user_has_many_names(bench: Bench, word: str) -> None:
    """The id in user management, username or e-mail, the Keycloak id."""
    keycloak_id = bench.keycloak.users()[0]["id"]

    found = explained(bench, keycloak_id if word == "keycloak-id" else word)

    assert ("u-1", keycloak_id) == (found["user"], found["keycloakId"])
    assert [b"u-1"] == bench.keys
    assert 0 == bench.open_readers


@pytest.mark.parametrize("word", ["U-1", "u-1"])
def test_a_user_whose_username_is_its_id_has_both_names(bench: Bench, word: str) -> None:
    """Keycloak lower-cases the username, which is not another user's id for that."""
    (bench.folder / "mapping.toml").write_text(
        'matching = ["username"]\n[user]\nusername = "data.userId"\n'
    )
    body = UserRepresentation(username="u-1", attributes={"bridgeUserId": ["U-1"]}, enabled=True)
    bench.keycloak.delete_user(bench.keycloak.users()[0]["id"])
    keycloak_id = bench.keycloak.add_user(body)

    found = explained(bench, word, "--set", "mapping.file=mapping.toml")

    assert ("U-1", keycloak_id) == (found["user"], found["keycloakId"])


def test_only_the_last_outcomes_are_shown(bench: Bench) -> None:
    """The oldest first, as many as were asked for."""
    publish_result(bench, 3, "event-2", None, outcome=Outcome.SKIPPED, reason="stale")

    assert ["event-0", "event-1", "event-2"] == [
        one["event"] for one in explained(bench, "u-1")["outcomes"]
    ]
    assert [("event-2", "skipped", "stale")] == [
        (one["event"], one["outcome"], one["reason"])
        for one in explained(bench, "u-1", "--last", "1")["outcomes"]
    ]
    assert [] == explained(bench, "u-1", "--last", "0")["outcomes"]


def test_values_are_shown_on_request_only(bench: Bench) -> None:
    """Neither names nor addresses nor attributes without --show-values."""
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
        "the mail was handed to Keycloak, caused by event-1",
        "credentials       none yet",
        "required actions  none",
        "attributes.department",
        "user-events/3@42",
        "provisioned created",
    ):
        assert part in text


def test_the_time_of_the_last_event_is_one(bench: Bench) -> None:
    """Not what the bridge remembers beside it of who may log in."""
    event = {**updated("u-1", "event-2"), "type": "user.disabled"}
    bench.run("apply", bench.file(event))

    assert {"id": "event-2", "time": "2026-11-02T08:00:00.000000Z"} == explained(bench, "u-1")[
        "lastEvent"
    ]


def test_dead_letters_of_the_user_are_counted(bench: Bench) -> None:
    """With the command that lists them."""
    for offset, user_id in enumerate(("u-1", "u-2")):
        bench.log[DEAD_LETTERS].append(letter_record((1, offset), event=event_of(user_id)))

    assert {"open": 1, "total": 1} == explained(bench, "u-1")["deadLetters"]
    assert (
        "keycloak-bridge dead-letters list --all --user u-1" in bench.run("explain", "u-1").stdout
    )


def test_results_may_stand_on_another_partition(bench: Bench) -> None:
    """A topic that got more partitions: where the key's own has nothing, all are read."""
    bench.wrong_partition = True

    assert 2 == len(explained(bench, "u-1")["outcomes"])


def test_a_deleted_user_lives_on_in_its_results(bench: Bench) -> None:
    """Its outcomes are shown although the realm has it no more."""
    bench.keycloak.delete_user(bench.keycloak.users()[0]["id"])
    publish_result(bench, 3, "event-2", "deleted")

    found = explained(bench, "u-1")

    assert (None, {}, "deleted") == (
        found["keycloakId"],
        found["targets"],
        found["outcomes"][-1]["action"],
    )
    assert "the realm has no such user" in bench.run("explain", "u-1").stdout


def test_a_user_of_the_realm_alone_has_no_events(bench: Bench) -> None:
    """An administrator made it: its state is shown, and no topic is read."""
    bench.keycloak.add_user({"username": "admin", "enabled": False})

    found = explained(bench, "admin")

    assert (None, False, [], []) == (found["user"], found["enabled"], found["outcomes"], bench.keys)
    assert found["invitation"] is None
    assert "invitation        none" in bench.run("explain", "admin").stdout


def test_users_that_share_an_address_are_listed_by_id(bench: Bench) -> None:
    """Exit 1, and what to pass instead."""
    family = "family@acme.example"
    with bench.keycloak.addresses_shared():
        for name, attributes in (("mother", {"userId": ["u-2"]}), ("father", {})):
            bench.keycloak.add_user({"username": name, "email": family, "attributes": attributes})
    ids = {user["id"] for user in bench.keycloak.users() if user["email"] == family}

    shown = bench.run("explain", family)

    assert (1, "") == (shown.exit_code, shown.stdout)
    assert "2 users of the realm have this; pass the Keycloak id" in shown.stderr
    assert ids == {line.split()[0] for line in shown.stderr.splitlines()[1:]}
    assert all(one in shown.stderr for one in ("(id u-2)", "(id none in user management)"))
    assert family not in shown.stderr
    assert ids == {explained(bench, one)["keycloakId"] for one in ids}


def test_an_unknown_user_is_a_clear_error(bench: Bench) -> None:
    """Exit 1 for a user that neither the realm nor the topics know."""
    found = bench.run("explain", "nobody")

    assert (1, "", True) == (found.exit_code, found.stdout, "know such a user" in found.stderr)
