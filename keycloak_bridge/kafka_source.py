"""The consumer side: Kafka's records and errors turned into the bridge's own.

No deserializers (one that raises hangs kafka-python's poll for good), no automatic commits (they commit what was
delivered, not what is done), cooperative-sticky only (an eager rebalance keeps the fetch position of partitions whose
queued work was dropped).
"""

import contextlib
import threading
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

from kafka import ConsumerRebalanceListener, KafkaConsumer, OffsetAndMetadata
from kafka import TopicPartition as KafkaTopicPartition
from kafka import errors as kafka_errors
from kafka.coordinator.assignors.cooperative_sticky import CooperativeStickyAssignor
from kafka.structs import MemberState

from keycloak_bridge.core.errors import BrokerUnavailableError
from keycloak_bridge.core.model import Record, TopicPartition
from keycloak_bridge.kafka_client import connect, translated
from keycloak_bridge.settings import KafkaSettings

_REQUEST_TIMEOUT_MS = 15_000
_CLOSE_TIMEOUT_MS = 5_000


class KafkaEventSource:
    """One topic read as a member of one consumer group; see the port `EventSource` for the promises."""

    def __init__(
        self, settings: KafkaSettings, *, topic: str, group_id: str, max_poll_records: int = 100
    ) -> None:
        """Connect and subscribe; raises BrokerUnavailableError while no broker answers."""
        self._topic = topic
        self._max_poll_records = max_poll_records
        self._paused = False
        self._listener = _RevocationListener()
        self._consumer: Any = connect(
            KafkaConsumer,
            settings,
            group_id=group_id,
            enable_auto_commit=False,
            auto_offset_reset="earliest",
            isolation_level="read_committed",
            allow_auto_create_topics=False,
            partition_assignment_strategy=(CooperativeStickyAssignor,),
            session_timeout_ms=int(settings.session_timeout * 1000),
            heartbeat_interval_ms=int(settings.heartbeat_interval * 1000),
            max_poll_interval_ms=int(settings.max_poll_interval * 1000),
            request_timeout_ms=_REQUEST_TIMEOUT_MS,
            metrics_enabled=False,
        )
        with translated("subscribing"):
            self._consumer.subscribe([topic], listener=self._listener)

    def poll(self, timeout_s: float) -> Sequence[Record]:
        """Return records in the order of their offsets per partition; empty after `timeout_s` seconds."""
        with translated("polling"):
            self._pursue_join()
            if self._paused:
                # newly assigned partitions start unpaused, so this is said again on every poll
                self._each_assigned(self._consumer.pause)
            batches = self._consumer.poll(
                timeout_ms=int(timeout_s * 1000), max_records=self._max_poll_records
            )
        return [_record(raw) for batch in batches.values() for raw in batch]

    def take_revoked(self) -> frozenset[TopicPartition]:
        """Return the partitions that were taken away since the last call."""
        return self._listener.take()

    def joined(self) -> bool:
        """Say whether this is a settled member of the group; it may still hold no partition."""
        return bool(self._consumer.group_metadata().state == MemberState.STABLE)

    def set_paused(self, paused: bool) -> None:
        """Stop or resume fetching; `poll` still keeps the membership alive."""
        if self._paused and not paused:
            self._each_assigned(self._consumer.resume)
        self._paused = paused

    def rewind(self, offsets: Mapping[TopicPartition, int]) -> None:
        """Read again from these offsets where a partition is (still or again) assigned and further on."""

        def go_back(partition: KafkaTopicPartition) -> None:
            wanted = offsets.get(TopicPartition(*partition))
            if wanted is None:
                return
            at = self._consumer.position(partition, timeout_ms=_REQUEST_TIMEOUT_MS)
            if at is None or at > wanted:
                self._consumer.seek(partition, wanted)

        with translated("rewinding"):
            self._each_assigned(go_back)

    def commit(self, offsets: Mapping[TopicPartition, int]) -> None:
        """Commit `offsets`, each the next one to read."""
        if not offsets:
            return
        request = {
            KafkaTopicPartition(*partition): OffsetAndMetadata(offset, "", -1)
            for partition, offset in offsets.items()
        }
        with translated("committing offsets"):
            self._consumer.commit(request, timeout_ms=_REQUEST_TIMEOUT_MS)

    def positions(self) -> Mapping[TopicPartition, int]:
        """Return the next offset to fetch of every assigned partition."""
        positions: dict[TopicPartition, int] = {}

        def note(partition: KafkaTopicPartition) -> None:
            at = self._consumer.position(partition, timeout_ms=_REQUEST_TIMEOUT_MS)
            if at is not None:
                positions[TopicPartition(*partition)] = at

        with translated("reading positions"):
            self._each_assigned(note)
        return positions

    def end_offsets(self) -> Mapping[TopicPartition, int]:
        """Return the end of every partition of the topic, assigned to us or not."""
        with translated("reading end offsets"):
            ends = self._consumer.end_offsets(self._partitions(), timeout_ms=_REQUEST_TIMEOUT_MS)
        return {TopicPartition(*partition): offset for partition, offset in ends.items()}

    def committed(self) -> Mapping[TopicPartition, int]:
        """Return the group's committed offset of every partition (its beginning where none is)."""
        with translated("reading committed offsets"):
            partitions = self._partitions()
            begin = self._consumer.beginning_offsets(partitions, timeout_ms=_REQUEST_TIMEOUT_MS)
            return {
                TopicPartition(*partition): max(
                    begin[partition],
                    self._consumer.committed(partition, timeout_ms=_REQUEST_TIMEOUT_MS) or 0,
                )
                for partition in partitions
            }

    def close(self) -> None:
        """Leave the group."""
        with translated("leaving the group"):
            self._consumer.close(timeout_ms=_CLOSE_TIMEOUT_MS)

    def _pursue_join(self) -> None:
        """Keep kafka-python from forgetting a join that outlasted the poll in which it began.

        It asks anew on each poll whether to rejoin; where changed metadata was the reason, the answer turns to no as
        soon as the IO thread has the new assignment, nobody takes the assignment over, and with heartbeats off the
        member hangs for ever (3.0.12).
        """
        if self._consumer.group_metadata().state == MemberState.REBALANCING:
            self._consumer._coordinator.request_rejoin()  # noqa: SLF001 # there is no public way

    def _each_assigned(self, call: Callable[[KafkaTopicPartition], None]) -> None:
        """Call for each assigned partition; kafka-python's IO thread may take one away in between."""
        for partition in self._consumer.assignment():
            with contextlib.suppress(KeyError, kafka_errors.IllegalStateError):
                call(partition)

    def _partitions(self) -> list[KafkaTopicPartition]:
        numbers = self._consumer.partitions_for_topic(self._topic)
        if not numbers:
            # without this, "every partition is done" would be true of none
            raise BrokerUnavailableError(
                f"Kafka does not name the partitions of topic {self._topic}",
                remedy="check that the topic exists; `keycloak-bridge topics check`",
            )
        return [KafkaTopicPartition(self._topic, number) for number in sorted(numbers)]


class _RevocationListener(ConsumerRebalanceListener):
    """Remembers what was taken away; runs on kafka-python's IO thread and therefore never blocks."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._revoked: set[TopicPartition] = set()

    def on_partitions_revoked(self, revoked: Collection[Any]) -> None:
        with self._lock:
            self._revoked.update(TopicPartition(*partition) for partition in revoked)

    def on_partitions_lost(self, lost: Collection[Any]) -> None:
        self.on_partitions_revoked(lost)

    def on_partitions_assigned(self, assigned: Collection[Any]) -> None:
        """Nothing to do: positions start at the committed offset."""

    def take(self) -> frozenset[TopicPartition]:
        with self._lock:
            taken = frozenset(self._revoked)
            self._revoked.clear()
        return taken


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
