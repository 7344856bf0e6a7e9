import logging
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any
from uuid import UUID

import pytest
from kafka import OffsetAndMetadata
from kafka import TopicPartition as KafkaTopicPartition
from kafka import errors as kafka_errors
from kafka.coordinator.assignors.cooperative_sticky import CooperativeStickyAssignor
from kafka.future import Future
from kafka.structs import MemberState

from keycloak_bridge.domain.errors import (
    BrokerAccessError,
    BrokerUnavailableError,
    PartitionRevokedError,
)
from keycloak_bridge.domain.events import Commit, TopicPartition
from keycloak_bridge.kafka import consumer as kafka_source
from keycloak_bridge.kafka.consumer import KafkaRecordConsumer
from keycloak_bridge.settings.model import KafkaSettings

TOPIC = "user-events"
K0, K1 = KafkaTopicPartition(TOPIC, 0), KafkaTopicPartition(TOPIC, 1)
P0, P1 = TopicPartition(TOPIC, 0), TopicPartition(TOPIC, 1)


class StubConsumer:
    """Fails as kafka-python's consumer does where a real Kafka cannot be made to, and remembers how it was asked."""

    def __init__(self, **options: Any) -> None:
        self.options = options
        self.assigned: list[KafkaTopicPartition] = [K0, K1]
        self.paused_now: set[KafkaTopicPartition] = set()
        self.switches: list[tuple[str, KafkaTopicPartition]] = []
        self.polled_ms = 0
        self.async_future = Future()
        self.position_timeouts_ms: list[int] = []
        self.rejoins = 0
        self.config: dict[str, int] = {}
        self._next_partition_records: list[object] | None = None
        self._assignors = {"cooperative-sticky": SimpleNamespace(member_assignment={K0, K1})}
        self._coordinator = self._fetcher = self._cluster = self
        self.topic_id_now: UUID | None = None
        self._parse_fetched_data = self.PartitionRecords = self.fetched_records = None
        self.seeks: list[tuple[KafkaTopicPartition, int]] = []
        self.commits_stored: dict[KafkaTopicPartition, OffsetAndMetadata] = {}
        self.beginnings: dict[KafkaTopicPartition, int] = {K0: 0, K1: 0}
        self.position_of: dict[KafkaTopicPartition, int | None] = {K0: 0, K1: 0}
        self.partition_numbers: set[int] | None = {1, 0}
        self.gone: set[KafkaTopicPartition] = set()
        self.state: str = MemberState.STABLE
        self.error: Exception | None = None

    def subscribe(self, topics: list[str], listener: Any) -> None:
        assert [TOPIC] == topics
        self.listener = listener

    def topic_id(self, topic: str) -> UUID | None:
        assert topic == TOPIC
        return self.topic_id_now

    def assignment(self) -> set[KafkaTopicPartition]:
        return set(self.assigned)

    def pause(self, partition: KafkaTopicPartition) -> None:
        self._known(partition)
        self.switches.append(("pause", partition))
        self.paused_now.add(partition)

    def resume(self, partition: KafkaTopicPartition) -> None:
        self._known(partition)
        self.switches.append(("resume", partition))
        self.paused_now.discard(partition)

    def paused(self) -> set[KafkaTopicPartition]:
        return set(self.paused_now)

    def poll(self, timeout_ms: int, max_records: int) -> dict[KafkaTopicPartition, list[object]]:
        self._fail()
        self.polled_ms = timeout_ms
        return {}

    def commit(self, offsets: object, timeout_ms: int) -> None:
        self._fail()

    def commit_async(self, offsets: object) -> Future:
        self._fail()
        return self.async_future

    def position(self, partition: KafkaTopicPartition, timeout_ms: int) -> int | None:
        if partition in self.gone:
            raise kafka_errors.IllegalStateError("Partition is not assigned")
        self._fail()
        self.position_timeouts_ms.append(timeout_ms)
        return self.position_of[partition]

    def seek(self, partition: KafkaTopicPartition, offset: int) -> None:
        if partition not in self.assigned:
            raise ValueError("Unassigned partition")
        self._known(partition)
        self.seeks.append((partition, offset))

    def partitions_for_topic(self, topic: str) -> set[int] | None:
        return self.partition_numbers

    def beginning_offsets(
        self, partitions: object, timeout_ms: int
    ) -> dict[KafkaTopicPartition, int]:
        return self.beginnings

    def end_offsets(self, partitions: object, timeout_ms: int) -> dict[KafkaTopicPartition, int]:
        self._fail()
        return {K0: 0, K1: 0}

    def committed(
        self, partition: KafkaTopicPartition, timeout_ms: int, metadata: bool = False
    ) -> OffsetAndMetadata | int | None:
        self._fail()
        stored = self.commits_stored.get(partition)
        return stored if metadata or stored is None else stored.offset

    def group_metadata(self) -> Any:
        return self

    def request_rejoin(self) -> None:
        self.rejoins += 1

    def close(self, timeout_ms: int) -> None:
        self._fail()

    def _known(self, partition: KafkaTopicPartition) -> None:
        if partition in self.gone or partition not in self.assigned:
            raise KeyError(partition)

    def _fail(self) -> None:
        if self.error is not None:
            raise self.error


@pytest.fixture
def source(monkeypatch: pytest.MonkeyPatch) -> KafkaRecordConsumer:
    """A source over the stub."""
    monkeypatch.setattr(kafka_source, "KafkaConsumer", StubConsumer)
    return KafkaRecordConsumer(KafkaSettings(), topic=TOPIC, group_id="keycloak-bridge")


@pytest.fixture
def stub(source: KafkaRecordConsumer) -> StubConsumer:
    """The stub behind the source."""
    consumer: StubConsumer = source._consumer
    return consumer


def nothing(_: TopicPartition) -> bool:
    """Hold no partition."""
    return False


def all_of_it(_: TopicPartition) -> bool:
    """Hold every partition."""
    return True


@pytest.mark.parametrize(("session_s", "heartbeat_ms"), [(6.0, 1500), (60.0, 3000)])
def test_membership_settings_become_milliseconds(
    monkeypatch: pytest.MonkeyPatch, session_s: float, heartbeat_ms: int
) -> None:
    """They have kafka-python's names; a heartbeat is sent every quarter of a session, at least every 3 s."""
    monkeypatch.setattr(kafka_source, "KafkaConsumer", StubConsumer)
    settings = KafkaSettings(session_timeout=session_s, max_poll_interval=60.0)

    options = KafkaRecordConsumer(settings, topic=TOPIC, group_id="g")._consumer.options

    assert (1000 * session_s, heartbeat_ms, 60_000) == (
        options["session_timeout_ms"],
        options["heartbeat_interval_ms"],
        options["max_poll_interval_ms"],
    )


# holding partitions


def test_kafka_python_gets_changes_only(source: KafkaRecordConsumer, stub: StubConsumer) -> None:
    """Neither pause nor resume is said again; what is held no more flows again."""
    stub.assigned = [K0]
    for held in (nothing, all_of_it, all_of_it, nothing, nothing):
        source.poll(0, held)

    assert [("pause", K0), ("resume", K0)] == stub.switches


def test_a_partition_that_came_back_unpaused_is_paused_again(
    source: KafkaRecordConsumer, stub: StubConsumer
) -> None:
    """It was lost and regained within one poll, so it was never seen missing."""
    source.poll(0, all_of_it)
    stub.paused_now.clear()

    source.poll(0, all_of_it)

    assert {K0, K1} == stub.paused_now


def test_what_comes_while_polling_is_held_at_once(
    source: KafkaRecordConsumer, stub: StubConsumer
) -> None:
    """A partition may be assigned and read within the same poll, and it comes unpaused."""
    stub.assigned = [K0]
    source.poll(0, all_of_it)
    stub.assigned = [K0, K1]

    stub.listener.on_partitions_assigned({K1})

    assert {K0, K1} == stub.paused_now


@pytest.mark.parametrize("paused", [set(), {K0, K1}])
def test_a_partition_that_leaves_in_between_is_no_crash(
    source: KafkaRecordConsumer, stub: StubConsumer, paused: set[KafkaTopicPartition]
) -> None:
    """The IO thread may revoke between asking for the assignment and using it."""
    stub.gone = {K0}
    stub.position_of = {K1: 9}
    stub.paused_now = set(paused)

    source.poll(0, nothing if paused else all_of_it)
    positions = source.positions()

    assert {P1: 9} == positions
    assert [K1] == [at for _, at in stub.switches]


# giving partitions up


def broken(*_: object) -> Any:
    """Fail as a release or as the question what to hold."""
    raise RuntimeError


def one_commit(*_: object) -> dict[TopicPartition, Commit]:
    """Release with something to commit."""
    return {P0: Commit(1)}


@pytest.mark.parametrize(
    ("moment", "release", "sending", "refusal", "logged"),
    [
        ("revoked", broken, None, None, RuntimeError),
        ("lost", broken, None, None, RuntimeError),
        ("assigned", one_commit, None, None, RuntimeError),
        (
            "revoked",
            one_commit,
            kafka_errors.FencedInstanceIdError(),
            None,
            kafka_errors.FencedInstanceIdError,
        ),
        (
            "revoked",
            one_commit,
            None,
            kafka_errors.CommitFailedError(),
            kafka_errors.CommitFailedError,
        ),
    ],
    ids=["release", "release after a loss", "hold", "commit not sent", "commit refused later"],
)
def test_what_fails_in_a_rebalance_is_logged(
    source: KafkaRecordConsumer,
    stub: StubConsumer,
    caplog: pytest.LogCaptureFixture,
    moment: str,
    release: Any,
    sending: Exception | None,
    refusal: Exception | None,
    logged: type[Exception],
) -> None:
    """Nothing may get into kafka-python's thread, which sends the heartbeats; at worst records come again."""
    stub.assigned = []
    source.poll(0, broken)  # of no partition it is asked yet
    source.when_revoked(release)
    stub.assigned, stub.error = [K0], sending

    getattr(stub.listener, f"on_partitions_{moment}")({K0})
    if refusal is not None:
        stub.async_future.failure(refusal)

    assert [(logging.WARNING, logged)] == [
        (line.levelno, line.exc_info[0] if line.exc_info else None) for line in caplog.records
    ]


# membership


@pytest.mark.parametrize(
    ("state", "joined", "rejoins"),
    [
        (MemberState.UNJOINED, False, 0),
        (MemberState.REBALANCING, False, 1),
        (MemberState.STABLE, True, 0),
    ],
)
def test_only_a_settled_member_is_joined(
    source: KafkaRecordConsumer, stub: StubConsumer, state: str, joined: bool, rejoins: int
) -> None:
    """A join that outlasts a poll is pursued, since kafka-python forgets it otherwise."""
    stub.state = state

    source.poll(0, nothing)

    assert (joined, rejoins) == (source.joined(), stub.rejoins)


# offsets


def test_commits_come_back_with_their_metadata(
    source: KafkaRecordConsumer, stub: StubConsumer
) -> None:
    """Another client may have committed no metadata at all."""
    nobodys: Any = None
    stub.commits_stored = {K1: OffsetAndMetadata(2, nobodys, -1)}
    assert {P1: Commit(2, "")} == source.commits([P0, P1])


def test_seeking_in_what_has_left_is_no_crash(
    source: KafkaRecordConsumer, stub: StubConsumer
) -> None:
    """Whether it was gone before or goes in between; the next owner begins at the commit."""
    stub.assigned = [K1]
    stub.gone = {K1}

    source.seek(P0, 5)
    source.seek(P1, 5)

    assert [] == stub.seeks


def test_positions_leave_out_what_is_unknown(
    source: KafkaRecordConsumer, stub: StubConsumer
) -> None:
    """A partition whose position is being looked up has none yet."""
    stub.position_of = {K0: 5, K1: None}

    assert {P0: 5} == source.positions()
    assert max(stub.position_timeouts_ms) <= 200
    assert min(stub.position_timeouts_ms) >= 1


@pytest.mark.parametrize(
    ("found", "told"),
    [(None, None), (UUID(int=0), None), (UUID(int=7), "00000000-0000-0000-0000-000000000007")],
)
def test_the_id_of_the_topic(
    source: KafkaRecordConsumer, stub: StubConsumer, found: UUID | None, told: str | None
) -> None:
    """An old Kafka gives none, and one that is being deleted is given as zeros."""
    stub.topic_id_now = found

    assert told == source.topic_id()


@pytest.mark.parametrize("numbers", [None, set()])
def test_a_topic_without_partitions_is_an_outage(
    source: KafkaRecordConsumer, stub: StubConsumer, numbers: set[int] | None
) -> None:
    """Else "every partition is done" would be true of none, and a run would end with nothing read."""
    stub.partition_numbers = numbers

    with pytest.raises(BrokerUnavailableError):
        source.end_offsets()


CALLS: dict[str, Callable[[KafkaRecordConsumer], object]] = {
    "poll": lambda source: source.poll(0, nothing),
    "commit": lambda source: source.commit({P0: Commit(1)}),
    "commits": lambda source: source.commits([P0]),
    "positions": lambda source: source.positions(),
    "end_offsets": lambda source: source.end_offsets(),
    "close": lambda source: source.close(),
}


@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)
@pytest.mark.parametrize(
    ("raw", "expected"),
    [
        (kafka_errors.NodeNotReadyError(), BrokerUnavailableError),
        (kafka_errors.RebalanceInProgressError(), PartitionRevokedError),
        (kafka_errors.GroupAuthorizationFailedError(), BrokerAccessError),
        (OSError(), BrokerUnavailableError),
    ],
)
def test_no_call_lets_foreign_errors_out(
    source: KafkaRecordConsumer,
    stub: StubConsumer,
    call: Callable[[KafkaRecordConsumer], object],
    raw: Exception,
    expected: type[Exception],
) -> None:
    """Whatever kafka-python raises comes out as the bridge's own error."""
    stub.error = raw

    with pytest.raises(expected) as caught:
        call(source)

    assert raw is caught.value.__cause__


@pytest.mark.parametrize(("lost", "claimed"), [(True, None), (False, {K0, K1})])
def test_what_was_lost_is_not_claimed(
    source: KafkaRecordConsumer, stub: StubConsumer, lost: bool, claimed: Any
) -> None:
    """kafka-python would still claim them, and no member would get them any more."""
    revoke = stub.listener.on_partitions_lost if lost else stub.listener.on_partitions_revoked
    revoke([K0, K1])

    assert claimed == stub._assignors["cooperative-sticky"].member_assignment


def test_no_topic_is_created_and_members_rebalance_together(
    source: KafkaRecordConsumer, stub: StubConsumer
) -> None:
    """A misspelt topic stays missing; a poll waits in Kafka no longer than it was asked to."""
    source.poll(0.25, nothing)

    assert stub.options["allow_auto_create_topics"] is False
    assert 30_000 == stub.options["metadata_max_age_ms"]  # docs/scaling.md promises it
    assert (CooperativeStickyAssignor,) == stub.options["partition_assignment_strategy"]
    assert (250, {"fetch_max_wait_ms": 250}) == (stub.polled_ms, stub.config)
