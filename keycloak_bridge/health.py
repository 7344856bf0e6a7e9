"""Liveness and readiness over HTTP.

`/live` answers 200 while every loop turns, `/ready` 200 while nothing is wrong; otherwise 503 and the reasons as text.
"""

import json
import threading
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from keycloak_bridge.core.errors import ConfigError
from keycloak_bridge.core.ports import Clock
from keycloak_bridge.core.status import Status

STUCK_AFTER_S = 120.0
"""Longer than the slowest turn: a full slice, one Keycloak time-out and an acknowledgement that never comes."""


class HealthServer:
    """Serves the two endpoints from a thread of its own until it is closed."""

    def __init__(self, status: Status, clock: Clock, *, host: str, port: int) -> None:
        """Bind; raises ConfigError when the address cannot be had."""
        try:
            self._server = ThreadingHTTPServer((host, port), _handler(status, clock))
        except OSError as error:
            raise ConfigError(
                f"the health endpoint cannot listen on {host}:{port}: {error.strerror}",
                remedy="set another health.port, or health.enabled = false",
            ) from error
        self._server.daemon_threads = True
        self._thread = threading.Thread(
            target=self._server.serve_forever, name="health", daemon=True
        )

    @property
    def port(self) -> int:
        """The port it listens on (useful after asking for port 0)."""
        return int(self._server.server_address[1])

    def start(self) -> None:
        """Begin to answer."""
        self._thread.start()

    def close(self) -> None:
        """Stop answering and free the port."""
        self._server.shutdown()
        self._server.server_close()


def _handler(status: Status, clock: Clock) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            if self.path == "/live":
                stuck = status.stuck(clock.monotonic(), STUCK_AFTER_S)
                self._answer([f"{name}: the loop stands still" for name in stuck])
            elif self.path == "/ready":
                self._answer(list(status.why_not_ready()))
            else:
                self.send_error(HTTPStatus.NOT_FOUND, "only /live and /ready are here")

        def _answer(self, problems: list[str]) -> None:
            body = json.dumps({"status": "DOWN" if problems else "UP", "problems": problems})
            self.send_response(HTTPStatus.SERVICE_UNAVAILABLE if problems else HTTPStatus.OK)
            self.send_header("Content-Type", "application/json")
            self.end_headers()
            self.wfile.write(body.encode() + b"\n")

        def log_message(self, *_: Any) -> None:
            """Probes are no news."""

    return Handler
