"""A small HTTP server, whose routes come from the rest of the bridge; no client can keep it busy."""

import contextlib
import http.client
import ipaddress
import json
import logging
import socket
import sys
import threading
from collections.abc import Callable, Mapping
from email.message import Message
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from io import BufferedIOBase
from types import MappingProxyType
from typing import Any, NamedTuple

from keycloak_bridge.domain.ports import Clock
from keycloak_bridge.ops.logs import failure, log_event

logger = logging.getLogger(__name__)

SLOWEST_CLIENT_S = 5.0
"""How long a client may keep silent before its connection is closed."""

SLOWEST_REQUEST_S = 10.0
"""How long a connection may last, from its beginning to the end of the answer."""

MOST_CONNECTIONS = 32
"""So many clients at once; one more takes the place of the one that has kept its request back for longest."""

MOST_HEAD_BYTES = 16384
"""The longest request with all its headers."""

PROXY_HEADERS = ("Forwarded", "X-Forwarded-For", "X-Forwarded-Host", "X-Forwarded-Proto")
"""Headers of a proxy, which may run on this machine and act for another one."""

_PASSED_ON = ("Origin", *PROXY_HEADERS)
"""Those of a browser too, which may do so as well."""


class Request(NamedTuple):
    """A request as a route sees it; `query` is what stands behind the `?`."""

    query: str
    headers: Message


class Answer(NamedTuple):
    """What the client gets."""

    status: HTTPStatus
    content_type: str
    body: bytes
    headers: Mapping[str, str] = MappingProxyType({})


class Route(NamedTuple):
    """Answers the requests of one path; `about` is for the overview."""

    answer: Callable[[Request], Answer]
    about: str
    methods: tuple[str, ...] = ("GET",)


def json_answer(status: HTTPStatus, content: Mapping[str, Any]) -> Answer:
    """Return `content` as JSON."""
    return Answer(status, "application/json", json.dumps(content).encode() + b"\n")


class HttpServer(ThreadingHTTPServer):
    """A server for IPv4 or IPv6 whose failures are lines of the log."""

    daemon_threads = True
    request_queue_size = 4 * MOST_CONNECTIONS

    def __init__(self, host: str, port: int, routes: Mapping[str, Route], clock: Clock) -> None:
        self.address_family = socket.AF_INET6 if ":" in host else socket.AF_INET
        self.routes = routes
        self._connections = _Connections(clock)
        super().__init__((host, port), _Handler)

    def process_request(self, request: Any, client_address: Any) -> None:
        """Answer in a thread of its own, if there is room."""
        if self._connections.admit(request):
            super().process_request(request, client_address)
        else:
            self.shutdown_request(request)

    def service_actions(self) -> None:
        """Runs after each new connection, and twice a second."""
        self._connections.end_slow()

    def request_is_read(self, request: socket.socket) -> None:
        """Note that the client waits for the bridge now, not the other way round."""
        self._connections.is_read(request)

    def shutdown_request(self, request: Any) -> None:
        """Close the connection, and make room for the next."""
        super().shutdown_request(request)
        self._connections.forget(request)

    def handle_error(self, request: Any, client_address: Any) -> None:  # noqa: ARG002 # socketserver's
        """Log the failure; that a client left is none."""
        error = sys.exception()
        if error is not None and not isinstance(error, OSError):  # a client may leave at any time
            _log_failure(error)


class _Connections:
    """The open connections: never more than MOST_CONNECTIONS, and none for longer than SLOWEST_REQUEST_S.

    A connection is only shut down here; its thread wakes up from that and closes it.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._changed = threading.Condition()
        self._since: dict[socket.socket, float] = {}
        self._unread: dict[socket.socket, None] = {}

    def admit(self, connection: socket.socket) -> bool:
        """Make room for `connection`; False if none of the others ended in time."""
        with self._changed:
            if len(self._since) >= MOST_CONNECTIONS:
                _shut_down(next(iter(self._unread or self._since)))
            if not self._changed.wait_for(
                lambda: len(self._since) < MOST_CONNECTIONS, timeout=SLOWEST_CLIENT_S
            ):
                return False
            self._since[connection] = self._clock.monotonic()
            self._unread[connection] = None
        return True

    def is_read(self, connection: socket.socket) -> None:
        with self._changed:
            self._unread.pop(connection, None)

    def forget(self, connection: socket.socket) -> None:
        with self._changed:
            self._since.pop(connection, None)
            self._unread.pop(connection, None)
            self._changed.notify()

    def end_slow(self) -> None:
        """Shut down what has lasted for too long."""
        with self._changed:
            now_s = self._clock.monotonic()
            for connection, since_s in self._since.items():
                if now_s - since_s <= SLOWEST_REQUEST_S:
                    break
                _shut_down(connection)


def _shut_down(connection: socket.socket) -> None:
    with contextlib.suppress(OSError):  # its client was faster
        connection.shutdown(socket.SHUT_RDWR)


class _Head:
    """The stream of a request, which gives no more than MOST_HEAD_BYTES."""

    def __init__(self, stream: BufferedIOBase) -> None:
        self._stream = stream
        self._left = MOST_HEAD_BYTES
        self.close = stream.close

    def readline(self, limit: int) -> bytes:
        line = self._stream.readline(min(limit, self._left + 1))
        self._left -= len(line)
        if self._left < 0:
            raise http.client.LineTooLong("request")
        return line


class _Handler(BaseHTTPRequestHandler):
    """Reads the head of a request only: one answer a connection, and a body stays unread."""

    server: HttpServer
    timeout = SLOWEST_CLIENT_S
    server_version = "keycloak-bridge"
    sys_version = ""

    def setup(self) -> None:
        super().setup()
        self.rfile = _Head(self.rfile)  # type: ignore[assignment] # no more of it is used

    def handle_one_request(self) -> None:
        try:
            super().handle_one_request()
        except http.client.LineTooLong:  # the first line; the base class answers it for headers
            self.requestline = self.request_version = self.command = ""
            self.send_error(HTTPStatus.REQUEST_URI_TOO_LONG)

    def do_GET(self) -> None:
        self.server.request_is_read(self.connection)
        routes = self.server.routes
        path, _, query = self.path.partition("?")
        route = routes.get(path)
        if route is None:
            self._refuse(HTTPStatus.NOT_FOUND, f"only {', '.join(routes)} are here")
        elif self.command not in route.methods:
            allowed = ", ".join(route.methods)
            why = f"only {allowed} is possible here"
            self._refuse(HTTPStatus.METHOD_NOT_ALLOWED, why, allow=allowed)
        elif self.command == "POST" and (why_not := self._why_not_local()):
            self._refuse(HTTPStatus.FORBIDDEN, why_not)
        else:
            self._send(self._answer(route, query))

    do_HEAD = do_POST = do_PUT = do_PATCH = do_DELETE = do_OPTIONS = do_GET  # noqa: N815

    def _answer(self, route: Route, query: str) -> Answer:
        try:
            return route.answer(Request(query, self.headers))
        except Exception as error:  # noqa: BLE001 # the client gets an answer, and the log the error
            _log_failure(error)
            why = "the bridge failed at this; its log says why"
            return json_answer(HTTPStatus.INTERNAL_SERVER_ERROR, {"error": why})

    def _why_not_local(self) -> str | None:
        peer, own = self.client_address[0], self.connection.getsockname()[0]
        if not is_this_machine(peer, own):
            return "only a caller on the bridge's own machine, or in its container, may do this"
        if any(name in self.headers for name in _PASSED_ON):
            return "a browser or a proxy may not do this; ask the bridge directly"
        return None

    def _refuse(self, status: HTTPStatus, why: str, *, allow: str | None = None) -> None:
        answer = json_answer(status, {"error": why})
        self._send(answer if allow is None else answer._replace(headers={"Allow": allow}))

    def _send(self, answer: Answer) -> None:
        self.send_response(answer.status)
        self.send_header("Content-Type", answer.content_type)
        self.send_header("Content-Length", str(len(answer.body)))
        for name, value in answer.headers.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(answer.body)

    def log_message(self, *_: Any) -> None:
        """Log nothing: probes come every second."""


def is_this_machine(peer: str, own: str) -> bool:
    """Say whether a connection from address `peer` to address `own` began on this machine."""
    address = ipaddress.ip_address(peer)
    mapped = getattr(address, "ipv4_mapped", None)  # how a socket for both families shows IPv4
    return peer == own or (mapped or address).is_loopback


def _log_failure(error: BaseException) -> None:
    log_event(
        logger,
        "health-failed",
        level=logging.ERROR,
        message=f"a request to the health endpoint failed: {failure(error)}",
        error=error,
    )
