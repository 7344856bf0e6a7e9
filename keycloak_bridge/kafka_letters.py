"""The dead-letter topic for an operator: read to its end, without a group."""

import time
from collections import defaultdict
from collections.abc import Callable, Collection, Iterator, Mapping
from typing import Any

from kafka import KafkaConsumer
from kafka import TopicPartition as KafkaTopicPartition
from kafka import errors as kafka_errors

from keycloak_bridge.core.errors import BrokerUnavailableError, ConfigError
from keycloak_bridge.core.model import Record
from keycloak_bridge.core.replays import Place
from keycloak_bridge.kafka_client import connect, translated
from keycloak_bridge.settings import KafkaSettings

_REQUEST_TIMEOUT_MS = 15_000
_POLL_MS = 500
_POLL_RECORDS = 500
_CLOSE_TIMEOUT_MS = 5_000
_STALLED_S = 30.0
_WORTH_A_SEEK = 1000
"""Records to skip by reading on; a jump throws away what kafka-python has fetched ahead."""


class LetterReader:
    """Reads one topic as no member of any group: nothing is committed, nobody is disturbed."""

    def __init__(self, settings: KafkaSettings, topic: str) -> None:
        """Connect; raises BrokerError, or ConfigError where there is no such topic."""
        self._topic = topic
        self._consumer: Any = connect(
            KafkaConsumer,
            settings,
            group_id=None,
            enable_auto_commit=False,
            auto_offset_reset="earliest",
            isolation_level="read_committed",
            allow_auto_create_topics=False,
            request_timeout_ms=_REQUEST_TIMEOUT_MS,
            metrics_enabled=False,
        )
        try:
            self._partitions = self._assign()
        except BaseException:
            self.close()
            raise

    def _assign(self) -> list[KafkaTopicPartition]:
        numbers = self.partitions_of(self._topic)
        if not numbers:
            raise ConfigError(
                f"Kafka has no topic {self._topic} (dead letters)",
                code="topic-missing",
                remedy="check topics.dead_letters, or run `keycloak-bridge topics create`",
            )
        partitions = [KafkaTopicPartition(self._topic, number) for number in sorted(numbers)]
        with translated(f"reading {self._topic}"):
            begins = self._consumer.beginning_offsets(partitions, timeout_ms=_REQUEST_TIMEOUT_MS)
            self._consumer.assign(partitions)
            for partition in partitions:
                self._consumer.seek(partition, begins[partition])
        return partitions

    def partitions_of(self, topic: str) -> frozenset[int]:
        """Return the numbers of a topic's partitions, none for a topic that does not exist; creates nothing."""
        with translated("asking for topics"):
            return frozenset(self._consumer.partitions_for_topic(topic))

    def read(self) -> Iterator[Record]:
        """Yield what stands between where the last call ended (at first the beginning) and the present end.

        Records of a transaction that is still open, and everything behind them, stay for the next call.
        """
        ends = self._ends()
        yield from self._until(
            lambda: {at for at in self._partitions if self._position(at) < ends[at]}
        )

    def remaining(self) -> int:
        """Return how many offsets lie between the position and the present end; for a progress bar."""
        ends = self._ends()
        return sum(max(0, ends[at] - self._position(at)) for at in self._partitions)

    def fetch(self, places: Collection[Place]) -> Mapping[Place, Record]:
        """Return the records at `places`; one that is not there (any more) is left out.

        Moves the position: what `read` yields afterwards is any part of the topic.
        """
        ends = self._ends()
        missing: dict[KafkaTopicPartition, list[int]] = defaultdict(list)
        for partition, offset in sorted(places, reverse=True):
            at = KafkaTopicPartition(self._topic, partition)
            if offset < ends.get(at, 0):
                missing[at].append(offset)
        for at, offsets in missing.items():
            self._jump(at, offsets[-1])

        def wanted() -> set[KafkaTopicPartition]:
            """Forget what the position has passed, and jump where the next one is far."""
            for at, offsets in missing.items():
                position = self._position(at)
                while offsets and offsets[-1] < position:
                    offsets.pop()
                if offsets and offsets[-1] - position > _WORTH_A_SEEK:
                    self._jump(at, offsets[-1])
            return {at for at, offsets in missing.items() if offsets}

        found = ((Place(one.partition, one.offset), one) for one in self._until(wanted))
        asked = frozenset(places)
        return {place: record for place, record in found if place in asked}

    def close(self) -> None:
        """Close the connection."""
        with translated("closing the consumer"):
            self._consumer.close(timeout_ms=_CLOSE_TIMEOUT_MS)

    def _until(self, wanted: Callable[[], set[KafkaTopicPartition]]) -> Iterator[Record]:
        """Yield records of the partitions that are `wanted` until none is; raises when nothing comes any more."""
        idle_s = 0.0
        while behind := wanted():
            before = self._progress()
            began_s = time.monotonic()
            with translated(f"reading {self._topic}"):
                self._fetch_only(behind)
                batches = self._consumer.poll(timeout_ms=_POLL_MS, max_records=_POLL_RECORDS)
            waited_s = time.monotonic() - began_s
            idle_s = idle_s + waited_s if self._progress() == before else 0.0
            if idle_s > _STALLED_S:
                raise BrokerUnavailableError(
                    f"Kafka gives no records of topic {self._topic}",
                    remedy="check that the brokers are up and that the ACLs allow reading the topic",
                )
            for batch in batches.values():
                yield from map(_record, batch)

    def _progress(self) -> int:
        return sum(map(self._position, self._partitions))

    def _fetch_only(self, wanted: set[KafkaTopicPartition]) -> None:
        paused = self._consumer.paused()
        for partition in self._partitions:
            if (partition in wanted) is (partition in paused):
                (self._consumer.resume if partition in paused else self._consumer.pause)(partition)

    def _jump(self, partition: KafkaTopicPartition, offset: int) -> None:
        position = self._position(partition)
        if not position <= offset <= position + _WORTH_A_SEEK:
            with translated(f"reading {self._topic}"):
                self._consumer.seek(partition, offset)

    def _position(self, partition: KafkaTopicPartition) -> int:
        with translated(f"reading {self._topic}"):
            at = self._consumer.position(partition, timeout_ms=_REQUEST_TIMEOUT_MS)
            if at is None:
                raise kafka_errors.KafkaTimeoutError("no position")
            return int(at)

    def _ends(self) -> Mapping[KafkaTopicPartition, int]:
        with translated("reading end offsets"):
            ends: Mapping[KafkaTopicPartition, int] = self._consumer.end_offsets(
                self._partitions, timeout_ms=_REQUEST_TIMEOUT_MS
            )
        return ends


def _record(raw: Any) -> Record:
    return Record(
        topic=raw.topic,
        partition=raw.partition,
        offset=raw.offset,
        timestamp_ms=raw.timestamp,
        key=raw.key,
        value=raw.value,
        headers=tuple((name, value) for name, value in raw.headers),
    )
