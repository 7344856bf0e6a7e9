"""Realms of a running Keycloak for one test or measurement, and what a test does to a realm as its administrator.

The Keycloak in memory has the same methods as `AdminRealmTools`.
"""

import functools
import math
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any, Self
from urllib.parse import quote
from uuid import uuid4

import requests

from keycloak_bridge.keycloak.admin import KeycloakAdmin
from keycloak_bridge.keycloak.calls import CLIENTS_ROLE, IMPORT_ROLE, ORGANIZATIONS_ROLE
from keycloak_bridge.keycloak.client_auth import by_secret
from keycloak_bridge.keycloak.http import KeycloakConnection, KeycloakHttp
from keycloak_bridge.keycloak.token import TokenSource
from keycloak_bridge.ops.clock import SystemClock
from keycloak_bridge.sandbox import Sandbox
from keycloak_bridge.sandbox.services import representation

_PASSWORD = "correct horse battery"  # noqa: S105  (of users that live for one test)
_TIMEOUT_S = 60
_TOKEN_AGE_S = 30  # Keycloak's administrators get tokens of 60 s
_TOKENS = "/realms/master/protocol/openid-connect/token"


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

    def delete(self, name: str, timeout_s: float = _TIMEOUT_S) -> None:
        """Delete one realm; that takes long where it has many users."""
        self.call("DELETE", f"/{name}", timeout=timeout_s)


class AdminRealmTools:
    """Works on one realm of a real Keycloak as the administrator of the master realm."""

    def __init__(self, administrator: RealmAdministrator, realm: str) -> None:
        self._administrator = administrator
        self._realm = quote(realm, safe="")

    def delete_user(self, user_id: str) -> None:
        """Delete the user."""
        self._call("DELETE", f"/users/{user_id}")

    def set_password(self, user_id: str) -> None:
        """Give the user a password."""
        password = {"type": "password", "value": _PASSWORD, "temporary": False}
        self._call("PUT", f"/users/{user_id}/reset-password", password)

    def log_in(self, user_id: str) -> None:
        """Give the user a password if it has none and begin a session with it, as Keycloak's command line does."""
        if not self._call("GET", f"/users/{user_id}/credentials").json():
            self.set_password(user_id)
        username = self._call("GET", f"/users/{user_id}").json()["username"]
        form = {
            "grant_type": "password",
            "client_id": "admin-cli",
            "username": username,
            "password": _PASSWORD,
        }
        with requests.Session() as session:
            session.trust_env = False
            url = f"{self._administrator.url}/realms/{self._realm}/protocol/openid-connect/token"
            session.post(url, data=form, timeout=_TIMEOUT_S).raise_for_status()

    def add_group(self, path: str) -> None:
        """Create the group, and its parents where they are missing."""
        parent: str | None = None
        names = path.strip("/").split("/")
        for depth in range(1, len(names) + 1):
            known = self._group_id("/".join(names[:depth]))
            if known is None:
                where = f"/groups/{parent}/children" if parent else "/groups"
                known = (
                    self._call("POST", where, {"name": names[depth - 1]})
                    .headers["Location"]
                    .rpartition("/")[2]
                )
            parent = known

    def delete_group(self, path: str) -> None:
        """Delete the group."""
        self._call("DELETE", f"/groups/{self._group_id(path.strip('/'))}")

    def add_realm_role(self, name: str) -> None:
        """Create the realm role."""
        self._call("POST", "/roles", {"name": name})

    def add_client(self, client_id: str, roles: Sequence[str] = ()) -> None:
        """Create a client with these roles."""
        created = self._call("POST", "/clients", {"clientId": client_id, "publicClient": True})
        client = created.headers["Location"].rpartition("/")[2]
        for name in roles:
            self._call("POST", f"/clients/{client}/roles", {"name": name})

    def add_organization(self, alias: str) -> None:
        """Create an organization; the realm has them switched on from then on."""
        self._call("PUT", "", {"organizationsEnabled": True})
        domains = [{"name": f"{alias}.example", "verified": True}]
        body = {"name": f"{alias} by name", "alias": alias, "domains": domains}
        self._call("POST", "/organizations", body)

    def organizations_off(self) -> AbstractContextManager[None]:
        """Switch organizations off meanwhile."""
        return self._meanwhile({"organizationsEnabled": False})

    def add_identity_provider(self, alias: str) -> None:
        """Create an identity provider that nobody can log in through."""
        config = {
            "clientId": "bridge",
            "clientSecret": "none",
            "authorizationUrl": "https://idp.acme.example/auth",
            "tokenUrl": "https://idp.acme.example/token",
        }
        body = {"alias": alias, "providerId": "oidc", "config": config}
        self._call("POST", "/identity-provider/instances", body)

    def usernames_editable(self) -> AbstractContextManager[None]:
        """Let usernames be changed meanwhile."""
        return self._meanwhile({"editUsernameAllowed": True})

    def addresses_shared(self) -> AbstractContextManager[None]:
        """Let several users have one e-mail address meanwhile."""
        return self._meanwhile({"loginWithEmailAllowed": False, "duplicateEmailsAllowed": True})

    @contextmanager
    def usernames_unchecked(self) -> Iterator[None]:
        """Take all validators of the username out of the user profile meanwhile."""
        before = self._call("GET", "/users/profile").json()
        attributes = [
            {**one, "validations": {}} if one["name"] == "username" else one
            for one in before["attributes"]
        ]
        self._call("PUT", "/users/profile", {**before, "attributes": attributes})
        try:
            yield
        finally:
            self._call("PUT", "/users/profile", before)

    def addresses_are_usernames(self) -> AbstractContextManager[None]:
        """Take the e-mail address as the username of each user meanwhile."""
        return self._meanwhile({"registrationEmailAsUsername": True})

    def grant(self, client_id: str, *roles: str) -> None:
        """Give the client's service account these roles of realm-management, and let them into its tokens."""
        for path, wanted in self._role_mappings(client_id, roles):
            self._call("POST", path, wanted)

    def grant_all_memberships(self, client_id: str) -> None:
        """Give the roles that client roles and organizations take; before Keycloak 26.7 organizations take `manage-realm`."""
        management = self._client("realm-management")
        known = {one["name"] for one in self._call("GET", f"/clients/{management}/roles").json()}
        wanted = ORGANIZATIONS_ROLE if ORGANIZATIONS_ROLE in known else IMPORT_ROLE
        self.grant(client_id, CLIENTS_ROLE, wanted)

    def take_away(self, client_id: str, *roles: str) -> None:
        """Take these roles of realm-management away from the client's service account, and from its tokens."""
        for path, unwanted in self._role_mappings(client_id, roles):
            self._call("DELETE", path, unwanted)

    def _role_mappings(
        self, client_id: str, roles: Sequence[str]
    ) -> Sequence[tuple[str, Sequence[Any]]]:
        """Return both places where the roles of a service account stand, each with what to write there."""
        client, management = (self._client(name) for name in (client_id, "realm-management"))
        account = self._call("GET", f"/clients/{client}/service-account-user").json()["id"]
        found = [self._call("GET", f"/clients/{management}/roles/{role}").json() for role in roles]
        return [
            (f"/users/{account}/role-mappings/clients/{management}", found),
            (f"/clients/{client}/scope-mappings/clients/{management}", found),
        ]

    def mails_sent(self, user_id: str) -> int:
        """Return how many links were mailed to the user; the realm must keep admin events."""
        path = quote(f"users/{user_id}/execute-actions-email", safe="")
        found = self._call("GET", f"/admin-events?operationTypes=ACTION&resourcePath={path}")
        return len(found.json())

    def mail_outage(self) -> AbstractContextManager[None]:
        """Point the realm at a port where nothing listens meanwhile."""
        smtp: Mapping[str, Any] = self._call("GET", "").json()["smtpServer"]
        return self._meanwhile({"smtpServer": {**smtp, "host": "127.0.0.1", "port": "1"}})

    @contextmanager
    def _meanwhile(self, settings: Mapping[str, Any]) -> Iterator[None]:
        realm = self._call("GET", "").json()
        before = {name: realm.get(name, False) for name in settings}
        self._call("PUT", "", settings)
        try:
            yield
        finally:
            self._call("PUT", "", before)

    def _client(self, client_id: str) -> str:
        (found,) = self._call("GET", f"/clients?clientId={quote(client_id, safe='')}").json()
        return str(found["id"])

    def _group_id(self, path: str) -> str | None:
        found = self._send("GET", f"/group-by-path/{quote(path)}")
        return str(found.json()["id"]) if found.ok else None

    def _call(self, method: str, path: str, json: object = None) -> requests.Response:
        response = self._send(method, path, json)
        response.raise_for_status()
        return response

    def _send(self, method: str, path: str, json: object = None) -> requests.Response:
        return self._administrator.send(method, f"/{self._realm}{path}", json=json)


@contextmanager
def temporary_realm(sandbox: Sandbox, *roles: str) -> Iterator[FreshRealm]:
    """Create a realm like the sandbox's own under a new name, and delete it afterwards.

    The bridge's account has `roles` of realm-management besides its usual ones.
    """
    administrator = RealmAdministrator.of(sandbox)
    realm = create_realm(sandbox, administrator, f"test-{uuid4().hex[:12]}")
    try:
        if roles:
            AdminRealmTools(administrator, realm.name).grant(realm.client_id, *roles)
        yield realm
    finally:
        administrator.delete(realm.name)


def create_realm(sandbox: Sandbox, administrator: RealmAdministrator, name: str) -> FreshRealm:
    """Create a realm like the sandbox's own in the administrator's Keycloak."""
    values = sandbox.realm_environment() | {"KEYCLOAK_REALM": name}
    body = representation(sandbox.realm_file, values) | {"realm": name}
    administrator.call("POST", "", json=body)
    return FreshRealm(name, sandbox.client_id, sandbox.client_secret)


@contextmanager
def bridge_admin(sandbox: Sandbox, realm: FreshRealm) -> Iterator[KeycloakAdmin]:
    """Open the bridge's own client of a realm, with a token that holds the roles of this moment."""
    http = KeycloakHttp(KeycloakConnection(url=sandbox.keycloak_url, realm=realm.name))
    tokens = TokenSource(
        http, by_secret(realm.client_id, lambda: realm.client_secret), SystemClock()
    )
    admin = KeycloakAdmin(http, tokens)
    try:
        yield admin
    finally:
        admin.close()
