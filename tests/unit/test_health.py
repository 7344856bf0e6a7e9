import json
import socket
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import closing

import pytest
from pytest_socket import enable_socket

from keycloak_bridge.core.errors import ConfigError
from keycloak_bridge.core.status import Status
from keycloak_bridge.health import STUCK_AFTER_S, HealthServer
from keycloak_bridge.testing.fake_clock import FakeClock

LOOPBACK = "127.0.0.1"


class Harness:
    """A health server on a free port of the loopback address; ending one takes half a second, so all tests share it."""

    def __init__(self) -> None:
        self.status = Status()
        self.clock = FakeClock()
        self.server = HealthServer(self.status, self.clock, host=LOOPBACK, port=0)
        self.server.start()

    def forget(self) -> None:
        """Return to a bridge without complaints."""
        self.status.forget("provision")

    def get(self, path: str, method: str = "GET") -> tuple[int, bytes, str]:
        """Return status, body and media type."""
        request = urllib.request.Request(
            f"http://{LOOPBACK}:{self.server.port}{path}", method=method
        )
        try:
            with urllib.request.urlopen(request, timeout=5) as answer:  # noqa: S310
                return answer.status, answer.read(), answer.headers.get_content_type()
        except urllib.error.HTTPError as error:
            with error:
                return error.code, error.read(), error.headers.get_content_type()

    def ask(self, path: str) -> tuple[int, object]:
        """Return status and parsed body."""
        status, body, media_type = self.get(path)
        assert "application/json" == media_type
        return status, json.loads(body)


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


def test_a_bridge_without_complaints_is_live_and_ready(harness: Harness) -> None:
    """Both answer 200."""
    assert [(200, UP), (200, UP)] == [harness.ask("/live"), harness.ask("/ready")]


def test_a_problem_is_not_ready_but_live(harness: Harness) -> None:
    """The reason is in the body; a restart would not mend it, so the process stays live."""
    harness.status.set_problem("provision", "Keycloak does not answer")

    assert [
        (503, {"status": "DOWN", "problems": ["provision: Keycloak does not answer"]}),
        (200, UP),
    ] == [harness.ask("/ready"), harness.ask("/live")]


def test_a_loop_that_stands_still_is_not_live(harness: Harness) -> None:
    """Every stuck stage is named; the next turn makes it well again."""
    harness.status.beat("provision", harness.clock.monotonic())
    harness.clock.advance(STUCK_AFTER_S + 1)

    stuck = harness.ask("/live")
    harness.status.beat("provision", harness.clock.monotonic())

    assert (503, {"status": "DOWN", "problems": ["provision: the loop stands still"]}) == stuck
    assert (200, UP) == harness.ask("/live")


@pytest.mark.parametrize("path", ["/", "/healthz", "/live/x", "/%2e%2e/live"])
def test_another_path_is_not_found(harness: Harness, path: str) -> None:
    """There are two paths and no more."""
    assert 404 == harness.get(path)[0]


def test_other_methods_are_refused(harness: Harness) -> None:
    """Nothing can be done here, only asked."""
    assert 501 == harness.get("/live", method="POST")[0]


def test_probes_leave_nothing_in_the_output(
    harness: Harness, capfd: pytest.CaptureFixture[str]
) -> None:
    """A probe every second is no news."""
    harness.ask("/live")
    harness.get("/nowhere")

    assert ("", "") == capfd.readouterr()


def test_a_port_in_use_is_a_matter_of_settings(loopback: None) -> None:
    """One sentence with the address, and the settings that mend it."""
    with closing(socket.create_server((LOOPBACK, 0))) as taken:
        port = taken.getsockname()[1]

        with pytest.raises(ConfigError) as caught:
            HealthServer(Status(), FakeClock(), host=LOOPBACK, port=port)

    assert f"{LOOPBACK}:{port}" in caught.value.message
    assert "health.port" in str(caught.value.remedy)


def test_an_address_of_another_machine_is_a_matter_of_settings(loopback: None) -> None:
    """A host that is not ours cannot be listened on."""
    with pytest.raises(ConfigError):
        HealthServer(Status(), FakeClock(), host="192.0.2.1", port=0)


def test_close_frees_the_port(loopback: None) -> None:
    """The next start finds it free."""
    first = HealthServer(Status(), FakeClock(), host=LOOPBACK, port=0)
    first.start()
    port = first.port
    first.close()

    second = HealthServer(Status(), FakeClock(), host=LOOPBACK, port=port)
    second.start()
    second.close()

    assert port == second.port
