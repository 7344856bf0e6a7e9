"""Tell an outage from a bad record: what a failure means for its record and for all others."""

from collections import Counter, deque
from enum import StrEnum
from functools import reduce
from operator import or_

from keycloak_bridge.delivery.key_queues import Task
from keycloak_bridge.delivery.retry import RetryPolicy, Tally, delay_s
from keycloak_bridge.domain.errors import (
    BridgeError,
    Dependency,
    Disposition,
    HoldError,
    InternalError,
    KeycloakAuthError,
    KeycloakError,
)


class BreakerState(StrEnum):
    """Closed lets everything through, open nothing, half-open one record at a time."""

    CLOSED = "closed"
    OPEN = "open"
    HALF_OPEN = "half-open"


class Breaker:
    """Opens when nothing works any more, whichever record is tried; then lets single records probe until it does.

    Every record that was admitted must be reported by one of `failed`, `succeeded` and `neutral`. A straggler, admitted
    before the breaker opened and reported while it is half-open, is taken for the probe.
    """

    def __init__(self, policy: RetryPolicy, threshold: int = 5, window: int = 20) -> None:
        self._policy = policy
        self._threshold = threshold
        self._outcomes: deque[bool] = deque(maxlen=window)
        # failures in a row by what they need, until a success proves that it works
        self._row: Counter[Dependency] = Counter()
        self._failed_probes = 0
        self._probing = False
        self.state = BreakerState.CLOSED
        """Whether records flow."""
        self.probe_at_s: float | None = None
        """When the next probe may start; None unless open."""
        self.needs = Dependency.NONE
        """What a success must prove to close it; NONE (any success will do) also while closed."""

    def admits(self, now_s: float) -> bool:
        """Say whether a record may start now; True unless closed means that this record is the probe."""
        match self.state:
            case BreakerState.CLOSED:
                return True
            case BreakerState.OPEN if self.probe_at_s is not None and now_s < self.probe_at_s:
                return False
            case BreakerState.HALF_OPEN if self._probing:
                return False
        self.state = BreakerState.HALF_OPEN
        self.probe_at_s = None
        self._probing = True
        return True

    def failed(
        self,
        needs: Dependency,
        now_s: float,
        jitter: float,
        *,
        at_once: bool = False,
        retry_after_s: float | None = None,
    ) -> bool:
        """Report a failure that needs `needs` to work again; True when it opened the closed breaker.

        `at_once` says that one such failure is enough, as does a server's Retry-After.
        """
        match self.state:
            case BreakerState.CLOSED:
                self._row[needs] += 1
                self._outcomes.append(False)
                if not (at_once or retry_after_s is not None or self._is_outage()):
                    return False
                self.needs = reduce(or_, self._row)
                self._open(now_s, jitter, retry_after_s)
                return True
            case BreakerState.HALF_OPEN:
                self._failed_probes += 1
                self.needs |= needs
                self._open(now_s, jitter, retry_after_s)
        return False  # a straggler says nothing new about an open breaker

    def succeeded(self, dependency: Dependency) -> bool:
        """Report a success; True when it closed the breaker."""
        if self.state is BreakerState.CLOSED:
            self._outcomes.append(True)
            for needs in [needs for needs in self._row if needs in dependency]:
                del self._row[needs]
            return False
        if self.needs not in dependency:
            self.neutral()
            return False
        self._close()
        return True

    def neutral(self) -> None:
        """Report a record that proved nothing (an invalid event, one that was dropped); the next may probe at once."""
        self._probing = False

    def _is_outage(self) -> bool:
        if self._row.total() >= self._threshold:
            return True
        window = len(self._outcomes)
        return window == self._outcomes.maxlen and self._outcomes.count(False) * 2 >= window

    def _open(self, now_s: float, jitter: float, retry_after_s: float | None) -> None:
        pause_s = delay_s(self._policy, self._failed_probes + 1, jitter, retry_after_s)
        self.state = BreakerState.OPEN
        self.probe_at_s = now_s + pause_s
        self._probing = False

    def _close(self) -> None:
        self.state = BreakerState.CLOSED
        self.probe_at_s = None
        self._probing = False
        self._failed_probes = 0
        self.needs = Dependency.NONE
        self._row.clear()
        self._outcomes.clear()


_AGAIN_S = 0.5
"""Pause before a record is tried again that could not be written because the lease had expired."""


class FailurePolicy:
    """Decides what a failure means for its record and for all others of the stage: attempts, back-off and breaker."""

    def __init__(self, retry: RetryPolicy, max_attempts: int) -> None:
        self._retry = retry
        self._max_attempts = max_attempts
        self.breaker = Breaker(retry)
        self._tally = Tally()
        self._last: BridgeError | None = None

    @property
    def problem(self) -> BridgeError | None:
        """What opened the breaker; None while it is closed."""
        return None if self.breaker.state is BreakerState.CLOSED else self._last

    def worked(self, dependency: Dependency) -> None:
        """Note a record that was done, and what that proves."""
        self._tally.succeeded(dependency)
        if dependency:
            self.breaker.succeeded(dependency)
        else:
            self.breaker.neutral()

    def gives_up(self, task: Task, error: BridgeError) -> bool:
        """Count this failure where others succeed meanwhile, and say whether the record has reached its limit.

        A fault of the bridge itself always counts: no outage explains it. What is no failure (the record must wait, is
        another member's, the flow must stop) never gives a record up, however often it failed before.
        """
        if error.disposition is not Disposition.RETRY:
            return False
        if isinstance(error, InternalError) or self._tally.counts(task.seen, error.dependency):
            task.attempts += 1
        return task.attempts >= self._max_attempts

    def failed(self, task: Task, error: BridgeError, now_s: float, jitter: float) -> float | None:
        """Note why the record was not done; return the second to take it up again, None where the flow must stop."""
        if error.disposition is Disposition.RETRY:
            return self._failed(task, error, now_s, jitter)
        self.breaker.neutral()
        if isinstance(error, HoldError):
            return now_s + error.wait_s
        return now_s + _AGAIN_S if error.disposition is Disposition.ABANDON else None

    def _failed(self, task: Task, error: BridgeError, now_s: float, jitter: float) -> float:
        needs = error.dependency
        retry_after_s = error.retry_after_s if isinstance(error, KeycloakError) else None
        if not task.failures:
            # a record that fails again and again says nothing new about all others
            self._tally.failed(needs)
        task.seen = self._tally.snapshot()
        task.failures += 1
        if needs and not task.attempts:
            self._last = error
            self.breaker.failed(
                needs,
                now_s,
                jitter,
                at_once=isinstance(error, KeycloakAuthError),
                retry_after_s=retry_after_s,
            )
        else:
            # a fault of the bridge, or a record that fails alone, says nothing about an outage
            self.breaker.neutral()
        return now_s + delay_s(self._retry, task.failures, jitter, retry_after_s)
