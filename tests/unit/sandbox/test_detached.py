"""A sandbox that other processes know of: its state, the commands around it, and its options on their way."""

import json
import os
import signal
import stat
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from keycloak_bridge.cli.main import app
from keycloak_bridge.sandbox.detached import (
    STATE_VARIABLE,
    Identity,
    SandboxState,
    clear_state,
    read_state,
    refuse_second,
    state_dir,
    stop_detached,
    write_state,
)
from keycloak_bridge.sandbox.options import SandboxError, SandboxOptions

ME = Identity.of("sandbox", os.getpid())


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Keep the state of these tests to themselves."""
    monkeypatch.setenv(STATE_VARIABLE, str(tmp_path / "state"))
    return tmp_path / "state"


@pytest.fixture
def sleeper() -> Iterator["subprocess.Popen[bytes]"]:
    """Run a process that does nothing."""
    with subprocess.Popen(["sleep", "60"]) as child:
        yield child
        child.kill()


def held_by(holder: Identity) -> SandboxState:
    """Return the state of a sandbox that is up."""
    return SandboxState(
        holder, "ready", "/nowhere", (replace(holder, name="Kafka"),), {"SANDBOX_X": "1"}
    )


def test_state_is_read_back_as_written(folder: Path) -> None:
    """Nothing is lost on the way through the file, which holds secrets and is its owner's alone."""
    state = held_by(ME)
    write_state(state)

    assert (read_state(), state.up) == (state, True)
    assert stat.S_IMODE((folder / "sandbox.json").stat().st_mode) == 0o600
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700


def test_gone_process_is_not_alive(sleeper: "subprocess.Popen[bytes]") -> None:
    """A process that ended is known to have ended."""
    known = Identity.of("sleeper", sleeper.pid)
    assert known.alive

    sleeper.kill()
    sleeper.wait()

    assert not known.alive


@pytest.mark.parametrize("is_the_holder", [True, False])
def test_down_ends_the_holder_and_no_recycled_number(
    sleeper: "subprocess.Popen[bytes]", is_the_holder: bool
) -> None:
    """The holder gets SIGTERM; a process that has the number of a former holder, or service, is left alone."""
    known = Identity.of("sandbox", sleeper.pid)
    state = held_by(known if is_the_holder else replace(known, started="long ago"))
    write_state(replace(state, services=()) if is_the_holder else state)

    assert stop_detached() is True

    assert read_state() is None
    if is_the_holder:
        assert sleeper.wait(60) == -signal.SIGTERM
    else:
        assert sleeper.poll() is None


def test_only_one_sandbox_is_up() -> None:
    """A second one is refused with the way to stop the first; one whose holder crashed is forgotten."""
    write_state(held_by(ME))
    with pytest.raises(SandboxError, match="sandbox down"):
        refuse_second()

    write_state(held_by(replace(ME, started="long ago")))
    refuse_second()

    assert read_state() is None


@pytest.mark.parametrize(("name", "kept"), [("keycloak-bridge-sandbox-x", False), ("mine", True)])
def test_only_temporary_run_folders_are_removed(tmp_path: Path, name: str, kept: bool) -> None:
    """A folder that somebody chose stays."""
    run_dir = tmp_path / name
    run_dir.mkdir()
    state = held_by(ME)
    write_state(replace(state, run_dir=str(run_dir)))

    clear_state()

    assert run_dir.exists() is kept


def test_state_folder_defaults_to_the_users_own(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a choice the state stands where the platform keeps such things."""
    monkeypatch.delenv(STATE_VARIABLE)

    assert state_dir().parts[-2:] == ("keycloak-bridge", "sandbox")


def run(*arguments: str) -> Result:
    """Run a sandbox command."""
    return CliRunner().invoke(app, ["sandbox", *arguments])


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


@pytest.mark.parametrize("command", ["status", "env", "mail"])
def test_nothing_up_is_exit_3(command: str) -> None:
    """Without a sandbox the commands say how to start one."""
    result = run(command)

    assert result.exit_code == 3
    assert "sandbox up --detach" in result.output


def test_env_prints_exactly_the_environment(environment: dict[str, str]) -> None:
    """KEY=VALUE lines and nothing else; a folder may have any bytes as its name."""
    environment["SANDBOX_RUN_DIR"] = os.fsdecode(b"/m\xfcller")
    write_state(SandboxState(ME, "ready", environment=environment))

    result = run("env")

    assert result.exit_code == 0
    lines = os.fsdecode(result.stdout_bytes).splitlines()
    assert dict(line.split("=", 1) for line in lines) == environment


@pytest.mark.parametrize(
    ("services", "phase", "code", "words"),
    [
        ((replace(ME, name="Kafka"),), "ready", 0, ("Kafka: up", "http://localhost:2/admin/")),
        ((Identity("Keycloak", ME.pid, "x"),), "ready", 3, ("Keycloak: ended", "broken")),
        ((), "starting", 3, ("starting",)),
    ],
)
def test_status_names_each_service(
    environment: dict[str, str],
    services: tuple[Identity, ...],
    phase: str,
    code: int,
    words: tuple[str, ...],
) -> None:
    """Exit 0 with the addresses where everything is up, else 3 with what is not."""
    write_state(SandboxState(ME, phase, services=services, environment=environment))

    result = run("status")

    assert (code, []) == (result.exit_code, [word for word in words if word not in result.output])


def test_mail_lists_links(environment: dict[str, str], tmp_path: Path) -> None:
    """Each mail shows subject, recipient and links."""
    write_state(SandboxState(ME, "ready", environment=environment))
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


def test_nothing_to_list_or_stop_is_no_error(environment: dict[str, str]) -> None:
    """`down` without a sandbox, and `mail` without a mail."""
    assert run("down").exit_code == 0
    write_state(SandboxState(ME, "ready", environment=environment))

    result = run("mail")

    assert (result.exit_code, result.stdout) == (0, "No mail so far.\n")


def test_second_up_is_one_line_and_exit_2() -> None:
    """A sandbox that is starting, or up in another terminal, is not started twice."""
    write_state(SandboxState(ME, "starting"))

    result = run("up")

    assert result.exit_code == 2
    assert result.stderr.startswith("error: A sandbox is up already")
    assert len(result.stderr.splitlines()) == 1


def test_missing_extra_is_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the extra the command says what to install."""
    monkeypatch.delenv(STATE_VARIABLE)
    monkeypatch.setitem(sys.modules, "platformdirs", None)

    result = run("status")

    assert result.exit_code == 2
    assert result.stderr == (
        "error: the sandbox needs the package platformdirs, which is not installed\n"
        "fix:   pip install 'keycloak-bridge[sandbox]'\n"
    )


@pytest.mark.parametrize(
    "options",
    [
        SandboxOptions(),
        SandboxOptions(
            config_dir=Path("/a"),
            run_dir=Path("/b c"),
            cache_dir=Path("/d"),
            keycloak_port=8080,
            keycloak_java_options=(),
        ),
    ],
)
def test_options_survive_the_way_through_text(options: SandboxOptions) -> None:
    """What is unpacked equals what was packed."""
    assert SandboxOptions.from_json(options.to_json()) == options
