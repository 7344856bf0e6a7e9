"""Which mail follows a link that ended unused: a reminder, the invitation again, or none.

Keycloak cannot take a link back, so no mail goes out before the last link has ended. A reminder therefore parts the lifespan
of an invitation in two: the first link ends `remind_before_s` before the invitation does, and the reminder's link lives for the
rest. Only where that ends unused too, the invitation has expired; then it may be mailed again, a few times.

Each such mail is caused by an event that exists in no topic. Its identity is made of the original event's id, what mail it is,
and the user, so that every member computes the same, and the mark on the user says which mail was the last.
"""

from dataclasses import dataclass, replace
from enum import StrEnum

from keycloak_bridge.domain.events import (
    INVITATION_REQUESTED,
    Invitation,
    Purpose,
    event_id_in,
    event_identity,
)

MOST_RESENDS = 10
"""The greatest number that a setting may ask for."""


class MailKind(StrEnum):
    """A reminder within an invitation, or the invitation once more."""

    REMINDER = "reminder"
    RESEND = "resend"


@dataclass(frozen=True, slots=True)
class FollowingMail:
    """A mail that follows another: `number` counts how often the invitation was sent again."""

    kind: MailKind
    number: int

    def identity(self, event_id: str, user_id: str) -> str:
        """Return the identity of the event that causes this mail; `event_id` names the one of the mail before."""
        source = f"/keycloak-bridge/{self.kind}/{self.number}"
        return event_identity(event_id_in(event_id), source, INVITATION_REQUESTED, user_id)


@dataclass(frozen=True, slots=True)
class Reminders:
    """When mails follow, as the settings say; without any, none does."""

    remind_before_s: int | None = None
    resend_expired: int = 0

    @property
    def enabled(self) -> bool:
        """Whether any mail follows."""
        return self.remind_before_s is not None or self.resend_expired > 0

    def on_terms(self, invitation: Invitation) -> Invitation:
        """Return the invitation with the lifespan of its own link."""
        terms = invitation.terms
        before_s = self.remind_before_s
        if before_s is None or invitation.purpose is Purpose.VERIFY_EMAIL:
            return invitation
        mail = mail_of(invitation.event_id, invitation.user_id)
        is_reminder = mail is not None and mail.kind is MailKind.REMINDER
        lifespan_s = before_s if is_reminder else terms.lifespan_s - before_s
        if lifespan_s <= 0:  # a verification's terms, where nobody is invited
            return invitation
        return replace(invitation, terms=replace(terms, lifespan_s=lifespan_s))

    def after(self, event_id: str, user_id: str) -> FollowingMail | None:
        """Return the mail that follows the one that this event caused, once its link has ended unused."""
        mail = mail_of(event_id, user_id)
        number = 0 if mail is None else mail.number
        if self.remind_before_s is not None and (mail is None or mail.kind is MailKind.RESEND):
            return FollowingMail(MailKind.REMINDER, number)
        if number < self.resend_expired:
            return FollowingMail(MailKind.RESEND, number + 1)
        return None


def mail_of(event_id: str, user_id: str) -> FollowingMail | None:
    """Return which following mail this event causes, None for the event of a producer."""
    for number in range(MOST_RESENDS + 1):
        for kind in MailKind:
            mail = FollowingMail(kind, number)
            if mail.identity(event_id, user_id) == event_id:
                return mail
    return None
