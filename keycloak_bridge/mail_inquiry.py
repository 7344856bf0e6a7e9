"""Ask Keycloak what stands against a mail, and whether it went out already."""

from keycloak_bridge.core.bookkeeping import mark_of
from keycloak_bridge.core.desired import UserRepresentation
from keycloak_bridge.core.errors import KeycloakAuthError
from keycloak_bridge.core.invitation_rules import (
    HAS_CREDENTIALS,
    LINK_STILL_VALID,
    SUPERSEDED,
    awaits_another,
    counts_since,
    link_may_stand,
    link_stands,
    may_have_begun,
    reason_against,
)
from keycloak_bridge.core.model import Invitation, Purpose
from keycloak_bridge.core.ports import Clock, UserDirectory


class MailInquiry:
    """Answers about one user at a time. Safe to share between threads.

    With `minds_links` a link of an earlier mail that is still alive stands against another one, except one that verifies a
    changed address: Keycloak killed the links of the old one. Every method raises BridgeError.
    """

    def __init__(self, directory: UserDirectory, clock: Clock, *, minds_links: bool) -> None:
        self._directory = directory
        self._clock = clock
        self._minds_links = minds_links

    def why_not(self, invitation: Invitation, user: UserRepresentation) -> str | None:
        """Return the code of the reason against a mail, None where it is due."""
        reason = reason_against(invitation, user)
        if reason is not None:
            return reason
        if invitation.purpose is Purpose.VERIFY_EMAIL:
            return self._why_not_verify(invitation, user)
        if self._directory.has_credentials(invitation.keycloak_id):
            return HAS_CREDENTIALS
        now = self._clock.now()
        if self._minds_links and link_stands(mark_of(user), invitation.event_id, now):
            return LINK_STILL_VALID
        return None

    def _why_not_verify(self, invitation: Invitation, user: UserRepresentation) -> str | None:
        """Leave it to a later event's invitation, whose link verifies too; a user with credentials will not get that."""
        if not awaits_another(mark_of(user), invitation.event_id):
            return None
        has_credentials = self._directory.has_credentials(invitation.keycloak_id)
        return None if has_credentials else SUPERSEDED

    def may_be_out(self, invitation: Invitation, user: UserRepresentation) -> bool:
        """Say whether another process may have sent this mail, or an earlier one whose link would stand against it."""
        mark = mark_of(user)
        if may_have_begun(mark, invitation.event_id) or self.may_be_joined(invitation, user):
            return True
        # a verification finds the mark of a later event only here: it may have taken the place of its own
        return awaits_another(mark, invitation.event_id)

    def may_be_joined(self, invitation: Invitation, user: UserRepresentation) -> bool:
        """Say whether the link would be a second one, if an earlier mail went out of which nobody knows."""
        if not self._minds_links or invitation.purpose is Purpose.VERIFY_EMAIL:
            return False
        return link_may_stand(mark_of(user), invitation.event_id, self._clock.now())

    def recorded(self, invitation: Invitation, user: UserRepresentation) -> bool | None:
        """Say whether Keycloak recorded the mail to the user; None where it cannot be asked."""
        if not self._directory.can_look_up_mails():
            return None
        since = counts_since(invitation, user, mark_of(user))
        try:
            return self._directory.mail_recorded(invitation.keycloak_id, since)
        except KeycloakAuthError as error:
            if error.status == 403:  # the role was taken away just now
                return None
            raise
