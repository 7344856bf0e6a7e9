"""Decide how long to wait before the next attempt."""

from dataclasses import dataclass


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
