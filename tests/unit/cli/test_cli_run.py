import signal
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from cli_harness import Bench

from keycloak_bridge.domain.errors import (
    BridgeError,
    BrokerAccessError,
    ConfigError,
    DeadLetterError,
    KeycloakAuthError,
)
from keycloak_bridge.settings.model import Settings


class StubSidecar:
    """Stands in for the sidecar: remembers how it was run, and ends as told."""

    runs: list[tuple[Settings, bool]]
    error: BaseException | None
    during: Callable[[], None]

    def __init__(self, settings: Settings, stop: threading.Event) -> None:
        self._settings = settings
        type(self).stop = stop

    stop: threading.Event

    def run(self, *, until_caught_up: bool = False) -> None:
        self.runs.append((self._settings, until_caught_up))
        type(self).during()
        if self.error is not None:
            raise self.error


@pytest.fixture
def bench(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Bench:
    """A bench whose sidecar is the stub."""
    StubSidecar.runs = []
    StubSidecar.error = None
    StubSidecar.during = staticmethod(lambda: None)
    monkeypatch.setattr("keycloak_bridge.cli.run.Bridge", StubSidecar)
    return Bench(tmp_path, monkeypatch)


def test_run_runs_the_sidecar(bench: Bench) -> None:
    """Exit 0 when it ends, and no word on standard output."""
    result = bench.run("run")

    ((settings, until_caught_up),) = StubSidecar.runs
    assert (0, "", False) == (result.exit_code, result.stdout, until_caught_up)
    assert ("acme", "mail") == (settings.keycloak.realm, settings.invite.mode)


def test_until_caught_up_is_handed_over(bench: Bench) -> None:
    """The flag reaches the sidecar."""
    bench.run("run", "--until-caught-up")

    assert [True] == [until for _, until in StubSidecar.runs]


def test_no_invite_goes_before_every_setting(bench: Bench) -> None:
    """A replay of data sends no mail, whatever file, environment and --set say."""
    bench.monkeypatch.setenv("KEYCLOAK_BRIDGE_INVITE_MODE", "mail")

    bench.run("--set", "invite.mode=mail", "run", "--no-invite")

    assert ["none"] == [settings.invite.mode for settings, _ in StubSidecar.runs]


def test_a_settings_file_is_read(bench: Bench) -> None:
    """--config may stand behind the command, too."""
    (bench.folder / "other.toml").write_text('[kafka]\ngroup_id = "mine"\n')

    result = bench.run("run", "--config", "other.toml")

    assert (0, ["mine"]) == (result.exit_code, [s.kafka.group_id for s, _ in StubSidecar.runs])


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_asks_the_sidecar_to_stop(bench: Bench, number: signal.Signals) -> None:
    """The handler only sets the event; the sidecar ends by itself with exit code 0."""
    handlers: dict[int, Any] = {}
    bench.monkeypatch.setattr(signal, "signal", handlers.__setitem__)
    seen: list[bool] = []

    def during() -> None:
        handlers[number](number, None)
        seen.append(StubSidecar.stop.is_set())

    StubSidecar.during = staticmethod(during)

    result = bench.run("run")

    assert ([True], 0) == (seen, result.exit_code)


@pytest.mark.parametrize("missing", ["REALM", "CLIENT_SECRET"])
def test_missing_access_is_named(bench: Bench, missing: str) -> None:
    """Exit 2 with the key, before anything is started."""
    bench.monkeypatch.delenv(f"KEYCLOAK_BRIDGE_KEYCLOAK_{missing}")

    result = bench.run("run")

    assert 2 == result.exit_code
    assert f"keycloak.{missing.lower()}" in result.stderr
    assert [] == StubSidecar.runs


def test_a_misspelt_setting_is_named(bench: Bench) -> None:
    """Exit 2 with the key and the nearest right one."""
    result = bench.run("--set", "kafka.grup_id=x", "run")

    assert 2 == result.exit_code
    assert "group_id" in result.stderr


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (ConfigError("the realm is not ready", remedy="mend it"), 2),
        (KeycloakAuthError("refused", remedy="mend it"), 2),
        (BrokerAccessError("refused", remedy="mend it"), 2),
        (DeadLetterError("nowhere", remedy="mend it"), 3),
    ],
)
def test_what_stops_the_sidecar_is_a_sentence_and_an_exit_code(
    bench: Bench, error: BridgeError, code: int
) -> None:
    """The sentence and its remedy on standard error."""
    StubSidecar.error = error

    result = bench.run("run")

    assert (code, "") == (result.exit_code, result.stdout)
    assert f"error: {error.message}" in result.stderr
    assert "mend it" in result.stderr


def test_a_bug_is_named_without_its_text(bench: Bench) -> None:
    """Exit 3; an unexpected exception may repeat any value, so its text stays inside."""
    StubSidecar.error = ZeroDivisionError("planted@acme.example")

    result = bench.run("run")

    assert 3 == result.exit_code
    assert "ZeroDivisionError" in result.stderr
    assert "planted" not in result.output


def test_help_teaches(bench: Bench) -> None:
    """Options, what SIGTERM does, and an example."""
    text = " ".join(bench.run("run", "--help").stdout.split())

    assert all(part in text for part in ("--until-caught-up", "--no-invite", "SIGTERM", "Example:"))
