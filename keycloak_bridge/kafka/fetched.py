"""What was fetched of a partition, unpacked so that nothing in it stops the others.

kafka-python 3.0 gives a poll up for one record that it cannot unpack, and then loops for ever inside the next one, since
the rest of that fetch is never dropped. Here such a record is one like any other: with its bytes where they can be had,
else by reference, with the reason in place of the bytes. A record that unpacks to more than is allowed is passed over
without being held in memory, and one poll returns few of those that are nearly as large: a batch of a megabyte may unpack to
gigabytes.
"""

import contextlib
import io
import struct
import time
import zlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

from kafka import TopicPartition as KafkaTopicPartition
from kafka import codec
from kafka import errors as kafka_errors
from kafka.consumer.fetcher import ConsumerRecord, Fetcher
from kafka.protocol.consumer import IsolationLevel
from kafka.record.default_records import DefaultRecordBase
from kafka.record.memory_records import MemoryRecords
from kafka.record.util import decode_varint

from keycloak_bridge.domain.errors import BrokerUnavailableError
from keycloak_bridge.domain.events import Unreadable

LARGEST_RECORD_BYTES = 32 * 1024 * 1024
"""What a record may unpack to, unless the settings allow events that are larger."""

_READS = 3
"""How often a batch with a wrong checksum is fetched: it may have been damaged on its way."""

_FAILURES = 5
"""How often a broker may call the records at a position corrupt before that position is passed over."""

_FIRST_REST_S, _LONGEST_REST_S = 0.5, 5.0
_CHUNK_BYTES = 1024 * 1024
_LONGEST_NUMBER = 10
_HEAD_BYTES = 64
"""Enough for the attributes, the time and the offset of a record."""

_codecs: Any = codec
"""Its types do not know the libraries that it has."""

_NO_HEADERS: tuple[tuple[str, bytes | None], ...] = ()


class FetchedRecord(ConsumerRecord):
    """A record as kafka-python returns them, that says why it cannot be read."""

    unreadable: Unreadable


@dataclass(slots=True)
class _Trouble:
    """What is wrong at a position; `rest_until_s` is when it is fetched again."""

    offset: int
    reason: str
    times: int = 0
    rest_until_s: float = 0.0
    fetch_failed: bool = True


class CarefulFetcher:
    """Takes the place of what unpacks the fetches of one consumer. Used by the thread that polls."""

    def __init__(
        self,
        consumer: Any,
        *,
        largest_record_bytes: int = LARGEST_RECORD_BYTES,
        now_s: Callable[[], float] = time.monotonic,
    ) -> None:
        fetcher = consumer._fetcher  # noqa: SLF001 # there is no public way
        self.largest_record_bytes = largest_record_bytes
        self._consumer = consumer
        self._fetcher = fetcher
        self._now_s = now_s
        self._troubles: dict[KafkaTopicPartition, _Trouble] = {}
        self._out_of_range: dict[KafkaTopicPartition, int] = {}
        self._parse_fetched_data = fetcher._parse_fetched_data  # noqa: SLF001
        fetcher._parse_fetched_data = self._parse  # noqa: SLF001
        self._fetched_records = fetcher.fetched_records
        self._left_bytes = 0
        fetcher.fetched_records = self._poll
        fetcher.PartitionRecords = partial(_PartitionRecords, self)

    def out_of_range(self) -> Mapping[KafkaTopicPartition, int]:
        """Return the positions that the brokers did not have, so that they are set back; each of them once."""
        found, self._out_of_range = self._out_of_range, {}
        return found

    def rests(self, partition: KafkaTopicPartition) -> bool:
        """Say whether `partition` should not be fetched for now, because it failed just before."""
        trouble = self._troubles.get(partition)
        return trouble is not None and self._now_s() < trouble.rest_until_s

    def trouble(self) -> str | None:
        """Return which record of an assigned partition cannot be read now, and why; None where all is well."""
        assigned = self._consumer.assignment()
        for partition in self._troubles.keys() - assigned:
            del self._troubles[partition]
        for at, trouble in sorted(self._troubles.items()):
            return f"{at.topic}/{at.partition}@{trouble.offset} cannot be read: {trouble.reason}"
        return None

    def used(self, size: int, partition: KafkaTopicPartition) -> bool:
        """Note that a record of `size` bytes was unpacked; say whether this poll may have another one of `partition`.

        Where not, the rest of it is set aside as of a partition that is paused, until it is resumed for the next poll.
        """
        self._left_bytes -= size
        if self._left_bytes > 0:
            return True
        # it may have been taken away meanwhile
        with contextlib.suppress(KeyError):
            self._consumer.pause(partition)
        return False

    def _poll(self, max_records: int | None = None, *rest: Any, **options: Any) -> Any:
        self._left_bytes = self.largest_record_bytes
        self._let_go_of_leftovers()
        return self._fetched_records(max_records, *rest, **options)

    def _let_go_of_leftovers(self) -> None:
        """Keep kafka-python from fetching again for ever while it holds the empty rest of a fetch (3.0.12).

        It sets aside a partition that is paused half-read, and takes it up again only when nothing is being read; the
        empty rest of another partition counts as something, so that the partition would never be delivered again.
        """
        if not self._fetcher._next_partition_records:  # noqa: SLF001
            self._fetcher._next_partition_records = None  # noqa: SLF001

    def reads_again(self, partition: KafkaTopicPartition, offset: int, reason: str) -> bool:
        """Note that what was fetched from `offset` on is damaged; say whether it is to be fetched once more."""
        trouble = self._noted(partition, offset, reason)
        trouble.fetch_failed = False
        if trouble.times < _READS:
            return True
        self.passed(partition)
        return False

    def passed(self, partition: KafkaTopicPartition) -> None:
        """Note that the partition is being read."""
        self._troubles.pop(partition, None)

    def _noted(self, partition: KafkaTopicPartition, offset: int, reason: str) -> _Trouble:
        trouble = self._troubles.get(partition)
        if trouble is None or trouble.offset != offset:
            trouble = self._troubles[partition] = _Trouble(offset, reason)
        trouble.times += 1
        trouble.reason = reason
        return trouble

    def _parse(self, fetch: Any) -> Any:
        """Return the records of one partition's fetch, None where there are none; only a refusal is raised."""
        partition, offset = fetch.topic_partition, fetch.fetched_offset
        try:
            records = self._parse_fetched_data(fetch)
        except kafka_errors.AuthorizationError:
            raise
        except Exception as error:  # noqa: BLE001 # one partition must not take the others with it
            return self._failed(partition, offset, error)
        if fetch.partition_data.error_code == kafka_errors.OffsetOutOfRangeError.errno:
            self._note_reset(partition, offset)
        if records is not None:
            records.end = fetch.partition_data.high_watermark
            trouble = self._troubles.get(partition)
            if trouble is not None and (trouble.fetch_failed or trouble.offset != offset):
                self.passed(partition)
        return records

    def _note_reset(self, partition: KafkaTopicPartition, offset: int) -> None:
        """Note the position unless the answer was outdated, or a follower's that only lags."""
        subscriptions = self._fetcher._subscriptions  # noqa: SLF001
        if subscriptions.is_assigned(partition) and subscriptions.is_offset_reset_needed(partition):
            self._out_of_range[partition] = offset

    def _failed(self, partition: KafkaTopicPartition, offset: int, error: Exception) -> Any:
        """Let the partition rest; what stays corrupt is passed over, one offset at a time."""
        trouble = self._noted(partition, offset, _said(error))
        if trouble.times >= _FAILURES and _is_corrupt(error):
            self.passed(partition)
            records = _PartitionRecords(self, offset, partition, MemoryRecords(b""))
            records.only(_unreadable(partition, offset, trouble.reason))
            return records
        rest_s = min(_FIRST_REST_S * 2 ** (trouble.times - 1), _LONGEST_REST_S)
        trouble.rest_until_s = self._now_s() + rest_s
        # it may have been taken away meanwhile
        with contextlib.suppress(KeyError):
            self._consumer.pause(partition)
        return None


class _PartitionRecords(Fetcher.PartitionRecords):
    """The records of one fetch of a partition; iterating over them never raises, and always comes to an end."""

    end = -1
    """The partition's high watermark."""

    def __init__(self, care: CarefulFetcher, *arguments: Any, **options: Any) -> None:
        self._care = care
        super().__init__(*arguments, **options)

    def take(self, n: int | None = None) -> list[Any]:
        """Return the next records, at most `n`, and no more than one poll may hold."""
        records: list[Any] = []
        at = self.topic_partition
        while (n is None or len(records) < n) and self._care.used(0, at):
            before = self.bytes_read
            record = next(self.record_iterator, None)
            if record is None:
                break
            records.append(record)
            self._care.used(self.bytes_read - before, at)
        return records

    def only(self, record: FetchedRecord) -> None:
        """Have this record in place of those that could not be fetched."""

        def one() -> Iterator[FetchedRecord]:
            self.next_fetch_offset = record.offset + 1
            yield record
            self.drain()

        self.record_iterator = one()

    def _unpack_records(
        self,
        tp: KafkaTopicPartition,
        records: Any,
        key_deserializer: Any,  # noqa: ARG002 # kafka-python's signature; the bridge reads bytes
        value_deserializer: Any,  # noqa: ARG002
    ) -> Iterator[Any]:
        try:
            while True:
                first = self.next_fetch_offset
                try:
                    batch = records.next_batch()
                    if batch is None:
                        return
                except Exception as error:  # noqa: BLE001 # where the next batch begins is unknown too
                    if not self._care.reads_again(tp, first, _said(error)):
                        self.next_fetch_offset = first + 1
                        yield _unreadable(tp, first, _said(error))
                    return
                if self.check_crcs and not batch.validate_crc():
                    reason = "the checksum of its batch is wrong"
                    if self._care.reads_again(tp, max(first, batch.base_offset), reason):
                        return
                    yield from self._pass_over(tp, batch, records, reason)
                    continue
                self._care.passed(tp)
                try:
                    yield from self._records_of(tp, batch)
                except Exception as error:  # noqa: BLE001 # whatever is wrong with it, the next batch is read
                    yield from self._pass_over(tp, batch, records, _said(error))
        finally:
            self.drain()  # else kafka-python would wait for the rest for ever

    def _pass_over(
        self, tp: KafkaTopicPartition, batch: Any, records: Any, reason: str
    ) -> Iterator[FetchedRecord]:
        """Yield one record for all of `batch` that did not come, and go on behind it."""
        first = max(batch.base_offset, self.next_fetch_offset)
        behind = getattr(batch, "next_offset", first + 1)
        following = records._next_slice  # noqa: SLF001 # what a damaged batch says of its end may be wrong
        bounds = [self.end] if self.end > first else []
        if following is not None and len(following) >= 8:
            bounds.append(struct.unpack_from(">q", following)[0])
        behind = min([behind, *(one for one in bounds if one > first)])
        if behind <= first:
            if batch.base_offset < first:
                return  # all of it came
            behind = first + 1
        self.next_fetch_offset = behind
        yield _unreadable(tp, first, reason, last=behind - 1)

    def _records_of(self, tp: KafkaTopicPartition, batch: Any) -> Iterator[Any]:
        if batch.magic < 2:
            yield from self._old_records_of(tp, batch)
            return
        self.leader_epoch = batch.leader_epoch
        if not self._is_for_consumers(batch):
            self.next_fetch_offset = batch.next_offset
            return
        window = _Window.of(batch)
        at = window.begin
        for _ in range(batch.records_count):
            at = window.need(at, _LONGEST_NUMBER)
            length, start = decode_varint(window.buffer, at)
            if length < 0:
                raise kafka_errors.CorruptRecordError("a negative length")
            if length > self._care.largest_record_bytes:
                start = window.need(start, _HEAD_BYTES)
                record = self._too_large(tp, batch, window.buffer, start, length)
                at = window.skip(start, length)
            else:
                prefix = start - at
                at = window.need(at, prefix + length)
                record = self._record(tp, batch, window.buffer, at, at + prefix, length)
                at += prefix + length
            self.records_read += 1
            self.bytes_read += length
            self.next_fetch_offset = record.offset + 1
            yield record
        if window.need(at, 1) + 1 <= len(window.buffer):
            raise kafka_errors.CorruptRecordError("bytes behind the last record")
        # compaction may have taken the last records of a batch
        self.next_fetch_offset = batch.next_offset

    def _is_for_consumers(self, batch: Any) -> bool:
        """Say whether `batch` holds records: no markers, and nothing of a transaction that was taken back."""
        own: Any = self  # its types do not know its private methods
        if self.isolation_level == IsolationLevel.READ_COMMITTED and batch.has_producer_id():
            own._consume_aborted_transactions_up_to(batch.last_offset)  # noqa: SLF001
            if own._contains_abort_marker(batch):  # noqa: SLF001
                self.aborted_producer_ids.discard(batch.producer_id)
            elif own._is_batch_aborted(batch):  # noqa: SLF001
                return False
        return not batch.is_control_batch

    def _old_records_of(self, tp: KafkaTopicPartition, batch: Any) -> Iterator[Any]:
        for record in batch:
            if self.check_crcs and not record.validate_crc():
                raise kafka_errors.CorruptRecordError("a wrong checksum")
            self.next_fetch_offset = record.offset + 1
            self.bytes_read += len(record.key or b"") + len(record.value or b"")
            yield _fetched(tp, record.offset, record.timestamp, record.key, record.value)

    def _record(
        self,
        tp: KafkaTopicPartition,
        batch: Any,
        buffer: bytearray,
        at: int,
        start: int,
        length: int,
    ) -> Any:
        batch._buffer, batch._pos = buffer, at  # noqa: SLF001 # so that its own method reads there
        try:
            record = batch._read_msg()  # noqa: SLF001
        except (ValueError, IndexError, kafka_errors.KafkaError):
            return self._as_far_as_readable(tp, batch, bytes(buffer[start : start + length]))
        return ConsumerRecord(
            tp.topic,
            tp.partition,
            self.leader_epoch,
            record.offset,
            record.timestamp,
            record.timestamp_type,
            record.key,
            record.value,
            record.headers,
            None,
            -1,
            -1,
            -1,
        )

    def _too_large(
        self, tp: KafkaTopicPartition, batch: Any, buffer: bytearray, start: int, length: int
    ) -> FetchedRecord:
        offset, timestamp, _ = _head(batch, buffer, start)
        limit = self._care.largest_record_bytes
        reason = f"it is {length:,} bytes large, and at most {limit:,} are read"
        return _unreadable(tp, offset, reason, timestamp=timestamp, size=length)

    def _as_far_as_readable(
        self, tp: KafkaTopicPartition, batch: Any, content: bytes
    ) -> FetchedRecord:
        """Return a record whose structure or whose headers are broken, with all bytes where only names of headers are."""
        offset, timestamp, at = _head(batch, content, 0)
        try:
            key, at = _nullable(content, at)
            value, at = _nullable(content, at)
            headers, at = _headers(content, at)
        except (ValueError, IndexError):
            at = -1
        if at != len(content):
            reason = "its structure is broken"
            return _unreadable(tp, offset, reason, timestamp=timestamp, size=len(content))
        found: FetchedRecord = _fetched(tp, offset, timestamp, key, value, headers)
        found.unreadable = Unreadable("the name of a header is not UTF-8", is_whole=True)
        return found


def _head(batch: Any, content: bytes | bytearray, at: int) -> tuple[int, int, int]:
    """Return offset and timestamp of the record whose content begins at `at`, and where its key begins."""
    _, at = decode_varint(content, at)
    since_first, at = decode_varint(content, at)
    after_base, at = decode_varint(content, at)
    appended = batch.timestamp_type == DefaultRecordBase.LOG_APPEND_TIME
    timestamp = batch.max_timestamp if appended else batch.first_timestamp + since_first
    return batch.base_offset + after_base, timestamp, at


def _nullable(content: bytes, at: int) -> tuple[bytes | None, int]:
    length, at = decode_varint(content, at)
    if length < 0:
        return None, at
    if at + length > len(content):
        raise ValueError("shorter than it says")
    return content[at : at + length], at + length


def _headers(content: bytes, at: int) -> tuple[list[tuple[str, bytes | None]], int]:
    """Return the headers; what is not UTF-8 in a name is escaped, so that a dead letter can have it."""
    count, at = decode_varint(content, at)
    headers: list[tuple[str, bytes | None]] = []
    for _ in range(count):
        name, at = _nullable(content, at)
        value, at = _nullable(content, at)
        headers.append(((name or b"").decode("utf-8", errors="backslashreplace"), value))
    return headers, at


def _fetched(
    tp: KafkaTopicPartition,
    offset: int,
    timestamp: int,
    key: bytes | None = None,
    value: bytes | None = None,
    headers: Any = _NO_HEADERS,
) -> Any:
    return FetchedRecord(
        tp.topic, tp.partition, -1, offset, timestamp, 0, key, value, headers, None, -1, -1, -1
    )


def _unreadable(
    tp: KafkaTopicPartition,
    offset: int,
    reason: str,
    *,
    last: int | None = None,
    timestamp: int = -1,
    size: int | None = None,
) -> FetchedRecord:
    """Return a record by reference; `last` is the last offset that it stands for."""
    if last is not None and last > offset:
        reason = f"{reason} (all of offsets {offset} to {last})"
    found: FetchedRecord = _fetched(tp, offset, timestamp)
    found.unreadable = Unreadable(reason, size_bytes=size)
    return found


def unreadable_position(reason: str) -> BrokerUnavailableError:
    """Return the error for what `CarefulFetcher.trouble` says."""
    return BrokerUnavailableError(
        f"the record at {reason}",
        code="record-unreadable",
        remedy="look at the broker's log and at its disk: `kafka-dump-log.sh` names what is damaged",
    )


def _said(error: Exception) -> str:
    """Return what is wrong as the end of a sentence; the text of an error may hold anything."""
    if isinstance(error, kafka_errors.UnsupportedCodecError):
        return "its compression is not known"
    if isinstance(error, kafka_errors.CorruptRecordError):
        return "it is corrupt"
    if isinstance(error, kafka_errors.KafkaError) and type(error) is not kafka_errors.KafkaError:
        return f"the broker answers {type(error).__name__}"
    return "it is corrupt, or its compression is"


def _is_corrupt(error: Exception) -> bool:
    """Say whether `error` is about the bytes, so that waiting does not help."""
    broker = isinstance(error, kafka_errors.KafkaError | OSError)
    return not broker or type(error) in (kafka_errors.KafkaError, kafka_errors.CorruptRecordError)


class _Window:
    """The unpacked bytes of a batch, as far as they were asked for and not passed."""

    def __init__(self, buffer: bytearray, begin: int, chunks: Iterator[bytes]) -> None:
        self.buffer = buffer
        self.begin = begin
        self._chunks = chunks

    @classmethod
    def of(cls, batch: Any) -> "_Window":
        """Return the records of `batch`; raises UnsupportedCodecError."""
        begin, buffer = batch._pos, batch._buffer  # noqa: SLF001
        kind = batch.compression_type
        if kind == DefaultRecordBase.CODEC_NONE:
            return cls(buffer, begin, iter(()))
        unpack = _UNPACK.get(kind)
        if unpack is None:
            raise kafka_errors.UnsupportedCodecError(f"compression {kind}")
        return cls(bytearray(), 0, unpack(bytes(buffer[begin:])))

    def need(self, at: int, size: int) -> int:
        """Have `size` bytes from `at` on in the buffer, or all that there are; return where they begin now."""
        if len(self.buffer) - at >= size:
            return at
        chunk = next(self._chunks, None)
        if chunk is None:
            return at
        del self.buffer[:at]
        self.buffer += chunk
        while len(self.buffer) < size and (chunk := next(self._chunks, None)) is not None:
            self.buffer += chunk
        return 0

    def skip(self, at: int, size: int) -> int:
        """Pass over `size` bytes from `at` on; return where the next begin."""
        while len(self.buffer) - at < size:
            size -= len(self.buffer) - at
            chunk = next(self._chunks, None)
            if chunk is None:
                raise ValueError("shorter than it says")
            self.buffer, at = bytearray(chunk), 0
        return at + size


def _gzip_chunks(packed: bytes) -> Iterator[bytes]:
    while packed:
        stream = zlib.decompressobj(zlib.MAX_WBITS | 16)
        while packed and not stream.eof:
            yield stream.decompress(packed, _CHUNK_BYTES)
            packed = stream.unconsumed_tail
        if not stream.eof:
            yield stream.flush()
            return
        packed = stream.unused_data


def _lz4_chunks(packed: bytes) -> Iterator[bytes]:
    stream = _codecs.lz4.LZ4FrameDecompressor()
    while not stream.eof and (packed or not stream.needs_input):
        yield stream.decompress(packed, _CHUNK_BYTES)
        packed = b""


def _zstd_chunks(packed: bytes) -> Iterator[bytes]:
    options = {"read_across_frames": True}
    with _codecs.zstd.ZstdDecompressor().stream_reader(io.BytesIO(packed), **options) as reader:
        while chunk := reader.read(_CHUNK_BYTES):
            yield chunk


_XERIAL = b"\x82SNAPPY\x00"
_XERIAL_BYTES = 16


_SNAPPY_RATIO = 32
"""This compression makes nothing more than some twenty times smaller, whatever it says of itself."""


def _snappy_block(packed: bytes) -> bytes:
    size, shift = 0, 0
    for byte in packed[:5]:
        size |= (byte & 0x7F) << shift
        shift += 7
        if byte < 0x80:
            break
    if size > _SNAPPY_RATIO * len(packed):
        raise ValueError("larger than it can be")
    unpacked: bytes = _codecs.snappy.decompress(packed)
    return unpacked


def _snappy_chunks(packed: bytes) -> Iterator[bytes]:
    if not packed.startswith(_XERIAL):
        yield _snappy_block(packed)
        return
    at = _XERIAL_BYTES
    while at < len(packed):
        (size,) = struct.unpack_from(">i", packed, at)
        if size < 0:
            raise ValueError("a negative length")
        yield _snappy_block(packed[at + 4 : at + 4 + size])
        at += 4 + size


_UNPACK: dict[int, Callable[[bytes], Iterator[bytes]]] = {
    DefaultRecordBase.CODEC_GZIP: _gzip_chunks,
    DefaultRecordBase.CODEC_SNAPPY: _snappy_chunks,
    DefaultRecordBase.CODEC_LZ4: _lz4_chunks,
    DefaultRecordBase.CODEC_ZSTD: _zstd_chunks,
}
