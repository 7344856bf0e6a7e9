"""The bridge records on the user what it did, and reads it back."""

from dataclasses import replace
from datetime import datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st
from plan_cases import CREATED, LATER, NOON, changed, desired, event

from keycloak_bridge.domain.events import UserEvent, event_id_in, event_identity, is_identity
from keycloak_bridge.domain.operations import Change, UpdateUser
from keycloak_bridge.domain.users import UserRepresentation
from keycloak_bridge.planning.bookkeeping import (
    InvitationMark,
    MarkState,
    due_after,
    format_mark,
    has_applied,
    is_being_invited,
    is_last,
    mail_awaited,
    mark_of,
    mark_text,
    marks,
    parse_mark,
    stamp,
    with_invitation_mark,
    with_mark_of,
)
from keycloak_bridge.planning.order import Applied, judge

USER = CREATED.representation


def test_the_stamp_of_an_event() -> None:
    """Its id and its time; one without a time leaves the stored time alone."""
    assert (
        CREATED.representation["attributes"].items()
        >= {
            "bridgeEventId": [event().identity],
            "bridgeEventTime": ["2026-11-01T12:00:00.000000Z"],
        }.items()
    )
    timeless = judge(event(time=None), desired(), Applied(), new=True)
    assert stamp(event(time=None), timeless) == {"bridgeEventId": [event().identity]}


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
def test_which_events_were_applied(event_id: str, time: datetime | None, expected: bool) -> None:
    """The event itself, or one that is not older."""
    assert has_applied(event(event_id, time), USER) is expected


@pytest.mark.parametrize("values", [[], ["due:e1", "sent:e1"], ["whatever"]])
def test_an_unreadable_mark_is_none(values: list[str]) -> None:
    """As for a user that was never marked."""
    user = changed(CREATED, {"bridgeInvitation": values}).representation

    assert mark_of(user) is None
    assert not is_being_invited(user)
    assert mail_awaited({"username": "ada"}) is None


@pytest.mark.parametrize(
    ("mark", "awaited"),
    [
        ("due:e1", "e1"),
        ("sending:e1", "e1"),
        ("sending-until:5:e1", "e1"),
        ("sent:e1", None),
        ("sent-until:5:e1", None),
        ("sent-perhaps:5:e1", None),
    ],
)
def test_how_far_a_mail_is(mark: str, awaited: str | None) -> None:
    """Whether the mark may change at any moment, and the event whose mail the user waits for."""
    user = changed(CREATED, {"bridgeInvitation": [mark]}).representation

    assert is_being_invited(user) is (awaited is not None)
    assert mail_awaited(user) == awaited


def test_an_update_takes_over_the_latest_mark() -> None:
    """The invite stage may have marked the user since it was found; a mark that the update itself writes stays."""
    latest = with_invitation_mark(USER, InvitationMark(MarkState.SENT, "e1"))
    update = UpdateUser(USER, (Change("firstName", "A", "Ada"),))
    marking = UpdateUser(USER, (Change("attributes.bridgeInvitation", None, ["due:e1"]),))

    assert mark_text(with_mark_of(update, latest)) == "sent:e1"
    assert with_mark_of(update, {"username": "ada"}) == USER
    assert with_mark_of(marking, latest) == USER


@pytest.mark.parametrize(
    ("text", "mark"),
    [
        ("due:e1", InvitationMark(MarkState.DUE, "e1")),
        ("sending:e1", InvitationMark(MarkState.SENDING, "e1")),
        ("sent:e1", InvitationMark(MarkState.SENT, "e1")),
        ("sent-until:1793534400:e1", InvitationMark(MarkState.SENT, "e1", 1793534400)),
        ("due-until:0:e1", InvitationMark(MarkState.DUE, "e1", 0)),
        ("sent:until:5:e1", InvitationMark(MarkState.SENT, "until:5:e1")),
        ("due:urn:um:7\n", InvitationMark(MarkState.DUE, "urn:um:7\n")),
    ],
)
def test_reads_and_writes(text: str, mark: InvitationMark) -> None:
    """Event ids may contain colons and anything else."""
    assert mark == parse_mark(text)
    assert text == format_mark(mark)


@pytest.mark.parametrize(
    "text", ["", "due", "due:", "lost:e1", "sent-until:soon:e1", "sent-until:e1", "sent-until:٣:e1"]
)
def test_unknown_text_is_no_mark(text: str) -> None:
    """It stays on the user, and says nothing."""
    assert parse_mark(text) is None


@given(
    st.builds(
        InvitationMark,
        st.sampled_from(MarkState),
        st.text(min_size=1),
        st.none() | st.integers(0, 10**15 - 1),
    )
    | st.builds(
        InvitationMark,
        st.sampled_from(MarkState),
        st.text(min_size=1),
        st.integers(0, 10**15 - 1),
        st.just(True),
    )
)
def test_every_mark_comes_back(mark: InvitationMark) -> None:
    """Whatever the event's id; the update that writes it changes nothing else."""
    body = with_invitation_mark(USER, mark)

    assert mark == parse_mark(format_mark(mark)) == mark_of(body)
    assert body["email"] == USER["email"]
    assert "enabled" not in body
    assert (mark.state is MarkState.SENT) == mark.is_settled
    assert (mark.is_settled and not mark.in_doubt) == mark.is_sent(mark.event_id)
    begun = mark.state is not MarkState.DUE and not mark.is_sent(mark.event_id)
    assert begun == mark.has_begun(mark.event_id)
    assert not mark.has_begun(f"{mark.event_id}2")
    assert not mark.is_sent(f"{mark.event_id}2")


def test_the_end_of_an_earlier_link_is_kept() -> None:
    """So that a mail which is asked for again can wait for it."""
    earlier = InvitationMark(MarkState.SENT, "e1", 5)

    assert due_after(earlier, "e2") == InvitationMark(MarkState.DUE, "e2", 5)
    assert due_after(None, "e2") == InvitationMark(MarkState.DUE, "e2")


# one id is not one event: another source, type or user may use it too

OTHERS = {
    "another source": replace(event(), source="/access-management"),
    "another type": replace(event(), type="user.disabled"),
    "another user": replace(event(), subject="u2"),
}


@pytest.mark.parametrize("other", OTHERS.values(), ids=OTHERS)
def test_an_event_is_more_than_its_id(other: UserEvent) -> None:
    """Neither the stamp nor the mark of one event is that of another with the same id."""
    marked = InvitationMark(MarkState.DUE, event().identity)

    assert (True, False) == (is_last(event(), USER), is_last(other, USER))
    assert (True, False) == (marks(marked, event()), marks(marked, other))


def test_a_bare_id_of_an_earlier_version_needs_the_stored_time() -> None:
    """Another source may have used the id for another event; a mark, which holds no time, is believed."""
    attributes = {"bridgeEventId": ["e1"], "bridgeEventTime": ["2026-11-01T12:00:00.000000Z"]}
    stamped = UserRepresentation(attributes=attributes)

    assert is_last(event(), stamped)
    assert not is_last(event(time=LATER), stamped)
    assert marks(InvitationMark(MarkState.DUE, "e1"), event())
    assert not marks(InvitationMark(MarkState.DUE, event().identity), event(event().identity))


@given(st.text(min_size=1, max_size=255), st.text(max_size=300), st.none() | st.text())
def test_an_identity_fits_into_an_attribute(event_id: str, source: str, user: str | None) -> None:
    """Whatever an event is called: at most 255 UTF-16 code units, and its id is what people know it by."""
    known = event_identity(event_id, source, "user.created", user)

    assert len(known.encode("utf-16-le")) // 2 <= 255
    assert is_identity(known)
    if len(event_id) <= 115:
        assert event_id.encode(errors="replace").decode().strip() == event_id_in(known)


@pytest.mark.parametrize(
    ("text", "ends"),
    [
        ("sent-until:1793577600:e1", "2026-11-02T00:00:00+00:00"),
        ("sent:e1", None),
        ("due-until:0:e1", None),
        ("sending-until:999999999999999:e1", None),
    ],
)
def test_when_the_last_link_ends(text: str, ends: str | None) -> None:
    """Not known, or none is valid any more, or it is a time of no calendar, which only another hand writes."""
    mark = parse_mark(text)

    assert mark is not None
    assert ends == (None if mark.link_ends is None else mark.link_ends.isoformat())
