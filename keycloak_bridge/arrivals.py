"""Wait for several acknowledgements without holding a thread."""

import threading
from collections.abc import Callable

from keycloak_bridge.core.errors import BridgeError


class Arrivals:
    """Calls `done` once, when as many acknowledgements as expected have arrived; with the first error, if any."""

    def __init__(self, expected: int, done: Callable[[BridgeError | None], None]) -> None:
        self._lock = threading.Lock()
        self._missing = expected
        self._error: BridgeError | None = None
        self._done = done

    def note(self, error: BridgeError | None) -> None:
        """Take one acknowledgement, from any thread."""
        with self._lock:
            self._missing -= 1
            self._error = self._error or error
            last = self._missing == 0
        if last:
            self._done(self._error)
