"""Decide which mail an event makes due: the mark on the user that remembers it, and the request that starts it.

A mail is due from the write that marks the user until the mark says that it was sent, so that a crash in between loses
none: the redelivered event asks again. The mark names one event, and only that event asks. A mail of an earlier event
may be on its way at any moment; were its mark enough for a later event to ask, one user would get two mails.
"""

from dataclasses import replace

from keycloak_bridge.domain.events import Purpose, UserEvent
from keycloak_bridge.domain.operations import RequestInvitation
from keycloak_bridge.domain.users import (
    DesiredUser,
    EmailChange,
    Intent,
    InvitationTerms,
    UserRepresentation,
)
from keycloak_bridge.planning.bookkeeping import (
    InvitationMark,
    MarkState,
    due_after,
    due_for_new_address,
    mark_of,
)

_VERIFY_ACTIONS = ("VERIFY_EMAIL",)
_VERIFY_LIFESPAN_S = 43_200
"""Keycloak's own default, for a bridge that invites nobody and so has no terms."""


def can_be_invited(user: UserRepresentation) -> bool:
    """Say whether Keycloak could mail this user: it refuses disabled users and needs an address."""
    return bool(user.get("enabled")) and bool(user.get("email"))


def must_verify(
    desired: DesiredUser, before: UserRepresentation, after: UserRepresentation
) -> bool:
    """Say whether an existing user gets a new address that counts only once a mail has verified it."""
    if desired.email_change is not EmailChange.VERIFY or not desired.intent.describes_user:
        return False
    return bool(after.get("email")) and _email_changes(before, after)


def first_mark(event: UserEvent, desired: DesiredUser) -> InvitationMark | None:
    """Return the mark of a user that the event creates, None where the bridge does not invite it.

    A user that cannot be mailed yet is marked all the same: the mark tells the users whose first invitation is still to
    come, once they are enabled or have an address, from those that were there before and are never invited.
    """
    return None if desired.invitation is None else InvitationMark(MarkState.DUE, event.id)


def mark_to_write(
    event: UserEvent,
    desired: DesiredUser,
    before: UserRepresentation,
    after: UserRepresentation,
) -> InvitationMark | None:
    """Return the mark that makes a mail of this event due, None where the user's mark stays.

    `before` is the user as found, `after` as the event makes it. Due is the mail of a user that was created before and can
    be mailed only now: under this event, since what the creating event asked for was refused meanwhile, or may be
    refused at this moment. A changed address makes it due again, because Keycloak kills the links mailed to the old one.
    """
    mark = mark_of(before)
    if desired.intent is Intent.INVITE:
        known = mark is not None and mark.event_id == event.id
        return None if known or desired.invitation is None else due_after(mark, event.id)
    if desired.intent in (Intent.ANONYMISE, Intent.DELETE):
        return None
    invites = mark is not None and desired.invitation is not None
    verifies = must_verify(desired, before, after)
    if before.get("email") and _email_changes(before, after) and (invites or verifies):
        return due_for_new_address(event.id)
    if verifies:
        return due_after(mark, event.id)
    if mark is None or mark.is_settled or mark.event_id == event.id:
        return None
    becomes_mailable = can_be_invited(after) and not can_be_invited(before)
    if becomes_mailable and (invites or _is_unverified(desired, mark, after)):
        return due_after(mark, event.id)
    return None


def requests(
    event: UserEvent,
    desired: DesiredUser,
    before: UserRepresentation | None,
    after: UserRepresentation,
) -> tuple[RequestInvitation, ...]:
    """Return what to ask of the invite stage until the mail of this very event has certainly gone out.

    `before` is None where the event creates the user; `after` carries the mark. An invitation comes before a verification:
    its link verifies the address as well, and a user who has a password gets only the second.
    """
    mark = mark_of(after)
    if mark is None or mark.event_id != event.id or mark.is_settled or not can_be_invited(after):
        return ()
    asked: list[RequestInvitation] = []
    verifies = before is not None and _is_unverified(desired, mark, after)
    asks = before is None or mark_of(before) is not None or desired.intent is Intent.INVITE
    if desired.invitation is not None and asks:
        asked.append(RequestInvitation(desired.invitation, _purpose(desired, mark)))
    if verifies:
        asked.append(RequestInvitation(_verification(desired), Purpose.VERIFY_EMAIL))
    return tuple(asked)


def _email_changes(before: UserRepresentation, after: UserRepresentation) -> bool:
    return (before.get("email") or "").lower() != (after.get("email") or "").lower()


def _is_unverified(desired: DesiredUser, mark: InvitationMark, user: UserRepresentation) -> bool:
    """Say whether the user's address waits for its mail; a redelivered event must find out without a change.

    It is the event's own address, or an earlier event's whose mail was refused until now.
    """
    if desired.email_change is not EmailChange.VERIFY or user.get("emailVerified"):
        return False
    brings = desired.intent.describes_user and "email" in desired.representation
    return brings or mark.follows_new_address


def _purpose(desired: DesiredUser, mark: InvitationMark) -> Purpose:
    """Say why the user is invited, by the mark alone: a redelivered event finds no change of the address any more.

    Were its mail called a first one, that to the old address would count as it after a crash.
    """
    again = desired.intent is Intent.INVITE or mark.follows_new_address
    return Purpose.RESEND if again else Purpose.INVITE


def _verification(desired: DesiredUser) -> InvitationTerms:
    if desired.invitation is None:
        return InvitationTerms(_VERIFY_ACTIONS, _VERIFY_LIFESPAN_S)
    return replace(desired.invitation, actions=_VERIFY_ACTIONS)
