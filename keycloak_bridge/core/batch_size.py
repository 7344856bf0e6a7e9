"""How many users go into one batch: as many as the server writes in about the time that a batch is to take."""

import threading

_START = 20
_STEP = 2
_TOO_LONG = 2.0
"""A batch that takes this many times its target was too large."""


class BatchSize:
    """Grows by a few users while batches are quick, and is halved when one was slow or failed (AIMD).

    Safe to share between threads.
    """

    def __init__(
        self, least: int, most: int, start: int | None = None, *, target_s: float = 0.25
    ) -> None:
        """Begin at `start`, or at a score."""
        start = min(most, max(least, _START)) if start is None else start
        if not 1 <= least <= start <= most:
            raise ValueError("a batch size needs 1 <= least <= start <= most")
        self._least, self._most = least, most
        self._size = start
        self._target_s = target_s
        self._lock = threading.Lock()

    @property
    def size(self) -> int:
        """How many users the next batch may hold."""
        return self._size

    def note(self, latency_s: float, size: int, failed: bool) -> None:
        """Take the end of a batch of `size` users; one larger than the present size tells nothing new.

        `failed` says that the server could not answer, not that it refused.
        """
        with self._lock:
            if size > self._size:
                return  # it began before the size was halved
            if failed or latency_s > _TOO_LONG * self._target_s:
                self._size = max(self._least, self._size // 2)
            elif latency_s < self._target_s and size == self._size:
                self._size = min(self._most, self._size + _STEP)
