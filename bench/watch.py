"""Follow a run from outside: how many users are there at which moment, and what it costs whom."""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from bench.machine import usage

_STEP_S = 0.2


class StandstillError(Exception):
    """A run did not go on; it counts for nothing."""


@dataclass(slots=True)
class Course:
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
) -> Course:
    """Sample until `count()` reaches `goal`.

    Raises StandstillError when nothing is added for `patience_s`.
    """
    course, begin = Course(), time.perf_counter()
    moved = begin
    while True:
        users = count()
        now = time.perf_counter()
        if course.users and users > course.users[-1]:
            moved = now
        course.take(now - begin, users, pids)
        if users >= goal:
            return course
        if now - moved > patience_s:
            raise StandstillError(f"{users} of {goal}, and none more for {patience_s:.0f} s")
        time.sleep(_STEP_S)


def watch(count: Callable[[], int], time_s: float, pids: Mapping[str, int]) -> Course:
    """Sample for that long, however far it gets."""
    course, begin = Course(), time.perf_counter()
    while (at_s := time.perf_counter() - begin) < time_s:
        course.take(at_s, count(), pids)
        time.sleep(_STEP_S)
    return course
