"""The attributes in which the bridge remembers, on the user itself, what it did."""

from keycloak_bridge.core.desired import UserRepresentation
from keycloak_bridge.core.invitation_mark import (
    InvitationMark,
    MarkState,
    format_mark,
    parse_mark,
)
from keycloak_bridge.core.model import (
    EVENT_ID_ATTRIBUTE,
    EVENT_TIME_ATTRIBUTE,
    INVITATION_ATTRIBUTE,
    UserEvent,
)
from keycloak_bridge.core.operations import Change, UpdateUser
from keycloak_bridge.core.representation import after_changes, with_changes
from keycloak_bridge.core.timestamps import format_time, parse_time

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
