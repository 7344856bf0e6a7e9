"""What a caller can choose about a sandbox, how it hears of progress, and the errors that leave it."""

import json
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Self

Progress = Callable[[str, str, str], None]
"""Called with component, state and detail, from any thread."""

Downloads = Callable[[str, int, int], None]
"""Called with component, bytes so far and bytes in total, from any thread."""

FAST_START = ("-XX:TieredStopAtLevel=1",)
"""Only the first compiler: two thirds of the CPU of a start, at some cost in peak throughput."""


class SandboxError(Exception):
    """Something a person has to act on; the message says what, where and the remedy."""


class SandboxCancelled(SandboxError):  # noqa: N818  (not a fault: the caller asked to stop)
    """The start was given up because something else failed or the operator pressed Ctrl-C."""


@dataclass(frozen=True, slots=True)
class SandboxOptions:
    """Where the sandbox takes its realm from, and what it must be reachable at.

    A port of 0 means any free one. Without `run_dir` a temporary folder is used and removed at
    the end, except after a failed start, whose logs stay. `keycloak_java_options=()` brings the
    second compiler back, for measurements of throughput. Without a version, SANDBOX_KEYCLOAK_VERSION
    and SANDBOX_KAFKA_VERSION choose, else the lock file's default. `secure` brings TLS, log-ins and access
    control lists.
    """

    config_dir: Path | None = None
    realm: str = "acme"
    keycloak_port: int = 0
    kafka_port: int = 0
    smtp_port: int = 0
    demo_app_url: str = "http://localhost:8000"
    run_dir: Path | None = None
    cache_dir: Path | None = None
    keycloak_java_options: tuple[str, ...] = FAST_START
    keycloak_version: str | None = None
    kafka_version: str | None = None
    secure: bool = False

    def to_json(self) -> str:
        """Return the options as text for another process."""
        return json.dumps(asdict(self), default=str)

    @classmethod
    def from_json(cls, text: str) -> Self:
        """Return the options that `to_json` wrote."""
        values = json.loads(text)
        for name in ("config_dir", "run_dir", "cache_dir"):
            values[name] = values[name] and Path(values[name])
        values["keycloak_java_options"] = tuple(values["keycloak_java_options"])
        return cls(**values)


def silent(*_: object) -> None:
    """Report nothing."""
