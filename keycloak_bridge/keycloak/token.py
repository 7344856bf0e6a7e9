"""Hold an access token of the bridge's service account (client credentials), renewed before it expires."""

import base64
import binascii
import json
import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import requests

from keycloak_bridge.domain.errors import BridgeError, KeycloakAuthError, KeycloakUnavailableError
from keycloak_bridge.domain.ports import Clock
from keycloak_bridge.keycloak.errors import (
    from_response,
    json_object,
    not_keycloak,
    realm_not_found,
)
from keycloak_bridge.keycloak.http import KeycloakHttp
from keycloak_bridge.keycloak.refusals import Call, where

_CALL = Call("POST", "/protocol/openid-connect/token")


@dataclass(frozen=True, slots=True)
class _Token:
    value: str
    renew_at: float

    def __repr__(self) -> str:
        return f"_Token(renew_at={self.renew_at})"


class TokenSource:
    """Gives out the current token. Safe to share between threads; one renewal at a time.

    `secret` is asked at every renewal, so that a rotated secret takes effect without a restart.
    """

    def __init__(
        self,
        http: KeycloakHttp,
        client_id: str,
        secret: Callable[[], str],
        clock: Clock,
        margin_s: float = 30.0,
    ) -> None:
        self._http = http
        self._client_id = client_id
        self._secret = secret
        self._clock = clock
        self._margin_s = margin_s
        self._renewal = threading.Lock()
        self._current: _Token | None = None

    def token(self) -> str:
        """Return a token that is good for a while yet.

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
        """Never give out `token` again; one that was renewed meanwhile stays."""
        with self._renewal:
            if self._current is not None and self._current.value == token:
                self._current = None

    def _usable(self) -> str | None:
        current = self._current
        if current is None or self._clock.monotonic() >= current.renew_at:
            return None
        return current.value

    def _request(self) -> _Token:
        asked_at = self._clock.monotonic()
        form = {
            "grant_type": "client_credentials",
            "client_id": self._client_id,
            "client_secret": self._secret(),
        }
        response = self._http.send(
            _CALL, f"{self._http.realm_url}/protocol/openid-connect/token", form=form
        )
        answer = json_object(response)
        value = answer.get("access_token") if answer and response.status_code == 200 else None
        if not isinstance(value, str) or answer is None:
            raise _refusal(response, answer)
        lifetime_s = answer.get("expires_in")
        lifetime_s = float(lifetime_s) if isinstance(lifetime_s, int) else 0.0
        # half of a short life at most, or such a token would be renewed for every call
        margin_s = min(self._margin_s, lifetime_s / 2)
        return _Token(value, asked_at + lifetime_s - margin_s)


def granted_roles(token: str, client: str = "realm-management") -> frozenset[str] | None:
    """Return the roles of `client` that the token names; None when the token does not tell.

    The token is not verified: this is for explaining what it lacks, never for granting anything.
    """
    try:
        payload = token.split(".")[1]
        claims = json.loads(base64.urlsafe_b64decode(payload + "=" * (-len(payload) % 4)))
        roles = claims["resource_access"][client]["roles"]
    except (IndexError, KeyError, TypeError, ValueError, binascii.Error):
        return None
    return frozenset(map(str, roles)) if isinstance(roles, list) else None


def _refusal(response: requests.Response, answer: dict[str, Any] | None) -> BridgeError:
    status = response.status_code
    answered = from_response(_CALL, response)
    if isinstance(answered, KeycloakUnavailableError):
        return answered
    if answer is None:
        return not_keycloak(_CALL, status)
    if status == 404:
        return realm_not_found(_CALL)
    return KeycloakAuthError(
        f"Keycloak refuses the client credentials ({_CALL}: {status})",
        code="keycloak-credentials",
        remedy="check [keycloak] client_id and client_secret (or client_secret_file), and that the client "
        "has 'Client authentication' and 'Service account roles' switched on",
        **where(_CALL, status),
    )
