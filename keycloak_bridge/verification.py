"""Read a written user back: Keycloak's 201 does not say that all of it is stored."""

import threading
import zlib
from collections.abc import Sequence
from dataclasses import dataclass

from keycloak_bridge.core.desired import UserRepresentation
from keycloak_bridge.core.dropped import dropped_of_changes, dropped_of_new
from keycloak_bridge.core.errors import DroppedError, KeycloakNotFoundError, Violation
from keycloak_bridge.core.operations import CreateUser, UpdateUser
from keycloak_bridge.core.ports import UserDirectory

_PERCENT = 100


@dataclass(frozen=True, slots=True)
class VerificationPolicy:
    """Which written users are read back: `always`, `off`, or `sampled`.

    A sample holds the `first` ones, until so many in a row agree, and `share_percent` of all later ones.
    """

    mode: str = "sampled"
    share_percent: int = 1
    first: int = 100


class Verification:
    """Compares what was written with what is stored. Safe to share between threads."""

    def __init__(self, directory: UserDirectory, policy: VerificationPolicy) -> None:
        self._directory = directory
        self._policy = policy
        self._lock = threading.Lock()
        self._agreed = 0

    def wants(self, event_id: str) -> bool:
        """Say whether the user of this event is read back; among later events it is always the same ones."""
        policy = self._policy
        if policy.mode != "sampled":
            return policy.mode == "always"
        with self._lock:
            if self._agreed < policy.first:
                return True
        hashed = zlib.crc32(event_id.encode("utf-8", "surrogatepass"))
        return hashed % _PERCENT < policy.share_percent

    def created(
        self, user_id: str, operation: CreateUser, carriers: Sequence[UserRepresentation]
    ) -> None:
        """Raise DroppedError where the new user is not stored as it was sent.

        `carriers` are the users with its external id; without that, the user is not among them and is read by itself.
        """
        own = [one for one in carriers if one.get("id") == user_id]
        stored = own[0] if own else self._stored(user_id)
        self._judge(dropped_of_new(operation.representation, stored))

    def updated(self, user_id: str, operation: UpdateUser) -> None:
        """Raise DroppedError where a change is not stored as it was sent."""
        stored = self._stored(user_id)
        self._judge(dropped_of_changes(operation.representation, operation.changes, stored))

    def _stored(self, user_id: str) -> UserRepresentation:
        stored = self._directory.get(user_id)
        if stored is None:
            raise KeycloakNotFoundError("the user is gone", code="user-not-found")
        return stored

    def _judge(self, dropped: Sequence[str]) -> None:
        with self._lock:
            self._agreed = 0 if dropped else self._agreed + 1
        if dropped:
            raise DroppedError(
                f"Keycloak accepted the user and did not store all of it ({', '.join(dropped)})",
                remedy="add the attributes to the realm's user profile, or take them out of the mapping; "
                "then replay the event",
                violations=[
                    Violation(_pointer(target), "stored", "is not stored as it was sent")
                    for target in dropped
                ],
            )


def _pointer(target: str) -> str:
    parts = (part.replace("~", "~0").replace("/", "~1") for part in target.split(".", 1))
    return "/user/" + "/".join(parts)
