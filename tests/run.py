"""Run the tests in two processes at the same time: `python -m tests.run [--all]`, as `make test` and `make test-all` do.

The tests that need no service keep one core busy; the tests on the real services mostly wait, so that three workers share
them by files, each with a Kafka and a Keycloak of its own. The output of the first process is printed when it ends, that of
the second as it comes, and the last line adds up both.
"""

import os
import re
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO

_TESTS = Path(__file__).parent
_ON_SERVICES = "integration or e2e"
_WITHOUT_SERVICES = ("unit", "snapshot", "contract", "docs")
_WITH_SERVICES = ("contract", "docs", "e2e", "chaos", "integration")
_SHARED = ("-n", "3", "--dist", "loadfile")
_QUICK = {
    "CHAOS_KILLS": "3",
    "CHAOS_USERS": "40",
    "CHAOS_WAY": "trickle",
    "HYPOTHESIS_PROFILE": "ci",
}
_COUNT = re.compile(r"(\d+) (failed|errors?|passed|skipped)")
_LAST_LINE = 2000


def main(arguments: Sequence[str]) -> int:
    """Run both processes; return 0 when both passed."""
    everything = "--all" in arguments
    usual = {"HYPOTHESIS_PROFILE": "full"} if everything else _QUICK
    chosen = "" if everything else "not full and "
    began = time.monotonic()
    with tempfile.TemporaryFile("w+") as output:
        beside = _pytest(_WITHOUT_SERVICES, f"{chosen}not ({_ON_SERVICES})", (), usual, output)
        streamed = _pytest(
            _WITH_SERVICES, f"{chosen}({_ON_SERVICES})", _SHARED, usual, subprocess.PIPE
        )
        lock = threading.Lock()

        def print_beside() -> None:
            beside.wait()
            output.seek(0)
            with lock:
                print(f"\n\n{output.read()}", flush=True)

        printing = threading.Thread(target=print_beside)
        printing.start()
        tail = ""
        try:
            while chunk := os.read(streamed.stdout.fileno(), 65536):  # type: ignore[union-attr]
                text = chunk.decode(errors="replace")
                tail = (tail + text)[-_LAST_LINE:]
                with lock:
                    print(text, end="", flush=True)
            codes = [streamed.wait(), beside.wait()]
        finally:
            for process in (streamed, beside):
                process.terminate()
            printing.join()
        output.seek(0)
        counts = _counts(tail) + _counts(output.read())
    total = ", ".join(f"{count} {what}" for what, count in counts.items())
    print(f"{f' {total} in {time.monotonic() - began:.0f}s ':=^80}")
    return int(any(codes))


def _pytest(
    folders: Sequence[str],
    marks: str,
    others: Sequence[str],
    usual: Mapping[str, str],
    stdout: IO[str] | int,
) -> "subprocess.Popen[bytes]":
    options = ["--durations=40", "--durations-min=1", "-m", marks, *others]
    return subprocess.Popen(
        [sys.executable, "-m", "pytest", *options, *(str(_TESTS / name) for name in folders)],
        env={**usual, **os.environ},
        stdin=subprocess.DEVNULL,
        stdout=stdout,
        stderr=subprocess.STDOUT,
    )


def _counts(output: str) -> Counter[str]:
    """Return the counts of pytest's last line."""
    last = output.rstrip().rpartition("\n")[2]
    return Counter({what: int(count) for count, what in _COUNT.findall(last)})


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
