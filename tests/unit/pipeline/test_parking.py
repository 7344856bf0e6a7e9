"""An event that may build on a lost one of its user does not go on by itself."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from stage_harness import EVENTS, Flow, event_of, record_of

from keycloak_bridge.app.interpretation import Interpretation
from keycloak_bridge.delivery.dead_letters import DeadLetteredUsers
from keycloak_bridge.domain.errors import HoldError, KeycloakRejectedError
from keycloak_bridge.domain.events import USER_CREATED, USER_DISABLED, TopicPartition, UserEvent
from keycloak_bridge.domain.ports import Handled
from keycloak_bridge.domain.users import DesiredUser, OutOfScope
from keycloak_bridge.mapping.lifecycle import Mappings
from keycloak_bridge.settings.model import SchemasSettings, Settings

HERE = TopicPartition(EVENTS, 3)
MOVED = "user.moved"
REPLAYED = (("kb-replay-of", b"0/7"),)


class EveryType:
    """A mapping that serves any type of event, as one of a user's own might."""

    def __init__(self, mapping: Mappings) -> None:
        self._mapping = mapping

    def apply(self, event: UserEvent) -> DesiredUser | OutOfScope:
        """Return what the mapping makes of it, of a type of one's own as of a created user with this data."""
        own = event.type == MOVED
        return self._mapping.apply(replace(event, type=USER_CREATED) if own else event)

    def fingerprint_of(self, event: UserEvent) -> str:
        """Return what the mapping itself says."""
        return self._mapping.fingerprint_of(event)


@pytest.fixture(scope="module")
def known(tmp_path_factory: pytest.TempPathFactory) -> Interpretation:
    """The shipped schemas, and a type of the user's own that does not say everything about its user."""
    folder: Path = tmp_path_factory.mktemp("schemas")
    (folder / MOVED).mkdir()
    schema = {"$id": "urn:acme:user.moved:1.0", "type": "object", "required": ["email"]}
    (folder / MOVED / "1.0.json").write_text(json.dumps(schema))
    return Interpretation(Settings(schemas=SchemasSettings(folders=(folder,))))


@pytest.fixture
def start(known: Interpretation) -> Callable[..., Flow]:
    """Begin a flow with a policy about events after a dead letter."""

    def begin(after_dead_letter: str = "park", **more: Any) -> Flow:
        return Flow(
            after_dead_letter=after_dead_letter,
            known=known,
            mapping=EveryType(known.mapping),
            **more,
        )

    return begin


def lose(flow: Flow, user_id: str = "u-1") -> None:
    """Let an event of the user become a dead letter."""
    flow.handle(event_of(user_id, f"lost-{user_id}", data={"email": ...}), offset=41)


def move(flow: Flow, user_id: str = "u-1", event_id: str = "moved-1", **record: Any) -> Handled:
    """Handle an event that says only what changed."""
    event = event_of(user_id, event_id, type=MOVED, data={"email": f"{user_id}@acme.example"})
    return flow.handle(event, **record)


def codes(flow: Flow) -> list[str]:
    """Return the code of every dead letter."""
    return [code for _, code in flow.reasons]


def test_a_later_event_of_a_lost_user_is_parked(start: Callable[..., Flow]) -> None:
    """It waits among the dead letters beside the one that was lost; Keycloak is not touched."""
    flow = start()
    lose(flow)

    move(flow)

    assert ["schema-violation", "parked"] == codes(flow)
    assert [] == flow.keycloak.calls
    assert ["rejected", "rejected"] == [result["outcome"] for result in flow.results]


def test_whoever_is_to_be_locked_out_is(start: Callable[..., Flow]) -> None:
    """Offboarding waits for nothing, and makes nothing whole: what may build on the lost event is parked after it too."""
    flow = start()
    flow.handle(event_of("u-1", "created"), offset=40)
    lose(flow)

    flow.handle(event_of("u-1", "off", type=USER_DISABLED, data={"reason": "left"}), offset=42)
    move(flow, offset=43)

    (user,) = flow.keycloak.users()
    assert user["enabled"] is False
    assert ["schema-violation", "parked"] == codes(flow)


def test_a_parked_event_says_what_to_do(start: Callable[..., Flow]) -> None:
    """It is itself, with its own id, and names the order of replays."""
    flow = start()
    lose(flow)
    move(flow)

    letter, reason = flow.letters[-1]
    assert ("moved-1", "decode") == (reason["event-id"], reason["stage"])
    assert "replay the user's earlier dead letter" in reason["action"]
    assert MOVED == json.loads(letter.value or b"")["type"]


def test_parking_goes_on_until_the_user_is_whole(start: Callable[..., Flow]) -> None:
    """An event that was parked is lost as well."""
    flow = start()
    lose(flow)
    for number in range(3):
        move(flow, event_id=f"moved-{number}", offset=42 + number)

    assert ["schema-violation", *["parked"] * 3] == codes(flow)


def test_other_users_go_on(start: Callable[..., Flow]) -> None:
    """One user's loss is nobody else's."""
    flow = start()
    lose(flow)

    move(flow, "u-2")

    assert ["schema-violation"] == codes(flow)
    assert ["u-2"] == [user["attributes"]["userId"][0] for user in flow.keycloak.users()]


def test_a_complete_event_goes_on_and_makes_the_user_whole(start: Callable[..., Flow]) -> None:
    """`user.created` says everything, so that nothing is missing after it."""
    flow = start()
    lose(flow)

    flow.handle(event_of())
    move(flow)

    assert ["schema-violation"] == codes(flow)
    assert ["rejected", "provisioned", "provisioned"] == [one["outcome"] for one in flow.results]
    assert not flow.lost.knows(HERE, b"u-1")


def test_a_complete_update_goes_on_and_makes_the_user_whole(start: Callable[..., Flow]) -> None:
    """It says everything as well; one that does not say so is parked."""
    flow = start()
    flow.handle(event_of())
    lose(flow)
    update = event_of(event_id="update", type="user.updated", time="2026-11-02T08:00:00Z")
    flow.handle(update, offset=43)
    whole = {**update, "id": "whole", "data": {**update["data"], "complete": True}}
    flow.handle(whole, offset=44)
    flow.handle({**update, "id": "again", "time": "2026-11-03T08:00:00Z"}, offset=45)

    assert ["schema-violation", "parked"] == codes(flow)
    assert ["whole", "again"] == [
        one["eventId"] for one in flow.results[-2:] if one["outcome"] == "provisioned"
    ]


def test_a_replay_goes_through_and_makes_the_user_whole(start: Callable[..., Flow]) -> None:
    """It is the lost event itself, which nothing else can bring."""
    flow = start()
    lose(flow)

    move(flow, headers=REPLAYED)
    move(flow, event_id="moved-2")

    assert ["schema-violation"] == codes(flow)
    assert not flow.lost.knows(HERE, b"u-1")


def test_a_replay_that_fails_again_is_lost_again(start: Callable[..., Flow]) -> None:
    """Its failure is its own, and what comes after it is parked."""
    flow = start()
    lose(flow)
    flow.handle(event_of(type=MOVED, data={"email": ...}), headers=REPLAYED, offset=43)

    move(flow)

    assert ["schema-violation", "schema-violation", "parked"] == codes(flow)


def test_continue_parks_nothing(start: Callable[..., Flow]) -> None:
    """Where events do not build on each other."""
    flow = start("continue")
    lose(flow)

    move(flow)

    assert ["schema-violation"] == codes(flow)
    assert ["rejected", "provisioned"] == [result["outcome"] for result in flow.results]


def test_stop_engages_the_brake(start: Callable[..., Flow]) -> None:
    """The event is held and nothing is told of it; the reason stands in the brake."""
    flow = start("stop")
    lose(flow)

    with pytest.raises(HoldError) as caught:
        move(flow)

    assert "brake" == caught.value.code
    assert "follows one of the same user" in str(flow.brake.reason)
    assert (1, []) == (len(flow.results), flow.keycloak.calls)


def test_a_release_lets_the_event_go_on_that_stopped_the_flow(start: Callable[..., Flow]) -> None:
    """A replay of the lost one would stand behind it for ever; the next user's loss stops the flow again."""
    flow = start("stop")
    lose(flow)
    with pytest.raises(HoldError):
        move(flow)
    flow.brake.release()

    move(flow)

    assert ["schema-violation"] == codes(flow)
    assert not flow.lost.knows(HERE, b"u-1")
    lose(flow, "u-2")
    with pytest.raises(HoldError):
        move(flow, "u-2", "moved-3", offset=44)
    assert flow.brake.reason is not None


def test_a_user_is_found_by_the_subject_where_there_is_no_key(start: Callable[..., Flow]) -> None:
    """Producers need not set keys."""
    flow = start()
    lost, later = event_of(data={"email": ...}), event_of(type=MOVED)
    flow.settle(flow.provision.handle(replace(record_of(lost), key=None)))

    flow.settle(flow.provision.handle(replace(record_of(later, offset=43), key=None)))

    assert ["schema-violation", "parked"] == codes(flow)


def test_a_loss_travels_with_the_partition(start: Callable[..., Flow]) -> None:
    """The next owner parks what the one before would have parked, and no other partition knows of it."""
    before = start()
    lose(before)
    lost = DeadLetteredUsers()
    lost.take_over(HERE, before.lost.of(HERE))
    after = start(lost=lost)

    move(after)

    assert ["parked"] == codes(after)
    assert () == before.lost.of(TopicPartition(EVENTS, 0))


def test_records_of_nobody_leave_no_trace(start: Callable[..., Flow]) -> None:
    """A flood of what names no user must not push the lost users out."""
    flow = start(lost=DeadLetteredUsers(limit=1))
    lose(flow)
    for offset in range(5):
        flow.handle(b"{oops", offset=offset)

    assert flow.lost.knows(HERE, b"u-1")


def test_what_the_brake_holds_back_is_not_lost_yet(start: Callable[..., Flow]) -> None:
    """Only a dead letter is a loss."""
    flow = start()
    flow.brake.engage("of somebody's own accord")
    flow.keycloak.fail("create", KeycloakRejectedError("refused", status=400))

    with pytest.raises(HoldError):
        flow.handle(event_of())

    assert not flow.lost.knows(HERE, b"u-1")
