"""Realms of a running Keycloak for one test or measurement each, from the project's realm export."""

import functools
import math
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any, Self
from uuid import uuid4

import requests

from keycloak_bridge.sandbox import Sandbox
from keycloak_bridge.sandbox.services import representation

_TIMEOUT_S = 60
_TOKENS = "/realms/master/protocol/openid-connect/token"
_TOKEN_AGE_S = 30  # Keycloak's administrators get tokens of 60 s


@dataclass(frozen=True, slots=True)
class FreshRealm:
    """A realm that no other test uses, and the bridge's client in it."""

    name: str
    client_id: str
    client_secret: str


class RealmAdministrator:
    """The administrator of the master realm, who creates and deletes realms and may do anything in them.

    A log-in costs Keycloak more than most calls, so a token is used again. Every call has a connection of its own, and a
    token that is refused is replaced once: both survive a Keycloak that was killed in between.
    """

    def __init__(self, url: str, username: str, password: str) -> None:
        self.url = url
        self._login = {
            "grant_type": "password",
            "client_id": "admin-cli",
            "username": username,
            "password": password,
        }
        self._token = ""
        self._token_taken = -math.inf

    @classmethod
    @functools.cache
    def of(cls, sandbox: Sandbox) -> Self:
        """Return the administrator of the sandbox's Keycloak."""
        return cls(sandbox.keycloak_url, sandbox.admin_username, sandbox.admin_password)

    def call(self, method: str, path: str, **options: Any) -> Any:
        """Call the Admin REST API below `/admin/realms`; return parsed JSON, None for an answer without a body."""
        answer = self.send(method, path, **options)
        answer.raise_for_status()
        return answer.json() if answer.content else None

    def send(self, method: str, path: str, **options: Any) -> requests.Response:
        """Call the Admin REST API below `/admin/realms`; return the answer whatever its status."""
        answer = self._authorized(method, path, options)
        if answer.status_code == HTTPStatus.UNAUTHORIZED:
            self._token_taken = -math.inf
            answer = self._authorized(method, path, options)
        return answer

    def token(self) -> str:
        """Return an access token that is valid for half a minute more."""
        if time.monotonic() - self._token_taken >= _TOKEN_AGE_S:
            answer = self._request("POST", _TOKENS, data=self._login)
            answer.raise_for_status()
            self._token = answer.json()["access_token"]
            self._token_taken = time.monotonic()
        return self._token

    def _authorized(self, method: str, path: str, options: Mapping[str, Any]) -> requests.Response:
        headers = {"Authorization": f"Bearer {self.token()}"}
        return self._request(method, f"/admin/realms{path}", headers=headers, **options)

    def _request(self, method: str, path: str, **options: Any) -> requests.Response:
        with requests.Session() as session:
            session.trust_env = False
            return session.request(method, self.url + path, **{"timeout": _TIMEOUT_S, **options})

    def create(self, realm: Mapping[str, Any]) -> None:
        """Create one realm."""
        self.call("POST", "", json=realm)

    def delete(self, name: str, timeout_s: float = _TIMEOUT_S) -> None:
        """Delete one realm; that takes long where it has many users."""
        self.call("DELETE", f"/{name}", timeout=timeout_s)


@contextmanager
def temporary_realm(sandbox: Sandbox) -> Iterator[FreshRealm]:
    """Create a realm like the sandbox's own under a new name, and delete it afterwards."""
    administrator = RealmAdministrator.of(sandbox)
    realm = create_realm(sandbox, administrator, f"test-{uuid4().hex[:12]}")
    try:
        yield realm
    finally:
        administrator.delete(realm.name)


def create_realm(sandbox: Sandbox, administrator: RealmAdministrator, name: str) -> FreshRealm:
    """Create a realm like the sandbox's own in the administrator's Keycloak."""
    values = sandbox.realm_environment() | {"KEYCLOAK_REALM": name}
    administrator.create(representation(sandbox.realm_file, values) | {"realm": name})
    return FreshRealm(name, sandbox.client_id, sandbox.client_secret)
