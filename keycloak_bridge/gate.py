"""Let no more calls run at once than the server bears; the rest waits its turn."""

import threading
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager

from keycloak_bridge.core.errors import KeycloakUnavailableError
from keycloak_bridge.core.limiter import Limiter
from keycloak_bridge.core.ports import Clock


class Turn:
    """One admitted call."""

    def __init__(self) -> None:
        self.excused = False

    def excuse(self) -> None:
        """Have this call's end say nothing about the server: it failed for a reason of its own."""
        self.excused = True


class Gate:
    """Admits calls in the order in which they asked, as many at once as the limiter says. Safe to share between threads.

    A call within another one of the same thread needs no turn of its own. A closed gate admits everybody at once, so that
    no thread is left waiting when the bridge ends.
    """

    def __init__(self, limiter: Limiter, clock: Clock) -> None:
        self._limiter = limiter
        self._clock = clock
        self._lock = threading.Lock()
        self._running = 0
        self._waiting: deque[threading.Event] = deque()
        self._closed = False
        self._own = threading.local()

    @property
    def limit(self) -> int:
        """How many calls may run at once now."""
        with self._lock:
            return self._limiter.limit

    @property
    def running(self) -> int:
        """How many calls run now."""
        with self._lock:
            return self._running

    @property
    def waiting(self) -> int:
        """How many calls wait for their turn."""
        with self._lock:
            return len(self._waiting)

    @contextmanager
    def slot(self, size: int = 1) -> Iterator[Turn]:
        """Wait until one more call, for `size` users, may run; take down how long it took and whether it failed.

        It failed when KeycloakUnavailableError leaves the block; any other error is an answer like another.
        """
        outer: Turn | None = getattr(self._own, "turn", None)
        if outer is not None:
            yield outer
            return
        self._enter()
        turn = self._own.turn = Turn()
        begun_s = self._clock.monotonic()
        failed = False
        try:
            yield turn
        except KeycloakUnavailableError:
            failed = True
            raise
        except BaseException as error:
            turn.excused |= not isinstance(error, Exception)
            raise
        finally:
            self._own.turn = None
            self._leave(turn, begun_s, size, failed)

    def close(self) -> None:
        """Admit whoever waits, and everybody from now on."""
        with self._lock:
            self._closed = True
            self._admit()

    def _enter(self) -> None:
        with self._lock:
            if self._has_room() and not self._waiting:
                self._running += 1
                return
            ticket = threading.Event()
            self._waiting.append(ticket)
        try:
            ticket.wait()
        except BaseException:
            self._give_back(ticket)
            raise

    def _leave(self, turn: Turn, begun_s: float, size: int, failed: bool) -> None:
        now_s = self._clock.monotonic()
        with self._lock:
            running, self._running = self._running, self._running - 1
            if not turn.excused:
                self._limiter.note(now_s - begun_s, size, running, failed, now_s)
            self._admit()

    def _admit(self) -> None:
        """Wake those whose turn it is; they count as running from here on."""
        while self._waiting and self._has_room():
            self._running += 1
            self._waiting.popleft().set()

    def _give_back(self, ticket: threading.Event) -> None:
        """Undo the wait of a thread that was interrupted."""
        with self._lock:
            if ticket in self._waiting:
                self._waiting.remove(ticket)
            else:
                self._running -= 1
            self._admit()

    def _has_room(self) -> bool:
        return self._closed or self._limiter.admits(self._running)
