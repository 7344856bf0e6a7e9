"""How it is told that Keycloak refuses a user, be it asked or known beforehand.

Only names of fields, Keycloak's message keys and the limits of its rules are repeated, never a value.
"""

import re
from collections.abc import Sequence

from keycloak_bridge.domain.errors import KeycloakRejectedError, Violation

_OWN_FIELDS = frozenset(
    {"id", "username", "email", "emailVerified", "enabled", "firstName", "lastName"}
    | {"attributes", "groups", "requiredActions"}
)
_FIELD_NAME = re.compile(r"[\w.\-]{1,255}")
_MESSAGE_KEY = re.compile(r"[A-Za-z][A-Za-z0-9_.\-]{0,99}")


def profile_violation(field: object, key: object, params: object) -> Violation:
    """Return what one entry of Keycloak's answer says: which field, by which message key, with which limits."""
    keyword = key if isinstance(key, str) and _MESSAGE_KEY.fullmatch(key) else "invalid"
    # strings among the parameters may be the very value; numbers are the rule's limits
    params = params if isinstance(params, list) else []
    numbers = [p for p in params if isinstance(p, int | float) and not isinstance(p, bool)]
    limits = f" (limits: {', '.join(map(str, numbers))})" if numbers else ""
    return Violation(_pointer(field), keyword, f"the realm's user profile says {keyword}{limits}")


def user_refused(
    violations: Sequence[Violation],
    *,
    status: int,
    method: str,
    path: str,
    code: str | None = None,
    foreseen: bool = False,
) -> KeycloakRejectedError:
    """Return the error for a user that is refused as often as it is sent to `path`, a template without ids.

    One that is `foreseen` says the same, but has no status: nobody was asked, so that it proves nothing of Keycloak.
    """
    fields = ", ".join(dict.fromkeys(violation.pointer for violation in violations))
    return KeycloakRejectedError(
        f"Keycloak refuses {fields or 'the request'} ({method} {path}: {status})",
        code=code,
        remedy="correct the user in user management, the mapping, or the realm's user profile; "
        "then replay the event",
        violations=violations,
        status=None if foreseen else status,
        method=method,
        path=path,
    )


def _pointer(field: object) -> str:
    if not isinstance(field, str) or not _FIELD_NAME.fullmatch(field):
        return "/user"
    return f"/user/{field}" if field in _OWN_FIELDS else f"/user/attributes/{field}"
