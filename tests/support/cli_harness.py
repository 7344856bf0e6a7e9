"""Run commands in the process, with a realm and a Kafka in memory behind the composition root."""

import json
import signal
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from stage_harness import event_of

from keycloak_bridge.app import bridge, connections
from keycloak_bridge.cli.main import app
from keycloak_bridge.delivery.rate_limit import wait_out
from keycloak_bridge.testing.fake_clock import FakeClock
from keycloak_bridge.testing.in_memory_keycloak import InMemoryKeycloak

SECRET = "planted-client-secret"


class Bench:
    """A folder, an environment and a realm of its own."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.folder = folder
        self.monkeypatch = monkeypatch
        self.keycloak = InMemoryKeycloak(groups=["/staff"], realm_roles=["viewer"])
        self.clock = FakeClock()
        monkeypatch.setenv("KEYCLOAK_BRIDGE_KEYCLOAK_REALM", "acme")
        monkeypatch.setenv("KEYCLOAK_BRIDGE_KEYCLOAK_CLIENT_SECRET", SECRET)
        # the process of the tests keeps its own logs and signals
        monkeypatch.setattr("keycloak_bridge.ops.logs.configure_logging", lambda **_: None)
        monkeypatch.setattr(signal, "signal", lambda *_: None)
        for module in (bridge, connections):
            monkeypatch.setattr(module, "SystemClock", lambda: self.clock)
            monkeypatch.setattr(module, "keycloak_admin", lambda *_: None)
            monkeypatch.setattr(module, "KeycloakUserDirectory", lambda *_: self.keycloak)
        monkeypatch.setattr(bridge, "wait_out", partial(wait_out, sleep=self.clock.advance))

    def run(self, *arguments: str, stdin: str | bytes = "") -> Result:
        """Run `keycloak-bridge` with these arguments; no command may show a traceback or the secret."""
        result = CliRunner().invoke(app, arguments, input=stdin)
        assert "Traceback" not in result.output
        assert SECRET not in result.output
        return result

    def file(self, *events: Any, name: str = "events.ndjson") -> str:
        """Write events, one a line (what is a string is written as it is), and return the name."""
        lines = [one if isinstance(one, str) else json.dumps(one) for one in events]
        (self.folder / name).write_text("\n".join(lines) + "\n", encoding="utf-8")
        return name

    def calls(self, *names: str) -> list[str]:
        """Return those calls to Keycloak that are among `names`."""
        return [call for call in self.keycloak.calls if call in names]


__all__ = ["SECRET", "Bench", "event_of"]
