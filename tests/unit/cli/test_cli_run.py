import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from cli_harness import Bench

from keycloak_bridge.app.stopping import STUCK_EXIT_CODE
from keycloak_bridge.settings.model import Settings


class StubBridge:
    """Remembers how the sidecar was run; `during` happens in it."""

    def __init__(self) -> None:
        self.runs: list[Settings] = []
        self.stop = threading.Event()
        self.during: Callable[[], Any] = lambda: None

    def __call__(self, settings: Settings, stop: threading.Event) -> "StubBridge":
        self._settings, self.stop = settings, stop
        return self

    def run(self, *, until_caught_up: bool) -> None:  # the bridge's
        self.runs.append(self._settings)
        self.during()


@pytest.fixture
def sidecar(monkeypatch: pytest.MonkeyPatch) -> StubBridge:
    """The stub in the place of the bridge."""
    made = StubBridge()
    monkeypatch.setattr("keycloak_bridge.cli.run.Bridge", made)
    return made


def test_no_invite_overrides_every_setting(bench: Bench, sidecar: StubBridge) -> None:
    """A replay of data sends no mail, whatever file, environment and --set say."""
    bench.monkeypatch.setenv("KEYCLOAK_BRIDGE_INVITE_MODE", "mail")

    bench.run("--set", "invite.mode=mail", "run", "--no-invite")

    assert ["none"] == [one.invite.mode for one in sidecar.runs]


STUCK = """
import sys
from keycloak_bridge.cli import run as command
from keycloak_bridge.cli.main import app

def spin(self, *, until_caught_up):
    print("spinning", flush=True)
    while True:
        pass

command.Bridge.run = spin
command.CLOSING_S = 0.2
app(sys.argv[1:])
"""


def test_a_process_that_is_stuck_ends_all_the_same(tmp_path: Path) -> None:
    """A client library may loop for ever and hear no event; the log says so, and the exit code does."""
    settings = {
        "KEYCLOAK_REALM": "acme",
        "KEYCLOAK_CLIENT_SECRET": "s",
        "DELIVERY_DRAIN": "1 ms",
        "HEALTH_ENABLED": "false",
    }
    with subprocess.Popen(
        [sys.executable, "-c", STUCK, "run"],
        env=os.environ | {f"KEYCLOAK_BRIDGE_{name}": value for name, value in settings.items()},
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            assert process.stdout is not None
            assert "spinning\n" == process.stdout.readline()
            process.send_signal(signal.SIGTERM)
            _, errors = process.communicate(timeout=60)
        finally:
            process.kill()

    assert STUCK_EXIT_CODE == process.returncode
    assert "the bridge did not stop within 0.201 s" in errors


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_asks_the_sidecar_to_stop(
    bench: Bench, sidecar: StubBridge, number: signal.Signals
) -> None:
    """The handler only sets the event; the sidecar ends by itself with exit code 0."""
    handlers: dict[int, Any] = {}
    bench.monkeypatch.setattr(signal, "signal", handlers.__setitem__)
    sidecar.during = lambda: handlers[number](number, None)

    result = bench.run("run")

    assert (True, 0) == (sidecar.stop.is_set(), result.exit_code)


@pytest.mark.parametrize(
    ("missing", "words", "says"),
    [
        ("KEYCLOAK_BRIDGE_KEYCLOAK_REALM", (), "keycloak.realm"),
        ("KEYCLOAK_BRIDGE_KEYCLOAK_CLIENT_SECRET", (), "keycloak.client_secret"),
        ("HOME", ("--set", "kafka.grup_id=x"), "group_id"),
    ],
)
def test_wrong_settings_are_named(
    bench: Bench, sidecar: StubBridge, missing: str, words: tuple[str, ...], says: str
) -> None:
    """Exit 2 with the key, or the nearest right one, before anything is started."""
    bench.monkeypatch.delenv(missing)

    result = bench.run(*words, "run")

    assert (2, []) == (result.exit_code, sidecar.runs)
    assert says in result.stderr
