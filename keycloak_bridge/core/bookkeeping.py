"""The attributes in which the bridge remembers, on the user itself, what it did."""

from keycloak_bridge.core.model import (
    EVENT_ID_ATTRIBUTE,
    EVENT_TIME_ATTRIBUTE,
    INVITATION_ATTRIBUTE,
    Change,
    UpdateUser,
    UserEvent,
    UserRepresentation,
)
from keycloak_bridge.core.representation import with_changes
from keycloak_bridge.core.timestamps import format_time, parse_time


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


def invitation_marker_due(event_id: str) -> str:
    """Return the mark of a user whose invitation, caused by `event_id`, has yet to be mailed."""
    return f"due:{event_id}"


def invitation_marker_sending(event_id: str) -> str:
    """Return the mark of a user whose invitation, caused by `event_id`, may have been mailed.

    Written before the mail, so that after a crash it is known of which mails to ask.
    """
    return f"sending:{event_id}"


def invitation_marker_sent(event_id: str) -> str:
    """Return the mark of a user whose invitation, caused by `event_id`, was mailed."""
    return f"sent:{event_id}"


def invitation_state(representation: UserRepresentation) -> str | None:
    """Return the user's invitation mark, or None."""
    return _only(representation, INVITATION_ATTRIBUTE)


def is_being_invited(representation: UserRepresentation) -> bool:
    """Say whether the user's mark may change at any moment, because a mail is due or on its way."""
    state = invitation_state(representation) or ""
    return state.startswith((invitation_marker_due(""), invitation_marker_sending("")))


def mail_begun(representation: UserRepresentation) -> str | None:
    """Return the id of the event whose mail is marked as begun and not as sent, or None."""
    state = invitation_state(representation) or ""
    begun = invitation_marker_sending("")
    return state.removeprefix(begun) if state.startswith(begun) else None


def with_mark_of(update: UpdateUser, latest: UserRepresentation) -> UserRepresentation:
    """Return the body of `update` with the invitation mark that `latest` has by now."""
    mark = invitation_state(latest)
    return update.representation if mark is None else _with_invitation(update.representation, mark)


def with_invitation_sending(found: UserRepresentation, event_id: str) -> UserRepresentation:
    """Return the whole body of a PUT that marks the mail as about to go out and changes nothing else."""
    return _with_invitation(found, invitation_marker_sending(event_id))


def with_invitation_sent(found: UserRepresentation, event_id: str) -> UserRepresentation:
    """Return the whole body of a PUT that marks the invitation as mailed and changes nothing else."""
    return _with_invitation(found, invitation_marker_sent(event_id))


def _with_invitation(found: UserRepresentation, mark: str) -> UserRepresentation:
    return with_changes(found, [Change(f"attributes.{INVITATION_ATTRIBUTE}", None, [mark])])


def _only(representation: UserRepresentation, attribute: str) -> str | None:
    values = (representation.get("attributes") or {}).get(attribute) or []
    return values[0] if len(values) == 1 else None
