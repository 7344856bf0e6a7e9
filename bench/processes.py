"""What the kernel says of a process: its CPU and its memory."""

import os
from dataclasses import dataclass
from pathlib import Path

_TICKS = os.sysconf("SC_CLK_TCK")


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


def _megabytes(status: dict[str, str], name: str) -> float:
    words = status.get(name, "0 kB").split()
    return int(words[0]) * 1024 / 1e6
