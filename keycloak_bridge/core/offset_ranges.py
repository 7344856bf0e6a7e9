"""Sets of offsets as few ranges."""

from collections.abc import Iterable


def tidy(ranges: Iterable[range], low: int | None = None) -> tuple[range, ...]:
    """Return the same offsets from `low` on as ascending ranges of which no two touch; a range's step must be 1."""
    tidied: list[range] = []
    for one in sorted(ranges, key=lambda each: each.start):
        start = one.start if low is None else max(one.start, low)
        if start >= one.stop:
            continue
        if tidied and start <= tidied[-1].stop:
            tidied[-1] = range(tidied[-1].start, max(tidied[-1].stop, one.stop))
        else:
            tidied.append(range(start, one.stop))
    return tuple(tidied)
