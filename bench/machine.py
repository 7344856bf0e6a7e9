"""The machine, and what its kernel says of a process: CPU and memory."""

import contextlib
import os
import platform
import time
from dataclasses import dataclass
from pathlib import Path

from keycloak_bridge.sandbox.distribution import locked
from keycloak_bridge.sandbox.processes import find_java

_TICKS = os.sysconf("SC_CLK_TCK")


def machine() -> dict[str, object]:
    """Return the machine and the versions of everything that takes part."""
    return {
        "cores": len(os.sched_getaffinity(0)),
        "cpu": _cpu(),
        "python": platform.python_version(),
        "java": find_java().major,
        "keycloak": locked("keycloak").version,
        "kafka": locked("kafka").version,
    }


def _cpu() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        name, _, value = line.partition(":")
        if name.strip() == "model name":
            return value.strip()
    return platform.machine()


def busy_cores(time_s: float = 3.0) -> float:
    """Return how many cores all programs together use at present, watched for `time_s`."""
    before = _used_s()
    time.sleep(time_s)
    return round((_used_s() - before) / time_s, 2)


def _used_s() -> float:
    user_nice_system = Path("/proc/stat").read_text().split(maxsplit=4)[1:4]
    return sum(map(int, user_nice_system)) / _TICKS


@dataclass(frozen=True, slots=True)
class Usage:
    """CPU that a process has used so far, and the memory that it holds."""

    cpu_s: float
    rss_mb: float
    peak_mb: float


def usage(pid: int) -> Usage:
    """Return what a running process, children that ended left out, has used."""
    folder = Path(f"/proc/{pid}")
    fields = (folder / "stat").read_text().rpartition(")")[2].split()
    status = dict(
        line.split(":", 1) for line in (folder / "status").read_text().splitlines() if ":" in line
    )
    cpu_s = (int(fields[11]) + int(fields[12])) / _TICKS
    return Usage(cpu_s, _megabytes(status, "VmRSS"), _megabytes(status, "VmHWM"))


def family_cpu_s(pid: int) -> float:
    """Return the CPU that a running process and its children have used, and those children that ended."""
    used = 0
    for folder in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):  # it ended just now
            fields = (folder / "stat").read_text().rpartition(")")[2].split()
            own = int(fields[11]) + int(fields[12])
            if folder.name == str(pid):
                used += own + int(fields[13]) + int(fields[14])
            elif fields[1] == str(pid):
                used += own
    return used / _TICKS


def _megabytes(status: dict[str, str], name: str) -> float:
    words = status.get(name, "0 kB").split()
    return int(words[0]) * 1024 / 1e6
