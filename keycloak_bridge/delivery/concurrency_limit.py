"""Let no more calls run at once than the server can take; the others wait their turn.

More calls run while answers stay as quick as on an unloaded server, fewer when they queue. This is the congestion control of TCP on requests instead of packets: additive increase and multiplicative decrease (RFC 5681),
led by how long an answer takes compared with an unloaded server, as in TCP Vegas, so that the queue stays short before
anything fails.
"""

import math
import threading
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from statistics import median

from keycloak_bridge.domain.errors import KeycloakUnavailableError
from keycloak_bridge.domain.ports import Clock

_TOLERANCE = 2.0
"""An answer that takes this many times the unloaded one has waited in a queue for half of the time."""

_GROW_BELOW = 0.85
"""Below this part of the tolerance one more is tried."""

_SHORTEST_S = 1e-6
_START = 4
_HALVED = 0.5
_LEAST_CUT = 0.9
_WINDOW_LEAST = 8
"""Fewest answers in a window; a median of fewer says little."""

_CREDIT = 0.4
"""How much a quicker window lowers what counts as unloaded; with all of it, the luckiest one would decide."""

_NO_LOSS = 0.9
"""A probe that keeps this part of the throughput shows that all above it only queued."""

_FIRST_PROBE_SHARE = 8
"""The first look at a less loaded server comes after this part of `forget_s`; what was seen at the start may be cold."""

_PROBE_LIMIT = 4
"""A probe that sees too little ends after so many times the answer's usual duration."""


class AdaptiveLimit:
    """An adaptive limit on what runs at once. Not safe to share between threads: see ConcurrencyLimit.

    Batches take longer than single users, so that durations are compared per user and only with calls of about the same
    size. What an unloaded server takes is the least median of a window. It is measured again every `forget_s` seconds with
    half as many at once, so that a server that really got slower counts as slow for no longer than that.
    """

    def __init__(
        self, least: int, most: int, start: int | None = None, *, forget_s: float = 30.0
    ) -> None:
        """Begin at `start`, or at a few."""
        start = min(most, max(least, _START)) if start is None else start
        if not 1 <= least <= start <= most:
            raise ValueError("a limit needs 1 <= least <= start <= most")
        self._least, self._most = least, most
        self._limit = float(start)
        self._forget_s = forget_s
        self._unloaded_s: dict[int, float] = {}
        self._usual_s: dict[int, float] = {}
        self._window = _Window(-math.inf)
        self._cut_s = -math.inf
        self._probe: _Probe | None = None
        self._next_probe_s: float | None = None
        self._probe_pause_s = forget_s / _FIRST_PROBE_SHARE

    @property
    def limit(self) -> int:
        """How many may run at once now."""
        return self._settled if self._probe is None else self._probe.limit

    def admits(self, running: int) -> bool:
        """Say whether one more may begin while `running` do."""
        return running < self.limit

    def note(self, latency_s: float, size: int, running: int, failed: bool, now_s: float) -> None:
        """Take the end of a call for `size` users, `running` at that moment with itself among them.

        `failed` says that the server could not answer (5xx, time-out), not that it refused.
        """
        if self._next_probe_s is None:
            self._next_probe_s = now_s + self._probe_pause_s
        begun_s = now_s - latency_s
        if failed:
            self._failed(begun_s, now_s)
            return
        call = (_size_class(size), max(latency_s, _SHORTEST_S) / max(size, 1))
        if self._probe is not None:
            self._probe.note(call, begun_s, running, now_s)
            if self._probe.is_over(now_s):
                self._end_probe(self._probe, now_s)
            return
        self._window.note(call, begun_s, running)
        if self._window.is_full(self._limit):
            self._judge(self._window, now_s)
        if now_s >= self._next_probe_s and self._settled > self._least:
            self._probe = _Probe(max(self._least, self._settled // 2), now_s)

    @property
    def _settled(self) -> int:
        return int(self._limit)

    def _failed(self, begun_s: float, now_s: float) -> None:
        """Halve once for all that had begun before the cut."""
        self._probe = None
        if begun_s >= self._cut_s:
            self._set(self._limit * _HALVED)
            self._cut_s = now_s
        self._window = _Window(now_s)

    def _judge(self, window: "_Window", now_s: float) -> None:
        medians = window.medians()
        slowest = max(
            seconds / self._unloaded_s.get(kind, seconds) for kind, seconds in medians.items()
        )
        if slowest > _TOLERANCE and self._settled <= self._least:
            self._unloaded_s.update(medians)  # it cannot be less loaded: this is its speed now
        for kind, seconds in medians.items():
            known_s = self._unloaded_s.setdefault(kind, seconds)
            self._unloaded_s[kind] = known_s + _CREDIT * min(0.0, seconds - known_s)
        self._usual_s = medians
        if slowest > _TOLERANCE:
            cut = min(_LEAST_CUT, max(_HALVED, _TOLERANCE / slowest))
            self._set(self._limit * cut)
            self._cut_s = now_s
        elif slowest <= _TOLERANCE * _GROW_BELOW and window.peak >= self._settled:
            self._set(self._limit + 1)
        self._window = _Window(now_s)

    def _end_probe(self, probe: "_Probe", now_s: float) -> None:
        """Believe what a less loaded server took, be it more or less than before; keep its load if nothing is lost."""
        seen = probe.medians()
        self._unloaded_s.update(seen)
        self._probe = None
        gain = min(
            (self._usual_s.get(kind, 0.0) / took for kind, took in seen.items()), default=0.0
        )
        if gain * probe.limit >= _NO_LOSS * self._limit:
            self._set(probe.limit)
            self._usual_s = seen
            self._next_probe_s = now_s
        else:
            self._probe_pause_s = min(2 * self._probe_pause_s, self._forget_s)
            self._next_probe_s = now_s + self._probe_pause_s
        self._window = _Window(now_s)

    def _set(self, limit: float) -> None:
        self._limit = min(float(self._most), max(float(self._least), limit))


_Call = tuple[int, float]
"""The class of its size, and the seconds that one user took."""


class _Window:
    """The calls that began since the last decision."""

    def __init__(self, begun_s: float) -> None:
        self._begun_s = begun_s
        self._took_s: dict[int, list[float]] = {}
        self._count = 0
        self.peak = 0

    def note(self, call: _Call, begun_s: float, running: int) -> None:
        """Take one, unless it began earlier."""
        self.peak = max(self.peak, running)
        if begun_s >= self._begun_s:
            kind, seconds = call
            self._took_s.setdefault(kind, []).append(seconds)
            self._count += 1

    def is_full(self, limit: float) -> bool:
        """Say whether as many ended as may run at once."""
        return self._count >= max(_WINDOW_LEAST, limit)

    def medians(self) -> dict[int, float]:
        """Return the usual seconds for each class that has enough to tell, or for all where none has."""
        counted = {k: median(took) for k, took in self._took_s.items() if len(took) > 1}
        return counted or {k: median(took) for k, took in self._took_s.items()}


class _Probe:
    """A while with fewer calls at once, to see what the server takes then."""

    def __init__(self, limit: int, begun_s: float) -> None:
        self.limit = limit
        self._begun_s = begun_s
        self._window: _Window | None = None
        self._usual_s = 0.0

    def note(self, call: _Call, begun_s: float, running: int, now_s: float) -> None:
        """Take one; those count that began once no more than the probe's limit ran."""
        self._usual_s = max(self._usual_s, now_s - begun_s)
        if self._window is not None:
            self._window.note(call, begun_s, running)
        elif running <= self.limit:
            self._window = _Window(now_s)

    def is_over(self, now_s: float) -> bool:
        """Say whether enough was seen, or enough time went by."""
        enough = self._window is not None and self._window.is_full(self.limit)
        return enough or now_s - self._begun_s > _PROBE_LIMIT * self._usual_s

    def medians(self) -> dict[int, float]:
        """Return what was seen of each class; nothing where it was too little."""
        return {} if self._window is None else self._window.medians()


def _size_class(size: int) -> int:
    """Put sizes together that differ by less than a factor of two."""
    return max(size, 1).bit_length()


class Turn:
    """One admitted call."""

    def __init__(self) -> None:
        self.excused = False

    def excuse(self) -> None:
        """Have this call's end say nothing about the server: it failed for a reason of its own."""
        self.excused = True


class ConcurrencyLimit:
    """Admits calls in the order in which they asked, as many at once as the limiter says. Safe to share between threads.

    A call within another one of the same thread needs no turn of its own. Once closed it admits all calls at once, so
    that no thread is left waiting when the bridge ends.
    """

    def __init__(self, limiter: AdaptiveLimit, clock: Clock) -> None:
        self._limiter = limiter
        self._clock = clock
        self._lock = threading.Lock()
        self.running = 0
        """How many calls run now."""
        self._waiting: deque[threading.Event] = deque()
        self._closed = False
        self._own = threading.local()

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
        """Admit all calls that wait, and all later ones."""
        with self._lock:
            self._closed = True
            self._admit()

    def _enter(self) -> None:
        with self._lock:
            if self._may_enter() and not self._waiting:
                self.running += 1
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
            running, self.running = self.running, self.running - 1
            if not turn.excused:
                self._limiter.note(now_s - begun_s, size, running, failed, now_s)
            self._admit()

    def _admit(self) -> None:
        """Wake those whose turn it is; they count as running from here on."""
        while self._waiting and self._may_enter():
            self.running += 1
            self._waiting.popleft().set()

    def _give_back(self, ticket: threading.Event) -> None:
        """Undo the wait of a thread that was interrupted."""
        with self._lock:
            if ticket in self._waiting:
                self._waiting.remove(ticket)
            else:
                self.running -= 1
            self._admit()

    def _may_enter(self) -> bool:
        return self._closed or self._limiter.admits(self.running)
