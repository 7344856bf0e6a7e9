"""What Keycloak said a moment ago."""

import threading
from collections.abc import Callable
from typing import Generic, TypeVar

from keycloak_bridge.core.errors import KeycloakNotFoundError
from keycloak_bridge.core.ports import Clock

CACHE_TTL_S = 60.0

_Value = TypeVar("_Value")


class Cache(Generic[_Value]):
    """Remembers values for a minute. Safe to share between threads."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._entries: dict[str, tuple[float, _Value]] = {}

    def get(self, key: str) -> _Value | None:
        """Return the value, unless it is too old."""
        with self._lock:
            entry = self._entries.get(key)
        if entry is None or self._clock.monotonic() - entry[0] >= CACHE_TTL_S:
            return None
        return entry[1]

    def put(self, key: str, value: _Value) -> None:
        """Remember `value` from now on."""
        with self._lock:
            self._entries[key] = (self._clock.monotonic(), value)

    def forget(self, key: str) -> None:
        """Make the next `get` find nothing."""
        with self._lock:
            self._entries.pop(key, None)


class KnownIds:
    """Keycloak's ids of named things, remembered for a minute; what is not found is asked for again each time.

    An administrator is probably about to create it.
    """

    def __init__(self, look_up: Callable[[str], str | None], clock: Clock) -> None:
        self._look_up = look_up
        self._known = Cache[str](clock)

    def get(self, name: str) -> str | None:
        """Return the id, or None."""
        known = self._known.get(name)
        if known is None:
            known = self._look_up(name)
            if known is not None:
                self._known.put(name, known)
        return known

    def forget(self, name: str) -> None:
        """Ask again the next time."""
        self._known.forget(name)

    def leave(self, name: str, leave: Callable[[str], None]) -> None:
        """Call `leave` with the id; where that is out of date, once more with the new one."""
        for _ in range(2):
            found = self.get(name)
            if found is None:
                return
            try:
                leave(found)
            except KeycloakNotFoundError:
                self.forget(name)
            else:
                return
