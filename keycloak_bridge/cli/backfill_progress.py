"""How far a backfill is: a bar on a terminal, a line now and then elsewhere."""

import contextlib
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from rich.console import Console as RichConsole
from rich.progress import BarColumn, Progress, TaskID, TextColumn

_LINE_EVERY_S = 10.0
_BAR_EVERY_S = 0.2
_RATE_WINDOW_S = 10.0


@dataclass(frozen=True, slots=True)
class Standing:
    """How much is done: lines done, lines read, which part of the files was read, and how many rejects there are."""

    done: int
    read: int
    share_read: float | None
    rejected: int


@dataclass(slots=True)
class Pace:
    """The rate of the last seconds, and when all will be done at that rate."""

    _seen: list[tuple[float, int]] = field(default_factory=list)

    def note(self, now_s: float, done: int) -> None:
        """Take in how much is done now."""
        self._seen.append((now_s, done))
        while len(self._seen) > 2 and self._seen[1][0] <= now_s - _RATE_WINDOW_S:
            self._seen.pop(0)

    @property
    def per_s(self) -> float:
        """Lines a second."""
        (from_s, first), (to_s, last) = self._seen[0], self._seen[-1]
        return (last - first) / (to_s - from_s) if to_s > from_s else 0.0

    def left_s(self, standing: Standing) -> float | None:
        """Return how many seconds it will take, None where nobody knows."""
        total = expected(standing)
        if total is None or not self.per_s:
            return None
        return max(0.0, total - standing.done) / self.per_s


def expected(standing: Standing) -> int | None:
    """Return how many lines there will be, from what the lines read until now took of the files."""
    if not standing.share_read or not standing.read:
        return None
    return max(standing.done, round(standing.read / standing.share_read))


def sentence(standing: Standing, pace: Pace) -> str:
    """Return the line that tells how far it is."""
    total, left_s = expected(standing), pace.left_s(standing)
    parts = [f"{standing.done}{f' of about {total}' if total else ''} done"]
    parts.append(f"{pace.per_s:.0f}/s")
    if left_s is not None:
        parts.append(f"{span(left_s)} left")
    if standing.rejected:
        parts.append(f"{standing.rejected} rejected")
    return ", ".join(parts)


def span(seconds: float) -> str:
    """Return a duration for people."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return (
        f"{hours} h {minutes} min"
        if hours
        else f"{minutes} min {rest} s"
        if minutes
        else f"{rest} s"
    )


@contextlib.contextmanager
def shown(
    standing: Callable[[], Standing],
    *,
    quiet: bool,
    now: Callable[[], float] = time.monotonic,
) -> Iterator[Callable[[], None]]:
    """Lend a function to be called often, which shows on standard error how far it is; nothing when `quiet`."""
    if quiet:
        yield lambda: None
        return
    pace = Pace()
    pace.note(now(), standing().done)
    if not sys.stderr.isatty():
        yield _every(_LINE_EVERY_S, now, lambda: _print(standing(), pace, now))
        return
    columns = (TextColumn("{task.description}"), BarColumn())
    with Progress(*columns, console=RichConsole(stderr=True), transient=True) as bar:
        task = bar.add_task("", total=None)
        yield _every(_BAR_EVERY_S, now, lambda: _draw(bar, task, standing(), pace, now))


def _every(
    every_s: float, now: Callable[[], float], show: Callable[[], None]
) -> Callable[[], None]:
    shown_at_s = now()

    def tick() -> None:
        nonlocal shown_at_s
        if now() - shown_at_s >= every_s:
            shown_at_s = now()
            show()

    return tick


def _print(standing: Standing, pace: Pace, now: Callable[[], float]) -> None:
    pace.note(now(), standing.done)
    sys.stderr.write(f"backfill: {sentence(standing, pace)}\n")
    sys.stderr.flush()


def _draw(
    bar: Progress, task: TaskID, standing: Standing, pace: Pace, now: Callable[[], float]
) -> None:
    pace.note(now(), standing.done)
    bar.update(
        task,
        description=sentence(standing, pace),
        completed=standing.done,
        total=expected(standing),
    )
