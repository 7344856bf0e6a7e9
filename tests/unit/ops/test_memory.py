"""What is freed is not kept."""

import platform
import subprocess
import sys
from pathlib import Path

import pytest

MEGABYTE = 1024 * 1024
BLOCKS, SIZE = 20, 10
SCRIPT = f"""
import sys
from pathlib import Path
from keycloak_bridge.ops.memory import give_back_large_blocks

if sys.argv[1:]:
    give_back_large_blocks()
first = b"x" * {2 * SIZE * MEGABYTE}
del first
large, small = [], []
for _ in range({BLOCKS}):
    large.append(b"x" * {SIZE * MEGABYTE})
    small.append(b"x" * 100_000)
large.clear()
(line,) = [line for line in Path("/proc/self/status").read_text().splitlines() if "VmRSS" in line]
print(line.split()[1])
"""


def held_mb(*arguments: str) -> float:
    """Return how much a process holds that freed its large blocks, each before a small one that is in use."""
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, *arguments],
        capture_output=True,
        text=True,
        check=True,
        cwd=Path(__file__).parents[3],
    )
    return int(done.stdout) / 1024


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="another library frees by itself")
def test_large_blocks_are_given_back() -> None:
    """With glibc's own rule nearly all of them stay."""
    assert held_mb() > BLOCKS * SIZE / 2 > held_mb("give back")
