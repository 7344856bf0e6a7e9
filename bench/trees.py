"""What an event costs this source tree beside another one: `python -m bench.trees ../other`.

The bridges of both work on as many new users, in turn, every second round in reverse order, through one Kafka; a stub answers in
Keycloak's place (`bench.stub_keycloak`). A busy machine makes every run dearer: only ratios count, each of two runs that
followed each other.
"""

import argparse
import contextlib
import tempfile
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import click

from bench.figures import spread
from bench.samples import cpu_ms_per_user, follow
from bench.stubbed import (
    ROOT,
    Service,
    create_topics,
    delete,
    ends,
    environment,
    flood,
    kafka,
    running,
    stub,
)

WAYS = {"single writes": "off", "batches": "auto"}
_PARTITIONS = 4
_HEAD = (
    "| way | CPU here | CPU there | here, of there | memory here | memory there |\n"
    "|---|---:|---:|---:|---:|---:|\n"
)


@dataclass(frozen=True, slots=True)
class Cost:
    """What one run took of the bridge: CPU for each event, in milliseconds, and memory at most."""

    cpu_ms: float
    peak_mb: float


Pair = tuple[Cost, Cost]
"""The cost here and there, of two runs that followed each other."""


def cost(
    tree: Path, mode: str, broker: Service, keycloak: Service, events: int, folder: str
) -> Cost:
    """Return what `events` cost the bridge of that tree; raises StandstillError where it does not finish them."""
    suffix = uuid.uuid4().hex[:8]
    settings = environment(
        broker.address, keycloak.address, suffix, _PARTITIONS, BURST_MODE=mode
    ) | {"PYTHONPATH": str(tree)}
    create_topics(settings, folder)
    try:
        flood(broker.address, f"events-{suffix}", suffix, events)
        with (
            ends(broker.address, f"results-{suffix}", _PARTITIONS) as done,
            running(settings, folder) as (bridge,),
        ):
            samples = follow(done, events, {"contender": bridge.pid})
    finally:
        delete(broker.address, suffix)
    used_s = samples.cpu_s["contender"]
    return Cost(cpu_ms_per_user(samples.at_s, samples.users, used_s, events), samples.peak_mb)


def table(found: Mapping[str, Sequence[Pair]]) -> str:
    """Return medians in Markdown, and the least and greatest in brackets."""
    return _HEAD + "".join(_row(way, pairs) for way, pairs in found.items())


def _row(way: str, pairs: Sequence[Pair]) -> str:
    cells = (
        _spread([here.cpu_ms for here, _ in pairs], 2, " ms"),
        _spread([there.cpu_ms for _, there in pairs], 2, " ms"),
        _spread([here.cpu_ms / there.cpu_ms for here, there in pairs], 2),
        _spread([here.peak_mb for here, _ in pairs], 0, " MB"),
        _spread([there.peak_mb for _, there in pairs], 0, " MB"),
    )
    return f"| {way} | {' | '.join(cells)} |\n"


def _spread(values: Sequence[float], digits: int, unit: str = "") -> str:
    middle, least, greatest = (f"{one:.{digits}f}" for one in spread(values).values())
    return f"{middle}{unit} ({least} to {greatest})"


def main() -> None:
    """Measure, and print the table."""
    parser = argparse.ArgumentParser(prog="python -m bench.trees", description=__doc__)
    parser.add_argument("there", type=Path, help="the other tree, such as a git worktree")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--events", type=int, default=8000, help="of each run")
    parser.add_argument("--delay-ms", type=float, default=10.0, help="how long the stub takes")
    chosen = parser.parse_args()
    there = chosen.there.resolve(strict=True)
    with contextlib.ExitStack() as stack:
        folder = stack.enter_context(tempfile.TemporaryDirectory())
        broker = stack.enter_context(kafka())
        keycloak = stack.enter_context(stub(folder, "--burst", "--delay-ms", str(chosen.delay_ms)))
        found: dict[str, list[Pair]] = {way: [] for way in WAYS}
        for way, mode in WAYS.items():
            for turn in range(chosen.rounds):
                costs = {
                    tree: cost(tree, mode, broker, keycloak, chosen.events, folder)
                    for tree in ((ROOT, there) if turn % 2 else (there, ROOT))
                }
                found[way].append((costs[ROOT], costs[there]))
    click.echo(table(found))


if __name__ == "__main__":
    main()
