"""Since when something has been seen again and again."""

import threading
from collections import OrderedDict
from collections.abc import Hashable


class FirstSeen:
    """When each of the last `limit` things was seen first. Safe to share between threads."""

    def __init__(self, limit: int = 10_000) -> None:
        self._limit = limit
        self._at_s: OrderedDict[Hashable, float] = OrderedDict()
        self._lock = threading.Lock()

    def since(self, thing: Hashable, now_s: float) -> float:
        """Return when `thing` was seen first, which is now unless it is remembered."""
        with self._lock:
            first_s = self._at_s.setdefault(thing, now_s)
            self._at_s.move_to_end(thing)
            if len(self._at_s) > self._limit:
                self._at_s.popitem(last=False)
            return first_s

    def forget(self, thing: Hashable) -> None:
        """Let `thing` be new the next time; harmless when it is not remembered."""
        with self._lock:
            self._at_s.pop(thing, None)
