"""The process ends when it is asked to, whatever holds it up."""

import os
import subprocess
import sys

from keycloak_bridge.app.stopping import STUCK_EXIT_CODE

PROGRAM = """
import logging, sys, threading
from keycloak_bridge.app.stopping import ended_after
from keycloak_bridge.ops import logs

logger = logging.getLogger("keycloak_bridge.testing")
logs.configure_logging()
logs.gather_lines()
with ended_after(threading.Event(), float(sys.argv[1])):
    for number in range(5000):
        logs.log_event(logger, f"a{number}")
"""


def test_a_log_that_nobody_reads() -> None:
    """A full pipe keeps no process from ending."""
    reader, writer = os.pipe()
    try:
        ended = subprocess.run(
            [sys.executable, "-c", PROGRAM, "1"], stderr=writer, timeout=60, check=False
        )
    finally:
        os.close(reader)
        os.close(writer)

    assert ended.returncode == STUCK_EXIT_CODE


def test_all_lines_are_written_at_the_end() -> None:
    """Each once, and in its order."""
    ended = subprocess.run(
        [sys.executable, "-c", PROGRAM, "50"], stderr=subprocess.PIPE, timeout=60, check=False
    )

    lines = ended.stderr.decode().splitlines()
    assert ended.returncode == 0
    assert [f'"action": "a{number}"' in line for number, line in enumerate(lines)] == [True] * 5000
