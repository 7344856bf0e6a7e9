"""From single runs to medians, ranges and ratios. No clock, no files."""

import statistics
from collections.abc import Mapping, Sequence
from typing import Any

BARE = "bare"

Runs = Sequence[Mapping[str, Any]]


def spread(values: Sequence[float]) -> dict[str, float]:
    """Return median, least and greatest value."""
    return {
        "median": round(statistics.median(values), 4),
        "least": round(min(values), 4),
        "greatest": round(max(values), 4),
    }


def figures(runs: Runs) -> dict[str, dict[str, Any]]:
    """Return for each contender its rate, its ratio to the bare client of the same round, and CPU a user.

    A run with a problem counts for nothing, and the contender says how many of them there were.
    """
    good = [run for run in runs if run["problem"] is None]
    yardstick = {run["round"]: run["rate"] for run in good if run["contender"] == BARE}
    return {
        name: _of_one([run for run in good if run["contender"] == name], yardstick)
        | {"failed": sum(run["contender"] == name for run in runs if run["problem"] is not None)}
        for name in dict.fromkeys(run["contender"] for run in sorted(runs, key=_by_round))
    }


def _by_round(run: Mapping[str, Any]) -> int:
    return int(run["round"])


def _of_one(runs: Runs, yardstick: Mapping[int, float]) -> dict[str, Any]:
    if not runs:
        return {"runs": 0}
    ratios = [run["rate"] / yardstick[run["round"]] for run in runs if run["round"] in yardstick]
    found: dict[str, Any] = {
        "runs": len(runs),
        "users": runs[0]["users"],
        "rate": spread([run["rate"] for run in runs]),
        "cpu_ms": {
            who: spread([run["cpu_ms"][who] for run in runs]) for who in sorted(runs[0]["cpu_ms"])
        },
    }
    if ratios:
        found["ratio"] = spread(ratios)
    if peaks := [run["peak_mb"] for run in runs if run["peak_mb"]]:
        found["peak_mb"] = spread(peaks)
    return found


def rest(looks: Sequence[Mapping[str, float]]) -> dict[str, dict[str, float]]:
    """Return the spread of every figure of the looks at a start and an idle bridge."""
    return {name: spread([look[name] for look in looks]) for name in looks[0]} if looks else {}
