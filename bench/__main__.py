"""`python -m bench` measures; `--write` records it, `--check` runs short and compares, `--profile` shows where the CPU goes."""

import argparse
import datetime as dt
import os
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from bench import profile, publish, table, verdict
from bench.figures import figures
from bench.machine import busy_cores, machine
from bench.postgres import installed, keycloak_on_postgres
from bench.program import measure, profiles, warm
from bench.rivals import CEIL, REDPANDA, Rivals, built
from bench.samples import StandstillError
from bench.scaleout import three_of_one
from bench.services import Services
from bench.sizes import Sizes
from bench.stubbed import Service
from bench.weight import measure as weigh
from keycloak_bridge.sandbox import Sandbox, SandboxError, SandboxOptions
from keycloak_bridge.sandbox.detached import terminable
from keycloak_bridge.testing.realm_tools import RealmAdministrator

JAVA_OPTIONS = ("-Xmx1g",)
"""In place of the sandbox's own: both compilers, and a heap that a hundred thousand users fit in."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Return the exit code: 1 where a run failed or, in a check, a ratio is far below the recorded one."""
    chosen = _chosen(arguments)
    if not Path("/proc/self/stat").exists():
        publish.say("The benchmark reads the CPU of every process from /proc: it needs Linux.")
        return 2
    sizes = Sizes.from_environment(os.environ, check=chosen.check)
    try:
        with terminable():
            if chosen.profile:
                return _profile(sizes)
            results = _results(sizes, check=chosen.check)
    except KeyboardInterrupt:
        publish.say("Stopped; nothing was recorded.")
        return 3
    except SandboxError as error:
        publish.say(str(error))
        return 1
    publish.say(f"\n{table.table(results)}\nRaw figures: {publish.LATEST}")
    bad = list(verdict.failures(results))
    if chosen.check:
        bad += verdict.regressions(results, publish.recorded())
    elif chosen.write and not bad:
        publish.record(results)
        publish.say(f"Recorded in {publish.RECORDED} and README.md")
    for line in bad:
        publish.say(f"FAILED: {line}")
    return 1 if bad else 0


def _chosen(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    way = parser.add_mutually_exclusive_group()
    way.add_argument("--write", action="store_true", help="renew docs/benchmark and README.md")
    way.add_argument("--check", action="store_true", help="compare with what is recorded")
    way.add_argument("--profile", action="store_true", help="only print the profile of the bridge")
    return parser.parse_args(arguments)


def _results(sizes: Sizes, *, check: bool) -> dict[str, Any]:
    busy = busy_cores()
    rivals = _rivals((CEIL,) if check else (CEIL, REDPANDA))
    results: dict[str, Any] = {
        "date": dt.datetime.now(tz=dt.UTC).date().isoformat(),
        "machine": machine() | {"busy_cores": busy},
        "sizes": asdict(sizes),
        "rivals": {"bare_client": rivals.bare_client, "problem": rivals.problem},
        "databases": {},
    }
    publish.say("starting the sandbox")
    with Sandbox(SandboxOptions(keycloak_java_options=JAVA_OPTIONS)) as sandbox:
        results["databases"]["H2"] = _measured(_services_of(sandbox), sizes, rivals)
        publish.keep(results)  # what follows takes long, and may fail
        sandbox.keycloak.stop()
        if sizes.postgres and installed():
            publish.say("starting Keycloak on PostgreSQL")
            with keycloak_on_postgres(sandbox, JAVA_OPTIONS) as other:
                results["databases"]["PostgreSQL"] = _measured(other, sizes, rivals)
        kafka = Service(sandbox.bootstrap_servers, sandbox.kafka.pid)
        results |= _without_keycloak(kafka, sizes)
    publish.keep(results)
    return results


def _without_keycloak(kafka: Service, sizes: Sizes) -> dict[str, object]:
    """Return what is measured with a stub in Keycloak's place."""
    found: dict[str, object] = {}
    try:
        if sizes.backlog:
            publish.say(f"start, rest, and memory with {sizes.backlog:,} records waiting")
            waiting = {"backlog": sizes.backlog, "backlog_s": sizes.backlog_s}
            found["weight"] = weigh(kafka.address, idle_s=sizes.idle_s, **waiting)
        if sizes.sidecar_events:
            publish.say("one and three sidecars")
            found["scaleout"] = three_of_one(kafka, sizes.rounds, sizes.sidecar_events)
    except StandstillError as error:
        publish.say(f"left out: {error}")
    return found


def _rivals(names: Sequence[str]) -> Rivals:
    publish.say("building the programs to compare with (the first time, this takes a few minutes)")
    rivals = built(names)
    if rivals.problem:
        publish.say(
            f"{rivals.problem}: the bridge is compared with {', '.join(_named(rivals))} only"
        )
    return rivals


def _named(rivals: Rivals) -> list[str]:
    connect = ["Redpanda Connect"] if REDPANDA in rivals.programs else []
    return [f"the bare client in {rivals.bare_client}", *connect]


def _services_of(sandbox: Sandbox) -> Services:
    administrator = RealmAdministrator.of(sandbox)
    return Services(sandbox, sandbox.keycloak_url, sandbox.keycloak.pid or 0, administrator)


def _measured(services: Services, sizes: Sizes, rivals: Rivals) -> dict[str, object]:
    found = measure(services, sizes, rivals, publish.say)
    return {**found, "figures": figures(found["runs"])}


def _profile(sizes: Sizes) -> int:
    publish.say("starting the sandbox")
    with Sandbox(SandboxOptions(keycloak_java_options=JAVA_OPTIONS)) as sandbox:
        services = _services_of(sandbox)
        warm(services, sizes, publish.say)
        found = profiles(services, sizes, publish.say)
    print(profile.table(table.named(found)))
    return 0 if found else 1


if __name__ == "__main__":
    sys.exit(main())
