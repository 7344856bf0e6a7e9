"""Samples of a run, seen from outside: users over time, the CPU of each process, and the steady rate that follows."""

import time
from bisect import bisect_left
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from bench.machine import usage

FROM, TO = 0.2, 0.8
"""The part of a run that counts: neither its start nor its end."""
_STEP_S = 0.2


class StandstillError(Exception):
    """A run did not go on; it counts for nothing."""


@dataclass(slots=True)
class Samples:
    """A run as it went: samples of the time, the users so far and the CPU of each process."""

    at_s: list[float] = field(default_factory=list)
    users: list[int] = field(default_factory=list)
    cpu_s: dict[str, list[float]] = field(default_factory=dict)
    peak_mb: float = 0.0

    def take(self, at_s: float, users: int, pids: Mapping[str, int]) -> None:
        """Add one sample."""
        self.at_s.append(at_s)
        self.users.append(users)
        for name, pid in pids.items():
            used = usage(pid)
            self.cpu_s.setdefault(name, []).append(used.cpu_s)
            if name == "contender":
                self.peak_mb = used.peak_mb


def follow(
    count: Callable[[], int], goal: int, pids: Mapping[str, int], *, patience_s: float = 120.0
) -> Samples:
    """Sample until `count()` reaches `goal`.

    Raises StandstillError when nothing is added for `patience_s`.
    """
    samples, begin = Samples(), time.perf_counter()
    moved = begin
    while True:
        users = count()
        now = time.perf_counter()
        if samples.users and users > samples.users[-1]:
            moved = now
        samples.take(now - begin, users, pids)
        if users >= goal:
            return samples
        if now - moved > patience_s:
            raise StandstillError(f"{users} of {goal}, and none more for {patience_s:.0f} s")
        time.sleep(_STEP_S)


def moment(at_s: Sequence[float], users: Sequence[int], wanted: float) -> float:
    """Return when `wanted` users were there, between two samples by the straight line through them."""
    at = bisect_left(users, wanted)
    if at == 0:
        return at_s[0]
    before, after = users[at - 1], users[at]
    share = (wanted - before) / (after - before)
    return at_s[at - 1] + share * (at_s[at] - at_s[at - 1])


def level(at_s: Sequence[float], values: Sequence[float], when_s: float) -> float:
    """Return a value at a moment between two samples."""
    at = bisect_left(at_s, when_s)
    if at == 0:
        return values[0]
    span_s = at_s[at] - at_s[at - 1]
    share = (when_s - at_s[at - 1]) / span_s if span_s else 1.0
    return values[at - 1] + share * (values[at] - values[at - 1])


def steady_rate(at_s: Sequence[float], users: Sequence[int], total: int) -> float:
    """Return the users a second between 20 and 80 percent of `total`."""
    begin, end = moment(at_s, users, FROM * total), moment(at_s, users, TO * total)
    return (TO - FROM) * total / (end - begin)


def cpu_ms_per_user(
    at_s: Sequence[float], users: Sequence[int], cpu_s: Sequence[float], total: int
) -> float:
    """Return the CPU of one process for each user, in milliseconds, over the same part of the run."""
    begin, end = moment(at_s, users, FROM * total), moment(at_s, users, TO * total)
    used_s = level(at_s, cpu_s, end) - level(at_s, cpu_s, begin)
    return 1000 * used_s / ((TO - FROM) * total)


def percentile(values: Sequence[float], share: float) -> float:
    """Return the value that this share of all does not exceed."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]
