"""What one exchange with Keycloak costs the bridge by each transport: `python -m bench.transport`.

A stub answers in Keycloak's place (`bench.stub_keycloak`); each transport creates the same users by `POST /users` over one
connection that stays open, in interleaved rounds. What is told is the CPU of this thread for one exchange, which other
programs of the machine hardly change. A server that never ends its answer shows which transports keep their deadline.
`--write` renews the table of docs/scaling.md.
"""

import argparse
import contextlib
import json
import socket
import statistics
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from http.client import HTTPConnection, HTTPException
from typing import Any
from urllib.parse import urlsplit

import click
import requests
import urllib3

from bench.figures import spread
from bench.machine import machine
from bench.publish import ROOT, renew
from bench.stubbed import stub
from bench.users import make_people
from keycloak_bridge.domain.errors import BridgeError
from keycloak_bridge.keycloak.calls import Call
from keycloak_bridge.keycloak.http import KeycloakConnection, KeycloakHttp

PAGE = ROOT / "docs" / "scaling.md"
BEGIN, END = "<!-- transport:begin -->\n", "<!-- transport:end -->\n"
_TIMEOUT_S = 60.0
_SHORT_S = 3.0
"""What an answer that never ends is given."""
_PATIENCE_S = 5 * _SHORT_S
_DRIP_S = _SHORT_S / 50
_USERS = 500
_CREATE = Call("POST", "/users")
_ERRORS = (
    *(requests.RequestException, urllib3.exceptions.HTTPError),
    *(HTTPException, BridgeError, OSError),
)

Post = Callable[[Mapping[str, Any]], object]
"""Creates one user."""


@dataclass(frozen=True, slots=True)
class Transport:
    """One way to make the same call; `opened` returns it for the address of a server and a time-out in seconds."""

    name: str
    opened: Callable[[str, float], Post]


def _session_post(url: str, timeout_s: float) -> Post:
    session = requests.Session()
    session.trust_env = False
    address = f"{url}/admin/realms/acme/users"
    headers = {"Authorization": "Bearer any"}
    return lambda user: session.post(
        address, json=user, headers=headers, timeout=timeout_s, allow_redirects=False
    )


def _keycloak_post(url: str, timeout_s: float) -> Post:
    http = KeycloakHttp(KeycloakConnection(url, "acme", timeout_s, timeout_s, pool_size=1))
    address = f"{http.admin_url}/users"
    return lambda user: http.send(_CREATE, address, token="any", json=user)  # noqa: S106


def _urllib3_post(url: str, timeout_s: float) -> Post:
    pool = urllib3.PoolManager(maxsize=1, timeout=timeout_s, retries=False)
    address = f"{url}/admin/realms/acme/users"
    headers = {"Authorization": "Bearer any"}
    return lambda user: pool.request("POST", address, json=user, headers=headers)


def _http_client_post(url: str, timeout_s: float) -> Post:
    connection = HTTPConnection(urlsplit(url).netloc, timeout=timeout_s)
    headers = {"Authorization": "Bearer any", "Content-Type": "application/json"}

    def post(user: Mapping[str, Any]) -> object:
        body = json.dumps(user).encode()
        connection.request("POST", "/admin/realms/acme/users", body, headers)
        return connection.getresponse().read()

    return post


TRANSPORTS = (
    Transport("`requests`, as its documentation has it", _session_post),
    Transport("`urllib3` alone", _urllib3_post),
    Transport("`http.client` alone", _http_client_post),
    Transport("**the bridge's**: `requests` with `httptools`", _keycloak_post),
)


def measure(url: str, rounds: int, calls: int) -> dict[str, list[float]]:
    """Return for each transport the CPU of an exchange in microseconds, by rounds; the first round does not count."""
    users: list[Any] = [person.representation for person in make_people("transport", _USERS)]
    posts = {one.name: one.opened(url, _TIMEOUT_S) for one in TRANSPORTS}
    found: dict[str, list[float]] = {name: [] for name in posts}
    for number in range(rounds + 1):
        for name, post in posts.items():
            begun_s = time.thread_time()
            for at in range(calls):
                post(users[at % _USERS])
            if number:
                found[name].append(1e6 * (time.thread_time() - begun_s) / calls)
    return found


def keeps_deadline(transport: Transport) -> bool:
    """Say whether a call ends although the answer never does: a byte comes now and then, sooner than any time-out."""
    with _dripping() as url:
        post, over = transport.opened(url, _SHORT_S), threading.Event()

        def call() -> None:
            with contextlib.suppress(*_ERRORS):
                post({"username": "ada"})
            over.set()

        threading.Thread(target=call, daemon=True).start()
        return over.wait(_PATIENCE_S)


@contextlib.contextmanager
def _dripping() -> Iterator[str]:
    """Serve an answer meanwhile that never ends."""
    over = threading.Event()
    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve() -> None:
            connection, _ = server.accept()
            with connection, contextlib.suppress(OSError):
                connection.recv(65536)
                connection.sendall(b"HTTP/1.1 201 Created\r\nContent-Length: 9999\r\n\r\n")
                while not over.wait(_DRIP_S):
                    connection.sendall(b"x")

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.getsockname()[1]}"
        finally:
            over.set()
            thread.join()


def table(
    found: Mapping[str, Sequence[float]], deadlines: Mapping[str, bool], about: Mapping[str, Any]
) -> str:
    """Return the table in Markdown; the last transport is what the others are compared with."""
    base = statistics.median(list(found.values())[-1])
    rows = [
        "| transport | CPU of an exchange | of the bridge's | an answer that never ends |",
        "|---|---:|---:|---|",
    ]
    for name, times_us in found.items():
        figures = spread(times_us)
        words = "ends at the deadline" if deadlines[name] else "**never times out**"
        rows.append(
            f"| {name} | {figures['median']:.0f} µs ({figures['least']:.0f} to {figures['greatest']:.0f}) "
            f"| {figures['median'] / base:.1f} | {words} |"
        )
    note = (
        f"`POST /users` to the stub over one connection, CPU of the calling thread, medians of {len(next(iter(found.values())))} "
        f"interleaved rounds; {about['cores']} cores ({about['cpu']}), Python {about['python']}."
    )
    return "\n".join(rows) + f"\n\n{note}\n"


def main() -> int:
    """Measure, print the table, and write it where that is asked for; return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m bench.transport", description=__doc__)
    parser.add_argument("--write", action="store_true", help="renew the table of docs/scaling.md")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--calls", type=int, default=2000, help="of each transport in a round")
    chosen = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder, stub(folder) as server:
        found = measure(server.address, chosen.rounds, chosen.calls)
    deadlines = {one.name: keeps_deadline(one) for one in TRANSPORTS}
    shown = table(found, deadlines, machine())
    click.echo(shown)
    if chosen.write:
        renew(PAGE, BEGIN, END, shown)
    return 0


if __name__ == "__main__":
    sys.exit(main())
