"""The dead-letter topic: read by operators, and replayed in transactions."""

import contextlib
import threading
from collections import defaultdict
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from kafka import KafkaProducer
from kafka import TopicPartition as KafkaTopicPartition
from kafka import errors as kafka_errors

from keycloak_bridge.domain.errors import BrokerAccessError, BrokerError
from keycloak_bridge.domain.events import Message, Record
from keycloak_bridge.kafka.client import (
    TOO_LARGE,
    close_producer,
    connect,
    record_too_large,
    sending,
    translate,
    translated,
)
from keycloak_bridge.kafka.reader import REQUEST_TIMEOUT_MS, TopicReader
from keycloak_bridge.messages.dead_letters import Place
from keycloak_bridge.settings.model import KafkaSettings

_OVERHEAD_BYTES = 2048
"""Headers and objects of a record, estimated."""

_WORTH_A_SEEK = 1000
"""Records to skip by reading on; a jump throws away what kafka-python has fetched ahead."""


class DeadLetterReader(TopicReader):
    """Reads the dead-letter topic from a beginning to an end, or single records of it."""

    def __init__(
        self,
        settings: KafkaSettings,
        topic: str,
        *,
        recent_bytes: int = 0,
        committed_only: bool = True,
    ) -> None:
        """Connect; raises BrokerError, or ConfigError where there is no such topic.

        Of the last records that came, `recent_bytes` stay in memory for `fetch`.
        """
        self._recent_limit = recent_bytes
        self._recent: dict[Place, Record] = {}
        self._recent_bytes = 0
        super().__init__(
            settings, topic, setting="topics.dead_letters", committed_only=committed_only
        )

    def fetch(self, places: Collection[Place]) -> Mapping[Place, Record]:
        """Return the records at `places`; one that is not there (any more) is left out.

        Moves the position: what `read` yields afterwards is any part of the topic.
        """
        asked = frozenset(places)
        found = {place: self._recent[place] for place in asked & self._recent.keys()}
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

    def why_absent(self, place: Place) -> str:
        """Return why `fetch` finds no record at `place`, as a sentence without an end."""
        at = KafkaTopicPartition(self._topic, place.partition)
        if at not in self._partitions:
            return f"the topic has no partition {place.partition}"
        end = self._ends()[at]
        with translated(f"reading {self._topic}"):
            begins = self._consumer.beginning_offsets([at], timeout_ms=REQUEST_TIMEOUT_MS)
        begin = begins[at]
        if begin == end:
            return f"partition {place.partition} is empty"
        if not begin <= place.offset < end:
            return f"partition {place.partition} has offsets {begin} to {end - 1} now"
        return (
            f"offset {place.offset} has no record that can be read: a transaction ended or was aborted there, "
            "compaction removed it, or it is in a damaged batch"
        )

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

    def _seen(self, records: Sequence[Record]) -> None:
        """Keep the records, since what is fetched next was often read just before; forget the oldest beyond the limit."""
        for record in records:
            place = Place(record.partition, record.offset)
            before = self._recent.pop(place, None)
            self._recent_bytes += _size(record) - (0 if before is None else _size(before))
            self._recent[place] = record
        while self._recent_bytes > self._recent_limit:
            self._recent_bytes -= _size(self._recent.pop(next(iter(self._recent))))

    def _jump(self, partition: KafkaTopicPartition, offset: int, *, back: bool = False) -> None:
        """Move the position to `offset` where that is far ahead, or behind and `back` is allowed."""
        position = self._position(partition)
        if offset - position > _WORTH_A_SEEK or (back and offset < position):
            with translated(f"reading {self._topic}"):
                self._consumer.seek(partition, offset)


def _size(record: Record) -> int:
    return _OVERHEAD_BYTES + len(record.value or b"")


FENCED = "replay-fenced"

_MAX_BLOCK_MS = 10_000
_DELIVERY_TIMEOUT_MS = 15_000
_END_TIMEOUT_S = 20.0
_TRANSACTION_TIMEOUT_MS = 40_000
"""Longer than a batch can take; after a crash the topics' readers wait this long for an open transaction to end."""
_MAX_REQUEST_BYTES = 64 * 1024 * 1024

_FENCING = (
    kafka_errors.ProducerFencedError,
    kafka_errors.InvalidProducerEpochError,
    kafka_errors.InvalidTxnStateError,
    kafka_errors.InvalidProducerIdMappingError,
)


class Outgoing(NamedTuple):
    """A message and the partition it must go to; None leaves that to its key."""

    message: Message
    partition: int | None


class DeadLetterReplayer:
    """Publishes batches, each as a whole or not at all; only the newest replayer with a transactional id can."""

    def __init__(self, settings: KafkaSettings, transactional_id: str) -> None:
        """Connect, and end what an earlier one with this id left open; raises BrokerError."""
        self._id = transactional_id
        self._producer: Any = connect(
            KafkaProducer,
            settings,
            transactional_id=transactional_id,
            transaction_timeout_ms=_TRANSACTION_TIMEOUT_MS,
            acks="all",
            compression_type="gzip",
            delivery_timeout_ms=_DELIVERY_TIMEOUT_MS,
            request_timeout_ms=_DELIVERY_TIMEOUT_MS // 2,
            max_block_ms=_MAX_BLOCK_MS,
            max_request_size=_MAX_REQUEST_BYTES,
            allow_auto_create_topics=False,
            metrics_enabled=False,
        )
        try:
            with self._replaying([]):
                self._producer.init_transactions()
        except BaseException:
            self.close()
            raise

    def publish(self, batch: Sequence[Outgoing]) -> None:
        """Publish `batch` in one transaction: when this returns, Kafka has all of it.

        Raises BrokerAccessError with the code `record-too-large` (nothing of the batch was published; the next batch
        may be), BrokerError with the code `replay-fenced` (another operator replays now), or another BrokerError.
        """
        futures: list[Any] = []
        with self._replaying(futures):
            self._producer.begin_transaction()
            try:
                for message, partition in batch:
                    sent = self._producer.send(**sending(message), partition=partition)
                    futures.append(sent)
                for future in futures:
                    future.get(timeout=_DELIVERY_TIMEOUT_MS / 1000)
            except BaseException:
                # readers of the topics wait for the end of what is left open
                with contextlib.suppress(kafka_errors.KafkaError):
                    _within(_END_TIMEOUT_S, self._producer.abort_transaction)
                raise
            _within(_END_TIMEOUT_S, self._producer.commit_transaction)

    def close(self) -> None:
        """Stop; what is not committed will never be seen."""
        with contextlib.suppress(kafka_errors.KafkaError):
            close_producer(self._producer)

    @contextlib.contextmanager
    def _replaying(self, futures: list[Any]) -> Iterator[None]:
        """Translate the first error; those that follow only say that there was one."""
        try:
            yield
        except (kafka_errors.KafkaError, OSError, ValueError) as error:
            raise self._translated(_cause(error, futures)) from error

    def _translated(self, error: Exception) -> BrokerError:
        if isinstance(error, _FENCING):
            return BrokerError(
                "another replay has begun meanwhile, or this one took too long; what it had not finished is undone",
                code=FENCED,
                remedy="let the other one end, then run the command again: what was replayed is left alone",
            )
        if isinstance(error, TOO_LARGE):
            return record_too_large("the topic")
        if isinstance(error, kafka_errors.TransactionalIdAuthorizationFailedError):
            return BrokerAccessError(
                f"Kafka does not allow the transactional id {self._id}",
                remedy=f"allow Write and Describe on the TransactionalId {self._id} by an ACL",
            )
        return translate(error, "replaying")


def _cause(error: Exception, futures: Sequence[Any]) -> Exception:
    """Return the error of the first record that says what happened, `error` where none does."""
    failures = [future.exception for future in futures if future.is_done and future.failed()]
    causes = (*_FENCING, *TOO_LARGE, kafka_errors.AuthorizationError)
    for one in (*failures, error, *error.args):
        if isinstance(one, causes):
            return one
    return error


def _within(timeout_s: float, call: Callable[[], None]) -> None:
    """Return once `call` has; raises its error, or KafkaTimeoutError.

    kafka-python waits without end for the end of a transaction.
    """
    errors: list[Exception] = []

    def run() -> None:
        try:
            call()
        except Exception as error:  # noqa: BLE001 # raised again by the caller's thread
            errors.append(error)

    thread = threading.Thread(target=run, name="end-transaction", daemon=True)
    thread.start()
    thread.join(timeout_s)
    if errors:
        raise errors[0]
    if thread.is_alive():
        raise kafka_errors.KafkaTimeoutError("the transaction did not end in time")
