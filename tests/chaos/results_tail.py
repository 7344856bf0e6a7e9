"""The results topic read to its end again and again, by one consumer that stays."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from kafka import KafkaConsumer, TopicPartition

_POLL_MS = 50


@dataclass(frozen=True, slots=True)
class Told:
    """One result: when it was written (seconds since 1970), its own id, and what it says."""

    at_s: float
    id: str
    data: Mapping[str, Any]

    @property
    def outcome(self) -> str:
        """What became of the record."""
        return str(self.data["outcome"])

    @property
    def is_of_a_mail(self) -> bool:
        """Say whether it tells of a mail and not of an event."""
        return "eventType" not in self.data and self.data.get("keycloakId") is not None


class ResultsTail:
    """Every result so far. It bears outages of Kafka: what cannot be read now is read later."""

    def __init__(self, topic: str, bootstrap_servers: str) -> None:
        self._told: list[Told] = []
        self._consumer: Any = KafkaConsumer(
            bootstrap_servers=bootstrap_servers,
            enable_auto_commit=False,
            metrics_enabled=False,
            reconnect_backoff_max_ms=200,
        )
        numbers = self._consumer.partitions_for_topic(topic)
        self._consumer.assign([TopicPartition(topic, number) for number in sorted(numbers)])
        self._consumer.seek_to_beginning()

    def told(self) -> list[Told]:
        """Read what is new and return all results."""
        while batches := self._consumer.poll(timeout_ms=_POLL_MS):
            for batch in batches.values():
                self._told += map(_told, batch)
        return self._told

    def close(self) -> None:
        """Leave Kafka."""
        self._consumer.close()


def _told(record: Any) -> Told:
    event = json.loads(record.value)
    return Told(record.timestamp / 1000, event["id"], event["data"])
