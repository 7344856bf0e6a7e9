"""What the bridge reports about itself: whether its loops turn, why a stage is not ready, and both over HTTP.

`/live` answers 200 while every loop turns, `/ready` 200 while nothing is wrong; otherwise 503 and the reasons as text.
`/metrics` is for Prometheus. `POST /release` releases the brake, for callers on this machine only. What else is served
comes as routes.
"""

import contextlib
import http.client
import ipaddress
import json
import logging
import socket
import sys
import threading
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from email.message import Message
from functools import partial
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from io import BufferedIOBase
from types import MappingProxyType
from typing import Any, NamedTuple

from keycloak_bridge.domain.errors import BridgeError, ConfigError
from keycloak_bridge.domain.ports import Clock
from keycloak_bridge.ops.logs import failure, log_event
from keycloak_bridge.ops.metrics import Metrics
from keycloak_bridge.ops.stage_reports import StageReports

STARTING_UP = "starting"
"""Code of what is no fault: a component that is not ready yet."""

MOST_NOTES = 10
"""So many notes are kept, the newest."""


@dataclass(slots=True)
class Status:
    """Thread-safe notes that the stages leave and the health endpoints read.

    `beats` holds the monotonic second of each stage's last turn; `problems` a sentence per component that is not well, and
    `codes` the code of it; `notes` what an operator should know although all is well, the newest last; `reports` how each
    stage is doing.
    """

    beats: dict[str, float] = field(default_factory=dict)
    problems: dict[str, str] = field(default_factory=dict)
    codes: dict[str, str] = field(default_factory=dict)
    notes: deque[str] = field(default_factory=partial(deque, maxlen=MOST_NOTES))
    reports: StageReports = field(default_factory=StageReports)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def beat(self, component: str, at_s: float) -> None:
        """Note that the loop of `component` turned."""
        with self._lock:
            self.beats[component] = at_s

    def forget(self, component: str) -> None:
        """Stop expecting turns of a component that ended."""
        with self._lock:
            self.beats.pop(component, None)
            self.problems.pop(component, None)
            self.codes.pop(component, None)

    def set_problem(self, component: str, sentence: str | None, code: str = STARTING_UP) -> bool:
        """Note why `component` is not ready (None: it is), in words and as a code; return whether that is a change."""
        with self._lock:
            before = self.problems.get(component)
            if sentence is None:
                self.problems.pop(component, None)
                self.codes.pop(component, None)
            else:
                self.problems[component] = sentence
                self.codes[component] = code
        return before != sentence

    def problem_codes(self) -> dict[str, str]:
        """Return the code of every problem by its component; empty means ready."""
        with self._lock:
            return dict(self.codes)

    def note(self, component: str, sentence: str) -> None:
        """Keep `sentence` among the last few; it makes nothing unready."""
        with self._lock:
            self.notes.append(f"{component}: {sentence}")

    def noted(self) -> tuple[str, ...]:
        """Return the notes, the oldest first."""
        with self._lock:
            return tuple(self.notes)

    def why_not_ready(self) -> tuple[str, ...]:
        """Return every problem as `component: sentence`; empty means ready."""
        with self._lock:
            return tuple(f"{name}: {text}" for name, text in sorted(self.problems.items()))

    def stuck(self, now_s: float, limit_s: float) -> tuple[str, ...]:
        """Return the components whose loop has not turned for `limit_s` seconds."""
        with self._lock:
            return tuple(sorted(name for name, at in self.beats.items() if now_s - at > limit_s))


logger = logging.getLogger(__name__)

JOINING = "joining the consumer group"
"""Why a stage is not ready before Kafka has settled its group."""

BRAKE = "brake"
"""Code of the reason while the brake holds the flow."""

_HOW_TO_RELEASE = (
    "look at `keycloak-bridge dead-letters list`, fix the cause, "
    "then restart or run `keycloak-bridge guard release`"
)


class Readiness:
    """Reports once, in the status and in the log, why a stage is not ready, and when it is again."""

    def __init__(self, stage: str, status: Status) -> None:
        self._stage = stage
        self._status = status
        self._reported: str | None = JOINING

    def update(
        self, brake: str | None, problems: Sequence[BridgeError | None], *, joined: bool
    ) -> None:
        """Note what is wrong: the brake's reason, else the first of `problems`; a change is logged."""
        sentence, code = self._why_not(brake, problems, joined)
        if sentence == self._reported:
            return
        before, self._reported = self._reported, sentence
        self._status.set_problem(self._stage, sentence, code or STARTING_UP)
        if sentence is None:
            log_event(logger, "ready", stage=self._stage)
        elif code == BRAKE:
            log_event(
                logger,
                "brake-engaged",
                level=logging.WARNING,
                message=sentence,
                stage=self._stage,
                reason=code,
            )
        elif sentence != JOINING:
            log_event(
                logger,
                "waiting",
                level=logging.WARNING if before in (None, JOINING) else logging.DEBUG,
                message=f"{sentence}; trying again until it works",
                stage=self._stage,
                reason=code,
            )

    def _why_not(
        self, brake: str | None, problems: Sequence[BridgeError | None], joined: bool
    ) -> tuple[str | None, str | None]:
        if brake is not None:
            return f"the brake holds the flow: {brake}; {_HOW_TO_RELEASE}", BRAKE
        for error in problems:
            if error is not None:
                return error.message, error.code
        if self._reported == JOINING and not joined:
            return JOINING, None
        return None, None


STUCK_AFTER_S = 60.0
"""Longer than the slowest turn of a poll loop: every second, but calls to Kafka may block for 15 s each."""

SLOWEST_CLIENT_S = 5.0
"""How long a client may keep silent before its connection is closed."""

SLOWEST_REQUEST_S = 10.0
"""How long a connection may last, from its beginning to the end of the answer."""

MOST_CONNECTIONS = 32
"""So many clients at once; one more takes the place of the one that has kept its request back for longest."""

MOST_HEAD_BYTES = 16384
"""The longest request with all its headers."""

_PASSED_ON = ("Origin", "Forwarded", "X-Forwarded-For", "X-Forwarded-Proto")
"""Headers of a browser or a proxy: either may run on this machine and act for another one."""


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
        routes: Mapping[str, "Route"] = MappingProxyType({}),
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
            self._server = _Server(host, port, {**self._routes(), **routes}, clock)
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

    def _routes(self) -> Mapping[str, "Route"]:
        routes = {
            "/live": Route(self._live, "200 while every loop turns"),
            "/ready": Route(self._ready, "200 while nothing is wrong"),
            "/metrics": Route(self._expose_metrics, "for Prometheus"),
            "/release": Route(self._release_brakes, "release the brake", ("POST",)),
        }
        lines = [f"{one.methods[0]:<4} {path:<8}  {one.about}\n" for path, one in routes.items()]
        overview = Answer(HTTPStatus.OK, "text/plain; charset=utf-8", "".join(lines).encode())
        return {"/": Route(lambda _: overview, "this overview"), **routes}

    def _live(self, _: "Request") -> "Answer":
        stuck = self._status.stuck(self._clock.monotonic(), STUCK_AFTER_S)
        return _up_or_down([f"{name}: the loop stands still" for name in stuck])

    def _ready(self, _: "Request") -> "Answer":
        return _up_or_down(self._status.why_not_ready(), self._status.noted())

    def _expose_metrics(self, _: "Request") -> "Answer":
        body = self._metrics.exposition(self._status.problem_codes())
        return Answer(HTTPStatus.OK, self._metrics.content_type, body)

    def _release_brakes(self, _: "Request") -> "Answer":
        return json_answer(HTTPStatus.OK, {"released": list(self._release())})


class _Server(ThreadingHTTPServer):
    """A server for IPv4 or IPv6 whose failures are lines of the log."""

    daemon_threads = True
    request_queue_size = 4 * MOST_CONNECTIONS

    def __init__(self, host: str, port: int, routes: Mapping[str, "Route"], clock: Clock) -> None:
        self.address_family = socket.AF_INET6 if ":" in host else socket.AF_INET
        self.routes = routes
        self._connections = _Connections(clock)
        super().__init__((host, port), _Handler)

    def process_request(self, request: Any, client_address: Any) -> None:
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
        super().shutdown_request(request)
        self._connections.forget(request)

    def handle_error(self, request: Any, client_address: Any) -> None:  # noqa: ARG002 # socketserver's
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


def _up_or_down(problems: Sequence[str], notes: Sequence[str] = ()) -> Answer:
    status = HTTPStatus.SERVICE_UNAVAILABLE if problems else HTTPStatus.OK
    content = {"status": "DOWN" if problems else "UP", "problems": list(problems)}
    return json_answer(status, {**content, "notes": list(notes)} if notes else content)


class _Handler(BaseHTTPRequestHandler):
    """Reads the head of a request only: one answer a connection, and a body stays unread."""

    server: _Server
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
