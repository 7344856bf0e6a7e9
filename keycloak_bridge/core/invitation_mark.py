"""The invitation mark: what a user's attribute `bridgeInvitation` says about the mail of one event.

It reads `due:<event>`, `sending:<event>`, `sent:<event>` or, where a link of the user may still be alive,
`<state>-until:<epoch seconds>:<event>`, or `<state>-perhaps:…` where nobody knows whether the mail with that link went
out. Event ids are free text and may hold colons themselves.
"""

import re
from dataclasses import dataclass
from enum import StrEnum

_MARK = re.compile(
    r"(?P<state>due|sending|sent)"
    r"(?:-(?P<link>until|perhaps):(?P<until>0|[1-9][0-9]{0,14}))?:(?P<event>.+)",
    re.DOTALL,
)

_KILLED_S = 0


class MarkState(StrEnum):
    """How far a mail is: not begun, begun and perhaps out, certainly out."""

    DUE = "due"
    SENDING = "sending"
    SENT = "sent"


@dataclass(frozen=True, slots=True)
class InvitationMark:
    """How far the mail caused by `event_id` is; `until_s` is when the last of the user's links ends, where known.

    That is in seconds since 1970; where this mail is due, of an earlier one's link, and where it is being sent, the latest
    end that its own can have. It is 0 where a changed e-mail address killed them all. `in_doubt` says that nobody knows
    of the mail with that link. Equality holds all of it: ask
    `is_sent` whether the mail of an event went out.
    """

    state: MarkState
    event_id: str
    until_s: int | None = None
    in_doubt: bool = False

    @property
    def follows_new_address(self) -> bool:
        """Whether this mail is due because the e-mail address changed; those to the old one are no use any more."""
        return self.until_s == _KILLED_S

    @property
    def is_settled(self) -> bool:
        """Whether the mark will stay as it is, because its mail went out."""
        return self.state is MarkState.SENT

    def is_due(self, event_id: str) -> bool:
        """Say whether the mail of this very event has yet to begin."""
        return self.state is MarkState.DUE and self.event_id == event_id

    def is_sending(self, event_id: str) -> bool:
        """Say whether the mail of this very event was begun and may be out."""
        return self.state is MarkState.SENDING and self.event_id == event_id

    def is_sent(self, event_id: str) -> bool:
        """Say whether the mail of this very event went out."""
        return self.state is MarkState.SENT and self.event_id == event_id


def due_for_new_address(event_id: str) -> InvitationMark:
    """Return the mark of a mail that is due to another e-mail address; Keycloak kills the links of the old one."""
    return InvitationMark(MarkState.DUE, event_id, _KILLED_S)


def due_after(earlier: InvitationMark | None, event_id: str) -> InvitationMark:
    """Return the mark of a mail that was asked for once more; the earlier link still ends when it did."""
    if earlier is None or earlier.until_s is None:
        return InvitationMark(MarkState.DUE, event_id)
    in_doubt = earlier.in_doubt or earlier.state is MarkState.SENDING
    return InvitationMark(MarkState.DUE, event_id, earlier.until_s, in_doubt)


def format_mark(mark: InvitationMark) -> str:
    """Return the text of `mark`, which `parse_mark` reads back."""
    if mark.until_s is not None:
        link = "perhaps" if mark.in_doubt else "until"
        return f"{mark.state}-{link}:{mark.until_s}:{mark.event_id}"
    return f"{mark.state}:{mark.event_id}"


def parse_mark(text: str) -> InvitationMark | None:
    """Return the mark in `text`, or None where it holds none."""
    match = _MARK.fullmatch(text)
    if match is None:
        return None
    state, event_id = MarkState(match["state"]), match["event"]
    if match["until"] is None:
        return InvitationMark(state, event_id)
    return InvitationMark(state, event_id, int(match["until"]), match["link"] == "perhaps")
