"""The plot of the last hours: for each series a row of bars, as numbers for an inline SVG, and the sentence that it says."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from keycloak_bridge.ui.recent import BUCKET, BUCKETS, SERIES, Bucket

HEIGHT = 40
_LEAST_HEIGHT = 1.5


@dataclass(frozen=True, slots=True)
class Bar:
    """One bar, in a picture of BUCKETS by HEIGHT units."""

    x: int
    y: float
    height: float


@dataclass(frozen=True, slots=True)
class Row:
    """One series: its bars, and what they say in words."""

    name: str
    total: int
    highest: int
    bars: tuple[Bar, ...]
    words: str


@dataclass(frozen=True, slots=True)
class Plot:
    """All series over the same time; `buckets` has the counts of those spans in which anything happened, the newest first."""

    rows: tuple[Row, ...]
    start: datetime
    end: datetime
    buckets: tuple[Bucket, ...]
    width: int = BUCKETS
    height: int = HEIGHT


def plot_of(buckets: Sequence[Bucket]) -> Plot:
    """Return the plot of `buckets`, which are in order and not empty."""
    rows = tuple(
        _row(name, [(one.start, one.counts[at]) for one in buckets])
        for at, name in enumerate(SERIES)
    )
    busy = tuple(one for one in reversed(buckets) if any(one.counts))
    return Plot(rows, buckets[0].start, buckets[-1].start + BUCKET, busy)


def _row(name: str, counts: Sequence[tuple[datetime, int]]) -> Row:
    total = sum(count for _, count in counts)
    peak, highest = max(counts, key=lambda one: one[1])
    bars = tuple(
        _bar(x, count / highest) for x, (_, count) in enumerate(counts) if count and highest
    )
    words = f"{total} {name} in the time shown"
    if total:
        words += f", at most {highest} in {BUCKET.seconds // 60} minutes, from {peak:%H:%M} UTC on"
    return Row(name, total, highest, bars, words)


def _bar(x: int, share: float) -> Bar:
    height = round(max(share * HEIGHT, _LEAST_HEIGHT), 2)
    return Bar(x, round(HEIGHT - height, 2), height)
