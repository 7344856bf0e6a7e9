"""Create users in batches, several batches at a time, and find the user at fault when a batch fails.

A batch is one transaction of Keycloak: one bad user fails it all. So a failed batch is halved until the bad user is alone;
that one is then written by itself. A batch has as many users as the server writes in about the intended time.
"""

import logging
import threading
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from http import HTTPStatus

from keycloak_bridge.delivery.concurrency_limit import ConcurrencyLimit
from keycloak_bridge.delivery.fencing import MayWrite, revoked_error
from keycloak_bridge.delivery.tracing import NO_TRACES, StageTracer
from keycloak_bridge.domain.errors import (
    BridgeError,
    KeycloakAuthError,
    KeycloakError,
)
from keycloak_bridge.domain.future import Future
from keycloak_bridge.domain.ports import Clock, UserImporter
from keycloak_bridge.domain.users import UserRepresentation
from keycloak_bridge.ops import tracing
from keycloak_bridge.ops.logs import internal_error, log_event
from keycloak_bridge.ops.metrics import Metrics
from keycloak_bridge.threads.brief_lock import BriefLock, condition

logger = logging.getLogger(__name__)

_LINGER_S = 0.02
"""How long the first user of a batch waits for others at most."""

_AHEAD = 2
"""So many batches may wait to be sent; a user in a batch takes ten times the memory of its record."""

_FILLING = 3
"""So many of the threads that wait are told when a batch was taken; one for each user would only wait for each other's turns.

Whoever is told submits a user, so that another batch will be taken, and others told.
"""

_MOST_FAILURES = 14
"""Two halves on each of seven levels: one bad user fails a batch no more often; more bad users are not worth the search."""


@dataclass(frozen=True, slots=True, eq=False)
class _Entry:
    """A user to be created, and the future of its Keycloak id."""

    user: UserRepresentation
    may_write: MayWrite
    created: Future[str | None] = field(default_factory=Future)
    span: tracing.Span = field(default_factory=tracing.current)


class BatchWriter:
    """Writes what is submitted through `threads` threads. Safe to share between threads."""

    def __init__(
        self,
        importer: UserImporter,
        limit: ConcurrencyLimit,
        clock: Clock,
        metrics: Metrics,
        threads: int,
        tracer: StageTracer = NO_TRACES,
    ) -> None:
        self._metrics = metrics
        self._tracer = tracer
        self._importer = importer
        self._limit = limit
        self._clock = clock
        lock = BriefLock()
        self._changed = condition(lock)
        self._has_room = condition(lock)
        self._queue: deque[tuple[float, _Entry]] = deque()
        self._closed = False
        self._broken = False  # closed by a fault: every user is written by itself
        self._wanted = threads
        self._starting = threading.Lock()
        self._started = False

    def submit(self, user: UserRepresentation, may_write: MayWrite) -> Future[str | None]:
        """Have `user` created with others; return the future of its Keycloak id, None where it must be written by itself.

        It ends in a thread of the writer, with a BridgeError where the batch failed or `may_write` says no. Waits while some
        batches are full and not sent yet.
        """
        entry = _Entry(user, may_write)
        if not self._has_threads():
            entry.created.set_result(None)
            return entry.created
        with self._changed:
            while not self._closed and len(self._queue) >= _AHEAD * self._limit.batch_size:
                self._has_room.wait()
            closed, broken = self._closed, self._broken
            if not closed:
                self._queue.append((self._clock.monotonic(), entry))
                if len(self._queue) == 1 or len(self._queue) >= self._limit.batch_size:
                    self._changed.notify()
        if closed:
            _end(entry, None if broken else revoked_error())
        return entry.created

    def close(self) -> None:
        """Begin no more batches; users that wait for one are not written."""
        self._end(broken=False)

    def _end(self, *, broken: bool) -> None:
        with self._changed:
            self._broken = broken and (self._broken or not self._closed)
            self._closed = True
            waiting = [entry for _, entry in self._queue]
            self._queue.clear()
            self._changed.notify_all()
            self._has_room.notify_all()
        _end_all(waiting, None if broken else revoked_error())

    def _has_threads(self) -> bool:
        """Say whether batches are written, after starting the threads at first; as many as the system lets begin will do."""
        return self._started or self._start_threads()

    def _start_threads(self) -> bool:
        with self._starting:
            if self._started:
                return True
            begun = 0
            try:
                for number in range(1, self._wanted + 1):
                    # a daemon: a call that hangs must not keep the process from ending
                    threading.Thread(target=self._work, name=f"batch-{number}", daemon=True).start()
                    begun = number
            except RuntimeError as error:
                log_event(
                    logger,
                    "batch-threads-missing",
                    level=logging.WARNING,
                    message=f"of {self._wanted} threads for batches, the system lets {begun} begin: allow the process more "
                    "(docker --pids-limit, ulimit -u)",
                    error=error,
                )
                if not begun:
                    return False
            self._started = True
            return True

    def _work(self) -> None:
        try:
            while self._write_next():
                pass
        except BaseException as error:  # noqa: BLE001 # users would wait for a batch for ever
            internal_error(logger, error, None, "provision")
            self._end(broken=True)

    def _write_next(self) -> bool:
        """Wait for a batch and write it; False when there will be none. A thread that waits keeps no user in memory."""
        batch = self._next()
        if not batch:
            return False
        self._write(batch)
        return True

    def _next(self) -> list[_Entry]:
        """Wait for a batch; empty when the writer is closed."""
        with self._changed:
            while not self._closed:
                size = self._limit.batch_size
                if self._queue:
                    left_s = self._queue[0][0] + _LINGER_S - self._clock.monotonic()
                    if len(self._queue) >= size or left_s <= 0:
                        return self._take(size)
                    self._changed.wait(left_s)
                else:
                    self._changed.wait()
            return []

    def _take(self, size: int) -> list[_Entry]:
        """Take users with different usernames and e-mail addresses; the others keep their place in the queue."""
        batch: list[_Entry] = []
        kept: list[tuple[float, _Entry]] = []
        names: set[str] = set()
        while self._queue and len(batch) < size:
            since_s, entry = self._queue.popleft()
            own = {entry.user.get("username", ""), entry.user.get("email", "")} - {""}
            if names.isdisjoint(own):
                names |= own
                batch.append(entry)
            else:
                kept.append((since_s, entry))
        self._queue.extendleft(reversed(kept))
        if self._queue:
            self._changed.notify()
        self._has_room.notify(_FILLING)
        return batch

    def _write(self, batch: Sequence[_Entry]) -> None:
        """Import the batch; while a part of it fails, import its halves."""
        failures = 0
        parts = [batch]
        while parts:
            part = parts.pop()
            if failures > _MOST_FAILURES:
                _end_all(part, None)
                continue
            try:
                ids = self._import(part)
            except KeycloakError as error:
                if error.may_be_one_users_fault and len(part) > 1:
                    failures += 1
                    half = len(part) // 2
                    parts += [part[half:], part[:half]]
                elif _is_decided_singly(error):
                    _end_all(part, None)
                else:
                    _end_all(part, error)
            except BridgeError as error:
                _end_all(part, error)
            except Exception as error:  # noqa: BLE001 # no other thread knows of these users
                _end_all(part, internal_error(logger, error, None, "provision"))
            else:
                for entry in part:
                    _end(entry, (ids[entry] or None) if entry in ids else revoked_error())

    def _import(self, batch: Sequence[_Entry]) -> Mapping[_Entry, str | None]:
        """Write those of the batch that may still be written, when it is its turn, and return their Keycloak ids.

        Raises PartitionRevokedError where none may be.
        """
        with self._limit.turn(len(batch)):
            mine = [entry for entry in batch if entry.may_write()]  # the turn may come late
            if not mine:
                raise revoked_error()
            began_s = self._clock.monotonic()
            span = self._tracer.batch([entry.span for entry in mine])
            try:
                with tracing.active(span):
                    ids = self._importer.import_users([entry.user for entry in mine])
            except BridgeError as error:
                self._metrics.batch(len(mine), failed=True)
                span.fail(error.code)
                raise
            finally:
                span.end()
        self._metrics.batch(len(mine), failed=False)
        log_event(
            logger,
            "batch-written",
            level=logging.DEBUG,
            count=len(mine),
            duration_ms=round((self._clock.monotonic() - began_s) * 1000, 1),
        )
        return dict(zip(mine, ids, strict=True))


def _is_decided_singly(error: KeycloakError) -> bool:
    """Say whether the users of the batch may well be created one by one."""
    if isinstance(error, KeycloakAuthError) and error.status == HTTPStatus.FORBIDDEN:
        return True  # a batch needs one role more than a single user
    return error.may_be_one_users_fault


def _end_all(part: Sequence[_Entry], outcome: BridgeError | None) -> None:
    for entry in part:
        _end(entry, outcome)


def _end(entry: _Entry, outcome: str | BridgeError | None) -> None:
    """Have a user be created with this Keycloak id, be written by itself where it is None, or fail.

    What hangs on its future raises nothing that is foreseen, and must keep no other user from its own end.
    """
    try:
        if isinstance(outcome, BridgeError):
            entry.created.set_exception(outcome)
        else:
            entry.created.set_result(outcome)
    except Exception as error:  # noqa: BLE001 # no other thread knows of the users after it
        internal_error(logger, error, None, "provision")
