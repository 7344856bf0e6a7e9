"""Whether a short run is far below what was recorded. No clock, no files."""

from collections.abc import Iterator, Mapping
from typing import Any

from bench.figures import BRIDGE

FAR_BELOW = 0.6
"""Share of the recorded ratio that a short run on a busy machine must still reach."""

MOST = {"trickle": 1.0}
"""One by one, the bridge makes the bare client's calls and more: what a record has above that is chance."""


def failures(results: Mapping[str, Any]) -> Iterator[str]:
    """Return the runs that counted for nothing, and why."""
    for database, found in results["databases"].items():
        warm_up = found["warm_up"]
        for run in [*found["runs"], *warm_up["batches"], *warm_up["trials"]]:
            if run["problem"] is not None:
                yield f"{database}, round {run['round']}, {run['contender']}: {run['problem']}"


def regressions(results: Mapping[str, Any], recorded: Mapping[str, Any]) -> Iterator[str]:
    """Return the ways of the bridge whose ratio to the bare client is far below the recorded one, or was not compared."""
    for database, found in results["databases"].items():
        then = recorded["databases"].get(database, {}).get("figures", {})
        for name in BRIDGE:
            now_ratio, then_ratio = _ratio(found["figures"], name), _ratio(then, name)
            if now_ratio is None or then_ratio is None:
                when = "measured" if now_ratio is None else "recorded"
                yield f"{database}, {name}: no ratio to the bare client was {when}"
            elif now_ratio < FAR_BELOW * min(then_ratio, MOST.get(name, then_ratio)):
                yield (
                    f"{database}, {name}: {now_ratio:.2f} of the bare client, "
                    f"recorded were {then_ratio:.2f}"
                )


def _ratio(figures: Mapping[str, Any], name: str) -> float | None:
    median: float | None = figures.get(name, {}).get("ratio", {}).get("median")
    return median
