"""One thread that starts every child process and lives as long as this process."""

import os
import queue
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from pathlib import Path

from keycloak_bridge.sandbox import tether


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
