"""Tell an outage from a bad record: how long a failed record waits, which failures count, when nothing more is tried."""

from collections import Counter, deque
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from functools import reduce
from operator import or_

from keycloak_bridge.domain.errors import (
    Dependency,
)


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """Exponential backoff between `initial_s` and `max_s` seconds, without a last attempt."""

    initial_s: float = 0.2
    max_s: float = 30.0


def delay_s(
    policy: RetryPolicy, attempt: int, jitter: float, retry_after_s: float | None = None
) -> float:
    """Return seconds to wait after failed attempt number `attempt` (from 1).

    `jitter` in [0, 1) spreads the waiting over the whole interval (full jitter), so that many bridges do not come back
    at once; a server's Retry-After is a lower bound, itself bounded by ten times `max_s`.
    """
    exponent = min(attempt - 1, 32)  # beyond this the ceiling holds anyway, and floats stay finite
    ceiling: float = min(policy.max_s, policy.initial_s * 2.0**exponent)
    spread = max(policy.initial_s, ceiling * jitter)
    if retry_after_s is None:
        return min(spread, policy.max_s)
    return max(spread, min(retry_after_s, policy.max_s * 10))


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
    ) -> None:
        """Report a failure that needs `needs` to work again; one of a straggler says nothing new about an open breaker.

        `at_once` says that one such failure is enough, as does a server's Retry-After.
        """
        match self.state:
            case BreakerState.CLOSED:
                self._row[needs] += 1
                self._outcomes.append(False)
                if at_once or retry_after_s is not None or self._is_outage():
                    self.needs = reduce(or_, self._row)
                    self._open(now_s, jitter, retry_after_s)
            case BreakerState.HALF_OPEN:
                self._failed_probes += 1
                self.needs |= needs
                self._open(now_s, jitter, retry_after_s)

    def succeeded(self, dependency: Dependency) -> None:
        """Report a success, which closes the breaker where it proves what that needs."""
        if self.state is BreakerState.CLOSED:
            self._outcomes.append(True)
            for needs in [needs for needs in self._row if needs in dependency]:
                del self._row[needs]
        elif self.needs in dependency:
            self._close()
        else:
            self.neutral()

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


_SUCCESSES_PER_FAILURE = 4


@dataclass(frozen=True, slots=True)
class Snapshot:
    """What had worked and failed up to some moment; never changes afterwards."""

    successes: Mapping[Dependency, int]
    failures: Mapping[Dependency, int]


class Tally:
    """Counts which records worked and which began to fail, so that a bad one can be told from an outage.

    When a record fails, ask `counts` first, then call `failed`, then keep a `snapshot` for its next failure. In this
    order a record's own failures lie before its snapshot and are never taken for those of others.
    """

    def __init__(self) -> None:
        self._successes: Counter[Dependency] = Counter()
        self._failures: Counter[Dependency] = Counter()

    def succeeded(self, dependency: Dependency) -> None:
        """Count a record that ended and proved that `dependency` works."""
        self._successes[dependency] += 1

    def failed(self, needs: Dependency) -> None:
        """Count a record that begins to fail because `needs` does not work."""
        self._failures[needs] += 1

    def snapshot(self) -> Snapshot:
        """Return what was counted so far."""
        return Snapshot(dict(self._successes), dict(self._failures))

    def counts(self, since: Snapshot | None, needs: Dependency) -> bool:
        """Say whether a failure that needs `needs` is the record's own fault, as far as others show.

        `since` is the snapshot of the record's last failure. A first failure (None) never counts, since nothing was
        seen yet; a later one counts when meanwhile others proved `needs` more than four times as often as they began to
        fail for it. So an outage of half a cluster counts for no record, and a few per cent of random failures do not
        outweigh the successes around them.
        """
        if since is None:
            return False
        proven = _proving(self._successes, needs) - _proving(since.successes, needs)
        failed = self._failures[needs] - since.failures.get(needs, 0)
        return proven >= 1 + _SUCCESSES_PER_FAILURE * failed


def _proving(successes: Mapping[Dependency, int], needs: Dependency) -> int:
    return sum(count for dependency, count in successes.items() if needs in dependency)
