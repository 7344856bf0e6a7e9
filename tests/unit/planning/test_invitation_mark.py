"""The mark on a user says how far which event's mail is."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from keycloak_bridge.planning.bookkeeping import (
    InvitationMark,
    MarkState,
    due_after,
    format_mark,
    parse_mark,
)


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
    """Event ids may hold colons and anything else."""
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
)
def test_every_mark_comes_back(mark: InvitationMark) -> None:
    """Whatever the event's id."""
    assert mark == parse_mark(format_mark(mark))


@pytest.mark.parametrize("state", list(MarkState))
def test_a_mark_is_of_one_event(state: MarkState) -> None:
    """Each question is about state and event at once."""
    mark = InvitationMark(state, "e1", 5)
    answers = (mark.is_due("e1"), mark.is_sending("e1"), mark.is_sent("e1"))

    assert answers == tuple(state is one for one in MarkState)
    assert (mark.is_due("e2"), mark.is_sending("e2"), mark.is_sent("e2")) == (False, False, False)
    assert mark.is_settled == (state is MarkState.SENT)


def test_the_end_of_an_earlier_link_is_kept() -> None:
    """So that a mail which is asked for again can wait for it."""
    earlier = InvitationMark(MarkState.SENT, "e1", 5)

    assert due_after(earlier, "e2") == InvitationMark(MarkState.DUE, "e2", 5)
    assert due_after(None, "e2") == InvitationMark(MarkState.DUE, "e2")
