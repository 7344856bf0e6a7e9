"""Which packages the bridge's CPU goes to: samples of the threads that hold the GIL, by the package they run in.

py-spy takes the samples (`py-spy record --gil --format raw`): one line for each stack, frames from the outermost to the innermost
with a `;` between them, and how often the stack was seen. A sample belongs to the innermost frame of a named package; what the
standard library does for somebody (locks, queues, sockets, dates) counts for whoever called it.
"""

import re
import shutil
import sys
import threading
from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path

from bench.services import Ground
from keycloak_bridge.sandbox import SandboxError
from keycloak_bridge.sandbox.processes import ManagedProcess, child_environment

RESULTS = Path(__file__).with_name("results")
"""Where the stacks stay, for a look at single functions."""
RATE = 200
"""Samples a second."""
_STANDARD = ("json", "logging", "http", "email", "ssl")
"""Packages and modules of the standard library that count for themselves."""
_FRAME = re.compile(r"\((?P<file>[^()]*?)(?::\d+)?\)$")
_OWN = re.compile(r"(?:^|/)(keycloak_bridge)/(\w+)")
_KAFKA = re.compile(r"/site-packages/(kafka)/(\w+)")
_INSTALLED = re.compile(r"/site-packages/(\w+)")
_LIBRARY = re.compile(r"/python3\.\d+/(\w+)")
_OTHER = "other"
_END_S = 60


def shares(lines: Iterable[str]) -> dict[str, float]:
    """Return for each package its share of all samples, the largest first."""
    found: Counter[str] = Counter()
    for line in lines:
        stack, _, count = line.strip().rpartition(" ")
        if stack:
            found[_of_stack(stack)] += int(count)
    total = found.total()
    return {name: round(count / total, 4) for name, count in found.most_common()}


def _of_stack(stack: str) -> str:
    for frame in reversed(stack.split(";")):
        if package := package_of(frame):
            return package
    return _OTHER


def package_of(frame: str) -> str | None:
    """Return the package that a frame counts for; None if it counts for its caller."""
    match = _FRAME.search(frame)
    file = match["file"] if match else ""
    for pattern in (_KAFKA, _OWN):
        if place := pattern.search(file):
            return f"{place[1]}.{place[2]}"
    if place := _INSTALLED.search(file):
        return place[1]
    place = _LIBRARY.search(file)
    return place[1] if place and place[1] in _STANDARD else None


class Sampler:
    """py-spy beside a running bridge, from `start` until the bridge ends."""

    def __init__(self, ground: Ground, name: str) -> None:
        self._file = RESULTS / f"profile-{name}.txt"
        log = ground.services.sandbox.run_dir / f"py-spy-{ground.suffix}.log"
        self._process = ManagedProcess("py-spy", log)

    def start(self, pid: int) -> None:
        """Take samples of that process from now on.

        Raises SandboxError if py-spy is not installed.
        """
        program = Path(sys.executable).with_name("py-spy")
        found = str(program) if program.exists() else shutil.which("py-spy")
        if found is None:
            raise SandboxError("py-spy is not installed. Run: pip install py-spy")
        RESULTS.mkdir(parents=True, exist_ok=True)
        self._file.unlink(missing_ok=True)
        options = ["--gil", "--format", "raw", "--full-filenames", "--function"]
        where = ["--rate", str(RATE), "--pid", str(pid), "--output", str(self._file)]
        self._process.spawn([found, "record", *options, *where], child_environment())

    def shares(self) -> dict[str, float]:
        """Return the shares, once the bridge has ended.

        Raises SandboxError if py-spy failed, for example because it may not look at other processes.
        """
        self._process.wait_for_end(threading.Event(), _END_S, "write its samples")
        if not self._file.exists():
            raise self._process.failure("wrote no samples")
        return shares(self._file.read_text(encoding="utf-8").splitlines())


def table(profiles: Mapping[str, Mapping[str, float]], *, least: float = 0.02) -> str:
    """Return the shares of several runs as Markdown, one column for each; what is below `least` everywhere is left out."""
    names = sorted(
        {name for one in profiles.values() for name, share in one.items() if share >= least},
        key=lambda name: (-max(one.get(name, 0.0) for one in profiles.values()), name),
    )
    rows = [
        f"| {name} | {' | '.join(f'{100 * one.get(name, 0.0):.0f} %' for one in profiles.values())} |"
        for name in names
    ]
    head = f"| share of the bridge's CPU | {' | '.join(profiles)} |"
    return "\n".join([head, "|---|" + "---:|" * len(profiles), *rows])
