"""What one process knows of a sandbox that another one holds."""

import os
import signal
import stat
import subprocess
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from keycloak_bridge.sandbox.options import SandboxError
from keycloak_bridge.sandbox.state import (
    STATE_VARIABLE,
    Identity,
    SandboxState,
    clear_state,
    identity,
    read_state,
    state_dir,
    write_state,
)
from keycloak_bridge.sandbox.supervisor import refuse_second, stop_detached


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
        holder, "ready", "", "/nowhere", (replace(holder, name="Kafka"),), {"SANDBOX_X": "1"}
    )


def test_state_is_read_back_as_written() -> None:
    """Nothing is lost on the way through the file."""
    state = held_by(identity("sandbox", os.getpid()))
    write_state(state)

    assert read_state() == state
    assert state.up


def test_state_holds_secrets_for_its_owner_only(folder: Path) -> None:
    """Nobody else can read the file or look into the folder."""
    write_state(held_by(identity("sandbox", os.getpid())))

    assert stat.S_IMODE((folder / "sandbox.json").stat().st_mode) == 0o600
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700


def test_no_state_without_a_sandbox() -> None:
    """Before the first start there is nothing to know."""
    assert read_state() is None
    assert stop_detached() is False


def test_gone_process_is_not_alive(sleeper: "subprocess.Popen[bytes]") -> None:
    """A process that ended is known to have ended."""
    known = identity("sleeper", sleeper.pid)
    assert known.alive

    sleeper.kill()
    sleeper.wait()

    assert not known.alive


def test_recycled_number_is_never_killed(sleeper: "subprocess.Popen[bytes]") -> None:
    """A process that has the number of a former holder, or service, is left alone."""
    write_state(held_by(Identity("sandbox", sleeper.pid, "long ago")))

    assert stop_detached() is True

    assert sleeper.poll() is None
    assert read_state() is None


def test_down_ends_the_holder(sleeper: "subprocess.Popen[bytes]") -> None:
    """The holder gets SIGTERM, and the state is forgotten."""
    write_state(replace(held_by(identity("sandbox", sleeper.pid)), services=()))

    assert stop_detached() is True

    assert sleeper.wait(5) == -signal.SIGTERM
    assert read_state() is None


def test_second_sandbox_is_refused() -> None:
    """While one is held up, another one is an error that says how to stop the first."""
    write_state(held_by(identity("sandbox", os.getpid())))

    with pytest.raises(SandboxError, match="sandbox down"):
        refuse_second()


def test_leftover_of_a_crash_is_forgotten() -> None:
    """A state whose holder is gone stands in nobody's way."""
    write_state(held_by(Identity("sandbox", os.getpid(), "long ago")))

    refuse_second()

    assert read_state() is None


@pytest.mark.parametrize(("name", "kept"), [("keycloak-bridge-sandbox-x", False), ("mine", True)])
def test_only_temporary_run_folders_are_removed(tmp_path: Path, name: str, kept: bool) -> None:
    """A folder that somebody chose stays."""
    run_dir = tmp_path / name
    run_dir.mkdir()
    state = held_by(identity("sandbox", os.getpid()))
    write_state(replace(state, run_dir=str(run_dir)))

    clear_state()

    assert run_dir.exists() is kept


def test_state_folder_defaults_to_the_users_own(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a choice the state stands where the platform keeps such things."""
    monkeypatch.delenv(STATE_VARIABLE)

    assert state_dir().parts[-2:] == ("keycloak-bridge", "sandbox")
