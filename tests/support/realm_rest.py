"""A realm behind the Admin REST API as an administrator sees it: settings, clients, roles, groups; it notes every write."""

import copy
import json
import re
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

import requests
from answering_adapter import AnsweringAdapter, answer_of

from keycloak_bridge.keycloak.http import KeycloakConnection, KeycloakHttp
from keycloak_bridge.realm.administration import (
    Administrator,
    AdministratorTokens,
    RealmAdministration,
)
from keycloak_bridge.testing.fake_clock import FakeClock

Json = dict[str, Any]
MANAGEMENT_ROLES = (
    *("manage-users", "view-users", "query-users", "query-groups", "view-events", "view-realm"),
    *("manage-realm", "view-clients", "manage-clients", "manage-organizations", "impersonation"),
)
COMPOSITES = {"view-users": {"query-users", "query-groups"}}
BOTH = {"view": ["admin", "user"], "edit": ["admin", "user"]}
ACTIONS = {"UPDATE_PASSWORD": True, "VERIFY_EMAIL": True, "CONFIGURE_TOTP": True}


def new_realm() -> Json:
    """Return what Keycloak gives to a new realm, as far as it concerns the bridge."""
    return {
        "realm": {
            "realm": "acme",
            "enabled": True,
            "internationalizationEnabled": False,
            "supportedLocales": [],
            "smtpServer": {},
            "passwordPolicy": "length(9)",
            "oauth2DeviceCodeLifespan": 300,
            "attributes": {"frontendUrl": "https://id.acme.example", "cibaInterval": "7"},
        },
        "events": {
            "eventsEnabled": False,
            "eventsListeners": ["jboss-logging"],
            "enabledEventTypes": [],
            "adminEventsEnabled": False,
            "adminEventsDetailsEnabled": False,
        },
        "profile": {
            "attributes": [
                {"name": name, "permissions": BOTH, "validations": {"length": {"max": 255}}}
                for name in ("username", "email", "firstName", "lastName")
            ],
            "groups": [{"name": "user-metadata"}],
        },
        "clients": {"realm-management": {"id": "c-0", "clientId": "realm-management"}},
        "roles": {"": [], "realm-management": [*MANAGEMENT_ROLES]},
        "account": [],
        "scope": [],
        "actions": dict(ACTIONS),
        "unregistered": {"webauthn-register": "Webauthn Register"},
        "groups": [],
    }


class RealmRest(AnsweringAdapter):
    """One realm; `state` is all of it, `writes` what changed it. `forgets` names settings that the realm does not keep."""

    def __init__(self, state: Json | None = None) -> None:
        super().__init__()
        self.state = copy.deepcopy(state) if state is not None else new_realm()
        self.writes: list[str] = []
        self.forgets: set[str] = set()
        self.status: int | None = None
        self.bodies: list[Any] = []

    def administration(self) -> RealmAdministration:
        """Return an administrator of this realm."""
        http = KeycloakHttp(KeycloakConnection("https://keycloak.example", "acme"), self)
        return RealmAdministration(
            http, AdministratorTokens(http, Administrator("planted"), FakeClock())
        )

    def answered(self, request: requests.PreparedRequest, timeout: Any) -> requests.Response:
        """Answer as Keycloak does."""
        del timeout
        url = urlsplit(str(request.url))
        if url.path.endswith("/token"):
            return answer_of(200, b'{"access_token":"t","expires_in":60}')
        method, path = str(request.method), url.path.partition("/admin/realms/acme")[2]
        body = json.loads(request.body) if request.body else None
        if self.status is not None:
            return answer_of(self.status, b'{"error":"HTTP 403 Forbidden"}')
        if method != "GET":
            self.writes.append(f"{method} {path}")
            self.bodies.append(body)
        status, found = self._answer(method, unquote(path), parse_qs(url.query), body)
        return answer_of(status, b"" if found is None else json.dumps(found).encode())

    def _answer(  # a case for each endpoint
        self, method: str, path: str, query: Any, body: Any
    ) -> tuple[int, Any]:
        state = self.state
        match method, path.strip("/").split("/"):
            case "GET", [""]:
                return 200, state["realm"]
            case "PUT", [""]:
                return self._put("realm", self._with_resets(body))
            case "GET", ["users", "profile"]:
                return 200, state["profile"]
            case "PUT", ["users", "profile"]:
                state["profile"] = body
                return 200, body
            case "GET", ["events", "config"]:
                return 200, state["events"]
            case "PUT", ["events", "config"]:
                missing = {"eventsEnabled": False, "eventsExpiration": 0}
                return self._put("events", {**missing, **body})
            case _, ["authentication", *rest]:
                return self._actions(method, rest, body)
            case _, ["groups" | "group-by-path", *_]:
                return self._groups(method, path, body)
            case _, ["clients" | "users", *_]:
                return self._clients(method, path.strip("/"), query, body)
            case "GET", ["organizations"]:
                return 200, []
            case _, ["roles", *rest]:
                return _roles(method, state["roles"][""], rest, body)
        return 404, {"error": "Could not find it"}

    def _with_resets(self, body: Json) -> Json:
        """Return `body` with what Keycloak resets where it is left out, and without what it keeps."""
        stored = self.state["realm"]["attributes"] if "attributes" not in body else {}
        attributes = {**stored, "cibaInterval": "5", **body.get("attributes", {})}
        return {"oauth2DeviceCodeLifespan": 600, **body, "attributes": attributes}

    def _put(self, part: str, body: Json) -> tuple[int, Any]:
        kept = {name: value for name, value in body.items() if name not in self.forgets}
        self.state[part] |= kept
        return 204, None

    def _actions(self, method: str, rest: list[str], body: Any) -> tuple[int, Any]:
        actions, unregistered = self.state["actions"], self.state["unregistered"]
        match method, rest:
            case "GET", ["required-actions"]:
                return 200, [{"alias": one, "enabled": on} for one, on in actions.items()]
            case "GET", ["unregistered-required-actions"]:
                return 200, [
                    {"providerId": one, "name": name} for one, name in unregistered.items()
                ]
            case "GET", ["required-actions", alias] if alias in actions:
                return 200, {"alias": alias, "enabled": actions[alias]}
            case "PUT", ["required-actions", alias]:
                actions[alias] = body["enabled"]
                return 204, None
            case "POST", ["register-required-action"]:
                del unregistered[body["providerId"]]
                actions[body["providerId"]] = True
                return 204, None
        return 404, {"error": "Could not find it"}

    def _groups(self, method: str, path: str, body: Any) -> tuple[int, Any]:
        groups = self.state["groups"]
        if method == "GET":
            wanted = path.removeprefix("/group-by-path")
            if wanted not in groups:
                return 404, {"error": "Group path does not exist"}
            return 200, {"id": f"g-{groups.index(wanted)}", "path": wanted}
        parent = re.search(r"g-([0-9]+)", path)
        above = groups[int(parent[1])] if parent else ""
        groups.append(f"{above}/{body['name']}")
        return 201, None

    def _clients(self, method: str, path: str, query: Any, body: Any) -> tuple[int, Any]:
        clients, roles = self.state["clients"], self.state["roles"]
        by_id = {one["id"]: one for one in clients.values()}
        parts = path.split("/")
        if parts == ["clients"]:
            if method == "GET":
                return 200, [clients[name] for name in query["clientId"] if name in clients]
            clients[body["clientId"]] = {**body, "id": f"c-{len(clients)}"}
            return 201, None
        if parts[0] == "clients" and len(parts) == 2:
            clients[by_id[parts[1]]["clientId"]] |= body
            return 204, None
        if parts[-1] == "service-account-user":
            return 200, {"id": "service-account"}
        if "role-mappings" in parts or "scope-mappings" in parts:
            mapped = self.state["account" if "role-mappings" in parts else "scope"]
            return _mapped(method, mapped, body, composite=parts[-1] == "composite")
        owned = roles.setdefault(by_id[parts[1]]["clientId"], [])
        return _roles(method, owned, parts[3:], body)


def _mapped(method: str, mapped: list[str], body: Any, *, composite: bool) -> tuple[int, Any]:
    if method == "GET":
        implied = (
            {more for one in mapped for more in COMPOSITES.get(one, ())} if composite else set()
        )
        return 200, [_role(name) for name in sorted({*mapped, *implied})]
    names = [one["name"] for one in body]
    if method == "POST":
        mapped += [name for name in names if name not in mapped]
    else:
        mapped[:] = [name for name in mapped if name not in names]
    return 204, None


def _roles(method: str, owned: list[str], rest: list[str], body: Any) -> tuple[int, Any]:
    if method == "POST":
        owned.append(body["name"])
        return 201, None
    if not rest:
        return 200, [_role(name) for name in owned]
    return (200, _role(rest[0])) if rest[0] in owned else (404, {"error": "no such role"})


def _role(name: str) -> Json:
    return {"id": f"r-{name}", "name": name}
