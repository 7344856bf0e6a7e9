import contextlib
import http.client
import json
import logging
import socket
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import closing
from functools import partial

import pytest
from pytest_socket import enable_socket
from threads import in_threads

from keycloak_bridge.ops.health import STUCK_AFTER_S, HealthServer
from keycloak_bridge.ops.http_server import (
    MOST_CONNECTIONS,
    MOST_HEAD_BYTES,
    SLOWEST_REQUEST_S,
    is_this_machine,
)
from keycloak_bridge.ops.metrics import Metrics
from keycloak_bridge.ops.status import Status
from keycloak_bridge.testing.fake_clock import FakeClock

LOOPBACK = "127.0.0.1"


class Harness:
    """A health server on a free port of the loopback address; ending one takes half a second, so all tests share it."""

    def __init__(self) -> None:
        self.status = Status()
        self.clock = FakeClock()
        self.metrics = Metrics()
        self.held: list[str] = []
        self.fault: Exception | None = None
        self.server = HealthServer(
            self.status,
            self.clock,
            host=LOOPBACK,
            port=0,
            metrics=self.metrics,
            release=self._release,
        )
        self.server.start()

    def forget(self) -> None:
        """Return to a bridge without complaints."""
        self.status.forget("provision")
        self.status.notes.clear()
        self.held = []
        self.fault = None

    def _release(self) -> list[str]:
        if self.fault is not None:
            raise self.fault
        released, self.held = self.held, []
        return released

    def get(
        self, path: str, method: str = "GET", headers: dict[str, str] | None = None
    ) -> tuple[int, bytes, str]:
        """Return status, body and media type."""
        request = urllib.request.Request(
            f"http://{LOOPBACK}:{self.server.port}{path}", method=method, headers=headers or {}
        )
        try:
            with urllib.request.urlopen(request, timeout=5) as answer:  # noqa: S310
                return answer.status, answer.read(), answer.headers.get_content_type()
        except urllib.error.HTTPError as error:
            with error:
                return error.code, error.read(), error.headers.get_content_type()

    def ask(
        self, path: str, method: str = "GET", headers: dict[str, str] | None = None
    ) -> tuple[int, object]:
        """Return status and parsed body."""
        status, body, media_type = self.get(path, method, headers)
        assert "application/json" == media_type
        return status, json.loads(body)


def a_server(port: int = 0) -> HealthServer:
    """Return a server of its own that is not started."""
    return HealthServer(
        Status(), FakeClock(), host=LOOPBACK, port=port, metrics=Metrics(), release=list
    )


@pytest.fixture(scope="module")
def shared() -> Iterator[Harness]:
    """One server for all tests."""
    enable_socket()
    running = Harness()
    yield running
    running.server.close()


@pytest.fixture
def loopback(_no_network: None) -> None:
    """The one place where a unit test may open a socket, and only to itself."""
    enable_socket()


@pytest.fixture
def harness(shared: Harness, loopback: None) -> Harness:
    """The server as if it had just started."""
    shared.forget()
    return shared


UP = {"status": "UP", "problems": []}


def test_a_problem_is_not_ready_but_live(harness: Harness) -> None:
    """The reason is in the body; a restart would not fix it, so the process stays live. A query changes nothing."""
    paths = ("/ready", "/ready?verbose=1", "/live")
    before = [harness.ask(path) for path in paths]
    harness.status.set_problem("provision", "Keycloak does not answer")

    down = (503, {"status": "DOWN", "problems": ["provision: Keycloak does not answer"]})
    assert [(200, UP)] * 3 == before
    assert [down, down, (200, UP)] == [harness.ask(path) for path in paths]


def test_notes_are_shown_while_all_is_well(harness: Harness) -> None:
    """The last ten of them: what an operator should know, and nothing has to wait for."""
    for number in range(12):
        harness.status.note("provision", f"user-events/1@{number} became a dead letter")

    status, answer = harness.ask("/ready")

    notes = [f"provision: user-events/1@{number} became a dead letter" for number in range(2, 12)]
    assert (200, {**UP, "notes": notes}) == (status, answer)


def test_a_loop_that_stands_still_is_not_live(harness: Harness) -> None:
    """Every stuck stage is named; the next turn makes it well again."""
    harness.status.beat("provision", harness.clock.monotonic())
    harness.clock.advance(STUCK_AFTER_S)
    at_the_limit = harness.ask("/live")
    harness.clock.advance(0.1)
    stuck = harness.ask("/live")
    harness.status.beat("provision", harness.clock.monotonic())

    assert (200, UP) == at_the_limit
    assert (503, {"status": "DOWN", "problems": ["provision: the loop stands still"]}) == stuck
    assert (200, UP) == harness.ask("/live")


NOT_FOUND = [
    (method, path, 404)
    for method in ("GET", "POST", "DELETE")
    for path in ("/healthz", "/live/x", "/%2e%2e/live", "/Live")
]
NOT_ALLOWED = [
    *(
        (method, path, 405)
        for method in ("HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS")
        for path in ("/", "/live", "/ready", "/metrics")
    ),
    *((method, "/release", 405) for method in ("GET", "HEAD", "PUT", "DELETE")),
]


@pytest.mark.parametrize(("method", "path", "expected"), [*NOT_FOUND, *NOT_ALLOWED])
def test_there_are_five_paths_with_one_method_each(
    harness: Harness, method: str, path: str, expected: int
) -> None:
    """A crawler or a link must not release the brake; the right method is in `Allow`, as HTTP wants it."""
    harness.held = ["provision"]

    with closing(http.client.HTTPConnection(LOOPBACK, harness.server.port, timeout=5)) as client:
        client.request(method, path)
        answer = client.getresponse()
        body = answer.read()

    assert (expected, ["provision"]) == (answer.status, harness.held)
    if expected == 404:
        assert b'{"error": "only /, /live, /ready, /metrics, /release are here"}\n' == body
    else:
        assert ("POST" if path == "/release" else "GET") == answer.getheader("Allow")


def test_the_overview_names_all(harness: Harness) -> None:
    """Plain text, a line each."""
    status, body, media_type = harness.get("/")

    assert (200, "text/plain") == (status, media_type)
    assert ["GET /live", "GET /ready", "GET /metrics", "POST /release"] == [
        " ".join(line.split()[:2]) for line in body.decode().splitlines()
    ]


def test_metrics_are_prometheus_text(harness: Harness) -> None:
    """What was counted is there, in the media type that Prometheus knows."""
    harness.metrics.mail()

    status, body, media_type = harness.get("/metrics")

    assert (200, "text/plain") == (status, media_type)
    assert b"keycloak_bridge_mails_total 1.0" in body


@pytest.mark.parametrize(("problem", "value"), [("Keycloak is away", b"0.0"), (None, b"1.0")])
def test_metrics_and_readiness_agree(harness: Harness, problem: str | None, value: bytes) -> None:
    """The gauge is set at each scrape from what `/ready` answers from."""
    harness.status.set_problem("provision", problem, "keycloak-unavailable")

    body = harness.get("/metrics")[1]

    assert b"\nkeycloak_bridge_ready " + value in body
    named = b'\nkeycloak_bridge_problem{code="keycloak-unavailable",stage="provision"} 1.0'
    assert (problem is not None) == (named in body)


def test_release_names_what_was_held(harness: Harness) -> None:
    """The second time there is nothing left."""
    harness.held = ["provision", "invite"]

    assert (200, {"released": ["provision", "invite"]}) == harness.ask("/release", "POST")
    assert (200, {"released": []}) == harness.ask("/release", "POST")


@pytest.mark.parametrize(
    "header",
    [
        "Origin",
        "Forwarded",
        "X-Forwarded-For",
        "X-Forwarded-Host",
        "x-forwarded-proto",
        None,
    ],
)
def test_release_is_not_for_another_machine(
    harness: Harness, monkeypatch: pytest.MonkeyPatch, header: str | None
) -> None:
    """A page in a browser, or a proxy on this machine, may act for one; the answer says where it is possible."""
    monkeypatch.setattr("keycloak_bridge.ops.http_server.is_this_machine", lambda *_: bool(header))
    harness.held = ["provision"]

    status, body = harness.ask("/release", "POST", {header: "http://x"} if header else {})

    assert (403, ["provision"]) == (status, harness.held)
    assert ("directly" if header else "in its container") in str(body)


@pytest.mark.parametrize(
    ("peer", "own", "is_here"),
    [
        ("127.0.0.1", "127.0.0.1", True),
        ("127.0.0.1", "10.0.0.5", True),
        ("127.9.9.9", "127.0.0.1", True),
        ("::1", "::1", True),
        ("::ffff:127.0.0.1", "::ffff:127.0.0.1", True),
        ("10.0.0.5", "10.0.0.5", True),
        ("172.17.0.1", "172.17.0.2", False),
        ("10.0.0.6", "10.0.0.5", False),
        ("::ffff:10.0.0.6", "::ffff:10.0.0.5", False),
        ("2001:db8::1", "2001:db8::2", False),
        ("fe80::1%eth0", "fe80::2%eth0", False),
    ],
)
def test_who_is_on_this_machine(peer: str, own: str, is_here: bool) -> None:
    """Loopback, and who calls from the very address that it calls; a container's gateway is another machine."""
    assert is_here == is_this_machine(peer, own)


def test_a_body_is_not_waited_for(harness: Harness) -> None:
    """A gigabyte that is announced and never comes holds no thread: the answer is there, and the connection ends."""
    head = "POST /release HTTP/1.1\r\nHost: x\r\nContent-Length: 1073741824\r\n\r\n"
    with socket.create_connection((LOOPBACK, harness.server.port), timeout=5) as client:
        client.sendall(head.encode())
        answer = b"".join(iter(lambda: client.recv(65536), b""))

    assert b" 200 " in answer.splitlines()[0]
    assert answer.endswith(b'{"released": []}\n')


def test_a_release_that_fails_is_answered_and_logged(
    harness: Harness, caplog: pytest.LogCaptureFixture
) -> None:
    """The client gets 500; the log gets the type; neither has the text of the exception."""
    harness.fault = ValueError("ada@acme.example")

    with caplog.at_level(logging.ERROR):
        status, body = harness.ask("/release", "POST")

    assert 500 == status
    assert "ada" not in f"{body}{caplog.messages}"
    assert ["health-failed"] == [vars(one)["bridge_fields"]["action"] for one in caplog.records]


@pytest.mark.parametrize(
    ("fault", "actions"),
    [(ValueError("ada@acme.example"), ["health-failed"]), (BrokenPipeError(), [])],
)
def test_a_failure_of_a_connection_is_one_line_or_none(
    harness: Harness,
    caplog: pytest.LogCaptureFixture,
    capfd: pytest.CaptureFixture[str],
    fault: Exception,
    actions: list[str],
) -> None:
    """No traceback goes to standard error; a client that left is not logged at all."""
    with caplog.at_level(logging.ERROR):
        try:
            raise fault
        except (ValueError, OSError):
            harness.server._server.handle_error(None, None)

    assert actions == [vars(one)["bridge_fields"]["action"] for one in caplog.records]
    assert ("", "") == capfd.readouterr()


def test_probes_leave_nothing_in_the_output(
    harness: Harness, capfd: pytest.CaptureFixture[str]
) -> None:
    """Neither a probe every second, nor one that does not wait for its answer."""
    harness.ask("/live")
    harness.get("/nowhere")
    harness.get("/metrics")
    socket.create_connection((LOOPBACK, harness.server.port), timeout=5).close()

    assert ("", "") == capfd.readouterr()


def connect(harness: Harness, sent: bytes) -> socket.socket:
    """Return a client that has sent this much of a request."""
    client = socket.create_connection((LOOPBACK, harness.server.port), timeout=5)
    client.sendall(sent)
    return client


@pytest.mark.parametrize("sent", [b"", b"GET /live HT", b"GET /live HTTP/1.1\r\nX: 1\r\n"])
def test_slow_clients_keep_nobody_away(harness: Harness, sent: bytes) -> None:
    """The oldest of them make room; the others, and the probes between them, are untouched."""
    many = 4 * MOST_CONNECTIONS
    with contextlib.ExitStack() as stack:
        clients = [stack.enter_context(connect(harness, sent)) for _ in range(many)]
        probes = [harness.ask("/live") for _ in range(3)]
        first_left = many - MOST_CONNECTIONS + 1
        ended = [client.recv(1) for client in clients[:first_left]]
        clients[-1].setblocking(False)
        with pytest.raises(BlockingIOError):
            clients[-1].recv(1)

    assert [(200, UP)] * 3 == probes
    assert [b""] * first_left == ended


@pytest.mark.parametrize("sent", [b"G", b"GET /live HTTP/1.1\r\nX: 1\r\n"])
def test_a_request_has_a_deadline(harness: Harness, sent: bytes) -> None:
    """A byte each second is no sign of life: it ends with the next turn of the server."""
    with connect(harness, sent) as client:
        harness.ask("/live")
        harness.clock.advance(SLOWEST_REQUEST_S)
        client.sendall(b"E")
        harness.ask("/live")
        client.setblocking(False)
        with pytest.raises(BlockingIOError):
            client.recv(1)
        client.setblocking(True)
        harness.clock.advance(0.1)
        harness.ask("/live")

        assert b"" == client.recv(1)


@pytest.mark.parametrize(
    ("head", "status"),
    [
        (b"GET /" + b"x" * MOST_HEAD_BYTES, b"414"),
        (b"GET /live HTTP/1.1\r\nX: " + b"x" * MOST_HEAD_BYTES, b"431"),
        (b"GET /live HTTP/1.1\r\n" + b"X: x\r\n" * (MOST_HEAD_BYTES // 6), b"431"),
        (b"GET /live HTTP/1.1\r\n" + b"X: %s\r\n" % (b"x" * 6000) * 3, b"431"),
    ],
    ids=["line", "header", "headers", "long headers"],
)
def test_a_request_has_a_greatest_length(
    harness: Harness, caplog: pytest.LogCaptureFixture, head: bytes, status: bytes
) -> None:
    """Answered without waiting for its end, and without a line in the log."""
    with connect(harness, head) as client:
        assert status == client.recv(65536).split()[1]

    assert [] == caplog.records


def test_close_frees_the_port(loopback: None) -> None:
    """The next start finds it free."""
    first = a_server()
    first.start()
    port = first.port
    first.close()

    second = a_server(port=port)
    second.start()
    second.close()

    assert port == second.port


# the status behind it


def test_problems_are_listed_by_component_until_they_pass() -> None:
    """Sorted by name, the latest sentence each."""
    status = Status()
    status.set_problem("provision", "old")
    status.set_problem("provision", "Keycloak does not answer")
    status.set_problem("invite", "the SMTP server does not answer")

    assert (
        "invite: the SMTP server does not answer",
        "provision: Keycloak does not answer",
    ) == status.why_not_ready()
    status.set_problem("invite", None)
    assert ("provision: Keycloak does not answer",) == status.why_not_ready()


def test_notes_of_many_threads_are_all_kept() -> None:
    """Stages write while the health endpoint reads."""
    status = Status()

    def note(name: str) -> None:
        for at in range(200):
            status.beat(name, float(at))
            status.set_problem(name, str(at))
            status.why_not_ready()
            status.stuck(0.0, 1.0)

    in_threads(*[partial(note, f"stage-{n}") for n in range(4)])

    assert tuple(f"stage-{n}: 199" for n in range(4)) == status.why_not_ready()
