"""A log-in by OpenID Connect's authorization-code flow with PKCE (RFC 7636): what is asked, sent and read, for any browser."""

import base64
import hashlib
import json
import secrets
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, slots=True)
class AuthorizationCode:
    """One log-in to the client whose application is at `app_url`."""

    client_id: str
    app_url: str
    _verifier: str = field(default_factory=lambda: secrets.token_urlsafe(48), repr=False)

    @property
    def request(self) -> dict[str, str]:
        """Return the query with which a browser begins."""
        digest = hashlib.sha256(self._verifier.encode()).digest()
        return {
            "client_id": self.client_id,
            "response_type": "code",
            "scope": "openid",
            "redirect_uri": f"{self.app_url}/callback",
            "code_challenge": base64.urlsafe_b64encode(digest).rstrip(b"=").decode(),
            "code_challenge_method": "S256",
        }

    def exchange(self, code: str) -> dict[str, str]:
        """Return the form that makes tokens of the code with which the browser came back."""
        return {
            "grant_type": "authorization_code",
            "client_id": self.client_id,
            "code": code,
            "redirect_uri": f"{self.app_url}/callback",
            "code_verifier": self._verifier,
        }


def claims(token: str) -> dict[str, Any]:
    """Return what the token says; it comes straight from Keycloak, so nobody checks the signature here."""
    payload = token.split(".")[1]
    parsed: dict[str, Any] = json.loads(
        base64.urlsafe_b64decode(payload + "=" * (-len(payload) % 4))
    )
    return parsed
