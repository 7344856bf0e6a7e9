"""An import of users in memory; the same contract suite holds it and the real one to their promises."""

import threading
from collections.abc import Sequence

from keycloak_bridge.core.desired import UserRepresentation
from keycloak_bridge.core.errors import BridgeError
from keycloak_bridge.core.import_rules import Judgement, Way
from keycloak_bridge.keycloak_errors import error_for
from keycloak_bridge.keycloak_rejections import Call
from keycloak_bridge.testing.in_memory_keycloak import InMemoryKeycloak
from keycloak_bridge.testing.in_memory_realm import Failure

_CALL = Call("POST", "/partialImport")


class InMemoryImporter:
    """A UserImporter into the users of an InMemoryKeycloak. Safe to share between threads.

    `allowed` says whether users may be imported, `judgements` what `judge` answers for a username other than "import";
    `batches` holds the usernames of each import that was tried.
    """

    def __init__(self, keycloak: InMemoryKeycloak) -> None:
        self._keycloak = keycloak
        self._lock = threading.Lock()
        self._failures: list[Failure] = []
        self.allowed = True
        self.judgements: dict[str, Judgement] = {}
        self.batches: list[tuple[str, ...]] = []

    def fail(self, error: BridgeError, *, times: int = 1, after_effect: bool = False) -> None:
        """Make the next imports raise; `after_effect` is an answer that got lost on its way."""
        self._failures += [Failure(error, after_effect)] * times

    def available(self) -> bool:
        """Say whether users may be imported."""
        return self.allowed

    def judge(self, representation: UserRepresentation) -> Judgement:
        """Return what was put into `judgements`, else that the user may be imported as it is."""
        usual = Judgement(Way.IMPORT, representation)
        return self.judgements.get(representation["username"], usual)

    def import_users(self, users: Sequence[UserRepresentation]) -> Sequence[str | None]:
        """Create all that are not there yet, or none."""
        with self._lock:
            self.batches.append(tuple(user["username"] for user in users))
            failure = self._failures.pop(0) if self._failures else None
            if failure is not None and not failure.after_effect:
                raise failure.error
            there = self._keycloak.users()
            names = {user["username"] for user in there}
            emails = {user["email"] for user in there if "email" in user}
            new = [user for user in users if user["username"] not in names]
            wrong = any(user.get("email") in emails for user in new)
            if wrong or not all(map(self._has_groups, users)):
                raise error_for(_CALL, 500, {"error": "unknown_error"})
            ids = [self._keycloak.add_user(user) if user in new else None for user in users]
            if failure is not None:
                raise failure.error
            return ids

    def _has_groups(self, user: UserRepresentation) -> bool:
        return not self._keycloak.missing("groups", user.get("groups", []))
