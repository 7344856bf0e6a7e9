"""Turn what Keycloak, or something in front of it, answered into the bridge's errors, without a value of any user.

`keycloak_http` does the same for calls that were never answered.

Say why a request about a user cannot succeed, by Keycloak's answer (400, 422 ...) or before asking it.

No value of any user is repeated. Keycloak's own sentences can repeat values (`error-invalid-email` carries the
address), so only keys, field names, numbers and sentences known to be fixed are looked at, and none of its text is
passed on.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from typing import Any, NamedTuple

import requests

from keycloak_bridge.domain.errors import (
    ConflictError,
    KeycloakAuthError,
    KeycloakConflictError,
    KeycloakError,
    KeycloakNotFoundError,
    KeycloakRejectedError,
    KeycloakUnavailableError,
    MailDeliveryError,
    Violation,
)
from keycloak_bridge.domain.users import InvitationTerms
from keycloak_bridge.keycloak.refusals import profile_violation, user_refused

EXECUTE_ACTIONS_EMAIL = "/users/{id}/execute-actions-email"

_UNKNOWN_FIELD = re.compile(r'Unrecognized field "([\w.\-]{1,255})"')


class Call(NamedTuple):
    """An endpoint: `path` is a template below the realm, so that no id or value reaches a message."""

    method: str
    path: str

    def __str__(self) -> str:
        return f"{self.method} {self.path}"


@dataclass(frozen=True, slots=True)
class _Reason:
    """What a fixed sentence of Keycloak means."""

    code: str
    message: str
    remedy: str
    pointer: str | None = None


_REASONS = {
    "User is disabled": _Reason(
        "user-disabled", "Keycloak mails no disabled user", "enable the user, then invite again"
    ),
    "User email missing": _Reason(
        "no-email", "the user has no e-mail address", "give the user an e-mail, then invite again"
    ),
    "Provided invalid required actions": _Reason(
        "unknown-action",
        "the realm does not know one of the invitation's actions",
        "correct [invite] actions in the mapping, or enable that required action in the realm",
    ),
    "Client doesn't exist": _Reason(
        "unknown-client",
        "the invitation's client is not in the realm",
        "correct [invite] client_id in the mapping",
    ),
    "Client is not enabled": _Reason(
        "client-disabled",
        "the invitation's client is disabled",
        "enable the client in Keycloak, or change [invite] client_id in the mapping",
    ),
    "Invalid redirect uri.": _Reason(
        "invalid-redirect",
        "the invitation's client does not allow its redirect_uri",
        "add it to the client's valid redirect URIs, or correct [invite] redirect_uri in the mapping",
    ),
    "Client id missing": _Reason(
        "invalid-redirect",
        "the invitation has a redirect_uri but no client_id",
        "set [invite] client_id in the mapping",
    ),
    "User name is missing": _Reason(
        "keycloak-rejected",
        "the user has no username",
        "map user.username to something that every event has",
        "/user/username",
    ),
}


def where(call: Call, status: int | None) -> dict[str, Any]:
    """Return what every KeycloakError tells about its call."""
    return {"status": status, "method": call.method, "path": call.path}


def rejected(call: Call, status: int, answer: Mapping[str, Any]) -> KeycloakRejectedError:
    """Return the error for a request that fails again however often it is sent."""
    said = str(answer.get("errorMessage") or answer.get("error"))
    violations = _violations(answer)
    reason = _REASONS.get(said)
    if reason is not None:
        if reason.pointer:
            violations = (Violation(reason.pointer, "required", reason.message),)
        return KeycloakRejectedError(
            f"{reason.message} ({call}: {status})",
            code=reason.code,
            remedy=reason.remedy,
            violations=violations,
            **where(call, status),
        )
    return user_refused(
        violations,
        code="too-large" if status in (413, 414, 431) else None,
        status=status,
        method=call.method,
        path=call.path,
    )


def mail_refusal(said: str) -> KeycloakRejectedError:
    """Return the error for an invitation that Keycloak would refuse with this sentence."""
    return rejected(Call("PUT", EXECUTE_ACTIONS_EMAIL), 400, {"errorMessage": said})


def ambiguous(target: str, count: int) -> ConflictError:
    """Return the error for a criterion that several users meet."""
    return ConflictError(
        f"{count} users of the realm have the same {target}",
        code="ambiguous",
        remedy="keep one of them in Keycloak, then replay the event",
    )


def unsearchable(pointer: str) -> KeycloakRejectedError:
    """Return the error for a value that Keycloak cannot be asked for; a user could never be found again by it."""
    return KeycloakRejectedError(
        f"Keycloak cannot search for the value of {pointer}",
        code="unsearchable-value",
        remedy="ids must not end in a backslash or hold one before a backslash or a double quote; "
        "correct it in user management",
        violations=[
            Violation(pointer, "unsearchable-value", "no search of Keycloak can express it")
        ],
    )


def group_not_found(path: str) -> KeycloakNotFoundError:
    """Return the error for a path without a group."""
    return KeycloakNotFoundError(
        f"the realm has no group {normal_path(path)}",
        code="group-not-found",
        remedy="create the group in Keycloak or correct the mapping; then replay the event",
    )


def role_not_found(names: Sequence[str], client_id: str | None = None) -> KeycloakNotFoundError:
    """Return the error for roles that are not there, or that the service account may not map."""
    owner, kind = (
        ("the realm", "realm role") if client_id is None else (f"client {client_id}", "role")
    )
    return KeycloakNotFoundError(
        f"{owner} has no role {', '.join(names)}",
        code="role-not-found",
        remedy=f"create the {kind} in Keycloak or correct the mapping; then replay the event",
    )


def client_not_found(client_id: str) -> KeycloakNotFoundError:
    """Return the error for a client whose roles were asked for."""
    return KeycloakNotFoundError(
        f"the realm has no client {client_id}",
        code="client-not-found",
        remedy="create the client in Keycloak or correct the mapping; then replay the event",
    )


def organization_not_found(alias: str) -> KeycloakNotFoundError:
    """Return the error for an alias without an organization."""
    return KeycloakNotFoundError(
        f"the realm has no organization {alias}",
        code="organization-not-found",
        remedy="create the organization in Keycloak or correct the mapping (it wants the alias, not the "
        "name); then replay the event",
    )


def owned_by_organization(alias: str) -> KeycloakRejectedError:
    """Return the error for a member that leaving the organization would delete."""
    return KeycloakRejectedError(
        f"organization {alias} owns the user's account: leaving it would delete the user",
        code="managed-member",
        remedy="take the organization out of the mapping's `allow`, or remove the user in Keycloak",
    )


def identity_provider_not_found(alias: str) -> KeycloakNotFoundError:
    """Return the error for an alias without an identity provider."""
    return KeycloakNotFoundError(
        f"the realm has no identity provider {alias}",
        code="identity-provider-not-found",
        remedy="create the identity provider in Keycloak or correct the mapping; then replay the event",
    )


def identity_shared(alias: str) -> ConflictError:
    """Return the error for an account that several users are linked to."""
    return ConflictError(
        f"several users of the realm are linked to the same account at {alias}",
        code="identity-taken",
        remedy="leave the link to one of them in Keycloak, then replay the event",
    )


def refuse_unusable(terms: InvitationTerms) -> None:
    """Refuse terms that Keycloak would mail as a link to nothing, or would not understand."""
    if not terms.actions:
        raise KeycloakRejectedError(
            "the invitation asks for no action",
            code="no-actions",
            remedy="set [invite] actions in the mapping, for example to UPDATE_PASSWORD",
        )
    if terms.redirect_uri is not None and terms.client_id is None:
        raise mail_refusal("Client id missing")


def normal_path(path: str) -> str:
    """Return the group's path as Keycloak spells it."""
    return f"/{path.strip('/')}"


def _violations(answer: Mapping[str, Any]) -> tuple[Violation, ...]:
    unknown = _UNKNOWN_FIELD.search(str(answer.get("error", "")))
    if unknown:
        name = unknown.group(1)
        return (Violation(f"/user/{name}", "unknown-field", "Keycloak's users have no such field"),)
    errors = answer.get("errors")
    entries = errors if isinstance(errors, list) else [answer]
    return tuple(
        _violation(entry) for entry in entries if isinstance(entry, dict) and "field" in entry
    )


def _violation(entry: Mapping[str, Any]) -> Violation:
    return profile_violation(*(entry.get(name) for name in ("field", "errorMessage", "params")))


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
