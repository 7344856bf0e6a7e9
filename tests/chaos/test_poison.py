"""Scenario 6: bad records of every kind among good ones, in every wrapping, and too many of them at once."""

from collections.abc import Callable

import pytest
import requests
from bridge_harness import an_event, free_port
from poison import KINDS, burst, publish_aborted, publish_bad, publish_committed, taken
from report import record
from scene import Scene
from verdict import Position, judge

pytestmark = [pytest.mark.integration, pytest.mark.chaos]

_CODECS = ("gzip", "snappy", "lz4", "zstd")
_BURST = 500


def test_bad_records_of_every_kind(open_scene: Callable[..., Scene]) -> None:
    """Each is a dead letter once, a 10 MB record and a tombstone too, and every good one around it is done."""
    # in a small population most records are bad
    scene = open_scene(EVENTS_TOMBSTONES="dead-letter", BRAKE_IN_A_ROW="0", BRAKE_SHARE="0")
    portions = list(scene.population.portions(len(_CODECS) + 2))
    bad: dict[Position, str] = {}
    scene.bridges.start()
    scene.publish(portions[0])
    for number, codec in enumerate(_CODECS):
        bad |= publish_bad(scene, KINDS[number :: len(_CODECS)])
        scene.publish_compressed(portions[number + 1], codec)
        aborted = [an_event(f"aborted-{codec}-{one}") for one in range(5)]
        publish_aborted(scene, aborted)
    bad |= publish_bad(scene, [taken(scene)])
    publish_committed(scene, portions[-1])
    publish_aborted(scene, [an_event("aborted-last")])
    scene.wait_for_everything(others=len(bad))
    scene.bridges.all_leave()

    record("6 bad records of every kind", judge(scene, bad=bad), within_s=None)


@pytest.mark.full
def test_a_burst_of_bad_records(open_scene: Callable[..., Scene]) -> None:
    """The brake stops the flow and says so; after the release every bad record is a dead letter once."""
    port = free_port()
    scene = open_scene(HEALTH_PORT=str(port))
    half, rest = scene.population.portions(2)
    scene.bridges.start()
    scene.publish(half)
    scene.wait_for_done(len(half) // 2)
    bad = publish_bad(scene, burst(_BURST))
    scene.publish(rest)
    scene.wait_until(lambda: "brake" in _problems(port), "readiness that names the brake")
    with scene.fault():
        stopped_at = len(scene.bench.dead_letters())
    scene.bench.run_command("guard", "release", check=True)
    scene.wait_for_everything(others=len(bad))
    scene.bridges.all_leave()

    assert stopped_at < _BURST
    assert any('"brake-engaged"' in log.read_text() for log in scene.bridges.logs)
    print(f"\nchaos: the brake held after {stopped_at} dead letters")
    record(f"6 a burst of {_BURST} bad records", judge(scene, bad=bad))


def _problems(port: int) -> str:
    """Return why the bridge is not ready."""
    answer = requests.get(f"http://127.0.0.1:{port}/ready", timeout=10)
    return " ".join(answer.json()["problems"])
