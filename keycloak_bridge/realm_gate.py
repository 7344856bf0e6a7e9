"""Refuse to start on a realm that would lose or refuse users, but give one that is being imported a while."""

from collections.abc import Callable, Sequence

from keycloak_bridge.core.errors import ConfigError, KeycloakUnavailableError
from keycloak_bridge.core.ports import Clock
from keycloak_bridge.keycloak_check import Problem

IMPORT_GRACE_S = 20.0
"""How long a realm may be missing at start before it counts as misspelt."""


class RealmGate:
    """Checks the realm, and gives one that is not there yet a while to be imported.

    Keycloak answers before its import at start-up is through.
    """

    def __init__(self, check: Callable[[], Sequence[Problem]], clock: Clock) -> None:
        self._check = check
        self._clock = clock
        self._missing_since_s: float | None = None

    def __call__(self) -> Sequence[Problem]:
        """Return the problems; raises KeycloakUnavailableError while a missing realm may yet come."""
        problems = self._check()
        missing = next((one for one in problems if one.code == "realm-not-found"), None)
        if missing is not None:
            now_s = self._clock.monotonic()
            if self._missing_since_s is None:
                self._missing_since_s = now_s
            if now_s - self._missing_since_s < IMPORT_GRACE_S:
                raise KeycloakUnavailableError(missing.message, code=missing.code)
        return problems


def refuse(problems: Sequence[Problem]) -> None:
    """Raise ConfigError naming every problem that is an error."""
    errors = [problem for problem in problems if problem.severity == "error"]
    if errors:
        raise ConfigError(
            "the realm is not ready for the bridge:\n"
            + "\n".join(f"  - {problem.message} ({problem.remedy})" for problem in errors),
            code=errors[0].code,
        )
