"""Threads of a test."""

import threading
from collections.abc import Callable

LIMIT_S = 60.0
"""Only a hanging test waits so long."""


def in_threads(*works: Callable[[], object]) -> None:
    """Run `works` at the same time, each in a thread of its own, until all have ended."""
    join(started(*works))


def started(*works: Callable[[], object]) -> list[threading.Thread]:
    """Start a thread for each of `works`."""
    threads = [threading.Thread(target=work, daemon=True) for work in works]
    for thread in threads:
        thread.start()
    return threads


def join(threads: list[threading.Thread]) -> None:
    """Wait until all have ended."""
    for thread in threads:
        thread.join(LIMIT_S)
    assert not any(thread.is_alive() for thread in threads), "a thread does not end"
