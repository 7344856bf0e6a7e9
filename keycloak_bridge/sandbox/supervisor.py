"""Hold a sandbox up until told otherwise, in this process or in one of its own."""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import FrameType

from keycloak_bridge.sandbox.options import (
    Downloads,
    Progress,
    SandboxError,
    SandboxOptions,
    silent,
)
from keycloak_bridge.sandbox.sandbox import Sandbox
from keycloak_bridge.sandbox.state import (
    Identity,
    SandboxState,
    clear_state,
    identity,
    read_state,
    state_dir,
    write_state,
)

_STOP_TIMEOUT_S = 60.0
_POLL_S = 0.2
_detached: list["subprocess.Popen[bytes]"] = []  # collected, they would warn that they still run


def hold(
    options: SandboxOptions,
    progress: Progress,
    downloads: Downloads | None,
    ready: Callable[[Sandbox], None],
) -> None:
    """Start a sandbox, let others know of it, and stop it on Ctrl-C or SIGTERM."""
    refuse_second()
    me = identity("sandbox", os.getpid())
    write_state(SandboxState(me, "starting"))
    try:
        with suppress(KeyboardInterrupt), terminable(), Sandbox(options, progress, downloads) as up:
            write_state(_ready(me.pid, up))
            ready(up)
            threading.Event().wait()
    finally:
        clear_state()


def start_detached(
    options: SandboxOptions, progress: Progress = silent, downloads: Downloads | None = None
) -> SandboxState:
    """Start a sandbox that outlives this process, and return once it is ready."""
    refuse_second()
    Sandbox(options, progress, downloads).prepare()
    folder = state_dir()
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    log, said = folder / "supervisor.log", folder / "progress.ndjson"
    said.unlink(missing_ok=True)
    with log.open("wb") as output:
        child = subprocess.Popen(
            [sys.executable, "-m", "keycloak_bridge.sandbox.supervisor"],
            stdin=subprocess.PIPE,  # not as arguments: anybody can read those
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    _detached.append(child)
    try:
        _tell(child, options)
        return _wait_for_ready(child, said, log, progress)
    except BaseException:
        child.terminate()
        child.wait()
        raise


def stop_detached() -> bool:
    """Stop the sandbox that is known, whoever holds it; tell whether there was one."""
    state = read_state()
    if state is None:
        return False
    with suppress(ProcessLookupError):
        _ask_to_end(state.holder)
    for process in (state.holder, *state.services):
        if process.alive:
            with suppress(ProcessLookupError):
                os.kill(process.pid, signal.SIGKILL)
    clear_state()
    return True


def _ask_to_end(holder: Identity) -> None:
    """Send SIGTERM and wait; a process that only has the number of the holder is left alone."""
    deadline = time.monotonic() + _STOP_TIMEOUT_S
    if holder.alive:
        os.kill(holder.pid, signal.SIGTERM)
    while holder.alive and time.monotonic() < deadline:
        time.sleep(_POLL_S)


def refuse_second() -> None:
    """Fail when a sandbox is held up already; forget one whose holder is gone."""
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


def _ready(holder: int, sandbox: Sandbox) -> SandboxState:
    services = [("Kafka", sandbox.kafka.process.pid), ("Keycloak", sandbox.keycloak.process.pid)]
    return SandboxState(
        holder=identity("sandbox", holder),
        phase="ready",
        run_dir=str(sandbox.run_dir),
        services=tuple(identity(name, pid or 0) for name, pid in services),
        environment=sandbox.environment(),
    )


def _tell(child: "subprocess.Popen[bytes]", options: SandboxOptions) -> None:
    if child.stdin is not None:
        with suppress(BrokenPipeError), child.stdin as stream:
            stream.write(options.to_json().encode())


def _wait_for_ready(
    child: "subprocess.Popen[bytes]", said: Path, log: Path, progress: Progress
) -> SandboxState:
    lines = 0
    while True:
        lines += _repeat(said, lines, progress)
        state = read_state()
        if state is not None and state.holder.pid == child.pid and state.phase == "ready":
            return state
        if child.poll() is not None:
            raise SandboxError(_last_words(said, log))
        time.sleep(_POLL_S)


def _repeat(said: Path, seen: int, progress: Progress) -> int:
    if not said.exists():
        return 0
    lines = [line for line in said.read_text(encoding="utf-8").split("\n")[:-1] if line][seen:]
    for line in lines:
        component, state, detail = json.loads(line)
        if component != "error":
            progress(component, state, detail)
    return len(lines)


def _last_words(said: Path, log: Path) -> str:
    words = said.read_text(encoding="utf-8").splitlines() if said.exists() else []
    for line in words:
        component, _, detail = json.loads(line)
        if component == "error":
            return str(detail)
    return f"The sandbox's own process ended at once. Its log is {log}"


def main(text: str) -> int:
    """Hold a sandbox up for a process that has long gone."""
    said = state_dir() / "progress.ndjson"

    def say(component: str, state: str, detail: str) -> None:
        with said.open("a", encoding="utf-8") as stream:
            stream.write(json.dumps([component, state, detail]) + "\n")

    try:
        hold(SandboxOptions.from_json(text), say, None, lambda sandbox: None)  # noqa: ARG005
    except SandboxError as error:
        say("error", "failed", str(error))
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.stdin.read()))
