"""A memory of the last entries."""

from collections import OrderedDict
from typing import Generic, TypeVar

from keycloak_bridge.threads.brief_lock import BriefLock

Key = TypeVar("Key")
Value = TypeVar("Value")


class BoundedDict(Generic[Key, Value]):
    """Remembers the last `limit` entries. Safe to share between threads."""

    def __init__(self, limit: int = 10_000) -> None:
        self._limit = limit
        self._lock = BriefLock()
        self._entries: OrderedDict[Key, Value] = OrderedDict()

    def __contains__(self, key: Key) -> bool:
        with self._lock:
            return key in self._entries

    def get(self, key: Key) -> Value | None:
        """Return the value of `key`; None where it is not remembered."""
        with self._lock:
            return self._entries.get(key)

    def put(self, key: Key, value: Value) -> None:
        """Remember `value` as the newest entry, in place of what was known of `key`."""
        with self._lock:
            self._entries[key] = value
            self._keep(key)

    def setdefault(self, key: Key, value: Value) -> Value:
        """Return what is known of `key`, which is `value` from now on if it is new; either way it becomes the newest."""
        with self._lock:
            known = self._entries.setdefault(key, value)
            self._keep(key)
            return known

    def pop(self, key: Key) -> Value | None:
        """Forget `key` and return its value; None where it is not remembered."""
        with self._lock:
            return self._entries.pop(key, None)

    def _keep(self, key: Key) -> None:
        self._entries.move_to_end(key)
        if len(self._entries) > self._limit:
            self._entries.popitem(last=False)
