"""Find out when Kafka is back for a client of its own: a broker answers long before it takes records and commits."""

import time
from typing import Any

from kafka import KafkaConsumer, KafkaProducer, OffsetAndMetadata, TopicPartition
from kafka.errors import KafkaError

_PATIENCE_S = 120.0
_TRY_S = 2.0


def serves_again(bootstrap_servers: str, topic: str) -> None:
    """Return once a new client can write to `topic` and commit in a group of its own."""
    deadline = time.monotonic() + _PATIENCE_S
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
