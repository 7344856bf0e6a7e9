"""The result as Markdown. No clock, no files."""

from collections.abc import Iterator, Mapping
from typing import Any

from bench import profile
from bench.goals import goals

_LABELS = {
    "bare": "bare client in {bare_client}, `POST /users`",
    "redpanda": "Redpanda Connect",
    "trickle": "bridge, single writes",
    "by-username": "bridge, single writes, the external id is the username",
    "burst": "bridge, batches",
}
_HEAD = (
    "| contender | users a second | of the bare client | of Redpanda Connect | CPU of the contender | of Keycloak "
    "| of Kafka | memory |"
)
_RULE = "|---|---|---|---|---|---|---|---|"
_LARGEST = 6
_BUSY = 4
"""Where others use a quarter of the cores, rounds differ much."""
_LEAST_FOR_P99 = 100
OF_THE_BRIDGE = "| of the bridge | measured |"


def table(results: Mapping[str, Any]) -> str:
    """Return all tables of one benchmark, the lines that say on what it ran included."""
    return f"{comparison(results)}\n{_rest(results)}"


def comparison(results: Mapping[str, Any]) -> str:
    """Return the part for the README: the contenders, and the goals that were met and missed."""
    lines = [_ground(results), ""]
    for database, found in results["databases"].items():
        lines += [_title(database, found, results["sizes"]), ""]
        lines += [_HEAD, _RULE, *_rows(found["figures"], results["rivals"]), ""]
    if found_goals := goals(results):
        lines += ["| goal | | measured | |", "|---|---|---|---|"]
        lines += [*(goal.row() for goal in found_goals), ""]
        if not all(goal.met for goal in found_goals):
            lines += [*_largest(results)]
    return "\n".join(lines).rstrip() + "\n"


def spread(values: Mapping[str, float], digits: int) -> str:
    """Return a median with its range."""
    median, least, greatest = (f"{values[n]:,.{digits}f}" for n in ("median", "least", "greatest"))
    return median if least == greatest else f"{median} ({least} to {greatest})"


def named(profiles: Mapping[str, Mapping[str, float]]) -> dict[str, Mapping[str, float]]:
    """Return the profiles by the names that people know the ways to write by."""
    words = {"trickle": "single writes", "burst": "batches"}
    return {words[name]: one for name, one in profiles.items()}


def _ground(results: Mapping[str, Any]) -> str:
    machine, problem = results["machine"], results["rivals"]["problem"]
    missing = f" {problem}, so a rival is missing." if problem else ""
    busy = machine.get("busy_cores")
    others = "" if busy is None else f"; other programs used {busy:.1f} cores before it began"
    if busy is not None and busy >= machine["cores"] / _BUSY:
        others += ", so that even the ratios are rough"
    return (
        f"Measured {results['date']} on {machine['cores']} cores ({machine['cpu']}), which Keycloak "
        f"{machine['keycloak']}, Kafka {machine['kafka']} and the contender share{others}. "
        f"Python {machine['python']}, Java {machine['java']}. Medians, and ranges in brackets; CPU is milliseconds a user; ratios are taken within a round. On a machine that also does "
        f"other work, compare only the ratios.{missing}"
    )


def _title(database: str, found: Mapping[str, Any], sizes: Mapping[str, int]) -> str:
    warm_up, rounds = found["warm_up"], max(run["round"] for run in found["runs"])
    still = "" if warm_up["steady"] else " (its CPU was not steady yet)"
    return (
        f"**Keycloak on {database}**, warmed with {warm_up['users']:,} users{still}, {rounds} {'round' if rounds == 1 else 'rounds'} of "
        f"{sizes['events']:,} users for each contender:"
    )


def _rows(figures: Mapping[str, Any], rivals: Mapping[str, str]) -> Iterator[str]:
    for name, label in _LABELS.items():
        if name in figures:
            yield _row(label.format_map(rivals), figures[name])


def _row(label: str, one: Mapping[str, Any]) -> str:
    failed = f" ({one['failed']} runs **failed**)" if one["failed"] else ""
    if not one["runs"]:
        return f"| {label}{failed} |{' |' * 7}"
    ratios = [spread(one[name], 2) if name in one else "" for name in ("ratio", "of_redpanda")]
    cpu = [spread(one["cpu_ms"][name], 2) for name in ("contender", "keycloak", "kafka")]
    memory = f"{one['peak_mb']['greatest']:.0f} MB" if "peak_mb" in one else ""
    return f"| {' | '.join([label + failed, spread(one['rate'], 0), *ratios, *cpu, memory])} |"


def _largest(results: Mapping[str, Any]) -> Iterator[str]:
    """Say where the bridge's CPU goes, by the last database's profile."""
    for database, found in reversed(results["databases"].items()):
        for words, shares in named(found.get("profile", {})).items():
            largest = ", ".join(
                f"{name} {100 * share:.0f} %" for name, share in list(shares.items())[:_LARGEST]
            )
            yield f"Most of the bridge's CPU, {words} on {database}, goes to {largest}.  "
        if found.get("profile"):
            return


def _rest(results: Mapping[str, Any]) -> str:
    looks = [*_looks(results)]
    lines = [OF_THE_BRIDGE, "|---|---|", *looks, ""] if looks else []
    for database, found in results["databases"].items():
        if profiles := found.get("profile"):
            lines += [
                f"By package, Keycloak on {database} (samples of the threads that hold the GIL):",
                "",
            ]
            lines += [profile.table(named(profiles)), ""]
    return "\n".join(lines).rstrip() + "\n"


def _looks(results: Mapping[str, Any]) -> Iterator[str]:
    for database, found in results["databases"].items():
        if latency := found.get("latency"):
            for name, words in (("p50", "median"), ("p99", "99th percentile")):
                one = latency[name]
                if name == "p99" and len(latency["bridge_ms"]) < _LEAST_FOR_P99:
                    continue
                yield (
                    f"| from event to readable user, idle bridge, {database}, {words} | {one['bridge_ms']:.0f} ms; the "
                    f"bare POST {one['bare_ms']:.0f} ms; the bridge adds {one['added_ms']:.0f} ms |"
                )
    if weight := results.get("weight"):
        yield f"| start of the process to the first event done | {weight['start_to_first_event_s']:.2f} s |"
        yield f"| memory, idle | {weight['idle_rss_mb']:.0f} MB |"
        yield f"| CPU, idle | {weight['idle_cpu_percent']:.2f} % of a core |"
        backlog = weight["backlog"]
        for mode, words in (("off", "single writes"), ("auto", "batches")):
            records = f"{backlog['records']:,} records waiting"
            yield f"| largest memory, {records}, {words} | {backlog[mode]:.0f} MB |"
    if share := results.get("scaleout"):
        ratio = spread({name: 3 * value for name, value in share["ratio"].items()}, 2)
        yield f"| rate of three sidecars with 2 workers each, of that of one ([scaling.md](../scaling.md)) | {ratio} |"
