"""Create users in batches, several at a time, and tell each of them apart when a batch fails.

A batch is one transaction of Keycloak: one bad user fails it all. So a failed batch is halved until the bad user stands
alone; what becomes of that one is decided the single way.

How many users go into one batch: as many as the server writes in about the time that a batch is to take.
"""

import logging
import threading
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum

from keycloak_bridge.delivery.concurrency_limit import ConcurrencyLimit
from keycloak_bridge.domain.errors import (
    BridgeError,
    InternalError,
    KeycloakAuthError,
    KeycloakConflictError,
    KeycloakNotFoundError,
    KeycloakRejectedError,
    KeycloakUnavailableError,
    PartitionRevokedError,
)
from keycloak_bridge.domain.ports import Clock, UserImporter
from keycloak_bridge.domain.users import UserRepresentation
from keycloak_bridge.ops.logs import log_event
from keycloak_bridge.ops.metrics import Metrics

_START = 20
_STEP = 2
_TOO_LONG = 2.0
"""A batch that takes this many times its target was too large."""


class BatchSize:
    """Grows by a few users while batches are quick, and is halved when one was slow or failed (AIMD).

    Safe to share between threads.
    """

    def __init__(
        self, least: int, most: int, start: int | None = None, *, target_s: float = 0.25
    ) -> None:
        """Begin at `start`, or at a score."""
        start = min(most, max(least, _START)) if start is None else start
        if not 1 <= least <= start <= most:
            raise ValueError("a batch size needs 1 <= least <= start <= most")
        self._least, self._most = least, most
        self._size = start
        self._target_s = target_s
        self._lock = threading.Lock()

    @property
    def size(self) -> int:
        """How many users the next batch may hold."""
        return self._size

    def note(self, latency_s: float, size: int, failed: bool) -> None:
        """Take the end of a batch of `size` users; one larger than the present size tells nothing new.

        `failed` says that the server could not answer, not that it refused.
        """
        with self._lock:
            if size > self._size:
                return  # it began before the size was halved
            if failed or latency_s > _TOO_LONG * self._target_s:
                self._size = max(self._least, self._size // 2)
            elif latency_s < self._target_s and size == self._size:
                self._size = min(self._most, self._size + _STEP)


logger = logging.getLogger(__name__)

_LINGER_S = 0.02
"""How long the first user of a batch waits for others at most."""

_MOST_FAILURES = 14
"""Two halves on each of seven levels: one bad user fails a batch no oftener; more of them are not worth the search."""


class Alone(Enum):
    """Not created by a batch; the single way decides."""

    ALONE = "alone"


Verdict = str | Alone | BridgeError
"""The Keycloak id of a user that was created, or why it was not."""


@dataclass(frozen=True, slots=True, eq=False)
class Entry:
    """A user to be created; `done` hears of it once, from a thread of the writer, and must not raise."""

    user: UserRepresentation
    may_write: Callable[[], bool]
    done: Callable[[Verdict], None]


@dataclass(slots=True)
class _Waiting:
    entry: Entry
    since_s: float


@dataclass(slots=True)
class _Trial:
    """How often parts of one batch have failed."""

    failures: int = field(default=0)


class BatchWriter:
    """Writes what is submitted through `threads` threads. Safe to share between threads."""

    def __init__(
        self,
        importer: UserImporter,
        gate: ConcurrencyLimit,
        size: BatchSize,
        clock: Clock,
        metrics: Metrics,
        threads: int,
    ) -> None:
        self._metrics = metrics
        self._importer = importer
        self._gate = gate
        self._size = size
        self._clock = clock
        self._changed = threading.Condition()
        self._queue: deque[_Waiting] = deque()
        self._closed = False
        self._started = False
        # daemons: a call that hangs must not keep the process from ending
        self._threads = [
            threading.Thread(target=self._work, name=f"batch-{number}", daemon=True)
            for number in range(1, threads + 1)
        ]

    def submit(self, entry: Entry) -> None:
        """Have `entry` written with others."""
        with self._changed:
            closed = self._closed
            if not closed:
                self._start()
                self._queue.append(_Waiting(entry, self._clock.monotonic()))
                if len(self._queue) == 1 or len(self._queue) >= self._size.size:
                    self._changed.notify()
        if closed:
            entry.done(_not_ours())

    def close(self) -> None:
        """Begin no batch any more; what waits is told that it is not written."""
        with self._changed:
            self._closed = True
            left = list(self._queue)
            self._queue.clear()
            self._changed.notify_all()
        for one in left:
            one.entry.done(_not_ours())

    def _start(self) -> None:
        if not self._started:
            self._started = True
            for thread in self._threads:
                thread.start()

    def _work(self) -> None:
        while batch := self._next():
            self._write(batch, _Trial())

    def _next(self) -> list[Entry]:
        """Wait for a batch; empty when the writer is closed."""
        with self._changed:
            while not self._closed:
                size = self._size.size
                if self._queue:
                    left_s = self._queue[0].since_s + _LINGER_S - self._clock.monotonic()
                    if len(self._queue) >= size or left_s <= 0:
                        return self._take(size)
                    self._changed.wait(left_s)
                else:
                    self._changed.wait()
            return []

    def _take(self, size: int) -> list[Entry]:
        """Take users of whom no two want the same username or e-mail address; the others keep their place."""
        batch: list[Entry] = []
        kept: list[_Waiting] = []
        names: set[str] = set()
        while self._queue and len(batch) < size:
            waiting = self._queue.popleft()
            own = {waiting.entry.user.get("username", ""), waiting.entry.user.get("email", "")}
            own.discard("")
            if names.isdisjoint(own):
                names |= own
                batch.append(waiting.entry)
            else:
                kept.append(waiting)
        self._queue.extendleft(reversed(kept))
        if self._queue:
            self._changed.notify()
        return batch

    def _write(self, batch: Sequence[Entry], trial: _Trial) -> None:
        if trial.failures > _MOST_FAILURES:
            _tell_all(batch, Alone.ALONE)
            return
        try:
            ids = self._import(batch)
        except BridgeError as error:
            self._failed(batch, error, trial)
            return
        except Exception as error:  # noqa: BLE001 # nobody else would ever hear of these users
            log_event(logger, "internal-error", level=logging.ERROR, error=error)
            name = type(error).__name__
            _tell_all(batch, InternalError(f"the bridge failed on this batch ({name})"))
            return
        for entry in batch:
            entry.done((ids[entry] or Alone.ALONE) if entry in ids else _not_ours())

    def _import(self, batch: Sequence[Entry]) -> Mapping[Entry, str | None]:
        """Write what may be written of the batch when it is its turn, and return that.

        A failure that may be one user's fault tells nothing of Keycloak's load.
        """
        with self._gate.slot(len(batch)) as turn:
            mine = [entry for entry in batch if entry.may_write()]  # a turn may be long in coming
            if not mine:
                turn.excuse()
                return {}
            began_s = self._clock.monotonic()
            try:
                ids = self._importer.import_users([entry.user for entry in mine])
            except BridgeError as error:
                self._metrics.batch(len(mine), failed=True)
                if _may_be_one_users_fault(error):
                    turn.excuse()
                else:
                    self._note(began_s, len(mine), failed=True)
                raise
            self._note(began_s, len(mine), failed=False)
        self._metrics.batch(len(mine), failed=False)
        log_event(
            logger,
            "batch-written",
            level=logging.DEBUG,
            count=len(mine),
            duration_ms=round((self._clock.monotonic() - began_s) * 1000, 1),
        )
        return dict(zip(mine, ids, strict=True))

    def _note(self, began_s: float, size: int, *, failed: bool) -> None:
        took_s = self._clock.monotonic() - began_s
        with self._changed:
            self._size.note(took_s, size, failed)

    def _failed(self, batch: Sequence[Entry], error: BridgeError, trial: _Trial) -> None:
        if isinstance(error, KeycloakAuthError) and error.status == 403:
            _tell_all(batch, Alone.ALONE)  # a batch takes a role more than a single user
        elif not _may_be_one_users_fault(error):
            _tell_all(batch, error)
        elif len(batch) == 1:
            batch[0].done(Alone.ALONE)
        else:
            trial.failures += 1
            half = len(batch) // 2
            self._write(batch[:half], trial)
            self._write(batch[half:], trial)


def _may_be_one_users_fault(error: BridgeError) -> bool:
    """Say whether one user of the batch may have failed it: Keycloak says most of that by a bare 500."""
    if isinstance(error, KeycloakUnavailableError):
        return error.status == 500
    return isinstance(error, KeycloakConflictError | KeycloakNotFoundError | KeycloakRejectedError)


def _tell_all(batch: Sequence[Entry], verdict: Verdict) -> None:
    for entry in batch:
        entry.done(verdict)


def _not_ours() -> PartitionRevokedError:
    return PartitionRevokedError(
        "the record may be another member's by now, so nothing is written for it"
    )
