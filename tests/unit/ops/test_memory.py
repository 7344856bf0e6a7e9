"""What is freed is not kept, and what stays is not looked at again."""

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


LOOKS = """
import gc
from keycloak_bridge.ops.memory import collect_garbage_rarely

collect_garbage_rarely()
cycle = []
cycle.append(cycle)
del cycle
looks = []
gc.callbacks.append(lambda phase, info: looks.append(info["generation"]))
kept = [[] for _ in range(190_000)]
few = len(looks)
more = [[] for _ in range(20_000)]
print(gc.get_freeze_count() > 1_000, few, len(looks), gc.collect())
"""


def test_cycles_are_looked_for_after_two_hundred_thousand_new_objects() -> None:
    done = subprocess.run(
        [sys.executable, "-c", LOOKS],
        capture_output=True,
        text=True,
        check=True,
        cwd=Path(__file__).parents[3],
    )
    assert done.stdout.split() == ["True", "0", "2", "0"]
