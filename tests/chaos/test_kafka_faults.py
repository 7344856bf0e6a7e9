"""Scenario 4: Kafka is stopped, killed and frozen in the middle of work and of commits."""

import time
from collections.abc import Callable

import pytest
from figures import record
from kafka_probe import serves_again
from scene import Scene, Size
from verdict import judge

from keycloak_bridge.sandbox.services import KafkaBroker

pytestmark = [pytest.mark.integration, pytest.mark.chaos]


@pytest.mark.parametrize("name", ["stopped", "killed", "frozen"])
def test_kafka_goes_away(scene: Scene, size: Size, name: str) -> None:
    """The one broker is the coordinator too: no commit, no result, no dead letter can be written meanwhile."""
    kafka = scene.bench.sandbox.kafka
    leave, come_back = _ways(kafka)[name]
    half, rest = scene.population.portions(2)
    scene.bench.create_topic("probe")
    probe = scene.bench.topic("probe")
    scene.bridges.start()
    scene.publish(half)
    for eighths in (1, 4):
        scene.wait_for_done(len(half) * eighths // 8)
        with scene.fault():
            leave()
            try:
                time.sleep(size.outage_s / 2)
            finally:
                come_back()
                serves_again(scene.bench.sandbox.bootstrap_servers, probe)
    scene.publish(rest)
    scene.wait_for_everything()
    scene.bridges.all_leave()

    record(f"4 Kafka {name} twice for {size.outage_s / 2:g} s", judge(scene))


def _ways(kafka: KafkaBroker) -> dict[str, tuple[Callable[[], None], Callable[[], None]]]:
    return {
        "stopped": (kafka.stop, kafka.start),
        "killed": (kafka.kill, kafka.start),
        "frozen": (kafka.pause, kafka.resume),
    }
