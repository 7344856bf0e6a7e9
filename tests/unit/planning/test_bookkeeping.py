"""The bridge remembers on the user what it did, and finds it again."""

from datetime import datetime

import pytest
from plan_cases import CREATED, LATER, NOON, changed, event

from keycloak_bridge.domain.operations import Change, UpdateUser
from keycloak_bridge.planning.bookkeeping import (
    InvitationMark,
    MarkState,
    has_applied,
    invitation_marker_due,
    invitation_marker_sending,
    invitation_marker_sent,
    invitation_state,
    is_being_invited,
    mail_begun,
    mark_of,
    stamp,
    with_invitation_sending,
    with_invitation_sent,
    with_mark_of,
)

USER = CREATED.representation


def test_the_stamp_of_an_event() -> None:
    """Its id and its time; one without a time leaves the stored time alone."""
    assert stamp(event()) == {
        "bridgeEventId": ["e1"],
        "bridgeEventTime": ["2026-11-01T12:00:00.000000Z"],
    }
    assert stamp(event(time=None)) == {"bridgeEventId": ["e1"]}


@pytest.mark.parametrize(
    ("event_id", "time", "expected"),
    [
        ("e1", None, True),
        ("e2", None, False),
        ("e2", NOON, True),
        ("e1", LATER, True),
        ("e2", LATER, False),
    ],
)
def test_what_a_user_has_seen(event_id: str, time: datetime | None, expected: bool) -> None:
    """The event itself, or one that is not older."""
    assert has_applied(event(event_id, time), USER) is expected


def test_invitation_marks() -> None:
    """The inviter reads and writes the mark through these, and its body is whole."""
    assert invitation_state(USER) == invitation_marker_due("e1")
    assert invitation_state(with_invitation_sending(USER, "e1")) == invitation_marker_sending("e1")
    body = with_invitation_sent(USER, "e1", 5)
    assert invitation_state(body) == invitation_marker_sent("e1", 5)
    assert mark_of(body) == InvitationMark(MarkState.SENT, "e1", 5)
    assert body["email"] == USER["email"]
    assert "enabled" not in body


@pytest.mark.parametrize("values", [[], ["due:e1", "sent:e1"], ["whatever"]])
def test_an_unreadable_mark_is_none(values: list[str]) -> None:
    """As for a user that was never marked."""
    user = changed(CREATED, {"bridgeInvitation": values}).representation

    assert mark_of(user) is None
    assert not is_being_invited(user)
    assert mail_begun({"username": "ada"}) is None


@pytest.mark.parametrize(
    ("mark", "moving", "begun"),
    [
        ("due:e1", True, None),
        ("sending:e1", True, "e1"),
        ("sending-until:5:e1", True, "e1"),
        ("sent:e1", False, None),
        ("sent-until:5:e1", False, None),
    ],
)
def test_how_far_a_mail_is(mark: str, moving: bool, begun: str | None) -> None:
    """Whether the mark may change at any moment, and whose mail has begun."""
    user = changed(CREATED, {"bridgeInvitation": [mark]}).representation

    assert is_being_invited(user) is moving
    assert mail_begun(user) == begun


def test_an_update_takes_over_the_latest_mark() -> None:
    """The invite stage may have marked the user since it was found; a mark that the update itself writes stays."""
    latest = with_invitation_sent(USER, "e1")
    update = UpdateUser(USER, (Change("firstName", "A", "Ada"),))
    marking = UpdateUser(USER, (Change("attributes.bridgeInvitation", None, ["due:e1"]),))

    assert invitation_state(with_mark_of(update, latest)) == "sent:e1"
    assert with_mark_of(update, {"username": "ada"}) == USER
    assert with_mark_of(marking, latest) == USER
