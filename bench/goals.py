"""What the benchmark should show, beside what it showed. No clock, no files."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

SINGLE_OF_CONNECT = 0.9
BATCHES_OF_CONNECT = 1.3
"""On PostgreSQL."""
BATCHES_OF_BARE = 1.5
"""On H2."""
MEMORY_MB = 100.0
SIDECARS = 2.5
"""Rate of three sidecars, of that of one."""
SINGLE_CPU, BATCHES_CPU = 6.0, 4.0
"""CPU of the bridge for each event, of what the bare client in Go needs for its call."""


@dataclass(frozen=True, slots=True)
class Goal:
    """One goal: `measured` is to be at least `wanted`, or `at_most` that much."""

    name: str
    wanted: float
    measured: float
    at_most: bool = False
    unit: str = ""

    @property
    def met(self) -> bool:
        """Tell whether the goal was reached."""
        return self.measured <= self.wanted if self.at_most else self.measured >= self.wanted

    def row(self) -> str:
        """Return the goal as a row of Markdown."""
        bound = "at most" if self.at_most else "at least"
        digits = 0 if self.unit else 2
        words = "met" if self.met else "**missed**"
        return (
            f"| {self.name} | {bound} {self.wanted:g}{self.unit} "
            f"| {self.measured:.{digits}f}{self.unit} | {words} |"
        )


def goals(results: Mapping[str, Any]) -> list[Goal]:
    """Return the goals of everything that was measured, by its medians."""
    found: list[Goal] = []
    for database, one in results["databases"].items():
        found += _of_database(database, one["figures"], results["rivals"]["bare_client"])
    if peaks := list(_peaks(results)):
        found.append(Goal("largest memory", MEMORY_MB, max(peaks), at_most=True, unit=" MB"))
    if share := results.get("scaleout"):
        name = (
            "three sidecars with 2 workers each, of one (Keycloak's stand-in answers after 10 ms)"
        )
        found.append(Goal(name, SIDECARS, 3 * share["ratio"]["median"]))
    return found


def _of_database(database: str, figures: Mapping[str, Any], bare: str) -> Iterator[Goal]:
    single, batches = figures.get("trickle", {}), figures.get("burst", {})
    if "of_redpanda" in single:
        name = f"{database}: single writes, of Redpanda Connect"
        yield Goal(name, SINGLE_OF_CONNECT, single["of_redpanda"]["median"])
    if "of_redpanda" in batches and database != "H2":
        name = f"{database}: batches, of Redpanda Connect"
        yield Goal(name, BATCHES_OF_CONNECT, batches["of_redpanda"]["median"])
    if "ratio" in batches and database == "H2":
        name = f"{database}: batches, of the bare client"
        yield Goal(name, BATCHES_OF_BARE, batches["ratio"]["median"])
    if bare != "Go" or "cpu_ms" not in figures.get("bare", {}):
        return
    call_ms = figures["bare"]["cpu_ms"]["contender"]["median"]
    for words, one, wanted in (
        ("single writes", single, SINGLE_CPU),
        ("batches", batches, BATCHES_CPU),
    ):
        if "cpu_ms" in one:
            name = f"{database}: {words}, CPU for each event, of the bare client's call"
            used_ms = one["cpu_ms"]["contender"]["median"]
            yield Goal(name, wanted, used_ms / call_ms, at_most=True)


def _peaks(results: Mapping[str, Any]) -> Iterator[float]:
    for one in results["databases"].values():
        for name in ("trickle", "by-username", "burst"):
            if peak := one["figures"].get(name, {}).get("peak_mb"):
                yield peak["greatest"]
    backlog = results.get("weight", {}).get("backlog", {})
    yield from (backlog[name] for name in ("off", "auto") if name in backlog)
