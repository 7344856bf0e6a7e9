"""A realm behind `requests`: it stores users, and notes every call that reaches it, so that nothing hides."""

import json
import re
import threading
import uuid
from collections.abc import Mapping
from typing import Any
from urllib.parse import parse_qsl, unquote, urlsplit

import requests
from answering_adapter import AnsweringAdapter, answer_of

from bench.stub_keycloak import StubRealm
from keycloak_bridge.domain.ports import Clock
from keycloak_bridge.keycloak.admin import KeycloakAdmin
from keycloak_bridge.keycloak.client_auth import by_secret
from keycloak_bridge.keycloak.http import KeycloakConnection, KeycloakHttp
from keycloak_bridge.keycloak.token import TokenSource
from keycloak_bridge.ops.clock import SystemClock

ROLES = ("viewer", "editor", "reader")
_ID = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}")
_NAMED = re.compile(r"^(group-by-path)/.*")

Query = dict[str, str]


class HttpRealm(AnsweringAdapter):
    """A realm with any group, client and organization, and the roles ROLES everywhere. Safe to share between threads.

    `calls` lists what was called, tokens left out, with `{id}` in the place of ids, and a search with what it asks for. It
    keeps usernames unique.
    """

    def __init__(self) -> None:
        super().__init__()
        self.calls: list[str] = []
        self.records_mails = True
        self._clock: Clock = SystemClock()
        self._stub = StubRealm(burst=True)
        self._users: dict[str, dict[str, Any]] = {}
        self._belongings: dict[str, list[Any]] = {}
        self._organizations: dict[str, dict[str, str]] = {}
        self._lock = threading.Lock()

    def add(self, user: Mapping[str, Any]) -> None:
        """Add a user."""
        user_id = str(uuid.uuid4())
        self._users[user_id] = {**user, "id": user_id}

    def admin(self, clock: Clock) -> KeycloakAdmin:
        """Return what calls this realm, which creates its users at the times of `clock`."""
        self._clock = clock
        http = KeycloakHttp(KeycloakConnection("https://keycloak.example", "acme"), self)
        return KeycloakAdmin(http, TokenSource(http, by_secret("bridge", lambda: "x"), clock))

    def answered(self, request: requests.PreparedRequest, timeout: Any) -> requests.Response:
        """Note the call and answer it."""
        del timeout
        url = urlsplit(str(request.url))
        body = request.body or b""
        body = body.encode() if isinstance(body, str) else bytes(body)
        with self._lock:
            status, text, location = self._answer(
                str(request.method), url.path, dict(parse_qsl(url.query)), body
            )
        return answer_of(status, text, {"Location": location} if location else {})

    def _answer(self, method: str, path: str, query: Query, body: bytes) -> tuple[int, bytes, str]:
        below = path.partition("/admin/realms/")[2].partition("/")[2]
        if path.endswith("/token"):
            return self._stub.answer(method, path, body)
        asked = next((f"?{name}" for name in ("q", "username", "email") if name in query), "")
        self.calls.append(
            f"{method} /{_NAMED.sub('group-by-path/{path}', _ID.sub('{id}', below))}{asked}"
        )
        first, _, rest = below.partition("/")
        if rest == "count" and "username" in query:
            return _found(0)
        if first == "users" and rest not in ("count", "profile", "profile/metadata"):
            if not rest:
                return self._users_at(method, path, query, body)
            user_id, _, part = rest.partition("/")
            if user_id in self._users:
                return self._of_user(method, user_id, part, body)
            return 404, b'{"error":"User not found"}', ""
        if first == "partialImport":
            status, answer, location = self._stub.answer(method, path, body)
            users = json.loads(body)["users"]
            for user, result in zip(users, json.loads(answer)["results"], strict=True):
                self._users[result["id"]] = {**user, "id": result["id"]}
            return status, answer, location
        if first == "clients":
            return _found([_named(query["clientId"], "clientId")])
        if below == "events/config":
            return _found({"adminEventsEnabled": self.records_mails})
        if first == "organizations":
            return self._organizations_at(method, rest, query, body)
        return self._stub.answer(method, path, body)

    def _users_at(
        self, method: str, path: str, query: Query, body: bytes
    ) -> tuple[int, bytes, str]:
        if method == "POST":
            user_id = str(uuid.uuid4())
            created_ms = int(self._clock.now().timestamp() * 1000)
            new = {**json.loads(body), "id": user_id, "createdTimestamp": created_ms}
            if any(user["username"] == new["username"] for user in self._users.values()):
                return 409, b'{"errorMessage":"User exists with same username"}', ""
            self._users[user_id] = new
            return 201, b"", f"{path}/{user_id}"
        found = list(self._users.values())
        for name in ("username", "email"):
            if name in query:
                exact = "exact" in query
                found = [
                    user
                    for user in found
                    if (
                        user.get(name) == query[name]
                        if exact
                        else query[name] in str(user.get(name))
                    )
                ]
        if "q" in query:
            name, _, value = query["q"].replace('"', "").partition(":")
            found = [user for user in found if value in user["attributes"].get(name, ())]
        begin = int(query.get("first", 0))
        return _found(found[begin : begin + int(query["max"])])

    def _of_user(self, method: str, user_id: str, part: str, body: bytes) -> tuple[int, bytes, str]:
        user = self._users[user_id]
        if not part:
            if method == "PUT":
                user |= json.loads(body)
            elif method == "DELETE":
                del self._users[user_id]
            return _found(user) if method == "GET" else (204, b"", "")
        if part == "groups" and method == "GET":
            return _found([_named(path, "path") for path in user.get("groups", ())])
        if not part.startswith("role-mappings/"):
            return (204, b"", "") if method != "GET" else _found([])
        mapped = self._belongings.setdefault(f"{user_id}/{part.removesuffix('/available')}", [])
        if method == "GET":
            roles = [_named(name, "name") for name in ROLES]
            return _found([one for one in roles if (one in mapped) != part.endswith("available")])
        mapped += json.loads(body)
        return 204, b"", ""

    def _organizations_at(
        self, method: str, rest: str, query: Query, body: bytes
    ) -> tuple[int, bytes, str]:
        if "q" in query:
            organization = _named(query["q"].partition(":")[2].strip('"'), "alias")
            self._organizations[organization["id"]] = organization
            return _found([organization])
        one, _, other = rest.partition("/")
        if method == "POST":
            self._belongings.setdefault(json.loads(body), []).append(self._organizations[one])
            return 201, b"", ""
        return _found(self._belongings.get(other.partition("/")[0], []))


def _named(name: str, field: str) -> dict[str, str]:
    """Return something whose id follows from its name."""
    name = unquote(name)
    return {"id": str(uuid.uuid5(uuid.NAMESPACE_URL, name)), field: name}


def _found(answer: object) -> tuple[int, bytes, str]:
    return 200, json.dumps(answer).encode(), ""
