"""What one process must know about a sandbox that another one holds up."""

import json
import os
import shutil
import subprocess
import tempfile
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path

STATE_VARIABLE = "SANDBOX_STATE_DIR"
RUN_DIR_PREFIX = "keycloak-bridge-sandbox-"


@dataclass(frozen=True, slots=True)
class Identity:
    """A process that cannot be mistaken for a later one with the same number."""

    name: str
    pid: int
    started: str

    @property
    def alive(self) -> bool:
        """Tell whether this very process still runs."""
        return start_time(self.pid) == self.started


@dataclass(frozen=True, slots=True)
class SandboxState:
    """Who holds the sandbox, what runs in it and how to reach it."""

    holder: Identity
    phase: str
    detail: str = ""
    run_dir: str = ""
    services: tuple[Identity, ...] = ()
    environment: Mapping[str, str] = field(default_factory=dict)

    @property
    def up(self) -> bool:
        """Tell whether the holder and every service still run."""
        running = all(process.alive for process in (self.holder, *self.services))
        return self.phase == "ready" and running


def state_dir() -> Path:
    """Return the folder in which a running sandbox leaves word of itself."""
    named = os.environ.get(STATE_VARIABLE)
    if named:
        return Path(named).expanduser().absolute()
    from platformdirs import user_state_path  # noqa: PLC0415  (only with the sandbox extra)

    return user_state_path("keycloak-bridge") / "sandbox"


def identity(name: str, pid: int) -> Identity:
    """Return the identity of a running process."""
    return Identity(name, pid, start_time(pid) or "gone")


def start_time(pid: int) -> str | None:
    """Return when a process was started, in the system's own words, or None if it is gone."""
    stat = Path(f"/proc/{pid}/stat")
    if Path("/proc/self/stat").exists():
        try:
            fields = stat.read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()
        except OSError:
            return None
        return None if fields[0] == "Z" else fields[19]
    answer = subprocess.run(
        ["ps", "-o", "lstart=", "-p", str(pid)], capture_output=True, text=True, check=False
    )
    return answer.stdout.strip() or None


def write_state(state: SandboxState) -> None:
    """Replace the state file; it holds secrets and only its owner can read it."""
    folder = state_dir()
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    with tempfile.NamedTemporaryFile("w", dir=folder, delete=False, encoding="utf-8") as draft:
        json.dump(asdict(state), draft)
    Path(draft.name).replace(_file())


def read_state() -> SandboxState | None:
    """Return what is known about a sandbox, or None when there is none."""
    try:
        found = json.loads(_file().read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    return SandboxState(
        holder=Identity(**found["holder"]),
        phase=found["phase"],
        detail=found["detail"],
        run_dir=found["run_dir"],
        services=tuple(Identity(**service) for service in found["services"]),
        environment=found["environment"],
    )


def clear_state() -> None:
    """Forget the sandbox, and remove the run folder if it was a temporary one."""
    state = read_state()
    if state is not None and Path(state.run_dir).name.startswith(RUN_DIR_PREFIX):
        shutil.rmtree(state.run_dir, ignore_errors=True)
    _file().unlink(missing_ok=True)


def _file() -> Path:
    return state_dir() / "sandbox.json"
