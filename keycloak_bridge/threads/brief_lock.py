"""A lock for a few microseconds of work that many threads do for every event."""

import threading
from time import sleep
from types import TracebackType
from typing import Any

_AGAIN_S = 0.0005
_TRIES = 20
"""Who came in vain so often waits in the queue after all, so that nobody waits for ever."""


class BriefLock:
    """Like `threading.Lock`, for `with` statements in which nothing waits, or below a condition (`condition`).

    It is not fair: whoever asks first may come last.

    A thread that waits for a `threading.Lock` has it as soon as it is free, before it may run. All others then wait for a
    thread that waits for the interpreter, at every lock again, for as long as they are busy. So who finds this one taken asks
    again a moment later, which it seldom has to: only where the thread inside had to give way there.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()

    def acquire(self, blocking: bool = True) -> bool:
        """Take the lock; without `blocking`, return False where another thread has it."""
        for _ in range(_TRIES):
            if self._lock.acquire(blocking=False):
                return True
            if not blocking:
                return False
            sleep(_AGAIN_S)
        return self._lock.acquire()

    def release(self) -> None:
        """Let another thread take it."""
        self._lock.release()

    def __enter__(self) -> None:
        self.acquire()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._lock.release()


def condition(lock: BriefLock) -> threading.Condition:
    """Return a condition below this lock."""
    as_lock: Any = lock  # it has all that a condition asks of one
    return threading.Condition(as_lock)
