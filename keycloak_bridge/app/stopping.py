"""The end of the process that was asked to stop, whatever it is doing: a library may loop for ever."""

import contextlib
import logging
import os
import sys
import threading
from collections.abc import Callable, Iterator

from keycloak_bridge.ops.logs import log_event, write_gathered

logger = logging.getLogger(__name__)

CLOSING_S = 15.0
"""How long committing and closing connections may take after the drain time; each call to a dead Kafka takes seconds."""

STUCK_EXIT_CODE = 5
_REPORT_S = 1.0


@contextlib.contextmanager
def ended_after(
    stop: threading.Event, limit_s: float, end: Callable[[int], object] = os._exit
) -> Iterator[None]:
    """End the process where the block is not over within `limit_s` seconds after `stop` was set.

    Nothing is lost by that: what is not committed comes again. It works from a thread of its own, so a loop in any other
    thread does not hinder it.
    """
    over = threading.Event()

    def watch() -> None:
        stop.wait()
        if over.wait(limit_s):
            return
        # a lock that the loop holds must not keep the line, or the end, from coming
        report = threading.Thread(target=_report, args=(limit_s,), name="stop-report", daemon=True)
        report.start()
        report.join(_REPORT_S)
        end(STUCK_EXIT_CODE)

    threading.Thread(target=watch, name="stop-deadline", daemon=True).start()
    try:
        yield
    finally:
        stop.set()
        write_gathered()  # here, where a stream that takes nothing cannot hold up the end
        over.set()


def _report(limit_s: float) -> None:
    log_event(
        logger,
        "stop-forced",
        level=logging.ERROR,
        message=f"the bridge did not stop within {limit_s:g} s, so it ends now; what is not committed comes again",
    )
    for stream in (sys.stderr, sys.stdout):
        stream.flush()
