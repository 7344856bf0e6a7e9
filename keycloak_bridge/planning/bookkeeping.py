"""The attributes in which the bridge remembers, on the user itself, what it did.

The invitation mark: what a user's attribute `bridgeInvitation` says about the mail of one event.

It reads `due:<event>`, `sending:<event>`, `sent:<event>` or, where a link of the user may still be alive,
`<state>-until:<epoch seconds>:<event>`, or `<state>-perhaps:…` where nobody knows whether the mail with that link went
out. Event ids are free text and may hold colons themselves.
"""

import re
from dataclasses import dataclass
from enum import StrEnum

from keycloak_bridge.domain.events import (
    EVENT_ID_ATTRIBUTE,
    EVENT_TIME_ATTRIBUTE,
    INVITATION_ATTRIBUTE,
    UserEvent,
)
from keycloak_bridge.domain.operations import Change, UpdateUser, after_changes, with_changes
from keycloak_bridge.domain.times import format_time, parse_time
from keycloak_bridge.domain.users import UserRepresentation

_MARK_PATTERN = re.compile(
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
    match = _MARK_PATTERN.fullmatch(text)
    if match is None:
        return None
    state, event_id = MarkState(match["state"]), match["event"]
    if match["until"] is None:
        return InvitationMark(state, event_id)
    return InvitationMark(state, event_id, int(match["until"]), match["link"] == "perhaps")


_MARK = f"attributes.{INVITATION_ATTRIBUTE}"


def stamp(event: UserEvent) -> dict[str, list[str]]:
    """Return the attributes that say which event was applied last, and of when it is.

    An event without a time leaves the stored time alone, which still keeps older events out.
    """
    attributes = {EVENT_ID_ATTRIBUTE: [event.id]}
    if event.time is not None:
        attributes[EVENT_TIME_ATTRIBUTE] = [format_time(event.time)]
    return attributes


def is_stale(event: UserEvent, found: UserRepresentation) -> bool:
    """Say whether a newer event was applied to the user already."""
    stored = _only(found, EVENT_TIME_ATTRIBUTE)
    applied = None if stored is None else parse_time(stored)
    return applied is not None and event.time is not None and applied > event.time


def has_applied(event: UserEvent, found: UserRepresentation) -> bool:
    """Say whether the user has seen `event`: it was the last one applied, or a newer one or one of that time was."""
    if _only(found, EVENT_ID_ATTRIBUTE) == event.id:
        return True
    stored = _only(found, EVENT_TIME_ATTRIBUTE)
    applied = None if stored is None else parse_time(stored)
    return applied is not None and event.time is not None and applied >= event.time


def invitation_marker_due(event_id: str) -> str:
    """Return the mark of a user whose invitation, caused by `event_id`, has yet to be mailed."""
    return format_mark(InvitationMark(MarkState.DUE, event_id))


def invitation_marker_sending(event_id: str) -> str:
    """Return the mark of a user whose invitation, caused by `event_id`, may have been mailed.

    Written before the mail, so that after a crash it is known of which mails to ask.
    """
    return format_mark(InvitationMark(MarkState.SENDING, event_id))


def invitation_marker_sent(event_id: str, until_s: int | None = None) -> str:
    """Return the mark of a user whose invitation was mailed; its link ends `until_s` seconds after 1970."""
    return format_mark(InvitationMark(MarkState.SENT, event_id, until_s))


def invitation_state(representation: UserRepresentation) -> str | None:
    """Return the text of the user's invitation mark, or None; `mark_of` reads it."""
    return _only(representation, INVITATION_ATTRIBUTE)


def mark_of(representation: UserRepresentation) -> InvitationMark | None:
    """Return the user's invitation mark, or None where there is none that the bridge understands."""
    text = invitation_state(representation)
    return None if text is None else parse_mark(text)


def is_being_invited(representation: UserRepresentation) -> bool:
    """Say whether the user's mark may change at any moment, because a mail is due or on its way."""
    mark = mark_of(representation)
    return mark is not None and not mark.is_settled


def mail_begun(representation: UserRepresentation) -> str | None:
    """Return the id of the event whose mail is marked as begun and not as sent, or None."""
    mark = mark_of(representation)
    return mark.event_id if mark is not None and mark.state is MarkState.SENDING else None


def with_mark_of(update: UpdateUser, latest: UserRepresentation) -> UserRepresentation:
    """Return the body of `update` with the invitation mark that `latest` has by now.

    A mark that the update itself writes stays: its mail is due, whatever became of an earlier one meanwhile.
    """
    if any(change.target == _MARK for change in update.changes):
        return update.representation
    mark = invitation_state(latest)
    if mark is None:
        return update.representation
    # with the switches that the update itself writes
    return after_changes(update.representation, [Change(_MARK, None, [mark])])


def with_invitation_mark(found: UserRepresentation, mark: InvitationMark) -> UserRepresentation:
    """Return the whole body of a PUT that writes `mark` and changes nothing else."""
    return _with_invitation(found, format_mark(mark))


def with_invitation_sending(found: UserRepresentation, event_id: str) -> UserRepresentation:
    """Return the whole body of a PUT that marks the mail as about to go out and changes nothing else."""
    return _with_invitation(found, invitation_marker_sending(event_id))


def with_invitation_sent(
    found: UserRepresentation, event_id: str, until_s: int | None = None
) -> UserRepresentation:
    """Return the whole body of a PUT that marks the invitation as mailed and changes nothing else.

    `until_s` is when the mailed link ends, in seconds since 1970.
    """
    return _with_invitation(found, invitation_marker_sent(event_id, until_s))


def _with_invitation(found: UserRepresentation, mark: str) -> UserRepresentation:
    return with_changes(found, [Change(_MARK, None, [mark])])


def _only(representation: UserRepresentation, attribute: str) -> str | None:
    values = (representation.get("attributes") or {}).get(attribute) or []
    return values[0] if len(values) == 1 else None
