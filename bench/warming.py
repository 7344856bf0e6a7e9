"""When a Keycloak is warm: its CPU a user no longer changes from one portion of the warm-up to the next. No clock, no files."""

import statistics
from collections.abc import Sequence

PORTION = 1000
"""Users after which the warm-up looks at the CPU."""
WINDOW = 4
"""Portions whose median is compared with that of as many before."""
TOLERANCE = 0.05
"""Share by which both may differ."""
POSTS_FOR_EACH_BATCHED = 3
"""How many users come one by one for each that comes in batches; in the rounds of the benchmark they are three or four."""


def next_portion(users: int, cpu_ms: Sequence[float], least: int, most: int) -> int:
    """Return with how many users the warm-up goes on after `users`, 0 where it ends.

    `cpu_ms` is the CPU of Keycloak for a user, of each portion so far. It ends when that is steady, but not before `least`
    users, and at `most` in any case, unless that is fewer than `least`.
    """
    if users < least:
        return min(PORTION, least - users)
    return 0 if is_steady(cpu_ms) else max(0, min(PORTION, most - users))


def is_steady(cpu_ms: Sequence[float]) -> bool:
    """Tell whether the median of the last portions is that of the ones before, but for TOLERANCE."""
    if len(cpu_ms) < 2 * WINDOW:
        return False
    last = statistics.median(cpu_ms[-WINDOW:])
    before = statistics.median(cpu_ms[-2 * WINDOW : -WINDOW])
    return abs(last - before) <= TOLERANCE * before


def batch_due(posted: int, batched: int, least: int) -> int:
    """Return how many users are to come in batches now, after so many of both kinds; 0 where it is too early.

    That is twice in `least` users that come one by one, so that the portions after it show what it changes, and never fewer
    than PORTION, which are enough for the bridge to write batches.
    """
    due = posted // POSTS_FOR_EACH_BATCHED - batched
    return due if due >= max(PORTION, least // (2 * POSTS_FOR_EACH_BATCHED)) else 0
