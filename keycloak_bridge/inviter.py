"""Have Keycloak mail one invitation, once."""

import logging

from keycloak_bridge.core.errors import (
    KeycloakConflictError,
    KeycloakNotFoundError,
    KeycloakRejectedError,
)
from keycloak_bridge.core.model import Invitation, Outcome, Result
from keycloak_bridge.core.plan import (
    invitation_marker_sent,
    invitation_state,
    with_invitation_sent,
)
from keycloak_bridge.core.ports import UserDirectory
from keycloak_bridge.core.user_locks import UserLocks
from keycloak_bridge.logs import log_event

logger = logging.getLogger(__name__)


class Inviter:
    """Decides whether a mail is still wanted, has it sent, and marks the user as invited."""

    def __init__(self, directory: UserDirectory, locks: UserLocks | None = None) -> None:
        self._directory = directory
        self._locks = locks or UserLocks()
        self._unmarked: set[tuple[str, str]] = set()

    def invite(self, invitation: Invitation) -> Result:
        """Send the mail unless it went out before or would be wrong now; say what was done.

        The mark is written after the mail: if the bridge dies in between, the mail goes out again (at least once). If
        only the mark fails, the next attempt writes it without another mail. Raises BridgeError.
        """
        mailed = (invitation.keycloak_id, invitation.event_id)
        if mailed not in self._unmarked:
            try:
                reason = self._why_not(invitation)
            except KeycloakNotFoundError:
                reason = "user-not-found"
            if reason is not None:
                return _result(invitation, Outcome.SKIPPED, reason)
            self._directory.execute_actions_email(invitation.keycloak_id, invitation.terms)
            self._unmarked.add(mailed)
        try:
            self._mark_sent(invitation)
        except (KeycloakNotFoundError, KeycloakConflictError, KeycloakRejectedError) as error:
            # the mail is out, which no refusal of the mark can change
            log_event(
                logger,
                "invitation-not-marked",
                level=logging.WARNING,
                message="the mail went out, but the user could not be marked; a replay would mail again",
                reason=error.code,
                event_id=invitation.event_id,
                keycloak_id=invitation.keycloak_id,
            )
        self._unmarked.discard(mailed)
        return _result(invitation, Outcome.INVITED, None)

    def _why_not(self, invitation: Invitation) -> str | None:
        """Return the code of the reason against a mail, None where it is due."""
        user = self._directory.get(invitation.keycloak_id)
        if user is None:
            return "user-not-found"
        if not user.get("enabled", False):
            return "user-disabled"
        if not user.get("email"):
            return "no-email"
        if invitation_state(user) == invitation_marker_sent(invitation.event_id):
            return "already-invited"
        if self._directory.has_credentials(invitation.keycloak_id):
            return "has-credentials"
        return None

    def _mark_sent(self, invitation: Invitation) -> None:
        # read again: the provision stage or an administrator may have written while the mail was on its way
        with self._locks.of(invitation.user_id):
            user = self._directory.get(invitation.keycloak_id)
            if user is not None:
                self._directory.update(
                    invitation.keycloak_id, with_invitation_sent(user, invitation.event_id)
                )


def _result(invitation: Invitation, outcome: Outcome, reason: str | None) -> Result:
    return Result(
        outcome,
        reason=reason,
        event_id=invitation.event_id,
        user_id=invitation.user_id or None,
        keycloak_id=invitation.keycloak_id,
    )
