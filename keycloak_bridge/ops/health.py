"""The health endpoints: what the bridge reports about itself over HTTP.

`/live` answers 200 while every loop turns, `/ready` 200 while nothing is wrong; otherwise 503 and the reasons as text.
`/metrics` is for Prometheus. `POST /release` releases the brake, for callers on this machine only. What else is served
comes as routes.
"""

import threading
from collections.abc import Callable, Mapping, Sequence
from http import HTTPStatus
from types import MappingProxyType

from keycloak_bridge.domain.errors import ConfigError
from keycloak_bridge.domain.ports import Clock
from keycloak_bridge.ops.http_server import Answer, HttpServer, Request, Route, json_answer
from keycloak_bridge.ops.metrics import Metrics
from keycloak_bridge.ops.status import Status

STUCK_AFTER_S = 60.0
"""Longer than the slowest turn of a poll loop: every second, but calls to Kafka may block for 15 s each."""


class HealthServer:
    """Serves the endpoints from a thread of its own until it is closed."""

    def __init__(
        self,
        status: Status,
        clock: Clock,
        *,
        host: str,
        port: int,
        metrics: Metrics,
        release: Callable[[], Sequence[str]],
        routes: Mapping[str, Route] = MappingProxyType({}),
    ) -> None:
        """Bind; raises ConfigError when the address is not available.

        `release` releases the brakes and returns the names of their stages; it and `routes`, which are served besides, are
        called from threads of the server.
        """
        self._status = status
        self._clock = clock
        self._metrics = metrics
        self._release = release
        try:
            self._server = HttpServer(host, port, {**self._routes(), **routes}, clock)
        except OSError as error:
            raise ConfigError(
                f"the health endpoint cannot listen on {host}:{port}: {error.strerror}",
                remedy="set another health.port, or health.enabled = false",
            ) from error
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

    def _routes(self) -> Mapping[str, Route]:
        routes = {
            "/live": Route(self._live, "200 while every loop turns"),
            "/ready": Route(self._ready, "200 while nothing is wrong"),
            "/metrics": Route(self._expose_metrics, "for Prometheus"),
            "/release": Route(self._release_brakes, "release the brake", ("POST",)),
        }
        lines = [f"{one.methods[0]:<4} {path:<8}  {one.about}\n" for path, one in routes.items()]
        overview = Answer(HTTPStatus.OK, "text/plain; charset=utf-8", "".join(lines).encode())
        return {"/": Route(lambda _: overview, "this overview"), **routes}

    def _live(self, _: Request) -> Answer:
        stuck = self._status.stuck(self._clock.monotonic(), STUCK_AFTER_S)
        return _up_or_down([f"{name}: the loop stands still" for name in stuck])

    def _ready(self, _: Request) -> Answer:
        return _up_or_down(self._status.why_not_ready(), self._status.noted())

    def _expose_metrics(self, _: Request) -> Answer:
        body = self._metrics.exposition(self._status.problem_codes())
        return Answer(HTTPStatus.OK, self._metrics.content_type, body)

    def _release_brakes(self, _: Request) -> Answer:
        return json_answer(HTTPStatus.OK, {"released": list(self._release())})


def _up_or_down(problems: Sequence[str], notes: Sequence[str] = ()) -> Answer:
    status = HTTPStatus.SERVICE_UNAVAILABLE if problems else HTTPStatus.OK
    content = {"status": "DOWN" if problems else "UP", "problems": list(problems)}
    return json_answer(status, {**content, "notes": list(notes)} if notes else content)
