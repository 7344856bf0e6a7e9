"""`invitations`: a realm in memory, and the topic that the request goes to."""

import json
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from cli_harness import Bench
from stage_harness import INVITATIONS

from keycloak_bridge.app.interpretation import Interpretation
from keycloak_bridge.cli import common, invitations
from keycloak_bridge.domain.errors import BrokerUnavailableError
from keycloak_bridge.domain.events import INVITATION_ATTRIBUTE, Purpose
from keycloak_bridge.domain.users import UserRepresentation
from keycloak_bridge.messages.invitations import read_invitation
from keycloak_bridge.planning.bookkeeping import MarkState, mark_of
from keycloak_bridge.settings.model import Settings
from keycloak_bridge.testing.in_memory_broker import InMemoryBroker

NOW = datetime(2026, 11, 28, tzinfo=UTC)
ENDED = int((NOW - timedelta(days=2)).timestamp())
LATER = int((NOW + timedelta(days=2)).timestamp())
MARKS = {
    "due": "due:event-1",
    "sending": f"sending-until:{LATER}:event-1",
    "sent": f"sent-until:{LATER}:event-1",
    "clicked": f"sent-until:{int(NOW.timestamp()) - 60}:event-1",
    "expired": f"sent-until:{ENDED}:event-1",
    "older": f"sent-perhaps:{ENDED - 60}:event-1",
    "activated": f"sent-until:{ENDED}:event-1",
}


def user(user_id: str, mark: str, **facts: Any) -> UserRepresentation:
    """Return a user of the bridge with this mark."""
    attributes = {"userId": [user_id], INVITATION_ATTRIBUTE: [mark]}
    known = {"username": user_id, "email": f"{user_id}@planted.example", "enabled": True}
    found: UserRepresentation = {**known, "attributes": attributes, **facts}  # type: ignore[typeddict-item]
    return found


@pytest.fixture
def bench(bench: Bench) -> Bench:
    """A user in each state, one whom Keycloak mails nothing, and two who are not the bridge's."""
    bench.monkeypatch.setattr(common, "now", lambda: NOW)
    for user_id, mark in MARKS.items():
        keycloak_id = bench.keycloak.add_user(user(user_id, mark))
        if user_id == "activated":
            bench.keycloak.set_password(keycloak_id)
    bench.keycloak.add_user(user("disabled", f"sent-until:{ENDED}:event-1", enabled=False))
    bench.keycloak.add_user({"username": "admin", "enabled": True})
    bench.keycloak.add_user(user("odd", "no mark"))
    return bench


@pytest.fixture
def broker(bench: Bench) -> InMemoryBroker:
    """The topics that the command publishes to."""
    found = InMemoryBroker()
    bench.monkeypatch.setattr(invitations, "KafkaMessageProducer", lambda _: found)
    return found


def states(lines: Sequence[dict[str, Any]]) -> dict[str, str]:
    """Return the state of each user."""
    return {one["userId"]: one["state"] for one in lines}


def marks(bench: Bench) -> dict[str, MarkState]:
    """Return the state of each user's mark."""
    found = {one["username"]: mark_of(one) for one in bench.keycloak.users()}
    return {name: mark.state for name, mark in found.items() if mark is not None}


def test_every_invited_user_is_in_one_state(bench: Bench) -> None:
    """By mark, end of the link and credentials; who has no mark was not invited."""
    found = states(bench.lines("invitations", "list"))

    assert {
        "due": "due",
        "sending": "due",
        "sent": "sent",
        "clicked": "sent",
        "expired": "expired",
        "older": "expired",
        "activated": "activated",
        "disabled": "expired",
    } == found


def test_states_and_users_are_chosen(bench: Bench) -> None:
    """Credentials are asked for of these only, and named users are searched for."""
    bench.keycloak.calls.clear()

    assert {"sent", "clicked"} == states(
        bench.lines("invitations", "list", "--state", "sent")
    ).keys()
    assert 2 == len(bench.calls("has_credentials"))
    words = ("--user", "expired", "--user", "due", "--user", "nobody")
    assert {"expired": "expired", "due": "due"} == states(
        bench.lines("invitations", "list", *words)
    )


def test_people_see_ids_and_codes_only(bench: Bench) -> None:
    """The end of the link in the zone that was asked for, what keeps a mail back, and the totals."""
    text = bench.run("invitations", "list", "--state", "expired", "--utc").stdout

    assert "planted" not in text
    assert "expired  expired   2026-11-26 00:00:00Z  event-1" in text
    assert "user-disabled" in text
    assert "3 expired" == text.splitlines()[-1]
    none = bench.run("invitations", "list", "--user", "nobody").stdout
    assert "no user of the realm is in such a state\n" == none


def test_a_dry_run_writes_nothing(bench: Bench, broker: InMemoryBroker) -> None:
    """It shows who would get a mail, those first whose link ended first, and who is passed over."""
    before = marks(bench)

    result = bench.run("invitations", "resend", "--state", "expired", "--dry-run", "--limit", "1")

    assert 0 == result.exit_code
    assert "passed over: 1 user-disabled" in result.stdout
    assert "older" in result.stdout
    assert "1 more are left for another call\n1 mail would be asked for\n" in result.stdout
    assert (before, []) == (marks(bench), broker.records(INVITATIONS))


def test_another_mail_goes_the_way_of_a_request(bench: Bench, broker: InMemoryBroker) -> None:
    """The mark says due, and the invite stage reads the request on its own terms; asked twice, it is the same event."""
    result = bench.run("invitations", "resend", "--state", "expired", "--yes")

    assert (0, True) == (result.exit_code, "asked for 2 mails" in result.stdout)
    assert {"expired", "older"} == {
        name for name, state in marks(bench).items() if state is MarkState.DUE
    } - {"due"}
    interpretation = Interpretation(Settings())
    read = [
        read_invitation(one, interpretation.catalog, interpretation.mapping)
        for one in broker.records(INVITATIONS)
    ]
    assert {"expired", "older"} == {one.user_id for one in read}
    assert {Purpose.RESEND} == {one.purpose for one in read}
    assert {("UPDATE_PASSWORD", "VERIFY_EMAIL")} == {one.terms.actions for one in read}
    found = {one["id"]: mark_of(one) for one in bench.keycloak.users()}
    assert all((mark := found[one.keycloak_id]) and mark.event_id == one.event_id for one in read)

    bench.run("invitations", "resend", "--user", "older", "--yes")
    first, second = (one for one in broker.records(INVITATIONS) if one.key == b"older")
    assert json.loads(first.value or b"")["id"] == json.loads(second.value or b"")["id"]


def test_a_user_that_became_another_ones_is_told(bench: Bench, broker: InMemoryBroker) -> None:
    """The others are asked for; exit code 1."""
    bench.keycloak.add_user(user("expired", f"sent-until:{ENDED}:event-9", username="twin", email="twin@planted.example"))  # fmt: skip

    result = bench.run("invitations", "resend", "--state", "expired", "--yes")

    assert 1 == result.exit_code
    assert "expired: not asked for (ambiguous)" in result.stderr
    assert [b"older"] == [one.key for one in broker.records(INVITATIONS)]


def test_an_outage_says_how_far_it_came(bench: Bench, broker: InMemoryBroker) -> None:
    """The mark stays due, so the same command with --state due goes on."""
    broker.publish_errors = [BrokerUnavailableError("Kafka does not answer")] * 2

    result = bench.run("invitations", "resend", "--state", "expired", "--yes")

    assert 3 == result.exit_code
    assert "asked for 0 mails before this" in result.stderr


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ((), "Name a state"),
        (("--state", "expired"), "add --yes"),
        (("--state", "expired", "--yes", "--set", "invite.mode=none"), "no bridge with these"),
        (
            ("--state", "due", "--yes", "--set", "limits.mails=5/1 h", "--limit", "6"),
            "limits.mails",
        ),
    ],
)
def test_what_cannot_be_meant_is_refused(
    bench: Bench, broker: InMemoryBroker, words: tuple[str, ...], message: str
) -> None:
    """Before anything is written, with exit code 2."""
    result = bench.run("invitations", "resend", *words)

    assert (2, True) == (result.exit_code, message in result.stderr)
    assert [] == broker.records(INVITATIONS)


def test_a_limit_of_mails_is_the_most(bench: Bench, broker: InMemoryBroker) -> None:
    """So that the bridge's brake is not engaged."""
    bench.run("invitations", "resend", "--state", "expired", "--yes", "--set", "limits.mails=1/1 h")

    assert 1 == len(broker.records(INVITATIONS))
