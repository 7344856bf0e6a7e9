"""A Keycloak that does next to nothing and answers after a fixed time: what is measured against it is the bridge alone.

`python -m bench.stub_keycloak --port 8180 --delay-ms 2` serves realms of any name at http://127.0.0.1:8180 until it is
ended; with `--port 0` it picks a free port. It prints one line of JSON with its `url` and `pid` once it listens. A bridge
runs against it with any client id and secret:

    KEYCLOAK_BRIDGE_KEYCLOAK_URL=http://127.0.0.1:8180 KEYCLOAK_BRIDGE_KEYCLOAK_REALM=acme

It grants what the bridge asks for at start (a token with all roles, a user profile that takes every attribute). It finds
no user by a search, so that each is new; the users that were posted last can be read by their ids. Every other write
passes. `GET /stub/tally` tells as JSON how often each
method and path was called, ids as `{id}`; `POST /stub/reset` begins the count anew. Only calls below a realm's admin path
are delayed, and none of them waits for another.
"""

import argparse
import asyncio
import base64
import contextlib
import json
import os
import re
import signal
import uuid
from collections import Counter
from collections.abc import Sequence
from http import HTTPStatus
from typing import Any
from urllib.parse import urlsplit

_END = b"\r\n\r\n"
_TOKEN_S = 300
_REMEMBERED = 10_000
_ROLES = ["manage-users", "view-users", "query-users", "view-clients", "view-events", "view-realm"]
_REALM = b"""{"realm": "stub", "enabled": true, "internationalizationEnabled": true,
"defaultRole": {"name": "default-roles-stub"}}"""
_ID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}")
_EVERYBODY = {"view": ["admin", "user"], "edit": ["admin", "user"]}
_ONLY_ADMINS = {"view": ["admin"], "edit": ["admin"]}

Answer = tuple[int, bytes, str]
"""Status, body and Location of an answer."""


class StubRealm:
    """Answers calls of the Admin REST API as a realm does that was made for the bridge and whose users are all new."""

    def __init__(self, *, burst: bool = False) -> None:
        self.calls: Counter[str] = Counter()
        self._token = _token([*_ROLES, *(["manage-realm"] if burst else [])])
        self._profile = json.dumps(_profile()).encode()
        self._newest: dict[str, bytes] = {}

    def answer(self, method: str, path: str, body: bytes) -> Answer:
        """Return the answer to one call; `path` is that of the whole URL, without its query."""
        if path.startswith("/stub/"):
            return self._own(path)
        below = path.partition("/admin/realms/")[2].partition("/")[2]
        self.calls[f"{method} /{_ID.sub('{id}', below)}"] += 1
        if path.endswith("/protocol/openid-connect/token"):
            return 200, self._token, ""
        if method == "GET":
            return self._read(below)
        if method == "POST" and below == "users":
            return self._create(path, body)
        if method == "POST" and below == "partialImport":
            return 200, _imported(body), ""
        created = method == "POST" and below.startswith(("groups", "organizations/"))
        return (201, b"", f"{path}/{uuid.uuid4()}") if created else (204, b"", "")

    def _own(self, path: str) -> Answer:
        if path == "/stub/reset":
            self.calls.clear()
        return 200, json.dumps(self.calls).encode(), ""

    def _read(self, below: str) -> Answer:
        if below.startswith("users/profile"):
            return 200, self._profile, ""
        if below == "users/count":
            return 200, b"0", ""
        if below == "events/config":
            return 200, b'{"adminEventsEnabled":true,"adminEventsDetailsEnabled":false}', ""
        if below.startswith("group-by-path/"):
            group = below.removeprefix("group-by-path/")
            named = {"id": str(uuid.uuid5(uuid.NAMESPACE_URL, group)), "path": f"/{group}"}
            return 200, json.dumps(named).encode(), ""
        if not below:
            return 200, _REALM, ""
        user_id = below.removeprefix("users/")
        if _ID.fullmatch(user_id):
            found = self._newest.get(user_id)
            return (200, found, "") if found else (404, b'{"error":"User not found"}', "")
        return 200, b"[]", ""

    def _create(self, path: str, body: bytes) -> Answer:
        if b'"username"' not in body:
            return 400, b'{"errorMessage":"User name is missing"}', ""
        user_id = str(uuid.uuid4())
        self._newest[user_id] = b'{"id":"' + user_id.encode() + b'",' + body.lstrip()[1:]
        if len(self._newest) > _REMEMBERED:
            del self._newest[next(iter(self._newest))]
        return 201, b"", f"{path}/{user_id}"


class _Connection(asyncio.Protocol):
    """Reads requests one after the other; each is answered before the next one is looked at."""

    def __init__(self, realm: StubRealm, delay_s: float) -> None:
        self._realm = realm
        self._delay_s = delay_s
        self._loop = asyncio.get_running_loop()
        self._buffer = b""
        self._busy = False
        self._transport: asyncio.Transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep where the answers go."""
        assert isinstance(transport, asyncio.Transport)  # noqa: S101 # as asyncio has it for a server of streams
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        """Answer when a request is complete."""
        self._buffer += data
        if not self._busy:
            self._next()

    def _next(self) -> None:
        head, end, rest = self._buffer.partition(_END)
        length = _content_length(head) if end else 0
        if not end or len(rest) < length:
            return
        self._buffer = rest[length:]
        method, target, _ = head.split(b"\r\n", 1)[0].decode("latin-1").split(" ")
        path = urlsplit(target).path
        answer = _as_bytes(self._realm.answer(method, path, rest[:length]))
        delay_s = self._delay_s if "/admin/" in path else 0.0
        if delay_s:
            self._busy = True
            self._loop.call_later(delay_s, self._reply, answer)
        else:
            self._reply(answer)

    def _reply(self, answer: bytes) -> None:
        self._busy = False
        self._transport.write(answer)
        if self._buffer:
            self._next()


def _content_length(head: bytes) -> int:
    found = re.search(rb"\r\ncontent-length: *([0-9]+)", head, re.IGNORECASE)
    return int(found.group(1)) if found else 0


def _as_bytes(answer: Answer) -> bytes:
    """Return the answer with the headers that Keycloak sends."""
    status, body, location = answer
    head = [
        f"HTTP/1.1 {status} {HTTPStatus(status).phrase}",
        *([f"Location: {location}"] if location else []),
        *(["Content-Type: application/json"] if body else []),
        "Referrer-Policy: no-referrer",
        "Strict-Transport-Security: max-age=31536000; includeSubDomains",
        "X-Content-Type-Options: nosniff",
        *([f"content-length: {len(body)}"] if status != HTTPStatus.NO_CONTENT else []),
    ]
    return "\r\n".join(head).encode() + _END + body


def _token(roles: Sequence[str]) -> bytes:
    """Return an answer with a token that names these roles, of the size of a real one."""
    claims = {
        "resource_access": {"realm-management": {"roles": roles}},
        "padding": "x" * 600,
    }
    payload = base64.urlsafe_b64encode(json.dumps(claims).encode()).decode().rstrip("=")
    token = f"e30.{payload}.{'s' * 342}"
    return json.dumps({"access_token": token, "expires_in": _TOKEN_S}).encode()


def _profile() -> dict[str, Any]:
    own = ("username", "email", "firstName", "lastName", "locale")
    return {
        "attributes": [{"name": name, "permissions": _EVERYBODY} for name in own]
        + [{"name": "userId", "permissions": _ONLY_ADMINS}],
        "unmanagedAttributePolicy": "ADMIN_EDIT",
    }


def _imported(body: bytes) -> bytes:
    users = json.loads(body).get("users", [])
    results = [
        {
            "action": "ADDED",
            "resourceType": "USER",
            "resourceName": user["username"],
            "id": str(uuid.uuid4()),
        }
        for user in users
    ]
    told = {"added": len(results), "skipped": 0, "overwritten": 0, "results": results}
    return json.dumps(told).encode()


async def _serve(port: int, realm: StubRealm, delay_s: float) -> None:
    loop = asyncio.get_running_loop()
    ended = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, ended.set)
    server = await loop.create_server(lambda: _Connection(realm, delay_s), "127.0.0.1", port)
    listens_at = server.sockets[0].getsockname()[1]
    print(json.dumps({"url": f"http://127.0.0.1:{listens_at}", "pid": os.getpid()}), flush=True)
    await ended.wait()
    server.close()


def main(arguments: Sequence[str] | None = None) -> None:
    """Serve until SIGTERM or SIGINT comes."""
    parser = argparse.ArgumentParser(prog="python -m bench.stub_keycloak", description=__doc__)
    parser.add_argument("--port", type=int, default=0, help="0 picks a free one")
    parser.add_argument("--delay-ms", type=float, default=2.0, help="how long an admin call takes")
    parser.add_argument("--burst", action="store_true", help="grant manage-realm too")
    chosen = parser.parse_args(arguments)
    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run(_serve(chosen.port, StubRealm(burst=chosen.burst), chosen.delay_ms / 1000))


if __name__ == "__main__":
    main()
