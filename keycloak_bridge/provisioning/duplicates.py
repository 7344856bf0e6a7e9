"""Keep one user per external id, although Keycloak itself keeps no attribute unique.

Two processes that look for the same user at the same moment both find nobody and both create it. Each looks again after
its create, and the oldest user stays.
"""

import logging
from collections.abc import Sequence

from keycloak_bridge.delivery.bounded import BoundedDict
from keycloak_bridge.domain.errors import HoldError, KeycloakConflictError
from keycloak_bridge.domain.events import UserEvent
from keycloak_bridge.domain.ports import UserDirectory
from keycloak_bridge.domain.users import MatchCriterion, UserRepresentation
from keycloak_bridge.ops.logs import log_event

logger = logging.getLogger(__name__)

_GONE_BY_THEN_S = 2.0
"""Far longer than another process takes between its create and its look."""


class DuplicateResolver:
    """Settles which of several users with one external id stays. Safe to share between threads.

    Keycloak dates a user before it can be seen. So the owner of the older one may be the last to look, when the other one
    has found itself alone: then the user of the event that is not done yet makes way, whichever is older.
    """

    def __init__(self, directory: UserDirectory) -> None:
        self._directory = directory
        self._created: BoundedDict[tuple[str, str], str] = BoundedDict()

    def settle(
        self, event: UserEvent, user_id: str, carriers: Sequence[UserRepresentation]
    ) -> None:
        """Return when the user that was created for `event` is the only one among `carriers` of its external id.

        Raises KeycloakConflictError, with the user deleted again, where an older one is there, and HoldError
        (`duplicate-user`) where a younger one is, which its own process deletes meanwhile.
        """
        others = [one for one in carriers if one.get("id") != user_id]
        if not others:
            return
        if min(carriers, key=_age).get("id") != user_id:
            self._delete(user_id)
            raise KeycloakConflictError("another process created the user")
        self._created.put((event.source, event.id), user_id)
        raise HoldError(
            "another process created the user too and is about to delete it",
            wait_s=_GONE_BY_THEN_S,
            code="duplicate-user",
        )

    def make_way(self, event: UserEvent, external_id: MatchCriterion) -> bool:
        """Delete the user that was created for `event` where another one stays; say whether that was done."""
        user_id = self._created.pop((event.source, event.id))
        if user_id is None:
            return False
        ids = {one.get("id") for one in self._directory.having(external_id)}
        if user_id not in ids or len(ids) == 1:
            return False
        self._delete(user_id)
        return True

    def forget(self, event: UserEvent) -> None:
        """Let go of what was created for `event`, which is done."""
        self._created.pop((event.source, event.id))

    def _delete(self, user_id: str) -> None:
        self._directory.delete(user_id)
        log_event(
            logger,
            "duplicate-user-deleted",
            level=logging.WARNING,
            message="another process had created the same user; the one that was created here is deleted again",
            keycloak_id=user_id,
        )


def _age(user: UserRepresentation) -> tuple[int, str]:
    return user.get("createdTimestamp", 0), user.get("id", "")
