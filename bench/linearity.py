"""From runs of one, two and more sidecars to a table: rates, how nearly linear they grow, and who used the CPU.

No clock, no files, no sockets.
"""

import json
import statistics
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from bench.rates import FROM, TO, level, moment

_HEAD = (
    "| workers each | sidecars | events/s | of N × one | CPU: each sidecar | Kafka | stub | all "
    "| one call |\n|---:|---:|---:|---:|---:|---:|---:|---:|---:|\n"
)


@dataclass(frozen=True, slots=True)
class Run:
    """One run: so many sidecars with so many workers, its steady rate, and cores that each process used meanwhile.

    `call_ms` is the median time that one call took a client beside the sidecars; on cores that are not full it is little
    more than the stub's delay.
    """

    round: int
    workers: int
    sidecars: int
    rate: float
    cores: Mapping[str, float]
    call_ms: float
    problem: str | None = None


def cores_used(
    at_s: Sequence[float], done: Sequence[int], cpu_s: Sequence[float], total: int
) -> float:
    """Return how many cores one process used while the rate was steady; 1.0 is one core all the time."""
    begin, end = moment(at_s, done, FROM * total), moment(at_s, done, TO * total)
    return (level(at_s, cpu_s, end) - level(at_s, cpu_s, begin)) / (end - begin)


def ratios(runs: Sequence[Run], workers: int, sidecars: int) -> list[float]:
    """Return rate(N) / (N × rate(1)), each within a round."""
    alone = {one.round: one.rate for one in _good(runs, workers, 1)}
    return [
        one.rate / (sidecars * alone[one.round])
        for one in _good(runs, workers, sidecars)
        if one.round in alone
    ]


def doubt(values: Iterable[bytes], expected: int) -> str | None:
    """Return what is wrong with the results of `expected` events of as many users, None when each has exactly one."""
    told = [json.loads(value)["data"] for value in values]
    if len(told) != expected:
        return f"{len(told)} results of {expected} events"
    for name in ("eventId", "userId", "keycloakId"):
        distinct = len({one.get(name) for one in told})
        if distinct != expected:
            return f"{distinct} different {name} in {expected} results"
    others = sum(one["outcome"] != "provisioned" for one in told)
    return f"{others} of {expected} events were not provisioned" if others else None


def table(runs: Sequence[Run], cores: int) -> str:
    """Return the table of medians in Markdown; a run with a problem counts for nothing and is told below it."""
    kinds = sorted({(one.workers, one.sidecars) for one in runs})
    rows = "".join(_row(runs, *kind, cores) for kind in kinds if _good(runs, *kind))
    return _HEAD + rows + "".join(_problems(runs))


def _row(runs: Sequence[Run], workers: int, sidecars: int, cores: int) -> str:
    good = _good(runs, workers, sidecars)
    rates = [one.rate for one in good]
    share = statistics.median(ratios(runs, workers, sidecars) or [float("nan")])
    used = {name: statistics.median(one.cores[name] for one in good) for name in good[0].cores}
    each = [value for name, value in used.items() if name.startswith("sidecar")]
    used_by_all = statistics.median(sum(one.cores.values()) for one in good)
    cells = (
        str(workers),
        str(sidecars),
        f"{statistics.median(rates):.0f} ({min(rates):.0f}–{max(rates):.0f})",
        "1" if sidecars == 1 else f"{share:.2f}",
        " + ".join(_percent(value) for value in each),
        _percent(used.get("kafka")),
        _percent(used.get("stub")),
        f"{_percent(used_by_all)} of {cores * 100} %",
        f"{statistics.median(one.call_ms for one in good):.1f} ms",
    )
    return f"| {' | '.join(cells)} |\n"


def _problems(runs: Sequence[Run]) -> Iterator[str]:
    for one in runs:
        if one.problem is not None:
            yield f"\nRound {one.round}, {one.sidecars} sidecars of {one.workers} workers: {one.problem}\n"


def _percent(share: float | None) -> str:
    return "–" if share is None else f"{100 * share:.0f} %"


def _good(runs: Sequence[Run], workers: int, sidecars: int) -> list[Run]:
    return [
        one
        for one in runs
        if (one.workers, one.sidecars) == (workers, sidecars) and one.problem is None
    ]
