"""Keycloak's answers as the bridge's errors, without a value of any user.

Status and shape of an answer decide. Of Keycloak's own text only message keys, field names, numbers and sentences known to
be fixed are read, and none of it is passed on: it can repeat a value (`error-invalid-email` carries the address). What the
bridge itself finds out about a realm (a missing group, an ambiguous user) has its messages here too. `http` does the same
for calls that were never answered.
"""

import re
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

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
from keycloak_bridge.keycloak.calls import (
    EXECUTE_ACTIONS_EMAIL,
    REQUIRED_ROLES,
    USERS_ROLE,
    Call,
    RequiredRole,
)


class _Row(NamedTuple):
    """The text of one error; `remedy` says what the operator can do."""

    kind: type[KeycloakError]
    message: str
    remedy: str


_REPLAY = "in Keycloak or correct the mapping; then replay the event"

_ROWS: Mapping[str, _Row] = {
    "not-keycloak": _Row(
        KeycloakUnavailableError,
        "the answer to {call} ({status}) is not Keycloak's",
        "check [keycloak] url and the proxies and load balancers in front of Keycloak: one of them answered",
    ),
    "keycloak-unreachable": _Row(
        KeycloakUnavailableError,
        "Keycloak cannot be reached ({call})",
        "check [keycloak] url and that Keycloak is up",
    ),
    "keycloak-no-answer": _Row(
        KeycloakUnavailableError,
        "Keycloak did not answer; the call may have taken effect ({call})",
        "look at Keycloak's log and load and at the proxies in front of it; raise [keycloak] read_timeout if it is merely slow",
    ),
    "keycloak-answer-too-large": _Row(
        KeycloakUnavailableError,
        "the answer to {call} is longer than 32 MiB, and was not read; the call may have taken effect",
        "check [keycloak] url and the proxies in front of Keycloak: its own answers are shorter",
    ),
    "keycloak-tls": _Row(
        KeycloakUnavailableError,
        "there is no TLS connection to Keycloak: {problem} ({call})",
        "{solution}",
    ),
    "keycloak-token-refused": _Row(
        KeycloakAuthError,
        "Keycloak refuses a fresh token ({call}: {status})",
        "call Keycloak by one host name only, or start it with --hostname and "
        "--hostname-backchannel-dynamic=true",
    ),
    "keycloak-forbidden": _Row(
        KeycloakAuthError,
        "the service account may not {call} ({status}), which takes the role {role} of realm-management",
        "assign {role} (for {feature}) to the client's service account; with full scope off, to the client's scope too",
    ),
    "keycloak-credentials": _Row(
        KeycloakAuthError,
        "Keycloak refuses the client credentials ({call}: {status})",
        "check {check}, and that the client has 'Client authentication' and 'Service account roles' switched on",
    ),
    "realm-not-found": _Row(
        KeycloakAuthError,
        "there is no such realm at [keycloak] url ({call}: {status})",
        "check [keycloak] realm, and that url has Keycloak's path (such as /auth) if it has one",
    ),
    "organizations-disabled": _Row(
        KeycloakAuthError,
        "the realm has organizations switched off ({call}: {status})",
        "switch Organizations on in the realm settings, or take [user.organizations] out of the mapping",
    ),
    "group-not-found": _Row(
        KeycloakNotFoundError, "the realm has no group {name}", f"create the group {_REPLAY}"
    ),
    "role-not-found": _Row(
        KeycloakNotFoundError,
        "{owner} has no role {name} that the service account may map",
        f"create the role, or take out of it what administers realms, {_REPLAY}",
    ),
    "client-not-found": _Row(
        KeycloakNotFoundError, "the realm has no client {name}", f"create the client {_REPLAY}"
    ),
    "organization-not-found": _Row(
        KeycloakNotFoundError,
        "the realm has no organization {name}",
        "create the organization in Keycloak or correct the mapping (it wants the alias, not the name); "
        "then replay the event",
    ),
    "identity-provider-not-found": _Row(
        KeycloakNotFoundError,
        "the realm has no identity provider {name}",
        f"create the identity provider {_REPLAY}",
    ),
    "managed-member": _Row(
        KeycloakRejectedError,
        "organization {name} owns the user's account: leaving it would delete the user",
        "take the organization out of the mapping's `allow`, or remove the user in Keycloak",
    ),
    "unsearchable-value": _Row(
        KeycloakRejectedError,
        "Keycloak cannot search for the value of {name}",
        "ids must not end in a backslash or contain one before a backslash or a double quote; "
        "correct it in user management",
    ),
    "invalid-address": _Row(
        KeycloakRejectedError,
        "Keycloak cannot mail to the user's address: it is invalid ({call}: {status})",
        "correct the address in user management; one with letters beyond ASCII before the @ needs 'Allow UTF-8' in "
        "the realm's e-mail settings",
    ),
    "no-actions": _Row(
        KeycloakRejectedError,
        "the invitation asks for no action",
        "set [invite] actions in the mapping, for example to UPDATE_PASSWORD and VERIFY_EMAIL",
    ),
}

_SENTENCES: Mapping[str, tuple[str, str, str]] = {
    "User is disabled": (
        "user-disabled",
        "Keycloak mails no disabled user",
        "enable the user, then invite again",
    ),
    "User email missing": (
        "no-email",
        "the user has no e-mail address",
        "give the user an e-mail, then invite again",
    ),
    "Provided invalid required actions": (
        "unknown-action",
        "the realm does not know one of the invitation's actions",
        "correct [invite] actions in the mapping, or enable that required action in the realm",
    ),
    "Client doesn't exist": (
        "unknown-client",
        "the invitation's client is not in the realm",
        "correct [invite] client_id in the mapping",
    ),
    "Client is not enabled": (
        "client-disabled",
        "the invitation's client is disabled",
        "enable the client in Keycloak, or change [invite] client_id in the mapping",
    ),
    "Invalid redirect uri.": (
        "invalid-redirect",
        "the invitation's client does not allow its redirect_uri",
        "add it to the client's valid redirect URIs, or correct [invite] redirect_uri in the mapping",
    ),
    "Client id missing": (
        "invalid-redirect",
        "the invitation has a redirect_uri but no client_id",
        "set [invite] client_id in the mapping",
    ),
    "User name is missing": (
        "keycloak-rejected",
        "the user has no username",
        "map user.username to something that every event has, or switch on 'Email as username' in the realm's login settings",
    ),
}
"""Fixed sentences of Keycloak: code, message and remedy of each."""

_CONFLICTS = {
    "ambiguous": (
        "{count} users of the realm have the same {name}",
        "keep one of them in Keycloak, then replay the event",
    ),
    "id-differs-in-case": (
        "Keycloak takes the user's id for the username of another user, whose id is written otherwise",
        "give one of the two another id in user management, or keep the id in an attribute (docs/keycloak.md, Large realms)",
    ),
    "identity-taken": (
        "several users of the realm are linked to the same account at {name}",
        "leave the link to one of them in Keycloak, then replay the event",
    ),
}

_INVALID_ADDRESS = ": Invalid address '"
"""In Keycloak's answer where the user's address itself can be no recipient; an invalid sender is another sentence."""

_NO_REALM = frozenset(
    {"Realm not found.", "Realm does not exist", "Unable to find matching target resource method"}
)
_NO_ORGANIZATIONS = "Organizations not enabled for this realm."
_TAKEN_FIELDS = {
    "User exists with same username": "/user/username",
    "User exists with same email": "/user/email",
}
_TOO_LARGE = frozenset({413, 414, 431})  # a proxy's word counts: the same request would fail again
_BUSY = frozenset({408, 425, 429})

_UNKNOWN = RequiredRole(USERS_ROLE, "writing users", "")
"""What a call takes that is not one of the Admin REST API."""

_OWN_FIELDS = frozenset(
    {"id", "username", "email", "emailVerified", "enabled", "firstName", "lastName"}
    | {"attributes", "groups", "requiredActions"}
)

_FIELD_NAME = re.compile(r"[\w.\-]{1,255}")
_MESSAGE_KEY = re.compile(r"[A-Za-z][A-Za-z0-9_.\-]{0,99}")
_UNKNOWN_FIELD = re.compile(r'Unrecognized field "([\w.\-]{1,255})"')


def keycloak_error(
    *,
    code: str,
    call: Call | None = None,
    status: int | None = None,
    violations: Sequence[Violation] = (),
    **names: object,
) -> KeycloakError:
    """Return the error with this code; `names` fill the places of its message."""
    kind, message, remedy = _ROWS[code]
    names |= {"call": call, "status": status}
    error = kind(
        message.format(**names),
        code=code,
        remedy=remedy.format(**names),
        violations=violations,
        **(where(call, status) if call else {}),
    )
    error.may_have_taken_effect &= _may_have_taken_effect(code, call, status)
    return error


def _may_have_taken_effect(code: str, call: Call | None, status: int | None) -> bool:
    """Say whether a call that Keycloak did not answer as it should may have written something.

    A lost answer, or one of a proxy in front of Keycloak, says nothing. Calls that are not of the Admin REST API are for a
    token.
    """
    if call is not None and (call.method == "GET" or call not in REQUIRED_ROLES):
        return False
    if status is None:
        return code != "keycloak-unreachable"
    return status >= 500 or 200 <= status < 300


def conflict(*, code: str, **names: object) -> ConflictError:
    """Return the error for what several users of the realm have (`ambiguous`, `identity-taken`), or for one that is not the event's (`id-differs-in-case`)."""
    message, remedy = _CONFLICTS[code]
    return ConflictError(message.format(**names), code=code, remedy=remedy)


def unsearchable(pointer: str) -> KeycloakError:
    """Return the error for a value that Keycloak cannot search for; the user could never be found again by it."""
    return keycloak_error(
        code="unsearchable-value",
        name=pointer,
        violations=[
            Violation(pointer, "unsearchable-value", "no search of Keycloak can express it")
        ],
    )


def role_not_found(names: Sequence[str], client_id: str | None) -> KeycloakError:
    """Return the error for roles that do not exist, or that the service account may not map."""
    owner = "the realm" if client_id is None else f"client {client_id}"
    return keycloak_error(code="role-not-found", owner=owner, name=", ".join(names))


def may_not_map_roles() -> KeycloakError:
    """Return the error for a service account that may map no role, where Keycloak answers as if there were none."""
    return error_for(Call("POST", "/users/{id}/role-mappings/realm"), 403, {})


def mail_refusal(said: str) -> KeycloakRejectedError:
    """Return the error for an invitation that Keycloak would refuse with this sentence."""
    return _rejected(Call("PUT", EXECUTE_ACTIONS_EMAIL), 400, {"errorMessage": said})


def refuse_unusable(terms: InvitationTerms) -> None:
    """Refuse terms that Keycloak would mail as a link to nothing, or would not understand."""
    if not terms.actions:
        raise keycloak_error(code="no-actions")
    if terms.redirect_uri is not None and terms.client_id is None:
        raise mail_refusal("Client id missing")


def where(call: Call, status: int | None = None) -> dict[str, Any]:
    """Return what every KeycloakError says about its call."""
    return {"status": status, "method": call.method, "path": call.path}


def error_for(
    call: Call,
    status: int,
    body: Mapping[str, Any] | None,
    *,
    empty: bool = False,
    retry_after_s: float | None = None,
) -> KeycloakError:
    """Return the error that `status` and the JSON object `body` mean.

    `body` is None when the answer was not one of Keycloak's; `empty` says that there was no body at all.
    """
    answer = body or {}
    said = str(answer.get("errorMessage") or answer.get("error"))
    if call.path == EXECUTE_ACTIONS_EMAIL and status == 500 and "errorMessage" in answer:
        if _INVALID_ADDRESS in said:
            return keycloak_error(code="invalid-address", call=call, status=status)
        return MailDeliveryError(
            f"Keycloak could not hand the mail to the SMTP server ({call}: {status})",
            remedy="check the realm's e-mail settings and the SMTP server",
            **where(call, status),
        )
    if status >= 500 or status in _BUSY:
        unavailable = KeycloakUnavailableError(
            f"Keycloak cannot answer {call} now ({status})",
            code="keycloak-busy" if status in _BUSY else None,
            retry_after_s=retry_after_s,
            **where(call, status),
        )
        unavailable.may_have_taken_effect = _may_have_taken_effect(unavailable.code, call, status)
        return unavailable
    if status == 401:
        return keycloak_error(code="keycloak-token-refused", call=call, status=status)
    if status == 403:
        role, feature, _ = REQUIRED_ROLES.get(call, _UNKNOWN)
        return keycloak_error(
            code="keycloak-forbidden", call=call, status=status, role=role, feature=feature
        )
    if said in _NO_REALM and status == 404:
        return keycloak_error(code="realm-not-found", call=call, status=status)
    foreign = body is None and not (empty and status != 404) and status not in _TOO_LARGE
    if status < 400 or foreign:
        return keycloak_error(code="not-keycloak", call=call, status=status)
    if said == _NO_ORGANIZATIONS:
        return keycloak_error(code="organizations-disabled", call=call, status=status)
    if status == 404:
        return KeycloakNotFoundError(
            f"Keycloak has nothing at {call} (404): it is gone", **where(call, status)
        )
    if status == 409:
        return _taken(call, said)
    return _rejected(call, status, answer)


def _taken(call: Call, said: str) -> KeycloakConflictError:
    of_user = call.path in ("/users", "/users/{id}")
    what = (
        "another user of the realm has the username or e-mail" if of_user else "it exists already"
    )
    pointer = _TAKEN_FIELDS.get(said)
    return KeycloakConflictError(
        f"{what} ({call}: 409)",
        violations=[Violation(pointer, "unique", "another user of the realm has it")]
        if pointer
        else (),
        **where(call, 409),
    )


def _rejected(call: Call, status: int, answer: Mapping[str, Any]) -> KeycloakRejectedError:
    """Return the error for a request that fails again however often it is sent."""
    said = str(answer.get("errorMessage") or answer.get("error"))
    violations = _violations(answer)
    if said in _SENTENCES:
        code, message, remedy = _SENTENCES[said]
        if said == "User name is missing":
            violations = (Violation("/user/username", "required", message),)
        return KeycloakRejectedError(
            f"{message} ({call}: {status})",
            code=code,
            remedy=remedy,
            violations=violations,
            **where(call, status),
        )
    fields = ", ".join(dict.fromkeys(violation.pointer for violation in violations))
    return KeycloakRejectedError(
        f"Keycloak refuses {fields or 'the request'} ({call}: {status})",
        code="too-large" if status in _TOO_LARGE else None,
        remedy=f"correct {fields or 'the user'} in user management, the mapping, or the realm's user profile; "
        "then replay the event",
        violations=violations,
        **where(call, status),
    )


def _violations(answer: Mapping[str, Any]) -> tuple[Violation, ...]:
    unknown = _UNKNOWN_FIELD.search(str(answer.get("error", "")))
    if unknown:
        name = unknown.group(1)
        return (Violation(f"/user/{name}", "unknown-field", "Keycloak's users have no such field"),)
    errors = answer.get("errors")
    entries = errors if isinstance(errors, list) else [answer]
    return tuple(
        _profile_violation(entry.get("field"), entry.get("errorMessage"), entry.get("params"))
        for entry in entries
        if isinstance(entry, dict) and "field" in entry
    )


def _profile_violation(field: object, key: object, params: object) -> Violation:
    """Return what one entry of Keycloak's answer says: which field, by which message key, with which limits."""
    keyword = key if isinstance(key, str) and _MESSAGE_KEY.fullmatch(key) else "invalid"
    # strings among the parameters may be the very value; numbers are the rule's limits
    params = params if isinstance(params, list) else []
    numbers = [p for p in params if isinstance(p, int | float) and not isinstance(p, bool)]
    limits = f" (limits: {', '.join(map(str, numbers))})" if numbers else ""
    pointer = "/user"
    if isinstance(field, str) and _FIELD_NAME.fullmatch(field):
        pointer = f"/user/{field}" if field in _OWN_FIELDS else f"/user/attributes/{field}"
    return Violation(pointer, keyword, f"the realm's user profile says {keyword}{limits}")
