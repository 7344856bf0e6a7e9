"""What a bridge needs to run without a Keycloak: the stub in its place, Kafka alone, and topics of its own."""

import contextlib
import json
import os
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kafka import KafkaAdminClient, KafkaConsumer, KafkaProducer, TopicPartition

from bench.users import events
from keycloak_bridge.sandbox.distribution import Distribution, cache_dir
from keycloak_bridge.sandbox.options import silent
from keycloak_bridge.sandbox.services import KafkaBroker

ROOT = Path(__file__).parents[1]
BRIDGE = [sys.executable, "-m", "keycloak_bridge"]
PREFIX = "KEYCLOAK_BRIDGE_"
_PORTION = 2000
_STOP_S = 60.0


@dataclass(frozen=True, slots=True)
class Service:
    """Where a service is, and which process it is; None where somebody else started it."""

    address: str
    pid: int | None


def environment(
    bootstrap_servers: str, url: str, suffix: str, partitions: int, **more: str
) -> dict[str, str]:
    """Return the environment in which a bridge finds both services and the topics that end in `suffix`.

    `more` are settings by the names of their variables, such as `DELIVERY_WORKERS`.
    """
    outside = {name: value for name, value in os.environ.items() if not name.startswith(PREFIX)}
    settings = {
        "KAFKA_BOOTSTRAP_SERVERS": bootstrap_servers,
        "KAFKA_GROUP_ID": f"bench-{suffix}",
        "KEYCLOAK_URL": url,
        "KEYCLOAK_REALM": "acme",
        "KEYCLOAK_CLIENT_SECRET": "any",
        "INVITE_MODE": "none",
        "TOPICS_EVENTS": f"events-{suffix}",
        "TOPICS_INVITATIONS": f"invitations-{suffix}",
        "TOPICS_RESULTS": f"results-{suffix}",
        "TOPICS_DEAD_LETTERS": f"dead-letters-{suffix}",
        "TOPICS_PARTITIONS": str(partitions),
        "HEALTH_PORT": "0",
        "MAPPING_FILE": str(ROOT / "bench" / "mapping.toml"),
    }
    own = {f"{PREFIX}{name}": value for name, value in (settings | more).items()}
    return outside | {"PYTHONPATH": str(ROOT)} | own


def create_topics(settings: Mapping[str, str], folder: str) -> None:
    """Create the topics of a bridge with this environment."""
    create = [*BRIDGE, "topics", "create"]
    subprocess.run(create, env=settings, cwd=folder, check=True, stdout=subprocess.DEVNULL)  # noqa: S603


@contextlib.contextmanager
def running(
    settings: Mapping[str, str], folder: str, count: int = 1
) -> Iterator[list["subprocess.Popen[bytes]"]]:
    """Run so many bridges meanwhile, which end together; each has its log in the folder (`log_file`)."""
    bridges: list[subprocess.Popen[bytes]] = []
    try:
        for number in range(count):
            with log_file(folder, number).open("wb") as log:
                bridges.append(
                    subprocess.Popen([*BRIDGE, "run"], env=settings, cwd=folder, stderr=log)  # noqa: S603
                )
        yield bridges
    finally:
        for bridge in bridges:
            bridge.terminate()
        for bridge in bridges:
            try:
                bridge.wait(_STOP_S)
            except subprocess.TimeoutExpired:
                bridge.kill()
                bridge.wait()


def log_file(folder: str, number: int = 0) -> Path:
    """Return the log of a bridge that `running` started, the first or another."""
    return Path(folder, f"bridge-{number}.log")


@contextlib.contextmanager
def stub(folder: str, *options: str) -> Iterator[Service]:
    """Run `bench.stub_keycloak` with these options meanwhile, on a free port."""
    with Path(folder, "stub.log").open("w") as log:
        process = subprocess.Popen(  # noqa: S603
            [sys.executable, "-m", "bench.stub_keycloak", "--port", "0", *options],
            cwd=ROOT,
            stdout=subprocess.PIPE,
            stderr=log,
            text=True,
        )
    try:
        yield Service(json.loads(next(process.stdout or iter(())))["url"], process.pid)
    finally:
        process.terminate()
        process.communicate()


@contextlib.contextmanager
def kafka() -> Iterator[Service]:
    """Run the sandbox's Kafka alone meanwhile."""
    stop = threading.Event()
    with tempfile.TemporaryDirectory() as folder:
        distribution = Distribution(cache_dir(), silent, silent, stop)
        distribution.logs = Path(folder)
        jars = distribution.kafka_jars()
        broker = KafkaBroker(distribution.java, jars, Path(folder, "kafka"), cancelled=stop)
        try:
            broker.start()
            yield Service(broker.bootstrap_servers, broker.pid)
        finally:
            broker.stop()


@contextlib.contextmanager
def ends(bootstrap_servers: str, topic: str, partitions: int) -> Iterator[Callable[[], int]]:
    """Lend a call that tells how many records the topic has."""
    consumer: Any = KafkaConsumer(bootstrap_servers=bootstrap_servers, metrics_enabled=False)
    places = [TopicPartition(topic, number) for number in range(partitions)]
    try:
        yield lambda: sum(consumer.end_offsets(places).values())
    finally:
        consumer.close()


def delete(bootstrap_servers: str, suffix: str) -> None:
    """Delete the topics that end in `suffix`; a bridge that mails nobody has no invitations' topic."""
    admin: Any = KafkaAdminClient(bootstrap_servers=bootstrap_servers)
    try:
        names = ("events", "results", "dead-letters")
        admin.delete_topics([f"{name}-{suffix}" for name in names])
    finally:
        admin.close()


def flood(bootstrap_servers: str, topic: str, tag: str, count: int) -> None:
    """Publish `count` distinct events fast, which no other tag has."""
    producer: Any = KafkaProducer(
        bootstrap_servers=bootstrap_servers, acks=1, linger_ms=50, batch_size=256 * 1024
    )
    try:
        for left in range(count, 0, -_PORTION):
            for key, value in events(f"{tag}{left}x", min(_PORTION, left)):
                producer.send(topic, key=key, value=value)
        producer.flush()
    finally:
        producer.close()
