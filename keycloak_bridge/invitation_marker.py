"""Write on the user how far its mail is."""

from collections.abc import Callable

from keycloak_bridge.core.bookkeeping import mark_of, with_invitation_mark
from keycloak_bridge.core.desired import UserRepresentation
from keycloak_bridge.core.errors import KeycloakNotFoundError
from keycloak_bridge.core.invitation_mark import InvitationMark
from keycloak_bridge.core.invitation_rules import (
    Settlement,
    announced,
    awaits_another,
    settled,
)
from keycloak_bridge.core.model import Invitation, Purpose
from keycloak_bridge.core.ports import Clock, UserDirectory
from keycloak_bridge.core.user_locks import UserLocks

_Next = Callable[[UserRepresentation], InvitationMark | None]


class InvitationMarker:
    """Marks users, and changes nothing else of them. Safe to share between threads.

    Each user is read again before: the provision stage or an administrator may have written meanwhile. Every method
    raises BridgeError, KeycloakNotFoundError for a user that is gone.
    """

    def __init__(self, directory: UserDirectory, locks: UserLocks, clock: Clock) -> None:
        self._directory = directory
        self._locks = locks
        self._clock = clock

    def announce(self, invitation: Invitation) -> bool:
        """Mark the mail as about to go out; False where a later event's mail is due by now instead.

        That does not stop a verification; it goes out unmarked.
        """
        superseded = False

        def sending(user: UserRepresentation) -> InvitationMark | None:
            nonlocal superseded
            mark = mark_of(user)
            superseded = awaits_another(mark, invitation.event_id)
            return None if superseded else announced(invitation, mark, self._clock.now())

        self._mark(invitation, sending)
        return not superseded or invitation.purpose is Purpose.VERIFY_EMAIL

    def settle(self, invitation: Invitation, settlement: Settlement) -> None:
        """Mark the user so that nothing is mailed for this event any more; a later event's mail stays due."""

        def sent(user: UserRepresentation) -> InvitationMark | None:
            return settled(invitation, mark_of(user), self._clock.now(), settlement)

        self._mark(invitation, sent)

    def _mark(self, invitation: Invitation, following: _Next) -> None:
        with self._locks.of(invitation.user_id):
            user = self._directory.get(invitation.keycloak_id)
            if user is None:
                raise KeycloakNotFoundError("the user is gone", code="user-not-found")
            mark = following(user)
            if mark is not None:
                self._directory.update(invitation.keycloak_id, with_invitation_mark(user, mark))
