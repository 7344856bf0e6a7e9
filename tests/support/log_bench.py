"""Topics in memory behind `plan --from-topic`, `reconcile` and `explain`, read as the real ones."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from cli_harness import Bench

from keycloak_bridge.app import connections
from keycloak_bridge.domain.errors import ConfigError
from keycloak_bridge.domain.events import Record
from keycloak_bridge.kafka import dead_letter_topic as kafka_letters
from keycloak_bridge.kafka import reader as kafka_reader
from keycloak_bridge.settings import KafkaSettings

EVENTS = "user-events"
RESULTS = "user-results"
DEAD_LETTERS = "user-events-dead-letters"
_STRUCTURED = (("content-type", b"application/cloudevents+json"),)


class LogBench(Bench):
    """A bench with a Kafka in memory; a record's timestamp is what `since` and `until` look at."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        super().__init__(folder, monkeypatch)
        self.log: dict[str, list[Record]] = {EVENTS: [], RESULTS: [], DEAD_LETTERS: []}
        self.open = 0
        self.keys: list[bytes] = []
        self.wrong_partition = False
        self.cut = False
        monkeypatch.setattr(kafka_reader, "TopicReader", self._reader)
        monkeypatch.setattr(kafka_letters, "DeadLetterReader", self._reader)
        monkeypatch.setattr(connections, "each_user", lambda *_: iter(self.keycloak.users()))

    def publish(self, *events: Any, topic: str = EVENTS, timestamp_ms: int = 0) -> None:
        """Put events into a topic as the next records; what is bytes is the value itself."""
        for event in events:
            is_event = isinstance(event, dict)
            key = str(event["subject"]).encode() if is_event else None
            value = json.dumps(event).encode() if is_event else event
            log = self.log[topic]
            log.append(Record(topic, 1, len(log), timestamp_ms, key, value, _STRUCTURED))

    def lines(self, *arguments: str) -> list[dict[str, Any]]:
        """Run a command with --format json and return its lines."""
        result = self.run(*arguments, "--format", "json")
        return [json.loads(line) for line in result.stdout.splitlines()]

    def _reader(self, _settings: KafkaSettings, topic: str, **_: Any) -> "InMemoryTopicReader":
        if topic not in self.log:
            raise ConfigError(f"Kafka has no topic {topic}", code="topic-missing")
        self.open += 1
        return InMemoryTopicReader(self, topic)


class InMemoryTopicReader:
    """Promises what `TopicReader` does, of one partition."""

    def __init__(self, bench: LogBench, topic: str) -> None:
        self._bench = bench
        self._records = list(bench.log[topic])

    @property
    def is_cut(self) -> bool:
        return self._bench.cut

    def begin_at(self, timestamp_ms: int) -> None:
        self._records = [one for one in self._records if one.timestamp_ms >= timestamp_ms]

    def end_at(self, timestamp_ms: int) -> None:
        self._records = [one for one in self._records if one.timestamp_ms < timestamp_ms]

    def only_key(self, key: bytes) -> None:
        self._bench.keys.append(key)
        if self._bench.wrong_partition:
            self._records = []

    def remaining(self) -> int:
        return len(self._records)

    def read(self) -> Iterator[Record]:
        yield from self._records

    def close(self) -> None:
        self._bench.open -= 1
