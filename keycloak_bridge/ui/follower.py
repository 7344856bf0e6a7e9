"""Follow a topic in a thread of its own, so that the page answers at once."""

import contextlib
import logging
import threading
import time
from collections.abc import Callable, Generator
from typing import Generic, TypeVar

from keycloak_bridge.domain.errors import BridgeError
from keycloak_bridge.ops.logs import failure, log_event

logger = logging.getLogger(__name__)

RETRY_S = 5.0
"""Pause after a failure."""

_END_S = 1.0
_REST_AFTER, _REST_FACTOR = 100, 2.0
"""After so many items it rests for so many times the CPU time that they took: what the bridge is there for goes first."""

Item = TypeVar("Item")


class Follower(Generic[Item]):
    """Hands over what a source yields, from its beginning again after each failure, until it is stopped.

    `begin` is called before the first item of each beginning. A source yields None at least twice a second once it has
    reached the end.
    """

    def __init__(
        self,
        name: str,
        source: Callable[[], Generator[Item | None, None, None]],
        begin: Callable[[], None],
        take: Callable[[Item], None],
    ) -> None:
        self._name = name
        self._source = source
        self._begin = begin
        self._take = take
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name=f"ui-{name}", daemon=True)
        self.problem: str | None = None
        """Why nothing can be read now."""
        self.caught_up = False
        """Whether the end was reached since the last beginning."""

    def start(self) -> None:
        """Begin to follow."""
        self._thread.start()

    def stop(self) -> None:
        """Have the thread end soon."""
        self._stop.set()

    def join(self) -> None:
        """Wait for the thread to end, but not for long: it writes nothing, and Kafka may be away."""
        if self._thread.is_alive():
            self._thread.join(_END_S)

    def _run(self) -> None:
        while not self._stop.is_set():
            try:
                with contextlib.closing(self._source()) as items:
                    self._follow(items)
            except BridgeError as error:
                self.problem = error.message
            except Exception as error:  # noqa: BLE001 # the page must never harm the flow
                self.problem = "the bridge failed at reading it; its log says why"
                log_event(
                    logger,
                    "health-failed",
                    level=logging.ERROR,
                    message=f"the page cannot read {self._name}: {failure(error)}",
                    error=error,
                )
            self._stop.wait(RETRY_S)

    def _follow(self, items: Generator[Item | None, None, None]) -> None:
        self.caught_up = False
        since_s = time.thread_time()
        for number, item in enumerate(items):
            if number % _REST_AFTER == _REST_AFTER - 1:
                self._stop.wait((time.thread_time() - since_s) * _REST_FACTOR)
                since_s = time.thread_time()
            if self._stop.is_set():
                return
            if not number:
                self._begin()
                self.problem = None
            if item is None:
                self.caught_up = True
            else:
                self._take(item)
