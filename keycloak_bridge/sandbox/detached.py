"""A sandbox that other processes know of: kept up in the foreground, or by a process of its own.

The process that keeps it up (the holder) writes a state file with secrets and addresses; `sandbox status`, `env`, `mail`
and `down` read it. `python -m keycloak_bridge.sandbox.detached` is the holder that `up --detach` starts.
"""

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from types import FrameType

from keycloak_bridge.sandbox.options import (
    Downloads,
    Progress,
    SandboxError,
    SandboxOptions,
    silent,
)
from keycloak_bridge.sandbox.sandbox import RUN_DIR_PREFIX, Sandbox

STATE_VARIABLE = "SANDBOX_STATE_DIR"
_STOP_TIMEOUT_S = 60.0
_POLL_S = 0.2
_detached: list["subprocess.Popen[bytes]"] = []  # collected, they would warn that they still run


@dataclass(frozen=True, slots=True)
class Identity:
    """A process that cannot be mistaken for a later one with the same number."""

    name: str
    pid: int
    started: str

    @classmethod
    def of(cls, name: str, pid: int) -> "Identity":
        """Return the identity of a running process."""
        return cls(name, pid, start_time(pid) or "gone")

    @property
    def alive(self) -> bool:
        """Tell whether this very process still runs."""
        return start_time(self.pid) == self.started


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


@dataclass(frozen=True, slots=True)
class SandboxState:
    """Who keeps the sandbox up, what runs in it and how to reach it."""

    holder: Identity
    phase: str
    run_dir: str = ""
    services: tuple[Identity, ...] = ()
    environment: Mapping[str, str] = field(default_factory=dict)

    @property
    def up(self) -> bool:
        """Tell whether the holder and every service still run."""
        running = all(process.alive for process in (self.holder, *self.services))
        return self.phase == "ready" and running


def state_dir() -> Path:
    """Return the folder in which a running sandbox leaves its state."""
    named = os.environ.get(STATE_VARIABLE)
    if named:
        return Path(named).expanduser().absolute()
    from platformdirs import user_state_path  # noqa: PLC0415  (only with the sandbox extra)

    return user_state_path("keycloak-bridge") / "sandbox"


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
    holder = Identity(**found.pop("holder"))
    services = tuple(Identity(**service) for service in found.pop("services"))
    return SandboxState(holder=holder, services=services, **found)


def clear_state() -> None:
    """Forget the sandbox, and remove the run folder if it was a temporary one."""
    state = read_state()
    if state is not None and Path(state.run_dir).name.startswith(RUN_DIR_PREFIX):
        shutil.rmtree(state.run_dir, ignore_errors=True)
    _file().unlink(missing_ok=True)


def _file() -> Path:
    return state_dir() / "sandbox.json"


def hold(
    options: SandboxOptions,
    progress: Progress,
    downloads: Downloads,
    ready: Callable[[Sandbox], None],
) -> None:
    """Start a sandbox, let other processes know of it, and stop it on Ctrl-C or SIGTERM."""
    refuse_second()
    me = Identity.of("sandbox", os.getpid())
    write_state(SandboxState(me, "starting"))
    try:
        with suppress(KeyboardInterrupt), terminable(), Sandbox(options, progress, downloads) as up:
            pids = {"Kafka": up.kafka.pid, "Keycloak": up.keycloak.pid}
            services = tuple(Identity.of(name, pid or 0) for name, pid in pids.items())
            run_dir = str(up.run_dir)
            write_state(SandboxState(me, "ready", run_dir, services, up.environment()))
            ready(up)
            threading.Event().wait()
    finally:
        clear_state()


def start_detached(
    options: SandboxOptions, progress: Progress = silent, downloads: Downloads = silent
) -> SandboxState:
    """Start a sandbox that outlives this process, and return once it is ready."""
    refuse_second()
    Sandbox(options, progress, downloads).prepare()
    folder = state_dir()
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    log, reports = folder / "supervisor.log", folder / "progress.ndjson"
    reports.unlink(missing_ok=True)
    with log.open("wb") as output:
        child = subprocess.Popen(
            [sys.executable, "-m", "keycloak_bridge.sandbox.detached"],
            stdin=subprocess.PIPE,  # not as arguments: any user of this machine can read those
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    _detached.append(child)
    try:
        if child.stdin is not None:
            with suppress(BrokenPipeError), child.stdin as stream:
                stream.write(options.to_json().encode())
        return _wait_for_ready(child, reports, log, progress)
    except BaseException:
        child.terminate()
        child.wait()
        raise


def _wait_for_ready(
    child: "subprocess.Popen[bytes]", reports: Path, log: Path, progress: Progress
) -> SandboxState:
    seen = 0
    while True:
        ended = child.poll() is not None
        lines = reports.read_text(encoding="utf-8").split("\n")[:-1] if reports.exists() else []
        for component, state, detail in map(json.loads, lines[seen:]):
            if component == "error":
                raise SandboxError(detail)
            progress(component, state, detail)
        seen = len(lines)
        known = read_state()
        if known is not None and known.holder.pid == child.pid and known.phase == "ready":
            return known
        if ended:
            raise SandboxError(f"The sandbox's own process ended at once. Its log is {log}")
        time.sleep(_POLL_S)


def stop_detached() -> bool:
    """Stop the sandbox that is known, whichever process keeps it up; tell whether there was one."""
    state = read_state()
    if state is None:
        return False
    deadline = time.monotonic() + _STOP_TIMEOUT_S
    _signal(state.holder, signal.SIGTERM)
    while state.holder.alive and time.monotonic() < deadline:
        time.sleep(_POLL_S)
    for process in (state.holder, *state.services):
        _signal(process, signal.SIGKILL)
    clear_state()
    return True


def _signal(process: Identity, number: signal.Signals) -> None:
    """Send a signal, but not to a process that only has the number of the one meant."""
    if process.alive:
        with suppress(ProcessLookupError):
            os.kill(process.pid, number)


def refuse_second() -> None:
    """Fail when a sandbox is up already; forget one whose holder is gone."""
    state = read_state()
    if state is None:
        return
    if state.holder.alive:
        raise SandboxError(
            f"A sandbox is up already (process {state.holder.pid}): "
            "use it, or stop it with `keycloak-bridge sandbox down`."
        )
    stop_detached()


@contextmanager
def terminable() -> Iterator[None]:
    """Let the first SIGTERM do what Ctrl-C does, and further ones wait for the end."""

    def interrupt(number: int, frame: FrameType | None) -> None:  # noqa: ARG001
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def main(text: str) -> int:
    """Keep a sandbox up for a process that has ended long ago."""
    reports = state_dir() / "progress.ndjson"

    def report(component: str, state: str, detail: str) -> None:
        with reports.open("a", encoding="utf-8") as stream:
            stream.write(json.dumps([component, state, detail]) + "\n")

    try:
        hold(SandboxOptions.from_json(text), report, silent, silent)
    except SandboxError as error:
        report("error", "failed", str(error))
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.stdin.read()))
