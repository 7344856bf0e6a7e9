"""`python -m bench` measures and records; `--check` runs short and compares with what is recorded."""

import datetime as dt
import os
import sys
from dataclasses import asdict
from pathlib import Path

from bench import publish, table, verdict
from bench.figures import figures, rest
from bench.machine import machine
from bench.place import Place
from bench.postgres import installed, keycloak_on_postgres
from bench.program import measure
from bench.sizes import Sizes
from keycloak_bridge.sandbox import Sandbox, SandboxError, SandboxOptions
from keycloak_bridge.sandbox.detached import terminable
from keycloak_bridge.testing.realm_tools import RealmAdministrator

JAVA_OPTIONS = ("-Xmx1g",)
"""In place of the sandbox's own: both compilers, and a heap that a hundred thousand users fit in."""


def main(arguments: list[str]) -> int:
    """Return the exit code: 1 where a run failed or, in a check, a ratio is far below the recorded one."""
    check = "--check" in arguments
    if not Path("/proc/self/stat").exists():
        _say("The benchmark reads the CPU of every process from /proc: it needs Linux.")
        return 2
    sizes = Sizes.from_environment(os.environ, check=check)
    try:
        with terminable():
            results = _results(sizes)
    except KeyboardInterrupt:
        _say("Stopped; nothing was recorded.")
        return 3
    except SandboxError as error:
        _say(str(error))
        return 1
    publish.keep(results)
    _say(f"\n{table.table(results)}\nRaw figures: {publish.LATEST}")
    bad = list(verdict.failures(results))
    if check:
        bad += verdict.regressions(results, publish.recorded())
    elif not bad:
        publish.record(results)
        _say(f"Recorded in {publish.RECORDED} and README.md")
    for line in bad:
        _say(f"FAILED: {line}")
    return 1 if bad else 0


def _results(sizes: Sizes) -> dict[str, object]:
    databases: dict[str, object] = {}
    _say("starting the sandbox")
    with Sandbox(SandboxOptions(keycloak_java_options=JAVA_OPTIONS)) as sandbox:
        pid = sandbox.keycloak.pid or 0
        administrator = RealmAdministrator.of(sandbox)
        place = Place(sandbox, sandbox.keycloak_url, pid, administrator)
        databases["H2"] = _measured(place, sizes, weigh=True)
        if sizes.postgres and installed():
            sandbox.keycloak.stop()
            _say("starting Keycloak on PostgreSQL")
            with keycloak_on_postgres(sandbox, JAVA_OPTIONS) as other:
                databases["PostgreSQL"] = _measured(other, sizes, weigh=False)
    today = dt.datetime.now(tz=dt.UTC).date()
    return {
        "date": today.isoformat(),
        "machine": machine(),
        "sizes": asdict(sizes),
        "databases": databases,
    }


def _measured(place: Place, sizes: Sizes, *, weigh: bool) -> dict[str, object]:
    found = measure(place, sizes, _say, weigh=weigh)  # what the bridge weighs is not up to Keycloak
    return {**found, "figures": figures(found["runs"]), "figures_of_rest": rest(found["rest"])}


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
