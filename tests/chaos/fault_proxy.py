"""A proxy between the bridge and Keycloak that can fail in every way a network or a gateway does."""

import http.client
import socket
import struct
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import urlsplit

_HOST = "127.0.0.1"
_UPSTREAM_TIMEOUT_S = 120
_HOP_BY_HOP = frozenset(("connection", "keep-alive", "transfer-encoding", "content-length", "host"))
_RST_ON_CLOSE = struct.pack("ii", 1, 0)


@dataclass(frozen=True, slots=True)
class Fault:
    """What is done to one request: nothing, when everything is left out."""

    delay_s: float = 0.0
    status: int | None = None
    """Answer this instead of asking Keycloak."""
    retry_after_s: int | None = None
    reset_before: bool = False
    """Reset the connection before Keycloak hears of it."""
    reset_after: bool = False
    """Let Keycloak do it, and reset the connection instead of answering."""


PASS = Fault()

Rule = Callable[[str, str], Fault]
"""Says by method and path what is done to a request; called from any thread."""


@dataclass(frozen=True, slots=True)
class Trap:
    """Calls `spring` once, at a moment of a request that fits: `asked`, `done` or `answered`.

    `asked` is before Keycloak hears of it, `done` before the bridge hears that it is done, `answered` right after.
    """

    method: str
    path_end: str
    moment: str
    spring: Callable[[], None]
    passing: int = 0
    """How many requests that fit are let through before."""


class FaultProxy:
    """Forwards HTTP to Keycloak as the rule in force says. Safe to use from any thread."""

    def __init__(self, target_url: str) -> None:
        self._target = urlsplit(target_url).netloc
        self._lock = threading.Lock()
        self._rule: Rule = always(PASS)
        self._trap: Trap | None = None
        self._server = _Server(self)
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)

    @property
    def url(self) -> str:
        """Where the bridge finds it."""
        return f"http://{_HOST}:{self._server.server_address[1]}"

    @contextmanager
    def running(self) -> Iterator["FaultProxy"]:
        """Serve meanwhile."""
        self._thread.start()
        try:
            yield self
        finally:
            self._server.shutdown()
            self._server.server_close()

    @contextmanager
    def failing(self, rule: Rule) -> Iterator[None]:
        """Have `rule` decide meanwhile."""
        self._rule = rule
        try:
            yield
        finally:
            self._rule = always(PASS)

    def set_trap(self, trap: Trap | None) -> None:
        """Lay the one trap, or take it away."""
        with self._lock:
            self._trap = trap

    def fault(self, method: str, path: str) -> Fault:
        """Return what to do to a request."""
        return self._rule(method, path)

    def step_on(self, method: str, path: str, moment: str) -> None:
        """Spring the trap if it is laid here."""
        with self._lock:
            trap = self._trap
            if trap is None or (trap.method, trap.moment) != (method, moment):
                return
            if not path.partition("?")[0].endswith(trap.path_end):
                return
            self._trap = replace(trap, passing=trap.passing - 1) if trap.passing else None
        if not trap.passing:
            trap.spring()

    def upstream(self) -> http.client.HTTPConnection:
        """Return a new connection to Keycloak."""
        return http.client.HTTPConnection(self._target, timeout=_UPSTREAM_TIMEOUT_S)


def always(fault: Fault) -> Rule:
    """Return the rule that does the same to every request."""
    return lambda *_: fault


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128

    def __init__(self, proxy: FaultProxy) -> None:
        super().__init__((_HOST, 0), _Handler)
        self.proxy = proxy

    def shutdown_request(self, request: Any) -> None:
        """Close without the FIN that `shutdown` would send: a reset must be one."""
        self.close_request(request)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A bridge that was killed in the middle of a request is no news."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    wbufsize = -1
    disable_nagle_algorithm = True
    server: "_Server"
    _keycloak: http.client.HTTPConnection | None = None

    def do_GET(self) -> None:
        self._forward()

    def do_POST(self) -> None:
        self._forward()

    def do_PUT(self) -> None:
        self._forward()

    def do_DELETE(self) -> None:
        self._forward()

    def _forward(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        fault = self.server.proxy.fault(self.command, self.path)
        time.sleep(fault.delay_s)
        self.server.proxy.step_on(self.command, self.path, "asked")
        if fault.reset_before:
            self._reset()
        elif fault.status is not None:
            self._refuse(fault.status, fault.retry_after_s)
        else:
            self._pass_on(body, fault)

    def _pass_on(self, body: bytes, fault: Fault) -> None:
        headers = {k: v for k, v in self.headers.items() if k.lower() not in _HOP_BY_HOP}
        try:
            self._keycloak = self._keycloak or self.server.proxy.upstream()
            self._keycloak.request(self.command, self.path, body or None, headers)
            answer = self._keycloak.getresponse()
            content = answer.read()
        except (OSError, http.client.HTTPException):
            self._reset()
            return
        self.server.proxy.step_on(self.command, self.path, "done")
        if fault.reset_after:
            self._reset()
            return
        self.send_response_only(answer.status)
        for name, value in answer.getheaders():
            if name.lower() not in _HOP_BY_HOP:
                self.send_header(name, value)
        self._end(answer.status, content)
        self.server.proxy.step_on(self.command, self.path, "answered")

    def _refuse(self, status: int, retry_after_s: int | None) -> None:
        self.send_response_only(status)
        if retry_after_s is not None:
            self.send_header("Retry-After", str(retry_after_s))
        self._end(status, b"no server is available to handle this request")

    def _end(self, status: int, content: bytes) -> None:
        if status != http.client.NO_CONTENT:
            self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)
        self.wfile.flush()

    def _reset(self) -> None:
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RST_ON_CLOSE)
        self.close_connection = True

    def finish(self) -> None:
        if self._keycloak is not None:
            self._keycloak.close()
        with suppress(OSError):
            super().finish()

    def log_message(self, *_: Any) -> None:
        """Requests are no news."""
