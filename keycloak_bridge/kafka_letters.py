"""The dead-letter topic for an operator: read to its end, without a group."""

import time
from collections import defaultdict
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
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
_FETCH_WAIT_MS = 20
_POLL_RECORDS = 100
_CLOSE_TIMEOUT_MS = 5_000
_STALLED_S = 30.0
_OVERHEAD_BYTES = 2048
"""Headers and objects of a record, roughly."""

_WORTH_A_SEEK = 1000
"""Records to skip by reading on; a jump throws away what kafka-python has fetched ahead."""


class LetterReader:
    """Reads one topic as no member of any group: nothing is committed, nobody is disturbed."""

    def __init__(self, settings: KafkaSettings, topic: str, *, recent_bytes: int = 0) -> None:
        """Connect; raises BrokerError, or ConfigError where there is no such topic.

        Of the last records that came, `recent_bytes` stay in memory for `fetch`.
        """
        self._topic = topic
        self._recent = _Recent(recent_bytes)
        self._consumer: Any = connect(
            KafkaConsumer,
            settings,
            group_id=None,
            enable_auto_commit=False,
            auto_offset_reset="earliest",
            isolation_level="read_committed",
            allow_auto_create_topics=False,
            request_timeout_ms=_REQUEST_TIMEOUT_MS,
            # a jump waits for the fetch under way, and that one waits at the end of a partition
            fetch_max_wait_ms=_FETCH_WAIT_MS,
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

    def begin_at(self, timestamp_ms: int) -> None:
        """Have `read` begin with the first record of each partition that is not older than `timestamp_ms`."""
        asked = dict.fromkeys(self._partitions, max(timestamp_ms, 0))
        with translated(f"reading {self._topic}"):
            found = self._consumer.offsets_for_times(asked, timeout_ms=_REQUEST_TIMEOUT_MS)
            ends = self._ends()
            for partition in self._partitions:
                at = found.get(partition)
                self._consumer.seek(partition, ends[partition] if at is None else at.offset)

    def remaining(self) -> int:
        """Return how many offsets lie between the position and the present end; for a progress bar."""
        ends = self._ends()
        return sum(max(0, ends[at] - self._position(at)) for at in self._partitions)

    def fetch(self, places: Collection[Place]) -> Mapping[Place, Record]:
        """Return the records at `places`; one that is not there (any more) is left out.

        Moves the position: what `read` yields afterwards is any part of the topic.
        """
        asked = frozenset(places)
        found = self._recent.among(asked)
        missing = self._missing(asked - found.keys())
        self._read_only(missing)

        def wanted() -> set[KafkaTopicPartition]:
            """Forget what the position has passed, and jump where the next one is far."""
            for at, offsets in missing.items():
                while offsets and offsets[-1] < self._position(at):
                    offsets.pop()
                if offsets:
                    self._jump(at, offsets[-1])
            return {at for at, offsets in missing.items() if offsets}

        for record in self._until(wanted):
            place = Place(record.partition, record.offset)
            if place in asked:
                found[place] = record
        return found

    def _missing(self, places: Collection[Place]) -> Mapping[KafkaTopicPartition, list[int]]:
        """Return the offsets to look for by partition, the first one last; what the topic cannot have is left out."""
        ends = self._ends()
        missing: dict[KafkaTopicPartition, list[int]] = defaultdict(list)
        for partition, offset in sorted(places, reverse=True):
            at = KafkaTopicPartition(self._topic, partition)
            if offset < ends.get(at, 0):
                missing[at].append(offset)
        return missing

    def _read_only(self, missing: Mapping[KafkaTopicPartition, Sequence[int]]) -> None:
        """Read those partitions from the first missing record on, without a jump where it comes soon anyway.

        By assignment: kafka-python forgets what it holds of a partition that is paused and resumed (3.0.12).
        """
        if missing and missing.keys() != self._consumer.assignment():
            with translated(f"reading {self._topic}"):
                self._consumer.assign(list(missing))
                for at, offsets in missing.items():
                    self._consumer.seek(at, offsets[-1])
        for at, offsets in missing.items():
            self._jump(at, offsets[-1], back=True)

    def close(self) -> None:
        """Close the connection."""
        with translated("closing the consumer"):
            self._consumer.close(timeout_ms=_CLOSE_TIMEOUT_MS)

    def _until(self, wanted: Callable[[], set[KafkaTopicPartition]]) -> Iterator[Record]:
        """Yield records until no partition is `wanted`; raises when nothing comes any more."""
        idle_s = 0.0
        while wanted():
            before = self._progress()
            began_s = time.monotonic()
            with translated(f"reading {self._topic}"):
                batches = self._consumer.poll(timeout_ms=_POLL_MS, max_records=_POLL_RECORDS)
            waited_s = time.monotonic() - began_s
            idle_s = idle_s + waited_s if self._progress() == before else 0.0
            if idle_s > _STALLED_S:
                raise BrokerUnavailableError(
                    f"Kafka gives no records of topic {self._topic}",
                    remedy="check that the brokers are up and that the ACLs allow reading the topic",
                )
            records = [_record(raw) for batch in batches.values() for raw in batch]
            self._recent.keep(records)
            yield from records

    def _progress(self) -> int:
        return sum(map(self._position, self._consumer.assignment()))

    def _jump(self, partition: KafkaTopicPartition, offset: int, *, back: bool = False) -> None:
        """Move the position to `offset` where that is far ahead, or behind and `back` is allowed."""
        position = self._position(partition)
        if offset - position > _WORTH_A_SEEK or (back and offset < position):
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


class _Recent:
    """The last records that came, up to a number of bytes: what is fetched next was often read along already."""

    def __init__(self, limit_bytes: int) -> None:
        self._limit_bytes = limit_bytes
        self._records: dict[Place, Record] = {}
        self._bytes = 0

    def keep(self, records: Sequence[Record]) -> None:
        """Take in `records`, and let go of the oldest beyond the limit."""
        for record in records:
            place = Place(record.partition, record.offset)
            before = self._records.pop(place, None)
            self._bytes += _size(record) - (0 if before is None else _size(before))
            self._records[place] = record
        while self._bytes > self._limit_bytes:
            self._bytes -= _size(self._records.pop(next(iter(self._records))))

    def among(self, places: frozenset[Place]) -> dict[Place, Record]:
        """Return those of `places` that are still here."""
        return {place: self._records[place] for place in places & self._records.keys()}


def _size(record: Record) -> int:
    return _OVERHEAD_BYTES + len(record.value or b"")


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
