"""The commands around a sandbox, with no sandbox behind them."""

import json
import os
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from keycloak_bridge.cli.sandbox import sandbox
from keycloak_bridge.sandbox.state import (
    STATE_VARIABLE,
    Identity,
    SandboxState,
    identity,
    write_state,
)

Run = Callable[..., Result]


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    """Run a command with a state of its own."""
    monkeypatch.setenv(STATE_VARIABLE, str(tmp_path / "state"))
    return lambda *arguments: CliRunner().invoke(sandbox, arguments)


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    """Return what a sandbox would say of itself."""
    return {
        "KEYCLOAK_BRIDGE_KAFKA_BOOTSTRAP_SERVERS": "127.0.0.1:1",
        "KEYCLOAK_BRIDGE_KEYCLOAK_REALM": "acme",
        "SANDBOX_KEYCLOAK_PUBLIC_URL": "http://localhost:2",
        "SANDBOX_ADMIN_USERNAME": "admin",
        "SANDBOX_ADMIN_PASSWORD": "generated",
        "SANDBOX_SMTP_PORT": "3",
        "SANDBOX_MAIL_DIR": str(tmp_path / "mail"),
        "SANDBOX_RUN_DIR": str(tmp_path),
    }


def is_up(environment: dict[str, str], *services: Identity, phase: str = "ready") -> None:
    """Leave word of a sandbox that this process holds."""
    me = identity("sandbox", os.getpid())
    write_state(SandboxState(me, phase, services=services, environment=environment))


@pytest.mark.parametrize("command", ["status", "env", "mail"])
def test_nothing_up_is_exit_3(run: Run, command: str) -> None:
    """Without a sandbox the commands say how to start one."""
    result = run(command)

    assert result.exit_code == 3
    assert "sandbox up --detach" in result.output


def test_env_prints_exactly_the_environment(run: Run, environment: dict[str, str]) -> None:
    """KEY=VALUE lines and nothing else."""
    is_up(environment)

    result = run("env")

    assert result.exit_code == 0
    assert dict(line.split("=", 1) for line in result.stdout.splitlines()) == environment


def test_status_shows_what_is_where(run: Run, environment: dict[str, str]) -> None:
    """Exit 0, each service, and the addresses."""
    is_up(environment, identity("Kafka", os.getpid()))

    result = run("status")

    assert result.exit_code == 0
    assert f"Kafka: up (process {os.getpid()})" in result.output
    assert "http://localhost:2/admin/" in result.output


def test_status_of_a_broken_sandbox_is_exit_3(run: Run, environment: dict[str, str]) -> None:
    """A service that ended is named."""
    is_up(environment, Identity("Keycloak", os.getpid(), "long ago"))

    result = run("status")

    assert result.exit_code == 3
    assert "Keycloak: ended" in result.output
    assert "broken" in result.output


def test_status_of_a_starting_sandbox_is_exit_3(run: Run, environment: dict[str, str]) -> None:
    """Not ready is not up."""
    is_up(environment, phase="starting")

    result = run("status")

    assert result.exit_code == 3
    assert "starting" in result.output


def test_mail_lists_links(run: Run, environment: dict[str, str], tmp_path: Path) -> None:
    """Each mail shows subject, recipient and links."""
    is_up(environment)
    (tmp_path / "mail").mkdir()
    (tmp_path / "mail" / "000001.eml").write_bytes(
        b"X-Sandbox-Recipients: ada@example.com\r\nSubject: Hello\r\n\r\nhttp://localhost:2/x\r\n"
    )

    listed, as_json = run("mail"), run("mail", "--json")

    assert listed.stdout.splitlines() == [
        "1. Hello",
        "   to ada@example.com",
        "   http://localhost:2/x",
    ]
    assert json.loads(as_json.stdout)["links"] == ["http://localhost:2/x"]


def test_no_mail_is_said(run: Run, environment: dict[str, str]) -> None:
    """An empty catcher is no error."""
    is_up(environment)

    result = run("mail")

    assert (result.exit_code, result.stdout) == (0, "No mail so far.\n")


def test_down_without_a_sandbox_is_fine(run: Run) -> None:
    """Stopping nothing is no error."""
    assert run("down").exit_code == 0


def test_second_up_is_one_line_and_exit_2(run: Run, environment: dict[str, str]) -> None:
    """A sandbox that is starting, or up in another terminal, is not started twice."""
    is_up(environment, phase="starting")

    result = run("up")

    assert result.exit_code == 2
    assert result.stderr.startswith("error: A sandbox is up already")
    assert len(result.stderr.splitlines()) == 1


def test_missing_extra_is_one_sentence(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the extra the command says what to install."""
    monkeypatch.delenv(STATE_VARIABLE)
    monkeypatch.setitem(sys.modules, "platformdirs", None)

    result = run("status")

    assert result.exit_code == 2
    assert result.stderr == (
        "error: the sandbox needs its extra\nfix:   pip install 'keycloak-bridge[sandbox]'\n"
    )
