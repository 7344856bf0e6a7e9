"""Programs that a proof runs: their output on success, one sentence and their last lines on failure."""

import os
import shlex
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

from .machine import ShipError

_LINES = 20


def run(
    command: Sequence[str | Path],
    *,
    cwd: Path | None = None,
    environ: Mapping[str, str] | None = None,
    umask: int = -1,
    expected: int = 0,
) -> str:
    """Return what a program prints, errors too; raises ShipError unless it ends with the exit code that is `expected`."""
    done = subprocess.run(
        command,
        cwd=cwd,
        env=os.environ if environ is None else environ,
        umask=umask,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        check=False,
    )
    if done.returncode != expected:
        words = shlex.join(map(str, command))
        tail = "\n".join(done.stdout.splitlines()[-_LINES:])
        raise ShipError(f"{words} ended with {done.returncode} instead of {expected}:\n{tail}")
    return done.stdout
