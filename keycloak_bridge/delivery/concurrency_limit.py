"""Give Keycloak no more to write at once than it answers soon; the rest waits its turn.

This is the congestion control of TCP (RFC 5681: additive increase, multiplicative decrease) on users instead of bytes. An
overload is a write that is answered late, or not at all (503, 429, a time-out). Searches and mails are not measured, and
neither is a refusal: it may be the fault of one user.
"""

import threading
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager

from keycloak_bridge.domain.errors import KeycloakUnavailableError
from keycloak_bridge.domain.ports import Clock
from keycloak_bridge.threads.brief_lock import BriefLock

_SOON_S = 0.25
"""While answers come within this time, more is written at once; after twice as long, one is late."""

_LATE = 2.0
_CUT = 0.5
_BATCHES = 4
"""So many batches are under way at once before they grow: with fewer, Keycloak waits for the bridge in between."""


class ConcurrencyLimit:
    """How many users may be written at once, and how many of them in one call. Safe to share between threads.

    Calls begin in the order in which they asked. A Keycloak that answers late although it gets one small call after the
    other is not overloaded, but slow: the time of its answers is then the measure, until they come sooner again.
    """

    def __init__(
        self, clock: Clock, *, most: int, start: int, batch: tuple[int, int] = (1, 1)
    ) -> None:
        """`most` and `start` count users; `batch` says how many of them one call has, at least and at most."""
        self._least, self._largest = batch
        if not 1 <= self._least <= self._largest <= most or not self._least <= start <= most:
            raise ValueError("a limit needs 1 <= batch <= most, and a start between them")
        self._clock = clock
        self._most = most
        self._lock = BriefLock()
        self._limit = float(start)
        self._soon_s = _SOON_S
        self._cut_at_s = float("-inf")
        self._waiting: deque[tuple[int, threading.Event]] = deque()
        self.running = 0
        """How many users are being written now."""

    @property
    def users(self) -> int:
        """How many users may be written at once now."""
        return int(self._limit)

    @property
    def batch_size(self) -> int:
        """How many users the next call should have."""
        return min(self._largest, max(self._least, self.users // _BATCHES))

    def admits(self, size: int = 1) -> bool:
        """Say whether `size` more users may be written now; nothing is too large to be written alone."""
        return not self.running or self.running + size <= self.users

    @contextmanager
    def turn(self, size: int = 1) -> Iterator[None]:
        """Wait until `size` users may be written; the block is the call that writes them, and nothing else."""
        self._enter(size)
        begun_s = self._clock.monotonic()
        measured, failed = False, False
        try:
            yield
            measured = True
        except KeycloakUnavailableError as error:
            measured = failed = not error.may_be_one_users_fault
            raise
        finally:
            with self._lock:
                if measured:
                    self._note(begun_s, size, failed)
                self.running -= size
                self._admit()

    def _enter(self, size: int) -> None:
        with self._lock:
            if not self._waiting and self.admits(size):
                self.running += size
                return
            turn = threading.Event()
            self._waiting.append((size, turn))
        turn.wait()

    def _admit(self) -> None:
        """Wake those whose turn it is; they count as running from here on."""
        while self._waiting and self.admits(self._waiting[0][0]):
            size, turn = self._waiting.popleft()
            self.running += size
            turn.set()

    def _note(self, begun_s: float, size: int, failed: bool) -> None:
        """Take the end of a call for `size` users; one that began before the last cut says nothing new."""
        if begun_s < self._cut_at_s:
            return
        now_s = self._clock.monotonic()
        took_s = now_s - begun_s
        one_by_one = self._limit < 2 * self._least
        if failed or (took_s > _LATE * self._soon_s and not one_by_one):
            self._limit = max(self._least, _CUT * min(self._limit, self.running))
            self._cut_at_s = now_s
            return
        if took_s <= self._soon_s and not self.admits(size):  # all that may be written is
            self._limit = min(self._most, self._limit + size * size / self._limit)
        longest_s = took_s if one_by_one else min(self._soon_s, _LATE * took_s)
        self._soon_s = max(_SOON_S, longest_s)
