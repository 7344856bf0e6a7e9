"""What the bridge weighs: memory, CPU at rest, the time of a start, and memory before a mountain of records."""

import os
import sys
import threading
import time
from pathlib import Path

from bench.crowd import crowd
from bench.place import Ground, Place
from bench.processes import usage
from bench.sidecar import mode, running
from bench.watch import follow, watch
from keycloak_bridge.sandbox.processes import ManagedProcess

ROOT = Path(__file__).parents[1]
_SETTLE_S = 5.0
_FLOODERS = 2
_TIMEOUT_S = 900


def start_and_rest(place: Place, number: int, idle_s: int) -> dict[str, float]:
    """Return the seconds from the start of the process to the first result, and how the bridge rests after it."""
    (person,) = crowd(f"start{number}", 1)
    with place.ground(burst=True) as ground, ground.tally("results") as results:
        ground.publish([(person.key, person.value)])
        results()
        begin = time.perf_counter()
        with running(ground, {"INVITE_MODE": "none", **mode("auto")}) as pid:
            while results() < 1:
                time.sleep(0.005)
            start_s = time.perf_counter() - begin
            first = usage(pid)
            time.sleep(_SETTLE_S)
            before = usage(pid)
            time.sleep(idle_s)
            after = usage(pid)
    return {
        "start_to_first_event_s": round(start_s, 3),
        "start_cpu_s": round(first.cpu_s, 2),
        "idle_rss_mb": round(after.rss_mb, 1),
        "idle_cpu_percent": round(100 * (after.cpu_s - before.cpu_s) / idle_s, 2),
    }


def under_backlog(place: Place, records: int, time_s: int) -> dict[str, object]:
    """Return the largest memory of the bridge while it works on that many waiting records, not drained."""
    figures: dict[str, object] = {"records": records}
    with place.ground(burst=True, left=True) as ground:
        _flood(ground, records)
        for name in ("off", "auto"):
            settings = {"INVITE_MODE": "none", **mode(name)}
            with ground.tally("results") as results, running(ground, settings) as pid:
                before = results()
                follow(lambda: min(1, results() - before), 1, {})  # noqa: B023
                course = watch(results, time_s, {"bridge": pid})
            figures[f"burst_{name}"] = {
                "peak_rss_mb": round(course.peak_mb, 1),
                "events_meanwhile": course.users[-1] - before,
            }
    return figures


def _flood(ground: Ground, records: int) -> None:
    """Fill the topic from several processes: one does not get far beyond 10,000 records a second."""
    place = ground.place
    share = str(records // _FLOODERS)
    log = place.sandbox.run_dir / f"flood-{ground.suffix}.log"
    flooders = [ManagedProcess("A producer", log) for _ in range(_FLOODERS)]
    try:
        for number, one in enumerate(flooders):
            what = (place.bootstrap_servers, ground.topic("events"), f"flood{number}", share)
            command = [sys.executable, "-m", "bench.flood", *what]
            one.spawn(command, os.environ, ROOT)
        for one in flooders:
            one.wait_for_end(threading.Event(), _TIMEOUT_S, "fill the topic")
    finally:
        for one in flooders:
            one.kill()
