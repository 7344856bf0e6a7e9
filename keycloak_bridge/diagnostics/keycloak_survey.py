"""What the doctor asks Keycloak that no other part of the bridge needs to know."""

import contextlib
import secrets
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from functools import cached_property
from statistics import median
from typing import Any

from keycloak_bridge.domain.errors import KeycloakAuthError, KeycloakError
from keycloak_bridge.domain.users import EXACT_ID_ATTRIBUTE
from keycloak_bridge.keycloak.activations import recorded_events
from keycloak_bridge.keycloak.admin import KeycloakAdmin
from keycloak_bridge.keycloak.calls import Call
from keycloak_bridge.keycloak.errors import keycloak_error
from keycloak_bridge.keycloak.http import KeycloakHttp, from_response
from keycloak_bridge.keycloak.partial_import import USER_STORAGE
from keycloak_bridge.transport.http import json_object

STRANGE_HOST = "keycloak-bridge-doctor.invalid"
"""A host name that no Keycloak has; a Keycloak that repeats it takes its public address from its callers."""

_DISCOVERY = Call("GET", "/.well-known/openid-configuration")
_SERVER_INFO = Call("GET", "/admin/serverinfo")
_LINK_LIFESPAN_S = 60
_SEARCHES = 5
"""So many are measured; one before them opens the connection."""


@dataclass(frozen=True, slots=True)
class Discovery:
    """What Keycloak publishes about the realm: its own address, and the server's time where the answer names one."""

    issuer: str
    server_time: datetime | None


@dataclass(frozen=True, slots=True)
class FederationProvider:
    """A directory that the realm takes users from; `kind` is such as `ldap`."""

    name: str
    kind: str
    edit_mode: str | None
    enabled: bool = True


class KeycloakSurvey:
    """Asks Keycloak what no other part of the bridge needs to know. Methods may raise KeycloakError."""

    def __init__(self, http: KeycloakHttp, admin: KeycloakAdmin) -> None:
        self._http = http
        self._admin = admin

    def discovery(self) -> Discovery:
        """Return the realm's public facts; raises KeycloakAuthError (`realm-not-found`) for a wrong name."""
        return self._discovery(None)

    def follows_its_callers(self) -> bool | None:
        """Say whether Keycloak's links lead to whatever host it was called by; None where a proxy is in the way."""
        try:
            return STRANGE_HOST in self._discovery(STRANGE_HOST).issuer
        except KeycloakError:
            return None

    def server_version(self) -> str | None:
        """Return Keycloak's version; None where the service account may not ask."""
        base = self._http.admin_url.rpartition("/admin/realms/")[0]
        try:
            response = self._http.send(
                _SERVER_INFO, f"{base}{_SERVER_INFO.path}", token=self._admin.access_token()
            )
        except KeycloakAuthError:
            return None
        answer = json_object(response) or {}
        info = answer.get("systemInfo") if response.status_code == 200 else None
        version = info.get("version") if isinstance(info, dict) else None
        return None if version is None else str(version)

    def smtp(self) -> Mapping[str, Any] | None:
        """Return the realm's mail server without its password; None where the service account may not read it."""
        if "smtpServer" not in self._realm:
            return None
        server = self._realm["smtpServer"] or {}
        return {key: value for key, value in server.items() if key != "password"}

    def password_rules(self) -> Mapping[str, Any] | None:
        """Return the realm's own settings, among them those for passwords; None where the service account may not read them."""
        return self._realm if "sslRequired" in self._realm else None

    @cached_property
    def _realm(self) -> Mapping[str, Any]:
        """What the service account may read of the realm's settings, asked for once."""
        return self._admin.realm()

    def user_events(self) -> Sequence[str]:
        """Return the types of user events, of those that the bridge reads, that the realm saves and lets it read."""
        return recorded_events(self._admin).types

    def user_federation(self) -> Sequence[FederationProvider] | None:
        """Return where users come from besides Keycloak; None where the service account may not read it."""
        try:
            found = self._admin.components(USER_STORAGE)
        except KeycloakAuthError:
            return None
        return [_provider(one) for one in found]

    def count_users(self) -> int:
        """Return how many users the realm has."""
        return self._admin.count_users()

    def lookup_s(self, attribute: str) -> float:
        """Return how long a search for a user by this external id takes: the median of a few made-up values."""
        took_s = []
        for _ in range(_SEARCHES + 1):
            begun_s = time.perf_counter()
            made_up = f"keycloak-bridge-doctor-{secrets.token_hex(6)}"
            if attribute == EXACT_ID_ATTRIBUTE:
                self._admin.find_users_by_name("username", made_up)
            else:
                self._admin.find_users_by_attribute(attribute, made_up)
            took_s.append(time.perf_counter() - begun_s)
        return median(took_s[1:])

    def send_test_mail(self, address: str) -> None:
        """Have Keycloak mail a link to `address`, through a user that is deleted again, which makes the link invalid.

        Raises KeycloakError: MailDeliveryError when the mail server failed.
        """
        name = f"keycloak-bridge-doctor-{secrets.token_hex(6)}"
        user_id = self._admin.create_user(
            {
                "username": name,
                "email": address,
                "firstName": "Test",
                "lastName": "Mail",
                "enabled": True,
            }
        )
        try:
            self._admin.execute_actions_email(
                user_id, ["UPDATE_PASSWORD"], lifespan_s=_LINK_LIFESPAN_S
            )
        finally:
            self._admin.delete_user(user_id)

    def _discovery(self, host: str | None) -> Discovery:
        url = self._http.realm_url + _DISCOVERY.path
        response = self._http.send(_DISCOVERY, url, host=host)
        if response.status_code != 200:
            raise from_response(_DISCOVERY, response)
        issuer = (json_object(response) or {}).get("issuer")
        if not isinstance(issuer, str):
            raise keycloak_error(code="not-keycloak", call=_DISCOVERY, status=200)
        return Discovery(issuer, _http_date(response.headers.get("Date")))


def _provider(component: Mapping[str, Any]) -> FederationProvider:
    config = component.get("config") or {}
    mode, enabled = (next(iter(config.get(name) or ()), None) for name in ("editMode", "enabled"))
    return FederationProvider(
        str(component.get("name")), str(component.get("providerId")), mode, enabled != "false"
    )


def _http_date(text: str | None) -> datetime | None:
    with contextlib.suppress(TypeError, ValueError):
        return None if text is None else parsedate_to_datetime(text).astimezone(UTC)
    return None
