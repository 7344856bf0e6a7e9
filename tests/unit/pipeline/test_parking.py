"""An event that may depend on a dead letter of its user is parked, unless the settings say otherwise."""

import json
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

import pytest
from stage_harness import EVENTS, Flow, event_of, record_of

from keycloak_bridge.delivery.stage_context import DeadLetteredUsers
from keycloak_bridge.domain.errors import HoldError, KeycloakUnavailableError
from keycloak_bridge.domain.events import USER_DELETED, USER_DISABLED, USER_UPDATED, TopicPartition
from keycloak_bridge.domain.ports import Handled

HERE = TopicPartition(EVENTS, 3)
REPLAYED = (("kb-replay-of", b"0/7"),)


def start(after_dead_letter: str = "park", **more: Any) -> Flow:
    """Begin a flow with a policy about events after a dead letter, over a realm that has the users."""
    flow = Flow(after_dead_letter=after_dead_letter, **more)
    for user_id in ("u-1", "u-2"):
        attributes = {"userId": [user_id]}
        flow.keycloak.add_user({"username": user_id, "enabled": True, "attributes": attributes})
    return flow


def lose(flow: Flow, user_id: str = "u-1", *, offset: int = 41, **record: Any) -> None:
    """Let an event of the user become a dead letter."""
    event = event_of(user_id, f"lost-{user_id}", data={"email": ...})
    flow.handle(event, offset=offset, **record)


def move(flow: Flow, user_id: str = "u-1", event_id: str = "moved-1", **record: Any) -> Handled:
    """Handle an event that says only what changed."""
    event = event_of(
        user_id, event_id, type=USER_UPDATED, data={"email": f"{user_id}@acme.example"}
    )
    return flow.handle(event, **record)


def codes(flow: Flow) -> list[str]:
    """Return the code of every dead letter."""
    return [code for _, code in flow.reasons]


Step = Callable[[Flow], object]
CASES: dict[str, tuple[str, list[Step], list[str], bool]] = {
    # what follows a dead letter, the codes of the dead letters after it, and whether the user is still incomplete
    "a later event": ("park", [move], ["parked"], True),
    "every later event": (
        "park",
        [move, partial(move, event_id="moved-2", offset=43)],
        ["parked"] * 2,
        True,
    ),
    "another user": ("park", [partial(move, user_id="u-2")], [], True),
    "a complete event and a later one": (
        "park",
        [lambda flow: flow.handle(event_of()), move],
        [],
        False,
    ),
    "its replay and a later one": (
        "park",
        [partial(move, headers=REPLAYED, confirmed=True), partial(move, event_id="moved-2")],
        [],
        False,
    ),
    "its replay, which fails again, and a later one": (
        "park",
        [partial(lose, headers=REPLAYED, offset=43, confirmed=True), partial(move, offset=44)],
        ["schema-violation", "parked"],
        True,
    ),
    "a record that says it is a replay": (
        "park",
        [partial(move, headers=REPLAYED)],
        ["parked"],
        True,
    ),
    "a replay whose mark is another record's": (
        "park",
        [
            partial(move, headers=REPLAYED, confirmed=True, event_id="moved-1"),
            partial(lose, offset=43),
            partial(move, headers=REPLAYED, event_id="moved-2"),
        ],
        ["schema-violation", "parked"],
        True,
    ),
    "a later event, where events do not depend on each other": ("continue", [move], [], False),
}


@pytest.mark.parametrize(("policy", "steps", "expected", "lost"), CASES.values(), ids=CASES)
def test_what_follows_a_dead_letter(
    policy: str, steps: list[Step], expected: list[str], lost: bool
) -> None:
    """Later events of the user are parked until a complete event, or a replay of the dead letter, succeeds."""
    flow = start(policy)
    lose(flow)
    for step in steps:
        step(flow)

    assert ["schema-violation", *expected] == codes(flow)
    done = len(steps) - len(expected)
    assert ["provisioned"] * done == [
        one["outcome"] for one in flow.results if one["outcome"] != "rejected"
    ]
    assert done > 0 or [] == flow.keycloak.calls
    assert lost is flow.lost.knows(HERE, b"u-1")


def test_a_parked_event_says_what_to_do() -> None:
    """The dead letter is the event itself, with its own id, and names the order of replays."""
    flow = start()
    lose(flow)
    move(flow)

    letter, reason = flow.letters[-1]
    assert ("moved-1", "decode") == (reason["event-id"], reason["stage"])
    assert "replay the user's earlier dead letter" in reason["action"]
    assert USER_UPDATED == json.loads(letter.value or b"")["type"]


def test_a_disabled_user_is_locked_out_at_once() -> None:
    """Even if an earlier event failed; what may depend on that one is still parked afterwards."""
    flow = start()
    flow.handle(event_of("u-1", "created"), offset=40)
    lose(flow)

    flow.handle(event_of("u-1", "off", type=USER_DISABLED, data={"reason": "left"}), offset=42)
    move(flow, offset=43)

    assert flow.keycloak.users()[0]["enabled"] is False
    assert ["schema-violation", "parked"] == codes(flow)


def test_a_complete_update_is_not_parked() -> None:
    """Nor is what follows it; an update that is not marked complete is parked."""
    flow = start()
    flow.handle(event_of())
    lose(flow)
    update = event_of(event_id="update", type=USER_UPDATED, time="2026-11-02T08:00:00Z")
    flow.handle(update, offset=43)
    whole = {**update, "id": "whole", "data": {**update["data"], "complete": True}}
    flow.handle(whole, offset=44)
    flow.handle({**update, "id": "again", "time": "2026-11-03T08:00:00Z"}, offset=45)

    assert ["schema-violation", "parked"] == codes(flow)
    assert ["whole", "again"] == [
        one["eventId"] for one in flow.results[-2:] if one["outcome"] == "provisioned"
    ]


def test_stop_engages_the_brake_until_the_release() -> None:
    """The event is held and nothing is published; after the release it continues, since a replay would come after it.

    The next user's dead letter stops the flow again.
    """
    flow = start("stop")
    lose(flow)
    with pytest.raises(HoldError) as caught:
        move(flow)
    assert "brake" == caught.value.code
    assert "follows one of the same user" in str(flow.brake.reason)
    assert (1, []) == (len(flow.results), flow.keycloak.calls)
    flow.brake.release()

    move(flow)

    assert ["schema-violation"] == codes(flow)
    assert not flow.lost.knows(HERE, b"u-1")
    lose(flow, "u-2")
    with pytest.raises(HoldError):
        move(flow, "u-2", "moved-3", offset=44)
    assert flow.brake.reason is not None


def test_a_user_is_found_by_the_subject_where_there_is_no_key() -> None:
    """Producers need not set keys."""
    flow = start()
    lost, later = event_of(data={"email": ...}), event_of(type=USER_UPDATED)
    flow.settle(flow.provision.handle(replace(record_of(lost), key=None)))

    flow.settle(flow.provision.handle(replace(record_of(later, offset=43), key=None)))

    assert ["schema-violation", "parked"] == codes(flow)


def test_records_of_unknown_users_are_not_remembered() -> None:
    """A flood of them must not displace the known ones."""
    flow = start(lost=DeadLetteredUsers(limit=1))
    lose(flow)
    for offset in range(5):
        flow.handle(b"{oops", offset=offset)

    assert flow.lost.knows(HERE, b"u-1")


def test_what_the_brake_holds_is_no_dead_letter_yet() -> None:
    """Later events of the user are not parked."""
    flow = start()
    flow.brake.engage("by the operator")

    with pytest.raises(HoldError):
        lose(flow)

    assert not flow.lost.knows(HERE, b"u-1")


ATTEMPTS = ("kb-dlq-attempts", b"7")
CLAIMS = (
    ATTEMPTS,
    ("kb-dlq-code", b"no-code"),
    ("kb-replay-of", b"0/7"),
    ("kb-replay-origin", b"0/0"),
    ("kb-replay-invite", b"none"),
)


@pytest.mark.parametrize("confirmed", [False, True])
def test_headers_of_the_bridge_are_believed_of_a_replay_only(
    confirmed: bool, caplog: pytest.LogCaptureFixture
) -> None:
    """Any producer can write them: without its mark, a record is new, and its mail is due."""
    flow = Flow()
    flow.handle(event_of("u-1"), headers=CLAIMS, confirmed=confirmed)
    lose(flow, "u-2", headers=CLAIMS, confirmed=confirmed)

    ((letter, reason),) = flow.letters
    kept = [name for name, _ in letter.headers if name.startswith("kb-replay-")]
    said = [one for one in caplog.records if one.message.startswith("its headers say")]
    assert (("8", 3, 0) if confirmed else ("1", 0, 2)) == (
        reason["attempts"],
        len(kept),
        len(said),
    )
    assert (0 if confirmed else 1) == len(flow.invitations)


def test_a_record_given_up_is_no_replay_because_it_says_so() -> None:
    """In both stages."""
    flow = Flow()
    error = KeycloakUnavailableError("it fails")
    for offset, give_up in enumerate((flow.provision.give_up, flow.invite.give_up)):
        record = record_of(event_of(), offset=offset, headers=CLAIMS)
        flow.settle(give_up(record, error))
    flow.handle_invitation(record_of({"no": "invitation"}, headers=(ATTEMPTS,)))

    assert ["1"] * 3 == [reason["attempts"] for _, reason in flow.letters]


@pytest.mark.parametrize(
    ("after_dead_letter", "left"),
    [("park", ["conflict", "parked"]), ("continue", ["conflict"])],
)
def test_a_deletion_stays_behind_the_dead_letter_that_creates_its_user(
    after_dead_letter: str, left: list[str]
) -> None:
    """A replay in order leaves nobody in; were the deletion only skipped, the replay would bring the user to life."""
    flow = Flow(after_dead_letter=after_dead_letter)
    other = flow.keycloak.add_user(
        {"username": "eve", "email": "ada@acme.example", "enabled": True}
    )
    creating = event_of("u-1", "e-1", data={"email": "ada@acme.example"})
    deleting = event_of("u-1", "e-2", type=USER_DELETED, time="2026-11-02T08:00:00Z")
    flow.handle(creating, offset=41)
    flow.handle(deleting)
    flow.handle(event_of("u-2", "e-3", type=USER_DELETED), offset=43)
    assert left == codes(flow)

    flow.keycloak.delete_user(other)
    for offset, event in enumerate([creating, deleting][: len(left)], 50):
        flow.handle(event, offset=offset, headers=REPLAYED, confirmed=True)
    enabled = [user["enabled"] for user in flow.keycloak.users()]
    assert enabled == [after_dead_letter == "continue"]
