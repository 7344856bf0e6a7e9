"""How fast something may happen."""

import threading

_ROUNDING_S = 1e-6


class Pace:
    """Spreads something over time: at most so many a second, bursts of at most one second's worth (at least 1).

    Safe to share between threads. None means no limit.
    """

    def __init__(self, per_s: float | None) -> None:
        self._per_s = per_s
        self._lock = threading.Lock()
        self._even_at_s = float("-inf")  # when the next would be due in an even spread

    def take(self, now_s: float) -> float:
        """Take a token and return 0.0, or take nothing and return the seconds to wait before asking again."""
        if self._per_s is None:
            return 0.0
        burst = max(self._per_s, 1.0)
        with self._lock:
            due_s = max(self._even_at_s, now_s)
            # a burst may be so far ahead of the even spread
            early_s = due_s - (burst - 1) / self._per_s - now_s
            if early_s > _ROUNDING_S:
                return early_s
            self._even_at_s = due_s + 1 / self._per_s
            return 0.0

    def give_back(self) -> None:
        """Return a token that was taken and not used, to be taken by another at once."""
        if self._per_s is None:
            return
        with self._lock:
            self._even_at_s -= 1 / self._per_s
