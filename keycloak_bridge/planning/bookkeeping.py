"""The attributes in which the bridge records, on the user itself, what it did.

`bridgeEventId` names the event that was applied last, `bridgeEventTime` is about the order of events (order.py). `bridgeInvitation` is the invitation mark: the
state of the mail of one event. An event is named by its identity; earlier versions wrote its bare id, which is still
understood. The mark reads `due:<event>`, `sending:<event>`, `sent:<event>` or, where a link of the user may
still be valid, `<state>-until:<epoch seconds>:<event>`, or `<state>-perhaps:…` where it is unknown whether the mail with
that link was sent. `sent-perhaps` is also what the invite stage writes before a mail where Keycloak records mails: nothing
is left to do but for that stage itself, which asks Keycloak if its record comes again. Event ids are free text and may
contain colons themselves.
"""

import re
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from keycloak_bridge.domain.events import (
    EVENT_ID_ATTRIBUTE,
    EVENT_TIME_ATTRIBUTE,
    INVITATION_ATTRIBUTE,
    UserEvent,
    is_identity,
)
from keycloak_bridge.domain.operations import Change, UpdateUser
from keycloak_bridge.domain.representation import after_changes, with_changes
from keycloak_bridge.domain.times import epoch_time
from keycloak_bridge.domain.users import UserRepresentation, single_value
from keycloak_bridge.planning.order import Verdict, applied_to, format_applied

_MARK_PATTERN = re.compile(
    r"(?P<state>due|sending|sent)"
    r"(?:-(?P<link>until|perhaps):(?P<until>0|[1-9][0-9]{0,14}))?:(?P<event>.+)",
    re.DOTALL,
)

_INVALIDATED_S = 0
_MARK = f"attributes.{INVITATION_ATTRIBUTE}"


class MarkState(StrEnum):
    """The state of a mail: not started, started and perhaps sent, certainly sent."""

    DUE = "due"
    SENDING = "sending"
    SENT = "sent"


@dataclass(frozen=True, slots=True)
class InvitationMark:
    """The state of the mail caused by `event_id`; `until_s` is when the last of the user's links expires, where known.

    It is in seconds since 1970: the expiry of an earlier mail's link where this mail is due, the latest expiry that its
    own link can have where it is being sent, and 0 where a changed e-mail address invalidated all links. `in_doubt` says
    that it is unknown whether the mail with that link was sent. Equality compares all of it: ask `is_sent` or `has_begun`
    about the mail of an event.
    """

    state: MarkState
    event_id: str
    until_s: int | None = None
    in_doubt: bool = False

    @property
    def follows_new_address(self) -> bool:
        """Whether this mail is due because the e-mail address changed; links sent to the old one are invalid."""
        return self.until_s == _INVALIDATED_S

    @property
    def link_ends(self) -> datetime | None:
        """When the last of the user's links expires; None where that is not known, or where all of them are invalid."""
        if self.until_s is None or self.follows_new_address:
            return None
        return epoch_time(self.until_s)  # of no calendar where another hand wrote it

    @property
    def is_settled(self) -> bool:
        """Whether the mail is no longer due for an event: it was sent, or its invitation sees to it that it is."""
        return self.state is MarkState.SENT

    def has_begun(self, event_id: str) -> bool:
        """Return whether the mail of exactly this event was started, and may or may not have been sent."""
        started = self.state is MarkState.SENDING or (self.is_settled and self.in_doubt)
        return started and self.event_id == event_id

    def is_sent(self, event_id: str) -> bool:
        """Return whether the mail of exactly this event was certainly sent."""
        return self.is_settled and not self.in_doubt and self.event_id == event_id


def due_for_new_address(event_id: str) -> InvitationMark:
    """Return the mark of a mail to a changed e-mail address; Keycloak invalidates the links sent to the old one."""
    return InvitationMark(MarkState.DUE, event_id, _INVALIDATED_S)


def due_after(earlier: InvitationMark | None, event_id: str) -> InvitationMark:
    """Return the mark of a mail that was requested again; the earlier link keeps its expiry."""
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
    """Return the mark in `text`, or None where there is none."""
    match = _MARK_PATTERN.fullmatch(text)
    if match is None:
        return None
    state, event_id = MarkState(match["state"]), match["event"]
    if match["until"] is None:
        return InvitationMark(state, event_id)
    return InvitationMark(state, event_id, int(match["until"]), match["link"] == "perhaps")


def stamp(
    event: UserEvent, verdict: Verdict, found: UserRepresentation | None = None
) -> dict[str, list[str]]:
    """Return the attributes that record what was applied to the user, once what `verdict` says of `event` is done.

    An event without a time keeps the stored time, which still excludes older events.
    """
    stored = None if found is None else single_value(found, EVENT_ID_ATTRIBUTE)
    identity = event.identity if verdict.describes or stored is None else stored
    attributes = {EVENT_ID_ATTRIBUTE: [identity]}
    if found is not None and stored == identity and verdict.after == applied_to(found):
        return attributes
    times = format_applied(verdict.after, identity)
    if times is not None:
        attributes[EVENT_TIME_ATTRIBUTE] = [times]
    return attributes


def is_last(event: UserEvent, found: UserRepresentation) -> bool:
    """Return whether `event` is the one that was applied to the user last.

    A bare id, as earlier versions wrote it, may be that of another source; so it counts with the stored time only.
    """
    stored = single_value(found, EVENT_ID_ATTRIBUTE)
    if stored is None or stored == event.identity:
        return stored is not None
    return stored == event.id and not is_identity(stored) and applied_to(found).time == event.time


def marks(mark: InvitationMark, event: UserEvent) -> bool:
    """Return whether `mark` is about the mail of `event`; a bare id, as earlier versions wrote it, counts too."""
    if mark.event_id == event.identity:
        return True
    return mark.event_id == event.id and not is_identity(mark.event_id)


def has_applied(event: UserEvent, found: UserRepresentation) -> bool:
    """Return whether `event` was applied to the user: it was the last one, or one of that time or newer was."""
    if is_last(event, found):
        return True
    applied = applied_to(found).time
    return applied is not None and event.time is not None and applied >= event.time


def mark_text(representation: UserRepresentation) -> str | None:
    """Return the text of the user's invitation mark, or None; `mark_of` reads it."""
    return single_value(representation, INVITATION_ATTRIBUTE)


def mark_of(representation: UserRepresentation) -> InvitationMark | None:
    """Return the user's invitation mark, or None where there is none that the bridge understands."""
    text = mark_text(representation)
    return None if text is None else parse_mark(text)


def is_being_invited(representation: UserRepresentation) -> bool:
    """Return whether the user's mark may change at any moment, because a mail is due or being sent."""
    return mail_awaited(representation) is not None


def mail_awaited(representation: UserRepresentation) -> str | None:
    """Return the id of the event whose mail is due or being sent by the user's mark, or None."""
    mark = mark_of(representation)
    return mark.event_id if mark is not None and not mark.is_settled else None


def with_mark_of(update: UpdateUser, latest: UserRepresentation) -> UserRepresentation:
    """Return the body of `update` with the invitation mark that `latest` has by now.

    A mark that the update itself writes stays: its mail is due, whatever happened to an earlier one meanwhile.
    """
    if any(change.target == _MARK for change in update.changes):
        return update.representation
    mark = mark_text(latest)
    if mark is None:
        return update.representation
    # with the switches that the update itself writes
    return after_changes(update.representation, [Change(_MARK, None, [mark])])


def with_invitation_mark(found: UserRepresentation, mark: InvitationMark) -> UserRepresentation:
    """Return the whole body of a PUT that writes `mark` and changes nothing else."""
    return with_changes(found, [Change(_MARK, None, [format_mark(mark)])])
