"""What the bridge weighs without a Keycloak: `python -m bench.weight` says it in a minute, as JSON.

A stub answers in Keycloak's place (`bench.stub_keycloak`). Kafka is the sandbox's own, or the one at `--bootstrap`.
"""

import argparse
import contextlib
import json
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Callable, Mapping
from typing import Any

from bench.machine import usage
from bench.samples import StandstillError
from bench.stubbed import (
    PREFIX,
    create_topics,
    delete,
    ends,
    environment,
    flood,
    kafka,
    log_file,
    running,
    stub,
)

_HEAVIEST = 15
_SETTLE_S = 15.0
"""A stage rests after ten seconds without a record."""
_PATIENCE_S = 60.0


def measure(
    bootstrap_servers: str, *, partitions: int = 8, backlog: int, idle_s: float, backlog_s: float
) -> dict[str, Any]:
    """Return start and rest of the bridge, and its largest memory while `backlog` records wait.

    It works on them for `backlog_s` by single writes (`off`), then as long in batches (`auto`).
    """
    suffix = uuid.uuid4().hex[:8]
    with tempfile.TemporaryDirectory() as folder, stub(folder, "--burst") as keycloak:
        settings = environment(bootstrap_servers, keycloak.address, suffix, partitions)
        create_topics(settings, folder)
        events, results = f"events-{suffix}", f"results-{suffix}"
        try:
            with ends(bootstrap_servers, results, partitions) as done:
                flood(bootstrap_servers, events, "first", 1)
                found = _start_and_rest(settings, folder, done, idle_s)
                flood(bootstrap_servers, events, "many", backlog)
                peaks_mb = {}
                for mode in ("off", "auto"):
                    chosen = settings | {f"{PREFIX}BURST_MODE": mode}
                    with running(chosen, folder) as (bridge,):
                        _first(bridge, done, folder)
                        time.sleep(backlog_s)
                        peaks_mb[mode] = round(usage(bridge.pid).peak_mb, 1)
                return found | {"backlog": {"records": backlog, **peaks_mb}}
        finally:
            delete(bootstrap_servers, suffix)


def imports() -> dict[str, float]:
    """Return the milliseconds of the modules that take longest to import, without what each imports itself."""
    code = "import keycloak_bridge.cli.run, keycloak_bridge.app.bridge"
    done = subprocess.run(  # noqa: S603
        [sys.executable, "-X", "importtime", "-c", code], check=True, capture_output=True, text=True
    )
    rows = [line.removeprefix("import time:").split("|") for line in done.stderr.splitlines()[1:]]
    own = sorted(((int(row[0]) / 1000, row[2].strip()) for row in rows), reverse=True)
    whole = sum(time_ms for time_ms, _ in own)
    return {"all": round(whole, 1)} | {name: round(ms, 1) for ms, name in own[:_HEAVIEST]}


def _start_and_rest(
    settings: Mapping[str, str], folder: str, done: Callable[[], int], idle_s: float
) -> dict[str, Any]:
    began = time.perf_counter()
    with running(settings, folder) as (bridge,):
        _first(bridge, done, folder)
        start_s, first = time.perf_counter() - began, usage(bridge.pid)
        time.sleep(_SETTLE_S)
        before = usage(bridge.pid)
        time.sleep(idle_s)
        after = usage(bridge.pid)
    return {
        "start_to_first_event_s": round(start_s, 2),
        "start_cpu_s": round(first.cpu_s, 2),
        "idle_rss_mb": round(after.rss_mb, 1),
        "idle_cpu_percent": round(100 * (after.cpu_s - before.cpu_s) / idle_s, 2),
    }


def _first(bridge: "subprocess.Popen[bytes]", done: Callable[[], int], folder: str) -> None:
    """Return once one more event is done."""
    before, deadline = done(), time.perf_counter() + _PATIENCE_S
    while done() == before:
        if bridge.poll() is not None or time.perf_counter() > deadline:
            raise StandstillError(log_file(folder).read_text())
        time.sleep(0.005)


def main() -> None:
    """Measure, and print what was found."""
    parser = argparse.ArgumentParser(prog="python -m bench.weight", description=__doc__)
    parser.add_argument("--bootstrap", help="a running Kafka; else the sandbox's is started")
    parser.add_argument("--partitions", type=int, default=8)
    parser.add_argument("--backlog", type=int, default=200_000, help="records of about 600 bytes")
    parser.add_argument("--idle-s", type=float, default=20.0)
    parser.add_argument("--backlog-s", type=float, default=20.0, help="for each way of writing")
    chosen = parser.parse_args()
    with contextlib.ExitStack() as stack:
        servers = chosen.bootstrap or stack.enter_context(kafka()).address
        found = measure(
            servers,
            partitions=chosen.partitions,
            backlog=chosen.backlog,
            idle_s=chosen.idle_s,
            backlog_s=chosen.backlog_s,
        )
    print(json.dumps(found | {"import_ms": imports()}, indent=2))


if __name__ == "__main__":
    main()
