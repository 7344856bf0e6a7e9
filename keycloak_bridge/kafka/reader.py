"""One topic for an operator: read from a beginning to an end, without a group."""

import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from typing import Any

from kafka import KafkaConsumer
from kafka import TopicPartition as KafkaTopicPartition
from kafka import errors as kafka_errors
from kafka.partitioner.default import murmur2

from keycloak_bridge.domain.errors import BrokerUnavailableError, ConfigError
from keycloak_bridge.domain.events import Record
from keycloak_bridge.kafka.client import connect, record_of, translated
from keycloak_bridge.kafka.fetched import CarefulFetcher, unreadable_position
from keycloak_bridge.settings.model import KafkaSettings

REQUEST_TIMEOUT_MS = 15_000
_POLL_MS = 500
_FETCH_WAIT_MS = 20
_POLL_RECORDS = 100
_CLOSE_TIMEOUT_MS = 5_000
_STALLED_S = 30.0
_POSITIVE = 0x7FFFFFFF


class TopicReader:
    """Reads one topic without a group: nothing is committed, no other consumer is disturbed."""

    def __init__(
        self,
        settings: KafkaSettings,
        topic: str,
        *,
        setting: str = "topics.events",
        committed_only: bool = True,
    ) -> None:
        """Connect; raises BrokerError, or ConfigError, which names `setting`, where there is no such topic.

        Unless `committed_only`, records of transactions that are open or were aborted are read too.
        """
        self._topic = topic
        self._limits: Mapping[KafkaTopicPartition, int] = {}
        self.is_cut = False
        """Whether the first records are gone, by retention or because they were deleted."""
        self._consumer: Any = connect(
            KafkaConsumer,
            settings,
            group_id=None,
            enable_auto_commit=False,
            auto_offset_reset="earliest",
            isolation_level="read_committed" if committed_only else "read_uncommitted",
            allow_auto_create_topics=False,
            request_timeout_ms=REQUEST_TIMEOUT_MS,
            # a jump waits for the fetch under way, and that one waits at the end of a partition
            fetch_max_wait_ms=_FETCH_WAIT_MS,
            metrics_enabled=False,
        )
        self._fetched = CarefulFetcher(self._consumer)
        try:
            self._partitions = self._all = self._all_partitions(setting)
            self._assign()
        except BaseException:
            self.close()
            raise

    def _all_partitions(self, setting: str) -> list[KafkaTopicPartition]:
        numbers = self.partitions_of(self._topic)
        if not numbers:
            raise ConfigError(
                f"Kafka has no topic {self._topic} ({setting})",
                code="topic-missing",
                remedy=f"check {setting}, or run `keycloak-bridge topics create`",
            )
        return [KafkaTopicPartition(self._topic, number) for number in sorted(numbers)]

    def _assign(self) -> None:
        with translated(f"reading {self._topic}"):
            begins = self._begins()
            self.is_cut = any(begins.values())
            self._consumer.assign(self._partitions)
            for partition in self._partitions:
                self._consumer.seek(partition, begins[partition])

    def partitions_of(self, topic: str) -> frozenset[int]:
        """Return the numbers of a topic's partitions, none for a topic that does not exist; creates nothing."""
        with translated("asking for topics"):
            return frozenset(self._consumer.partitions_for_topic(topic))

    def only_keys(self, keys: Collection[bytes]) -> None:
        """Have `read` yield only the partitions, from their beginning, on which producers put `keys`.

        That is where they are if the topic never had another number of partitions.
        """
        numbers = {(murmur2(key) & _POSITIVE) % len(self._all) for key in keys}
        self._partitions = [self._all[number] for number in sorted(numbers)]
        self._assign()

    def all_keys(self) -> None:
        """Have `read` yield all partitions, from their beginning."""
        self._partitions = self._all
        self._assign()

    def read(self) -> Iterator[Record]:
        """Yield the records between where the last call ended (at first the beginning) and the present end.

        Records of a transaction that is still open, and everything behind them, stay for the next call.
        """
        ends, limits = self._ends(), self._limits
        for record in self._until(
            lambda: {at for at in self._partitions if self._position(at) < ends[at]}
        ):
            limit = limits.get(KafkaTopicPartition(record.topic, record.partition))
            if limit is None or record.offset < limit:
                yield record

    def begin_at(self, timestamp_ms: int) -> None:
        """Have `read` begin with the first record of each partition that is not older than `timestamp_ms`."""
        for partition, offset in self._offsets_at(timestamp_ms).items():
            with translated(f"reading {self._topic}"):
                self._consumer.seek(partition, offset)

    def begin_near_end(self, count: int, not_before_ms: int | None = None) -> frozenset[int]:
        """Have `read` begin `count` offsets before the end of each partition; return those of which that leaves out records.

        Records before the first one that is not older than `not_before_ms` are neither read nor left out.
        """
        ends = self._ends()
        firsts = self._begins() if not_before_ms is None else self._offsets_at(not_before_ms)
        starts = {at: max(firsts[at], ends[at] - count) for at in self._partitions}
        with translated(f"reading {self._topic}"):
            for partition, start in starts.items():
                self._consumer.seek(partition, start)
        return frozenset(at.partition for at, start in starts.items() if start > firsts[at])

    def follow(self) -> Iterator[Sequence[Record]]:
        """Yield what comes from where the last `read` ended, for ever, and nothing each half second in which nothing came.

        Partitions that the topic is given meanwhile are read too; a topic that is made anew is read from its beginning.
        """
        while True:
            self._take_new_partitions()
            with translated(f"reading {self._topic}"):
                batches = self._consumer.poll(timeout_ms=_POLL_MS, max_records=_POLL_RECORDS)
            self._read_on_after_trouble()
            records = [record_of(raw) for batch in batches.values() for raw in batch]
            self._seen(records)
            yield records

    def _take_new_partitions(self) -> None:
        """Assign partitions that kafka-python has heard of since; it asks for them every few minutes."""
        numbers = self.partitions_of(self._topic) - {at.partition for at in self._all}
        if not numbers:
            return
        new = [KafkaTopicPartition(self._topic, number) for number in sorted(numbers)]
        positions = {at: self._position(at) for at in self._partitions} | dict.fromkeys(new, 0)
        self._all = [*self._all, *new]
        self._partitions = list(positions)
        with translated(f"reading {self._topic}"):
            self._consumer.assign(self._partitions)
            for partition, position in positions.items():
                self._consumer.seek(partition, position)

    def end_at(self, timestamp_ms: int) -> None:
        """Have `read` end before the first record of each partition that is not older than `timestamp_ms`."""
        self._limits = self._offsets_at(timestamp_ms)

    def remaining(self) -> int:
        """Return how many offsets lie between the position and the end of `read`; for a progress bar."""
        ends = self._ends()
        return sum(max(0, ends[at] - self._position(at)) for at in self._partitions)

    def close(self) -> None:
        """Close the connection."""
        with translated("closing the consumer"):
            self._consumer.close(timeout_ms=_CLOSE_TIMEOUT_MS)

    def _offsets_at(self, timestamp_ms: int) -> Mapping[KafkaTopicPartition, int]:
        """Return the first offset of each partition that is not older; its present end where there is none."""
        asked = dict.fromkeys(self._partitions, max(timestamp_ms, 0))
        with translated(f"reading {self._topic}"):
            found = self._consumer.offsets_for_times(asked, timeout_ms=REQUEST_TIMEOUT_MS)
        ends = self._ends()
        first = {at: found.get(at) for at in self._partitions}
        return {at: ends[at] if one is None else one.offset for at, one in first.items()}

    def _until(self, wanted: Callable[[], set[KafkaTopicPartition]]) -> Iterator[Record]:
        """Yield records until no partition is `wanted`; raises when nothing comes any more."""
        idle_s = 0.0
        while wanted():
            before = self._progress()
            began_s = time.monotonic()
            with translated(f"reading {self._topic}"):
                batches = self._consumer.poll(timeout_ms=_POLL_MS, max_records=_POLL_RECORDS)
            waited_s = time.monotonic() - began_s
            records = [record_of(raw) for batch in batches.values() for raw in batch]
            self._seen(records)
            yield from records  # before anything can fail: the positions are behind them already
            self._read_on_after_trouble()
            idle_s = idle_s + waited_s if self._progress() == before else 0.0
            if idle_s > _STALLED_S:
                reason = self._fetched.trouble()
                if reason is not None:
                    raise unreadable_position(reason)
                raise BrokerUnavailableError(
                    f"Kafka gives no records of topic {self._topic}",
                    remedy="check that the brokers are up and that the ACLs allow reading the topic",
                )

    def _read_on_after_trouble(self) -> None:
        """Fetch a partition again that was put to rest after a failure."""
        with translated(f"reading {self._topic}"):
            for partition in self._consumer.paused():
                if not self._fetched.rests(partition):
                    self._consumer.resume(partition)

    def _seen(self, records: Sequence[Record]) -> None:
        """See the records that were polled, before they are yielded."""

    def _progress(self) -> int:
        return sum(map(self._position, self._consumer.assignment()))

    def _position(self, partition: KafkaTopicPartition) -> int:
        with translated(f"reading {self._topic}"):
            at = self._consumer.position(partition, timeout_ms=REQUEST_TIMEOUT_MS)
            if at is None:
                raise kafka_errors.KafkaTimeoutError("no position")
            return int(at)

    def _begins(self) -> Mapping[KafkaTopicPartition, int]:
        with translated(f"reading {self._topic}"):
            begins: Mapping[KafkaTopicPartition, int] = self._consumer.beginning_offsets(
                self._partitions, timeout_ms=REQUEST_TIMEOUT_MS
            )
        return begins

    def _ends(self) -> Mapping[KafkaTopicPartition, int]:
        with translated("reading end offsets"):
            ends: Mapping[KafkaTopicPartition, int] = self._consumer.end_offsets(
                self._partitions, timeout_ms=REQUEST_TIMEOUT_MS
            )
        return {at: min(end, self._limits.get(at, end)) for at, end in ends.items()}
