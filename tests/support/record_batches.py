"""Batches of records as bytes, among them such as no client would write, and a fetcher of kafka-python that gets them."""

import struct
from collections.abc import Callable, Sequence
from types import SimpleNamespace
from typing import Any, Self

from kafka import TopicPartition as KafkaTopicPartition
from kafka.consumer.fetcher import CompletedFetch, Fetcher
from kafka.consumer.subscription_state import SubscriptionState
from kafka.record import default_records
from kafka.record.default_records import DefaultRecordBatchBuilder
from kafka.record.util import calc_crc32c

from keycloak_bridge.kafka.client import record_of
from keycloak_bridge.kafka.fetched import CarefulFetcher

CODECS = {None: 0, "gzip": 1, "snappy": 2, "lz4": 3, "zstd": 4}
RawRecord = tuple[bytes | None, bytes | None, Sequence[tuple[bytes, bytes | None]]]
"""Key, value and headers; the names of headers are bytes too."""

NOT_UTF8 = b"x-\xff"


class RawName(str):
    """Is text to kafka-python, and writes the bytes that it was made of."""

    raw: bytes

    def __new__(cls, raw: bytes) -> Self:
        name = super().__new__(cls, raw.decode("latin-1"))
        name.raw = raw
        return name

    def encode(self, *_: Any) -> bytes:
        """Return the bytes, whatever the encoding."""
        return self.raw


def batch(
    *records: RawRecord, codec: str | None = None, base: int = 0, limit: int = 2**30
) -> bytearray:
    """Return a batch as the broker stores it, from offset `base` on."""
    builder: Any = DefaultRecordBatchBuilder(
        magic=2,
        compression_type=CODECS[codec],
        is_transactional=False,
        producer_id=-1,
        producer_epoch=-1,
        base_sequence=-1,
        batch_size=limit,
    )
    for number, (key, value, headers) in enumerate(records):
        names = [(RawName(name), content) for name, content in headers]
        builder.append(number, 1_000 + number, key, value, names)
    built = bytearray(builder.build())
    struct.pack_into(">q", built, 0, base)
    return built


def with_checksum(changed: bytearray) -> bytearray:
    """Return the batch with the checksum that it should have."""
    base: Any = default_records.DefaultRecordBase
    checksum: int = calc_crc32c(  # type: ignore[no-untyped-call]
        memoryview(changed)[base.ATTRIBUTES_OFFSET :]
    )
    struct.pack_into(">I", changed, base.CRC_OFFSET, checksum)
    return changed


class Fetching:
    """A fetcher of kafka-python without a broker, made careful; each partition begins at offset 0."""

    def __init__(
        self,
        *partitions: KafkaTopicPartition,
        now_s: Callable[[], float] = lambda: 0.0,
        **options: Any,
    ) -> None:
        self.paused: set[KafkaTopicPartition] = set()
        subscriptions: Any = SubscriptionState()
        subscriptions.assign_from_user(list(partitions))
        for at in partitions:
            subscriptions.seek(at, 0)
        manager = SimpleNamespace(_net=None, cluster=None)
        self.fetcher: Any = Fetcher(
            SimpleNamespace(_manager=manager), subscriptions, isolation_level="read_committed"
        )
        self.subscriptions = subscriptions
        self._fetcher = self.fetcher
        self.care = CarefulFetcher(self, now_s=now_s, **options)

    def assignment(self) -> set[KafkaTopicPartition]:
        """Return what is assigned, as a consumer does."""
        return set(self.subscriptions.assigned_partitions())

    def pause(self, partition: KafkaTopicPartition) -> None:
        """Note it, as a consumer would do it."""
        self.paused.add(partition)
        self.subscriptions.pause(partition)

    def resume(self) -> None:
        """Have everything fetched again, as the next poll does."""
        for partition in self.assignment():
            self.subscriptions.resume(partition)

    def position(self, at: KafkaTopicPartition) -> int:
        """Return the next offset to fetch."""
        return int(self.subscriptions.assignment[at].position.offset)

    def arrive(
        self,
        at: KafkaTopicPartition,
        *batches: bytes | bytearray,
        error_code: int = 0,
        end: int = 1_000,
    ) -> None:
        """Let a fetch from the present position have been answered."""
        data = SimpleNamespace(
            error_code=error_code,
            high_watermark=end,
            diverging_epoch=None,
            records=b"".join(batches),
            aborted_transactions=[],
            preferred_read_replica=-1,
            current_leader=None,
        )
        self.fetcher._completed_fetches.append(
            CompletedFetch(at, self.position(at), 12, data, None)
        )

    def take(self, count: int = 500) -> list[Any]:
        """Return what one poll would, as records of the bridge."""
        found, _ = self.fetcher.fetched_records(count)
        return [record_of(raw) for records in found.values() for raw in records]
