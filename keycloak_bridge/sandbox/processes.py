"""Child processes that never outlive the one that started them.

One thread that starts every child process and lives as long as this process.
"""

import atexit
import contextlib
import os
import queue
import signal
import subprocess
import sys
import threading
import time
import weakref
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from pathlib import Path
from threading import Event

from keycloak_bridge.sandbox import tether
from keycloak_bridge.sandbox.options import SandboxCancelled, SandboxError


@dataclass(frozen=True, slots=True)
class _Order:
    command: Sequence[str]
    environment: Mapping[str, str]
    folder: Path
    log: Path
    done: Future[subprocess.Popen[bytes]]


class _Spawner:
    """Starts children from a thread that never ends.

    The kernel ties a child to the *thread* that started it, not to the process: a child of a
    short-lived worker thread would die with that thread.
    """

    def __init__(self) -> None:
        self.process_id = os.getpid()
        self.orders: queue.SimpleQueue[_Order] = queue.SimpleQueue()
        threading.Thread(target=self._run, name="sandbox-spawner", daemon=True).start()

    def _run(self) -> None:
        while True:
            order = self.orders.get()
            try:
                order.done.set_result(_start(order))
            except OSError as error:
                order.done.set_exception(error)


def _start(order: _Order) -> subprocess.Popen[bytes]:
    with order.log.open("ab") as log:
        return subprocess.Popen(
            [sys.executable, "-I", tether.__file__, str(os.getpid()), *order.command],
            env=dict(order.environment),
            cwd=order.folder,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )


_guard = threading.Lock()
_spawners: list[_Spawner] = []


def spawn(
    command: Sequence[str], environment: Mapping[str, str], folder: Path, log: Path
) -> subprocess.Popen[bytes]:
    """Start a child in a session of its own, tied to the life of this process."""
    with _guard:
        if not _spawners or _spawners[-1].process_id != os.getpid():
            _spawners.append(_Spawner())
        spawner = _spawners[-1]
    done: Future[subprocess.Popen[bytes]] = Future()
    spawner.orders.put(_Order(command, environment, folder, log, done))
    return done.result()


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

    def start(
        self, command: Sequence[str], environment: Mapping[str, str], folder: Path | None = None
    ) -> None:
        """Start the program; its output is appended to the log."""
        if self.alive:
            raise SandboxError(f"{self.name} runs already.")
        self.log_path.parent.mkdir(parents=True, exist_ok=True)
        try:
            self._child = spawn(command, environment, folder or self.log_path.parent, self.log_path)
        except OSError as error:
            raise SandboxError(f"{self.name} cannot be started: {error.strerror}.") from error
        _running.add(self)

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


@atexit.register
def _kill_what_is_left() -> None:
    for process in list(_running):
        process.kill()
