"""How fast something may happen, and how commands without a consumer loop wait for it."""

import threading
import time
from collections.abc import Callable
from typing import TypeVar

from keycloak_bridge.domain.errors import HoldError

_ROUNDING_S = 1e-6


class RateLimiter:
    """Token bucket: at most so many a second, bursts of at most one second's worth (at least 1); None is no limit.

    Safe to share between threads.
    """

    def __init__(self, per_s: float | None) -> None:
        self._per_s = per_s
        self._lock = threading.Lock()
        self._even_at_s = float("-inf")  # when the next is due at an even rate

    def take(self, now_s: float) -> float:
        """Take a token and return 0.0, or take nothing and return the seconds to wait before asking again."""
        if self._per_s is None:
            return 0.0
        burst = max(self._per_s, 1.0)
        with self._lock:
            due_s = max(self._even_at_s, now_s)
            # a burst may be so far ahead of the even rate
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


Found = TypeVar("Found")


def wait_out(
    attempt: Callable[[], Found],
    on_pause: Callable[[HoldError], None],
    *,
    limit_s: float,
    sleep: Callable[[float], None] = time.sleep,
) -> Found:
    """Return what `attempt` returns once it is not held any more; `on_pause` is called before each pause.

    Raises HoldError when the pauses would take more than `limit_s` seconds in all, and while the brake is engaged.
    """
    left_s = limit_s
    while True:
        try:
            return attempt()
        except HoldError as hold:
            if hold.code == "brake":
                raise  # only the operator ends that
            if hold.wait_s > left_s:
                raise HoldError(
                    f"{hold.message}; it would take {hold.wait_s:.0f} s more, so try again later",
                    wait_s=hold.wait_s,
                    code=hold.code,
                ) from hold
            on_pause(hold)
            left_s -= hold.wait_s
            sleep(hold.wait_s)
