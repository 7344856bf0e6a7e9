"""Why Keycloak refuses a request about a user, by its answer (400, 422 ...) or before asking it.

No value of any user is repeated. Keycloak's own sentences can repeat values (`error-invalid-email` carries the
address), so only keys, field names, numbers and sentences known to be fixed are looked at, and none of its text is
passed on.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from keycloak_bridge.domain.errors import (
    ConflictError,
    KeycloakNotFoundError,
    KeycloakRejectedError,
    Violation,
)
from keycloak_bridge.domain.users import InvitationTerms

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
