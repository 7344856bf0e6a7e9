"""What a command sets for its whole process, put back."""

import contextlib
import logging
import signal
import threading
from collections.abc import Iterator

_SIGNALS = (signal.SIGTERM, signal.SIGINT)
_FOR_ALL = ("logThreads", "logProcesses", "logMultiprocessing")


@contextlib.contextmanager
def logging_restored() -> Iterator[None]:
    """Put back all that `configure_logging` sets: handlers, levels, warnings and failures of threads."""
    root = logging.getLogger()
    handlers, level, of_threads = root.handlers[:], root.level, threading.excepthook
    for_all = {name: getattr(logging, name) for name in _FOR_ALL}
    levels = {one: one.level for one in _loggers()}
    try:
        yield
    finally:
        threading.excepthook = of_threads
        logging.captureWarnings(capture=False)
        root.handlers[:] = handlers
        root.setLevel(level)
        for name, value in for_all.items():
            setattr(logging, name, value)
        for logger in _loggers():
            logger.setLevel(levels.get(logger, logging.NOTSET))


@contextlib.contextmanager
def process_state_restored() -> Iterator[None]:
    """Put back handlers of signals too."""
    signals = {number: signal.getsignal(number) for number in _SIGNALS}
    try:
        with logging_restored():
            yield
    finally:
        for number, handler in signals.items():
            signal.signal(number, handler)


def _loggers() -> list[logging.Logger]:
    named = logging.root.manager.loggerDict.values()
    return [one for one in named if isinstance(one, logging.Logger)]
