"""Ctrl-C while modules are imported: nothing was begun, so the process ends at once and without a traceback.

An import is no place for KeyboardInterrupt: some of its callbacks print it and go on, and libraries in C make other errors of
it. This module imports next to nothing, since what comes before it is not covered.
"""

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager

INTERRUPTED = 130


@contextmanager
def importing() -> Iterator[None]:
    """Have Ctrl-C end the process with exit code 130 meanwhile, unless something else is to happen."""
    handler = signal.getsignal(signal.SIGINT)
    if (
        handler is not signal.default_int_handler  # ignored in the background, or a command's own
        or threading.current_thread() is not threading.main_thread()
    ):
        yield
        return
    signal.signal(signal.SIGINT, lambda *_: os._exit(INTERRUPTED))
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, handler)
