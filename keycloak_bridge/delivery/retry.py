"""How long a failed record waits for its next attempt, and which of its failures count towards its limit."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass

from keycloak_bridge.domain.errors import Dependency


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
