"""Turn what Keycloak, or something in front of it, answered into the bridge's errors, without a value of any user.

`keycloak_http` does the same for calls that were never answered.
"""

from collections.abc import Mapping
from email.utils import parsedate_to_datetime
from typing import Any

import requests

from keycloak_bridge.domain.errors import (
    KeycloakAuthError,
    KeycloakConflictError,
    KeycloakError,
    KeycloakNotFoundError,
    KeycloakUnavailableError,
    MailDeliveryError,
    Violation,
)
from keycloak_bridge.keycloak.refusals import EXECUTE_ACTIONS_EMAIL, Call, rejected, where

_NO_REALM = frozenset(
    {"Realm not found.", "Realm does not exist", "Unable to find matching target resource method"}
)
_TOO_LARGE = frozenset({413, 414, 431})  # a proxy's word counts: the same request would fail again
_BUSY = frozenset({408, 425, 429})

_NO_ORGANIZATIONS = "Organizations not enabled for this realm."

_ROLES_NEEDED = (
    ("/organizations", "manage-organizations (for user.organizations of the mapping)"),
    ("/clients", "view-clients (for user.clientRoles of the mapping)"),
    ("/users/{id}/role-mappings/clients", "view-clients (for user.clientRoles of the mapping)"),
    ("/partialImport", "manage-realm (for [burst])"),
    ("/authentication", "manage-realm (for [burst])"),
    ("/components", "manage-realm (for [burst])"),
    ("/events", "view-events (for mails in doubt)"),
    ("/admin-events", "view-events (for mails in doubt)"),
    ("", "manage-users, view-users and query-users"),
)
"""The beginning of a path, and the roles of realm-management that it takes."""

_CONFLICTS = {
    "User exists with same username": Violation(
        "/user/username", "unique", "another user of the realm holds it"
    ),
    "User exists with same email": Violation(
        "/user/email", "unique", "another user of the realm holds it"
    ),
}


def error_for(
    call: Call,
    status: int,
    body: Mapping[str, Any] | None,
    *,
    empty: bool = False,
    retry_after_s: float | None = None,
) -> KeycloakError:
    """Return the error that `status` and the JSON object `body` mean.

    `body` is None when the answer was none of Keycloak's; `empty` says that there was no body at all.
    """
    answer = body or {}
    said = str(answer.get("errorMessage") or answer.get("error"))
    if status >= 500 or status in _BUSY:
        return _unavailable(call, status, answer, retry_after_s)
    if status in (401, 403):
        return _refused(call, status)
    if said in _NO_REALM and status == 404:
        return realm_not_found(call)
    foreign = body is None and not (empty and status != 404) and status not in _TOO_LARGE
    if status < 400 or foreign:
        return not_keycloak(call, status)
    if said == _NO_ORGANIZATIONS:
        return organizations_disabled(call, status)
    if status == 404:
        return KeycloakNotFoundError(
            f"Keycloak has nothing at {call} (404): it is gone", **where(call, status)
        )
    if status == 409:
        violation = _CONFLICTS.get(said)
        return KeycloakConflictError(
            f"{_taken(call)} ({call}: 409)",
            violations=[violation] if violation else (),
            **where(call, status),
        )
    return rejected(call, status, answer)


def from_response(call: Call, response: requests.Response) -> KeycloakError:
    """Return the error that `response`, which is not what the call hoped for, means."""
    return error_for(
        call,
        response.status_code,
        json_object(response),
        empty=not response.content,
        retry_after_s=_retry_after_s(response.headers),
    )


def not_keycloak(call: Call, status: int) -> KeycloakUnavailableError:
    """Return the error for an answer that cannot be Keycloak's: a redirect, HTML, broken JSON."""
    return KeycloakUnavailableError(
        f"the answer to {call} ({status}) is not Keycloak's",
        code="not-keycloak",
        remedy="check [keycloak] url and what stands between: a proxy or load balancer answered",
        **where(call, status),
    )


def realm_not_found(call: Call) -> KeycloakAuthError:
    """Return the error for a realm, or a whole Keycloak, that is not at the configured address."""
    return KeycloakAuthError(
        f"there is no such realm at [keycloak] url ({call}: 404)",
        code="realm-not-found",
        remedy="check [keycloak] realm, and that url has Keycloak's path (such as /auth) if it has one",
        **where(call, 404),
    )


def organizations_disabled(call: Call, status: int) -> KeycloakAuthError:
    """Return the error for a realm in which organizations are switched off."""
    return KeycloakAuthError(
        f"the realm has organizations switched off ({call}: {status})",
        code="organizations-disabled",
        remedy="switch Organizations on in the realm settings, or take [user.organizations] out of the "
        "mapping",
        **where(call, status),
    )


def json_object(response: requests.Response) -> dict[str, Any] | None:
    """Return the body if it is a JSON object, else None."""
    try:
        body = response.json()
    except ValueError:
        return None
    return body if isinstance(body, dict) else None


def _unavailable(
    call: Call, status: int, answer: Mapping[str, Any], retry_after_s: float | None
) -> KeycloakUnavailableError:
    if call.path == EXECUTE_ACTIONS_EMAIL and status == 500 and "errorMessage" in answer:
        return MailDeliveryError(
            f"Keycloak could not hand the mail to the SMTP server ({call}: {status})",
            remedy="check the realm's e-mail settings and the SMTP server",
            **where(call, status),
        )
    return KeycloakUnavailableError(
        f"Keycloak cannot answer {call} now ({status})",
        code="keycloak-busy" if status in _BUSY else None,
        retry_after_s=retry_after_s,
        **where(call, status),
    )


def _refused(call: Call, status: int) -> KeycloakAuthError:
    if status == 401:
        return KeycloakAuthError(
            f"Keycloak refuses a fresh token ({call}: 401)",
            code="keycloak-token-refused",
            remedy="call Keycloak by one host name only, or start it with --hostname and "
            "--hostname-backchannel-dynamic=true",
            **where(call, status),
        )
    return KeycloakAuthError(
        f"the service account may not {call} (403)",
        code="keycloak-forbidden",
        remedy=f"give the client's service account the realm-management roles {_roles_needed(call)}; "
        "with full scope off, let them into the client's scope too",
        **where(call, status),
    )


def _taken(call: Call) -> str:
    if call.path in ("/users", "/users/{id}"):
        return "another user of the realm holds the username or e-mail"
    return "it is there already"


def _roles_needed(call: Call) -> str:
    return next(roles for begin, roles in _ROLES_NEEDED if call.path.startswith(begin))


def _retry_after_s(headers: Mapping[str, str]) -> float | None:
    """Read Retry-After; a date counts from the answer's own Date, so no clock of ours is asked."""
    value = headers.get("Retry-After", "").strip()
    if value.isascii() and value.isdigit():
        return float(value[:9])
    try:
        wait = parsedate_to_datetime(value) - parsedate_to_datetime(headers.get("Date", ""))
    except (TypeError, ValueError):  # no date, or only one of both has a time zone
        return None
    return max(0.0, wait.total_seconds())
