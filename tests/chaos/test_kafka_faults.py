"""Scenario 4: Kafka is stopped, killed and frozen in the middle of work and of commits."""

import time
from collections.abc import Callable
from typing import Any

import pytest
from kafka import KafkaConsumer, KafkaProducer, OffsetAndMetadata, TopicPartition
from kafka.errors import KafkaError
from report import record
from scene import Scene, Size
from verdict import judge

from keycloak_bridge.sandbox.services import KafkaBroker

pytestmark = [pytest.mark.integration, pytest.mark.chaos, pytest.mark.full]

_BACK_WITHIN_S = 300.0
_TRY_S = 2.0


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


def serves_again(bootstrap_servers: str, topic: str) -> None:
    """Return once a new client can write and commit: a broker answers long before it takes either."""
    deadline = time.monotonic() + _BACK_WITHIN_S
    while True:
        try:
            _write(bootstrap_servers, topic)
            _commit(bootstrap_servers, topic)
        except KafkaError:
            assert time.monotonic() < deadline, "Kafka does not serve a new client"
        else:
            return


def _write(bootstrap_servers: str, topic: str) -> None:
    producer: Any = KafkaProducer(
        bootstrap_servers=bootstrap_servers,
        acks="all",
        enable_idempotence=False,
        retries=0,
        max_block_ms=int(_TRY_S * 1000),
        delivery_timeout_ms=int(_TRY_S * 1000),
        request_timeout_ms=int(_TRY_S * 500),
    )
    try:
        producer.send(topic, b"probe").get(timeout=_TRY_S)
    finally:
        producer.close(timeout=1.0)


def _commit(bootstrap_servers: str, topic: str) -> None:
    consumer = KafkaConsumer(
        bootstrap_servers=bootstrap_servers, group_id=topic, enable_auto_commit=False
    )
    try:
        at = TopicPartition(topic, 0)
        consumer.assign([at])
        consumer.commit({at: OffsetAndMetadata(0, "", -1)}, timeout_ms=int(_TRY_S * 1000))
    finally:
        consumer.close(autocommit=False)
