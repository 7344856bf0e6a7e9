"""The one error that leaves the sandbox.

What a caller can choose about a sandbox.
"""

import json
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Self


class SandboxError(Exception):
    """Something a person has to act on; the message says what, where and the remedy."""


class SandboxCancelled(SandboxError):  # noqa: N818  (not a fault: somebody asked to stop)
    """The start was given up because something else failed or somebody pressed Ctrl-C."""


Progress = Callable[[str, str, str], None]
"""Called with component, state and detail, from any thread."""

Downloads = Callable[[str, int, int], None]
"""Called with component, bytes so far and bytes in total, from any thread."""

FAST_START = ("-XX:TieredStopAtLevel=1",)
"""Only the first compiler: two thirds of the CPU of a start, at some cost in peak throughput."""

_PATHS = ("config_dir", "run_dir", "cache_dir")


@dataclass(frozen=True, slots=True)
class SandboxOptions:
    """Where the sandbox takes its realm from, and what it must be reachable at.

    A port of 0 means any free one. Without `run_dir` a temporary folder is used and removed at
    the end, except after a failed start, whose logs stay. `keycloak_java_options=()` brings the
    second compiler back, for measurements of throughput.
    """

    config_dir: Path | None = None
    realm: str = "acme"
    client_id: str = "keycloak-bridge"
    client_secret: str | None = None
    keycloak_port: int = 0
    kafka_port: int = 0
    smtp_port: int = 0
    demo_app_url: str = "http://localhost:8000"
    run_dir: Path | None = None
    keep_run_dir: bool = False
    cache_dir: Path | None = None
    keycloak_java_options: tuple[str, ...] = FAST_START
    start_timeout_s: float = 240.0

    def to_json(self) -> str:
        """Return the options as text for another process."""
        values = asdict(self)
        return json.dumps({key: str(v) if isinstance(v, Path) else v for key, v in values.items()})

    @classmethod
    def from_json(cls, text: str) -> Self:
        """Return the options that `to_json` wrote."""
        values = json.loads(text)
        paths = {name: Path(values[name]) for name in _PATHS if values[name] is not None}
        lists = {"keycloak_java_options": tuple(values["keycloak_java_options"])}
        return cls(**(values | paths | lists))


def silent(component: str, state: str, detail: str) -> None:
    """Report nothing."""
