"""Threads of a test."""

import threading
from collections.abc import Callable

LIMIT_S = 60.0
"""Only a hanging test waits so long."""


def in_threads(*works: Callable[[], object]) -> None:
    """Run `works` at the same time, each in a thread of its own, until all have ended."""
    threads = [threading.Thread(target=work, daemon=True) for work in works]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(LIMIT_S)
    assert not any(thread.is_alive() for thread in threads), "a thread does not end"
