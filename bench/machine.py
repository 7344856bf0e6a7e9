"""What the figures were measured on."""

import os
import platform
from pathlib import Path

from keycloak_bridge.sandbox.distribution import locked
from keycloak_bridge.sandbox.processes import find_java


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
