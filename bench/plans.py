"""What a plan of many users takes as a realm grows: `python -m bench.plans`.

A Keycloak on a PostgreSQL of its own has a realm that is filled by SQL (`bench.filling`), up to one size after the other. At
each size, `keycloak-bridge plan` and `keycloak-bridge reconcile` compare a file of 100,000 users with it, as processes of
their own. Half of the users are there, as far as the realm has so many, and differ in their department; the others are new.
`--write` renews the table of docs/scaling.md.
"""

import argparse
import contextlib
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click

from bench.filling import fill, index
from bench.machine import busy_cores, machine
from bench.postgres import PostgresServer, installed, sandbox_on_postgres
from bench.publish import ROOT, renew, say
from bench.scale import (
    INDEXED,
    JAVA_OPTIONS,
    PAGE,
    USERNAME,
    bridge_realm,
    created,
    mapping_text,
)
from bench.services import Ground, Services
from keycloak_bridge.sandbox import SandboxError

BEGIN, END = "<!-- plans:begin -->\n", "<!-- plans:end -->\n"
GOAL_S = 120
_SIZES = (10_000, 1_000_000)
_USERS = 100_000
_NEW = 60_000_000
_WARM_USERS = 5_000
COMMANDS = ("plan", "reconcile")


@dataclass(frozen=True, slots=True)
class Took:
    """What one command took: time and the bridge's own CPU in seconds, and its largest memory in MB."""

    size: int
    layout: str
    command: str
    wall_s: float
    cpu_s: float
    peak_mb: float
    totals: Mapping[str, Any]


def population(file: Path, size: int, users: int) -> None:
    """Write the events of so many users, of whom half are in the realm of that size if it has as many."""
    there = min(users // 2, size)
    step = size // there
    with file.open("wb") as lines:
        for at in range(users):
            number = 1 + at // 2 * step if at % 2 == 0 and at // 2 < there else _NEW + at
            body = json.loads(created(number)[1])
            body["data"]["department"] = "Elsewhere"
            lines.write(json.dumps(body).encode() + b"\n")


def run(
    services: Services, database: PostgresServer, sizes: Sequence[int], users: int
) -> Iterator[Took]:
    """Yield what each command took at each size, in each layout."""
    realm, filled = bridge_realm(services), 0
    ground = Ground(services, realm, "plans")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for size in sizes:
            fill(database, realm.name, filled + 1, size)
            file = folder / "population.ndjson"
            if not filled:  # the server's code is compiled
                population(file, size, _WARM_USERS)
                for layout in (INDEXED, USERNAME):
                    for command in COMMANDS:
                        _measured(ground, file, folder, size, layout, command)
            filled = size
            population(file, size, users)
            for layout in (INDEXED, USERNAME):
                index(database, wanted=layout == INDEXED)
                for command in COMMANDS:
                    took = _measured(ground, file, folder, size, layout, command)
                    say(
                        f"{size:>9,} {layout:<26} {command:<10} {took.wall_s:6.1f} s, the bridge's CPU {took.cpu_s:5.1f} s, "
                        f"{took.peak_mb:5.0f} MB {json.dumps(took.totals)}"
                    )
                    yield took


def _measured(
    ground: Ground, file: Path, folder: Path, size: int, layout: str, command: str
) -> Took:
    mapping = folder / "mapping.toml"
    mapping.write_text(mapping_text(is_username=layout == USERNAME), encoding="utf-8")
    environment = {**os.environ, **ground.environment()}
    environment["KEYCLOAK_BRIDGE_MAPPING_FILE"] = str(mapping)
    choices = ["--fold"] if command == "plan" else []
    arguments = [command, *choices, "--summary-only", "--format", "json", str(file)]
    begun_s = time.monotonic()
    with subprocess.Popen(  # noqa: S603
        [sys.executable, "-m", "keycloak_bridge", *arguments],
        env=environment,
        cwd=ROOT,
        stdout=subprocess.PIPE,
    ) as process:
        output = process.stdout.read() if process.stdout else b""
        _, status, used = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise SandboxError(f"keycloak-bridge {command} ended with {process.returncode}")
    totals = {}
    with contextlib.suppress(ValueError, IndexError):
        totals = json.loads(output.splitlines()[-1])
    return Took(
        size=size,
        layout=layout,
        command=command,
        wall_s=time.monotonic() - begun_s,
        cpu_s=used.ru_utime + used.ru_stime,
        peak_mb=used.ru_maxrss * 1024 / 1e6,
        totals=totals,
    )


def table(found: Sequence[Took], users: int, about: Mapping[str, Any]) -> str:
    """Return the table of what each command took."""
    rows = [
        "| command | layout | users of the realm | time | the bridge's CPU | largest memory |",
        "|---|---|---:|---:|---:|---:|",
    ]
    for one in sorted(found, key=lambda took: (took.command, took.layout, took.size)):
        time_s = f"{one.wall_s:.0f} s"
        if one.wall_s > GOAL_S:
            time_s = f"**{time_s}**"
        rows.append(
            f"| `{one.command}` | {one.layout} | {one.size:,} | {time_s} | {one.cpu_s:.0f} s | {one.peak_mb:.0f} MB |"
        )
    note = (
        f"{users:,} users in a file, {about['cores']} cores ({about['cpu']}) that Keycloak, PostgreSQL and the bridge share, of "
        f"which other programs used {about['busy_cores']} at the start; Keycloak {about['keycloak']}. What is in bold is above {GOAL_S} s."
    )
    return "\n".join(rows) + f"\n\n{note}\n"


def main() -> int:
    """Measure, print the table, and write it where that is asked for; return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m bench.plans", description=__doc__)
    parser.add_argument("--write", action="store_true", help="renew the table of docs/scaling.md")
    parser.add_argument("--sizes", default=",".join(map(str, _SIZES)), help="users, in order")
    parser.add_argument("--users", type=int, default=_USERS, help="users of the file")
    chosen = parser.parse_args()
    if not installed():
        say("PostgreSQL's programs are not installed.")
        return 2
    about = {**machine(), "busy_cores": busy_cores()}
    try:
        with sandbox_on_postgres(JAVA_OPTIONS) as (services, database):
            sizes = sorted(map(int, chosen.sizes.split(",")))
            found = list(run(services, database, sizes, chosen.users))
    except SandboxError as error:
        say(str(error))
        return 1
    shown = table(found, chosen.users, about)
    click.echo(shown)
    if chosen.write:
        renew(PAGE, BEGIN, END, shown)
    return 0


if __name__ == "__main__":
    sys.exit(main())
