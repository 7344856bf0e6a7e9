"""The result as Markdown. No clock, no files."""

from collections.abc import Iterator, Mapping
from typing import Any

NAMES = {
    "bare": "bare client, `POST /users`",
    "trickle": "bridge, single writes",
    "burst": "bridge, bursts",
    "mails": "bridge, with invitations",
}
_HEAD = "| contender | users a second | of the bare client | CPU of contender | of Keycloak | of Kafka |"
_RULE = "|---|---|---|---|---|---|"


def table(results: Mapping[str, Any]) -> str:
    """Return all tables of one benchmark, the lines that say on what it ran included."""
    lines = [_ground(results), ""]
    for database, found in results["databases"].items():
        lines += [_title(database, found, results["sizes"]), ""]
        lines += [_HEAD, _RULE, *_rows(found["figures"]), ""]
        if looks := list(_looks(found)):
            lines += ["| of the bridge | measured |", "|---|---|", *looks, ""]
    return "\n".join(lines).rstrip() + "\n"


def spread(values: Mapping[str, float], digits: int) -> str:
    """Return a median with its range."""
    median, least, greatest = (f"{values[n]:,.{digits}f}" for n in ("median", "least", "greatest"))
    return median if least == greatest else f"{median} ({least} to {greatest})"


def _ground(results: Mapping[str, Any]) -> str:
    machine = results["machine"]
    return (
        f"Measured {results['date']} on {machine['cores']} cores ({machine['cpu']}), which Keycloak "
        f"{machine['keycloak']}, Kafka {machine['kafka']} and the contender share; "
        f"Python {machine['python']}, Java {machine['java']}. Medians, and ranges in brackets; "
        "CPU is milliseconds a user."
    )


def _title(database: str, found: Mapping[str, Any], sizes: Mapping[str, int]) -> str:
    warm, rounds = found["warm_up"]["users"], sizes["rounds"]
    return (
        f"**Keycloak on {database}**, warmed with {warm:,} users, {rounds} {'round' if rounds == 1 else 'rounds'} of "
        f"{sizes['events']:,} users for each contender ({sizes['mails']:,} with invitations):"
    )


def _rows(figures: Mapping[str, Any]) -> Iterator[str]:
    for name, label in NAMES.items():
        if name in figures:
            yield _row(label, figures[name], who="client" if name == "bare" else "bridge")


def _row(label: str, one: Mapping[str, Any], *, who: str) -> str:
    failed = f" ({one['failed']} runs **failed**)" if one["failed"] else ""
    if not one["runs"]:
        return f"| {label}{failed} | | | | | |"
    cpu = [spread(one["cpu_ms"][name], 2) for name in (who, "keycloak", "kafka")]
    ratio = spread(one["ratio"], 2) if "ratio" in one else ""
    cells = [label + failed, spread(one["rate"], 0), ratio, *cpu]
    return f"| {' | '.join(cells)} |"


def _looks(found: Mapping[str, Any]) -> Iterator[str]:
    rest = found["figures_of_rest"]
    if latency := found.get("latency"):
        for name, words in (("p50", "median"), ("p99", "99th percentile")):
            one = latency[name]
            yield (
                f"| from event to readable user, idle bridge, {words} | {one['bridge_ms']:.0f} ms; the bare "
                f"POST {one['bare_ms']:.0f} ms; the bridge adds {one['added_ms']:.0f} ms |"
            )
    if rest:
        yield f"| start of the process to the first event done | {spread(rest['start_to_first_event_s'], 2)} s |"
        yield f"| memory, idle | {spread(rest['idle_rss_mb'], 0)} MB |"
        yield f"| CPU, idle | {spread(rest['idle_cpu_percent'], 2)} % of a core |"
    if backlog := found.get("backlog"):
        records = f"{backlog['records']:,} records waiting"
        for mode, words in (("burst_off", "single writes"), ("burst_auto", "bursts")):
            if mode in backlog:
                yield f"| greatest memory, {records}, {words} | {backlog[mode]['peak_rss_mb']:.0f} MB |"
