"""The access token of the bridge's service account (client credentials): renewed before it expires, and what it says."""

import base64
import json
import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import requests

from keycloak_bridge.domain.errors import KeycloakError, KeycloakUnavailableError
from keycloak_bridge.domain.ports import Clock
from keycloak_bridge.domain.times import epoch_time
from keycloak_bridge.keycloak.calls import Call
from keycloak_bridge.keycloak.client_auth import ClientAuth
from keycloak_bridge.keycloak.errors import keycloak_error
from keycloak_bridge.keycloak.http import KeycloakHttp, from_response
from keycloak_bridge.transport.http import json_object

_CALL = Call("POST", "/protocol/openid-connect/token")
_DISCOVERY = Call("GET", "/.well-known/openid-configuration")
_RENEWED_BEFORE_S = 30.0
_LONGEST_LIFE_S = 86_400


@dataclass(frozen=True, slots=True)
class _Token:
    value: str
    renew_at: float

    def __repr__(self) -> str:
        return f"_Token(renew_at={self.renew_at})"


class TokenSource:
    """Gives out the current token. Safe to share between threads; one renewal at a time.

    `auth` is asked at every renewal, so that a rotated secret takes effect without a restart. `scope` is asked for with each.
    """

    def __init__(
        self, http: KeycloakHttp, auth: ClientAuth, clock: Clock, *, scope: str | None = None
    ) -> None:
        self._http = http
        self._auth = auth
        self._clock = clock
        self._scope = {} if scope is None else {"scope": scope}
        self._issuer: str | None = None
        self._renewal = threading.Lock()
        self._current: _Token | None = None

    def token(self) -> str:
        """Return a token that is valid for a while yet.

        Raises KeycloakUnavailableError, or KeycloakAuthError (`keycloak-credentials`, `realm-not-found`).
        """
        current = self._usable()
        if current is not None:
            return current
        with self._renewal:
            current = self._usable()  # another thread may have renewed it meanwhile
            if current is not None:
                return current
            renewed = self._request()
            self._current = renewed
            return renewed.value

    def invalidate(self, token: str) -> None:
        """Never give out `token` again; a token renewed meanwhile stays."""
        with self._renewal:
            if self._current is not None and self._current.value == token:
                self._current = None

    def _usable(self) -> str | None:
        current = self._current
        if current is None or self._clock.monotonic() >= current.renew_at:
            return None
        return current.value

    def _form(self) -> dict[str, str]:
        """Return what is asked for a token with."""
        return {
            "grant_type": "client_credentials",
            **self._scope,
            **self._auth.parameters(self._known_issuer),
        }

    def _url(self) -> str:
        """Return where tokens are asked for."""
        return f"{self._http.realm_url}{_CALL.path}"

    def _request(self) -> _Token:
        asked_at = self._clock.monotonic()
        response = self._http.send(_CALL, self._url(), form=self._form())
        answer = json_object(response)
        value = answer.get("access_token") if answer and response.status_code == 200 else None
        if not isinstance(value, str) or answer is None:
            self._issuer = None  # it may be another one since
            raise _refusal(response, answer, self._auth.check)
        lifetime_s = answer.get("expires_in")
        lifetime_s = float(min(lifetime_s, _LONGEST_LIFE_S)) if isinstance(lifetime_s, int) else 0.0
        # half of a short life at most, or such a token would be renewed for every call
        margin_s = min(_RENEWED_BEFORE_S, lifetime_s / 2)
        return _Token(value, asked_at + lifetime_s - margin_s)

    def _known_issuer(self) -> str:
        """Return the realm's issuer, which need not be the address that the bridge calls. Raises KeycloakError."""
        if self._issuer is None:
            response = self._http.send(_DISCOVERY, f"{self._http.realm_url}{_DISCOVERY.path}")
            answer = json_object(response)
            issuer = answer.get("issuer") if answer and response.status_code == 200 else None
            if not isinstance(issuer, str):
                raise _refusal(response, answer, self._auth.check)
            self._issuer = issuer
        return self._issuer


@dataclass(frozen=True, slots=True)
class TokenFacts:
    """What an access token says; empty for one that only Keycloak can read. `roles` are by client."""

    issuer: str | None = None
    audience: frozenset[str] = frozenset()
    roles: Mapping[str, frozenset[str]] = field(default_factory=dict)
    issued_at: datetime | None = None


def token_facts(token: str) -> TokenFacts:
    """Return what the token says. It is not verified: this is for explaining what it lacks, never for granting anything."""
    try:
        payload = token.split(".")[1]
        claims = json.loads(base64.urlsafe_b64decode(payload + "=" * (-len(payload) % 4)))
    except (IndexError, ValueError, RecursionError):
        return TokenFacts()
    if not isinstance(claims, dict):
        return TokenFacts()
    audience = claims.get("aud")
    audience = audience if isinstance(audience, list) else [audience]
    access = claims.get("resource_access")
    issuer, issued = claims.get("iss"), claims.get("iat")
    return TokenFacts(
        issuer=issuer if isinstance(issuer, str) else None,
        audience=frozenset(one for one in audience if isinstance(one, str)),
        roles={
            client: frozenset(map(str, one["roles"]))
            for client, one in (access if isinstance(access, dict) else {}).items()
            if isinstance(one, dict) and isinstance(one.get("roles"), list)
        },
        issued_at=_time(issued),
    )


def _time(seconds: object) -> datetime | None:
    return epoch_time(seconds) if isinstance(seconds, int) else None


def granted_roles(token: str) -> frozenset[str] | None:
    """Return the roles of realm-management that the token names; None when it does not say."""
    return token_facts(token).roles.get("realm-management")


def _refusal(
    response: requests.Response, answer: dict[str, Any] | None, check: str
) -> KeycloakError:
    status = response.status_code
    error = from_response(_CALL, response)
    if isinstance(error, KeycloakUnavailableError):
        return error
    if answer is None or status == 200:
        return keycloak_error(code="not-keycloak", call=_CALL, status=status)
    if status == 404:
        return keycloak_error(code="realm-not-found", call=_CALL, status=status)
    return keycloak_error(code="keycloak-credentials", call=_CALL, status=status, check=check)
