"""Decide which mail an event makes due: the mark on the user that records it, and the request that starts it.

A mail is due from the write that marks the user until the mark says that it was sent, so a crash in between loses none:
the redelivered event requests it again. The mark names one event, and only that event requests the mail. A mail of an
earlier event may be on its way at any moment; if its mark were enough for a later event, one user could get two mails.
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
from keycloak_bridge.mapping.lifecycle import VERIFY_LIFESPAN_S
from keycloak_bridge.planning.bookkeeping import (
    InvitationMark,
    due_after,
    due_for_new_address,
    mark_of,
    marks,
)


def mail_obstacle(user: UserRepresentation) -> str | None:
    """Return why Keycloak would not mail this user (`user-disabled`, `no-email`), None where it would."""
    if not user.get("enabled"):
        return "user-disabled"
    return None if user.get("email") else "no-email"


def can_be_invited(user: UserRepresentation) -> bool:
    """Return whether Keycloak would mail this user."""
    return mail_obstacle(user) is None


def must_verify(
    desired: DesiredUser, before: UserRepresentation, after: UserRepresentation
) -> bool:
    """Return whether an existing user gets a new address that a mail must verify."""
    if desired.email_change is not EmailChange.VERIFY or not desired.intent.describes_user:
        return False
    return bool(after.get("email")) and _email_changes(before, after)


def mark_to_write(
    event: UserEvent,
    desired: DesiredUser,
    before: UserRepresentation,
    after: UserRepresentation,
) -> InvitationMark | None:
    """Return the mark that makes a mail of this event due, None where the user's mark stays.

    `before` is the user as found, `after` as the event makes it. A mail is due for a user that was created earlier and can
    be mailed only now: under this event, since the request of the creating event was or may be refused. A changed address
    makes it due again, because Keycloak invalidates the links sent to the old one.
    """
    mark = mark_of(before)
    if desired.intent is Intent.INVITE:
        known = mark is not None and marks(mark, event)
        return None if known or desired.invitation is None else due_after(mark, event.identity)
    if desired.intent in (Intent.ANONYMISE, Intent.DELETE):
        return None
    invites = mark is not None and desired.invitation is not None
    verifies = must_verify(desired, before, after)
    if before.get("email") and _email_changes(before, after) and (invites or verifies):
        return due_for_new_address(event.identity)
    if verifies:
        return due_after(mark, event.identity)
    if mark is None or mark.is_settled or marks(mark, event):
        return None
    becomes_mailable = can_be_invited(after) and not can_be_invited(before)
    if becomes_mailable and (invites or _is_unverified(desired, mark, after)):
        return due_after(mark, event.identity)
    return None


def requests(
    event: UserEvent,
    desired: DesiredUser,
    before: UserRepresentation | None,
    after: UserRepresentation,
) -> tuple[RequestInvitation, ...]:
    """Return what to request from the invite stage until the mail of exactly this event was certainly sent.

    `before` is None where the event creates the user; `after` has the mark. An invitation comes before a verification: its
    link verifies the address too, and a user who has a password gets only the second.
    """
    mark = mark_of(after)
    if mark is None or not marks(mark, event) or mark.is_settled or not can_be_invited(after):
        return ()
    marked = mark.event_id if mark.event_id != event.identity else None
    requested: list[RequestInvitation] = []
    known = before is None or mark_of(before) is not None
    if desired.invitation is not None and (known or desired.intent is Intent.INVITE):
        # by the mark alone: a redelivered event finds no change of the address, and the mail to the old one is no invite
        again = desired.intent is Intent.INVITE or mark.follows_new_address
        purpose = Purpose.RESEND if again else Purpose.INVITE
        requested.append(RequestInvitation(desired.invitation, purpose, marked))
    if before is not None and _is_unverified(desired, mark, after):
        terms = desired.invitation or InvitationTerms((), VERIFY_LIFESPAN_S)
        verification = replace(terms, actions=("VERIFY_EMAIL",))
        requested.append(RequestInvitation(verification, Purpose.VERIFY_EMAIL, marked))
    return tuple(requested)


def _email_changes(before: UserRepresentation, after: UserRepresentation) -> bool:
    return (before.get("email") or "").lower() != (after.get("email") or "").lower()


def _is_unverified(desired: DesiredUser, mark: InvitationMark, user: UserRepresentation) -> bool:
    """Return whether the user's address waits for its mail; a redelivered event must find out without a change.

    It is the event's own address, or an earlier event's whose mail was refused until now.
    """
    if desired.email_change is not EmailChange.VERIFY or user.get("emailVerified"):
        return False
    changes = desired.intent.describes_user and "email" in desired.representation
    return changes or mark.follows_new_address
