"""`keycloak-bridge guard`, against a real health endpoint on this machine."""

import socket
from collections.abc import Iterator, Sequence
from contextlib import closing

import pytest
import requests
from cli_harness import call
from click.testing import Result
from pytest_socket import enable_socket

from keycloak_bridge.ops.health import HealthServer
from keycloak_bridge.ops.metrics import Metrics
from keycloak_bridge.ops.status import Status
from keycloak_bridge.testing.fake_clock import FakeClock

LOOPBACK = "127.0.0.1"


class Bridge:
    """What a running bridge shows of itself; ending one takes half a second, so all tests share it."""

    def __init__(self) -> None:
        self.status = Status()
        self.held: list[str] = []
        self.fault: Exception | None = None
        self.server = HealthServer(
            self.status,
            FakeClock(),
            host=LOOPBACK,
            port=0,
            metrics=Metrics(),
            release=self._release,
        )
        self.server.start()

    def _release(self) -> Sequence[str]:
        if self.fault is not None:
            raise self.fault
        released, self.held = self.held, []
        return released

    def guard(self, command: str, **settings: str) -> Result:
        """Run `guard <command>` with the settings of this bridge."""
        return guard(command, self.server.port, **settings)


def guard(command: str, port: int, **settings: str) -> Result:
    """Run `guard <command>` for the bridge at `port`."""
    chosen = {"health.port": str(port), **{f"health.{name}": v for name, v in settings.items()}}
    words = [word for name, value in chosen.items() for word in ("--set", f"{name}={value}")]
    return call("guard", command, *words)


@pytest.fixture(autouse=True)
def loopback(_no_network: None) -> None:
    """The command is about a socket of this machine, and opens no other."""
    enable_socket()


@pytest.fixture(scope="module")
def shared() -> Iterator[Bridge]:
    """One bridge for all tests."""
    enable_socket()
    running = Bridge()
    yield running
    running.server.close()


@pytest.fixture
def bridge(shared: Bridge, monkeypatch: pytest.MonkeyPatch) -> Bridge:
    """The bridge as if it had just started; a proxy is set, as it often is in a container."""
    shared.status.set_problem("provision", None)
    shared.held = []
    shared.fault = None
    monkeypatch.setenv("HTTP_PROXY", "http://proxy.invalid:3128")
    return shared


@pytest.mark.parametrize(
    ("problem", "code", "output"),
    [(None, 0, "ready\n"), ("the brake is engaged", 1, "provision: the brake is engaged\n")],
)
def test_status_prints_whether_it_is_ready(
    bridge: Bridge, problem: str | None, code: int, output: str
) -> None:
    """What `/ready` says, a line each; it releases nothing."""
    bridge.status.set_problem("provision", problem)
    bridge.held = ["provision"]

    result = bridge.guard("status")

    assert (code, output, "") == (result.exit_code, result.stdout, result.stderr)
    assert ["provision"] == bridge.held


def test_release_names_what_was_held(bridge: Bridge) -> None:
    """A line each, exit 0; the second time nothing is held."""
    bridge.held = ["provision", "invite"]

    first, second = bridge.guard("release"), bridge.guard("release")

    assert (0, "released provision\nreleased invite\n") == (first.exit_code, first.stdout)
    assert (0, "nothing was held\n") == (second.exit_code, second.stdout)


def test_a_server_that_never_answers_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """Exit 3 after a time-out, with another sentence than without a server."""
    monkeypatch.setattr("keycloak_bridge.cli.run.TIMEOUT_S", 0.05)
    with closing(socket.create_server((LOOPBACK, 0))) as silent:
        result = guard("status", silent.getsockname()[1])

    assert 3 == result.exit_code
    assert "does not answer within" in result.stderr


def test_a_failed_release_says_why(bridge: Bridge, monkeypatch: pytest.MonkeyPatch) -> None:
    """Exit 3: where to look, or the bridge's own sentence."""
    bridge.fault = ValueError()
    failed = bridge.guard("release")
    monkeypatch.setattr("keycloak_bridge.ops.http_server.is_this_machine", lambda *_: False)
    refused = bridge.guard("release")

    assert [(3, ""), (3, "")] == [(one.exit_code, one.stdout) for one in (failed, refused)]
    assert "its log says why" in failed.stderr
    assert "(status 403): only a caller on the bridge's own machine" in refused.stderr


@pytest.mark.parametrize(
    ("host", "asked"),
    [("0.0.0.0", "127.0.0.1:1"), ("::", "127.0.0.1:1"), ("::1", "[::1]:1")],  # noqa: S104 # nothing listens there
)
@pytest.mark.parametrize("command", ["status", "release"])
def test_nothing_listens(command: str, host: str, asked: str) -> None:
    """Exit 3, with the address (one that listens everywhere is asked here) and the place to run it."""
    result = guard(command, 1, host=host)

    assert (3, "") == (result.exit_code, result.stdout)
    assert [
        f"error: no bridge answers at {asked}",
        "fix:   run this beside the bridge, in the same container",
    ] == result.stderr.splitlines()


@pytest.mark.parametrize("command", ["status", "release"])
def test_another_server_is_not_taken_for_a_bridge(
    command: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Exit 3 instead of good news."""
    page = requests.Response()
    page.status_code, page._content = 200, b"<h1>It works</h1>"
    monkeypatch.setattr(requests.Session, "request", lambda *_, **__: page)

    result = guard(command, 9090)

    assert (3, "") == (result.exit_code, result.stdout)
    assert "is not a bridge" in result.stderr


@pytest.mark.parametrize("setting", ["health.enabled=false", "health.port=0"])
def test_settings_that_lead_nowhere_are_refused(setting: str) -> None:
    """Exit 2 with the name of the setting."""
    result = call("guard", "status", "--set", setting)

    assert (2, "") == (result.exit_code, result.stdout)
    assert setting.partition("=")[0] in result.stderr
