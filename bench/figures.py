"""From single runs to medians, ranges and ratios. No clock, no files."""

import statistics
from collections.abc import Mapping, Sequence
from typing import Any

BARE, REDPANDA = "bare", "redpanda"
BRIDGE = ("trickle", "burst")
"""The bridge, one by one and in batches."""

Runs = Sequence[Mapping[str, Any]]


def spread(values: Sequence[float]) -> dict[str, float]:
    """Return median, least and greatest value."""
    return {
        "median": round(statistics.median(values), 4),
        "least": round(min(values), 4),
        "greatest": round(max(values), 4),
    }


def figures(runs: Runs) -> dict[str, dict[str, Any]]:
    """Return for each contender its rate, its ratios to both rivals of the same round, CPU a user and memory.

    A run with a problem counts for nothing, and the contender says how many of them there were.
    """
    good = [run for run in runs if run["problem"] is None]
    rivals = {
        figure: {run["round"]: run["rate"] for run in good if run["contender"] == rival}
        for figure, rival in (("ratio", BARE), ("of_redpanda", REDPANDA))
    }
    return {
        name: _of_one([run for run in good if run["contender"] == name], rivals)
        | {"failed": sum(run["contender"] == name for run in runs if run["problem"] is not None)}
        for name in dict.fromkeys(run["contender"] for run in sorted(runs, key=_by_round))
    }


def _by_round(run: Mapping[str, Any]) -> int:
    return int(run["round"])


def _of_one(runs: Runs, rivals: Mapping[str, Mapping[int, float]]) -> dict[str, Any]:
    if not runs:
        return {"runs": 0}
    found: dict[str, Any] = {
        "runs": len(runs),
        "users": runs[0]["users"],
        "rate": spread([run["rate"] for run in runs]),
        "cpu_ms": {
            who: spread([run["cpu_ms"][who] for run in runs]) for who in sorted(runs[0]["cpu_ms"])
        },
    }
    for figure, rates in rivals.items():
        ratios = [run["rate"] / rates[run["round"]] for run in runs if run["round"] in rates]
        if ratios:
            found[figure] = spread(ratios)
    if peaks := [run["peak_mb"] for run in runs if run["peak_mb"]]:
        found["peak_mb"] = spread(peaks)
    return found
