"""The bridge as its users run it: `keycloak-bridge run` in a process of its own."""

import contextlib
import os
import sys
from collections.abc import Iterator, Mapping

from bench.services import Ground
from bench.users import MAPPING
from keycloak_bridge.sandbox.processes import ManagedProcess

_PREFIX = "KEYCLOAK_BRIDGE_"
_BRIDGE = [sys.executable, "-m", "keycloak_bridge"]


def mode(name: str) -> dict[str, str]:
    """Return the settings that allow batches (`auto`) or keep to single writes (`off`)."""
    return {"BURST_MODE": name}


@contextlib.contextmanager
def running(ground: Ground, settings: Mapping[str, str]) -> Iterator[int]:
    """Run the bridge meanwhile, with all of its settings at their defaults but these; lend its process id."""
    log = ground.services.sandbox.run_dir / f"bridge-{ground.suffix}.log"
    process = ManagedProcess("The bridge", log)
    outside = {name: value for name, value in os.environ.items() if not name.startswith(_PREFIX)}
    chosen = {f"{_PREFIX}{name}": value for name, value in settings.items()}
    always = {f"{_PREFIX}MAPPING_FILE": str(MAPPING)}
    process.spawn([*_BRIDGE, "run"], outside | ground.environment() | always | chosen)
    try:
        yield process.pid or 0
        if not process.alive:
            raise process.failure("ended while it was measured")
    finally:
        process.stop(grace_s=30)
