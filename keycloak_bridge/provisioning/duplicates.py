"""Two users with one external id, created by two processes at once: which of them stays?

Keycloak does not keep an attribute unique: two processes that search for the same user at the same moment both find none
and both create it. Each searches again after its create, and the oldest user stays.
"""

import logging
from collections.abc import Sequence

from keycloak_bridge.domain.errors import HoldError, KeycloakConflictError
from keycloak_bridge.domain.events import UserEvent
from keycloak_bridge.domain.ports import UserDirectory
from keycloak_bridge.domain.users import MatchCriterion, UserRepresentation
from keycloak_bridge.ops.logs import log_event
from keycloak_bridge.threads.bounded_dict import BoundedDict

logger = logging.getLogger(__name__)

_GONE_BY_THEN_S = 2.0
"""Far longer than another process takes between its create and its search."""


class DuplicateResolver:
    """Decides which of several users with one external id stays. Safe to share between threads.

    Keycloak dates a user before it becomes visible. So the process with the older user may be the last to search, when the
    other one has found itself alone: then the user of the event that is not done yet is deleted, whichever is older.
    """

    def __init__(self, directory: UserDirectory) -> None:
        self._directory = directory
        self._created: BoundedDict[str, str] = BoundedDict()

    def settle(
        self, event: UserEvent, user_id: str, carriers: Sequence[UserRepresentation]
    ) -> None:
        """Return when the user that was created for `event` is the only one among `carriers` of its external id.

        If there is an older one, delete the new user again and raise KeycloakConflictError. If there is a younger one,
        which its own process is about to delete, raise HoldError (`duplicate-user`).
        """
        others = [one for one in carriers if one.get("id") != user_id]
        if not others:
            return
        if min(carriers, key=_age).get("id") != user_id:
            self._delete(user_id)
            raise KeycloakConflictError("another process created the user")
        self._created.put(event.identity, user_id)
        raise HoldError(
            "another process created the user too and is about to delete it",
            wait_s=_GONE_BY_THEN_S,
            code="duplicate-user",
        )

    def make_way(self, event: UserEvent, external_id: MatchCriterion) -> bool:
        """Delete the user that was created for `event` where another one stays; return whether that was done."""
        user_id = self._created.pop(event.identity)
        if user_id is None:
            return False
        ids = {one.get("id") for one in self._directory.having(external_id)}
        if user_id not in ids or len(ids) == 1:
            return False
        self._delete(user_id)
        return True

    def forget(self, event: UserEvent) -> None:
        """Forget what was created for `event`, which is done."""
        self._created.pop(event.identity)

    def _delete(self, user_id: str) -> None:
        self._directory.delete(user_id)
        log_event(
            logger,
            "duplicate-user-deleted",
            level=logging.WARNING,
            message="another process had created the same user, so the one that was created here is deleted again",
            keycloak_id=user_id,
        )


def _age(user: UserRepresentation) -> tuple[int, str]:
    return user.get("createdTimestamp", 0), user.get("id", "")
