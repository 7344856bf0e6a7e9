"""The consumer side: Kafka's records and errors turned into the bridge's own.

No deserializers (one that raises hangs kafka-python's poll for good), no automatic commits (they commit what was
delivered, not what is done), cooperative-sticky only (an eager rebalance keeps the fetch position of partitions whose
queued work was dropped).
"""

import contextlib
import logging
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

from kafka import ConsumerRebalanceListener, KafkaConsumer, OffsetAndMetadata
from kafka import TopicPartition as KafkaTopicPartition
from kafka import errors as kafka_errors
from kafka.coordinator.assignors.cooperative_sticky import CooperativeStickyAssignor
from kafka.structs import MemberState

from keycloak_bridge.domain.errors import BridgeError, BrokerUnavailableError
from keycloak_bridge.domain.events import Commit, Record, TopicPartition
from keycloak_bridge.domain.ports import Release
from keycloak_bridge.kafka.client import connect, record_of, translated
from keycloak_bridge.kafka.fetched import (
    LARGEST_RECORD_BYTES,
    CarefulFetcher,
    unreadable_position,
)
from keycloak_bridge.kafka.security import Watch
from keycloak_bridge.kafka.topics import id_text
from keycloak_bridge.ops.logs import log_event
from keycloak_bridge.settings.model import KafkaSettings

_log = logging.getLogger(__name__)

_REQUEST_TIMEOUT_MS = 5_000
"""A broker that is just starting takes requests that it never answers, and everything behind them waits."""

_CALL_TIMEOUT_MS = 4_000
"""A call that waits for a broker holds up the poll thread; after an outage it must return soon, to be made again."""

_MOST_POLLED = 500
_FETCH_BYTES, _PARTITION_BYTES = 512 * 1024, 128 * 1024
"""Of all partitions of a broker together, and of each: what is fetched waits in memory, and that is some hundred records.

A record that is larger comes all the same.
"""

_METADATA_AGE_MS = 30_000
"""A partition that was added to the topic is read after this time at the latest; kafka-python's own is five minutes."""

_POSITION_TIMEOUT_S = 0.2
_CLOSE_TIMEOUT_MS = 5_000

Held = Callable[[TopicPartition], bool]


class KafkaRecordConsumer:
    """One topic read as a member of one consumer group; see the port `RecordConsumer` for the promises."""

    def __init__(
        self,
        settings: KafkaSettings,
        *,
        topic: str,
        group_id: str,
        largest_record_bytes: int = LARGEST_RECORD_BYTES,
    ) -> None:
        """Connect and subscribe; raises BrokerUnavailableError while no broker answers."""
        self._topic = topic
        self._group_id = group_id
        self._release: Release | None = None
        self._held: Held | None = None
        self._watch = Watch(settings)
        self._consumer: Any = connect(
            KafkaConsumer,
            settings,
            self._watch,
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
            metadata_max_age_ms=_METADATA_AGE_MS,
            fetch_max_bytes=_FETCH_BYTES,
            max_partition_fetch_bytes=_PARTITION_BYTES,
            metrics_enabled=False,
        )
        self._fetched = CarefulFetcher(self._consumer, largest_record_bytes=largest_record_bytes)
        with translated("subscribing", self._watch):
            listener = _RebalanceListener(self._give_up, self._hold, self._log_failure)
            self._consumer.subscribe([topic], listener=listener)

    def when_revoked(self, release: Release) -> None:
        """Have `release` called before another member gets partitions, from kafka-python's IO thread.

        It is called within `poll` and `close` only, while their caller waits.
        """
        self._release = release

    def poll(self, timeout_s: float, held: Held) -> Sequence[Record]:
        """Return records in the order of their offsets per partition; empty after `timeout_s` seconds."""
        self._held = held
        self._hold(self._consumer.assignment())
        with translated("polling", self._watch):
            self._pursue_join()
            self._let_broker_wait(timeout_s)
            batches = self._consumer.poll(
                timeout_ms=int(timeout_s * 1000), max_records=_MOST_POLLED
            )
        return [record_of(raw) for batch in batches.values() for raw in batch]

    def trouble(self) -> BridgeError | None:
        """Return which record cannot be read now, or why a broker takes no connection; what can be read is read meanwhile."""
        reason = self._fetched.trouble()
        return self._watch.problem() if reason is None else unreadable_position(reason)

    def assigned(self) -> frozenset[TopicPartition]:
        """Return the partitions that this member holds now."""
        return frozenset(TopicPartition(*partition) for partition in self._consumer.assignment())

    def joined(self) -> bool:
        """Say whether this is a settled member of the group; it may still hold no partition."""
        return bool(self._consumer.group_metadata().state == MemberState.STABLE)

    def seek(self, partition: TopicPartition, offset: int) -> None:
        """Read on from `offset`; harmless when the partition is not assigned any more."""
        # kafka-python raises ValueError where it is not assigned, KeyError where it has just gone
        with contextlib.suppress(ValueError, KeyError):
            self._consumer.seek(KafkaTopicPartition(*partition), offset)

    def commit(self, commits: Mapping[TopicPartition, Commit]) -> None:
        """Commit, and so prove that this member still belongs to the group."""
        if not commits:
            return
        with translated("committing offsets", self._watch):
            self._consumer.commit(_request(commits), timeout_ms=_CALL_TIMEOUT_MS)

    def commits(self, partitions: Collection[TopicPartition]) -> Mapping[TopicPartition, Commit]:
        """Return what the group has committed for `partitions`; one without a commit is left out."""
        commits: dict[TopicPartition, Commit] = {}
        with translated("reading commits", self._watch):
            for partition in partitions:
                found = self._consumer.committed(
                    KafkaTopicPartition(*partition), metadata=True, timeout_ms=_CALL_TIMEOUT_MS
                )
                if found is not None:
                    commits[partition] = Commit(found.offset, found.metadata or "")
        return commits

    def positions(self) -> Mapping[TopicPartition, int]:
        """Return the next offset to fetch of every assigned partition that has one already."""
        positions: dict[TopicPartition, int] = {}
        deadline = time.monotonic() + _POSITION_TIMEOUT_S
        with translated("reading positions", self._watch):
            for partition in self._consumer.assignment():
                left_ms = max(1, int((deadline - time.monotonic()) * 1000))
                # the IO thread may take a partition away in between
                with contextlib.suppress(KeyError, kafka_errors.IllegalStateError):
                    at = self._consumer.position(partition, timeout_ms=left_ms)
                    if at is not None:
                        positions[TopicPartition(*partition)] = at
        return positions

    def begin_offsets(self, partitions: Collection[TopicPartition]) -> Mapping[TopicPartition, int]:
        """Return where each of `partitions` begins now; what lay before is deleted."""
        asked = [KafkaTopicPartition(*partition) for partition in partitions]
        with translated("reading the first offsets", self._watch):
            begins = self._consumer.beginning_offsets(asked, timeout_ms=_CALL_TIMEOUT_MS)
        return {TopicPartition(*partition): offset for partition, offset in begins.items()}

    def take_offset_resets(self) -> Mapping[TopicPartition, int]:
        """Return what was to be read next where Kafka did not have it, since the last call."""
        found = self._fetched.out_of_range()
        return {TopicPartition(*partition): offset for partition, offset in found.items()}

    def end_offsets(self) -> Mapping[TopicPartition, int]:
        """Return the end of every partition of the topic, assigned to us or not."""
        with translated("reading end offsets", self._watch):
            ends = self._consumer.end_offsets(self._partitions(), timeout_ms=_CALL_TIMEOUT_MS)
        return {TopicPartition(*partition): offset for partition, offset in ends.items()}

    def topic_id(self) -> str | None:
        """Return Kafka's id of the topic as of the last answer about it, None where it has none."""
        found = self._consumer._cluster.topic_id(self._topic)  # noqa: SLF001 # there is no public way
        return id_text(found)

    def close(self) -> None:
        """Leave the group."""
        with translated("leaving the group", self._watch):
            self._consumer.close(timeout_ms=_CLOSE_TIMEOUT_MS)

    def _pursue_join(self) -> None:
        """Keep kafka-python from forgetting a join that outlasted the poll in which it began.

        It decides again on each poll whether to rejoin; where changed metadata was the reason, the answer turns to no
        as soon as the IO thread has the new assignment, the assignment is never applied, and with heartbeats off the
        member hangs for ever (3.0.12).
        """
        if self._consumer.group_metadata().state == MemberState.REBALANCING:
            self._consumer._coordinator.request_rejoin()  # noqa: SLF001 # there is no public way

    def _let_broker_wait(self, timeout_s: float) -> None:
        """Have the broker keep a fetch that finds nothing for as long as this poll waits; a record ends both at once.

        A partition that is resumed is not fetched before that fetch is over: short where the worker is busy, long where
        nothing is in hand, since each empty fetch costs CPU.
        """
        options = self._consumer._fetcher.config  # noqa: SLF001 # there is no public way once it runs
        options["fetch_max_wait_ms"] = int(timeout_s * 1000)

    def _hold(self, partitions: Collection[KafkaTopicPartition]) -> None:
        """Pause those of `partitions` that are held and resume the others.

        What is paused is asked of kafka-python each time: a partition that was lost and regained comes back unpaused.
        """
        if self._held is None:
            return
        paused = self._consumer.paused()
        for partition in partitions:
            held = self._held(TopicPartition(*partition)) or self._fetched.rests(partition)
            if held is not (partition in paused):
                # the IO thread may take one away in between
                with contextlib.suppress(KeyError):
                    (self._consumer.pause if held else self._consumer.resume)(partition)

    def _give_up(self, partitions: Collection[KafkaTopicPartition], lost: bool) -> None:
        """Release `partitions` and commit for them, unless they are lost already."""
        if lost:
            self._claim_nothing()
        if self._release is None:
            return
        released = frozenset(TopicPartition(*partition) for partition in partitions)
        commits = self._release(released, lost)
        if commits and not lost:
            # a blocking commit raises here; this request leaves before the one that lets the next owner in
            future = self._consumer.commit_async(_request(commits))
            future.add_errback(self._log_failure, "commit-at-revocation-failed")

    def _claim_nothing(self) -> None:
        """Keep kafka-python from claiming partitions that it has just lost when it joins again (3.0.12).

        The leader would wait for this member to give them up, which it never does, since it does not have them; no
        member would own them any more, in a group that is called stable.
        """
        for assignor in self._consumer._coordinator._assignors.values():  # noqa: SLF001
            assignor.member_assignment = None

    def _log_failure(self, action: str, error: Exception) -> None:
        log_event(
            _log,
            action,
            level=logging.WARNING,
            message="a rebalance went on without it; records may come again",
            error=error,
            topic=self._topic,
            group=self._group_id,
        )

    def _partitions(self) -> list[KafkaTopicPartition]:
        numbers = self._consumer.partitions_for_topic(self._topic)
        if not numbers:
            # without this, "every partition is done" would be true of none
            raise BrokerUnavailableError(
                f"Kafka does not name the partitions of topic {self._topic}",
                remedy="check that the topic exists; `keycloak-bridge topics check`",
            )
        return [KafkaTopicPartition(self._topic, number) for number in sorted(numbers)]


class _RebalanceListener(ConsumerRebalanceListener):
    """Runs on kafka-python's IO thread, which sends the heartbeats; an error in here would come out of the next poll."""

    def __init__(
        self,
        give_up: Callable[[Collection[Any], bool], None],
        hold: Callable[[Collection[Any]], None],
        log_failure: Callable[[str, Exception], None],
    ) -> None:
        self._give_up = give_up
        self._hold = hold
        self._log_failure = log_failure

    def on_partitions_revoked(self, revoked: Collection[Any]) -> None:
        self._guarded("release-failed", lambda: self._give_up(revoked, False))

    def on_partitions_lost(self, lost: Collection[Any]) -> None:
        self._guarded("release-failed", lambda: self._give_up(lost, True))

    def on_partitions_assigned(self, assigned: Collection[Any]) -> None:
        """Hold what comes unpaused; the poll that it comes in may fetch of it already."""
        self._guarded("hold-failed", lambda: self._hold(assigned))

    def _guarded(self, action: str, call: Callable[[], None]) -> None:
        try:
            call()
        except Exception as error:  # noqa: BLE001 # nothing may get into kafka-python's thread
            self._log_failure(action, error)


def _request(
    commits: Mapping[TopicPartition, Commit],
) -> dict[KafkaTopicPartition, OffsetAndMetadata]:
    return {
        KafkaTopicPartition(*partition): OffsetAndMetadata(commit.offset, commit.metadata, -1)
        for partition, commit in commits.items()
    }
