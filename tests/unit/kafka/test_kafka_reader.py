from collections.abc import Collection, Sequence
from typing import Any

import pytest
from kafka import TopicPartition as KafkaTopicPartition
from kafka import errors as kafka_errors
from kafka.partitioner.default import murmur2

from keycloak_bridge.domain.errors import BrokerAccessError, BrokerUnavailableError, ConfigError
from keycloak_bridge.domain.events import Record
from keycloak_bridge.kafka import reader as kafka_reader
from keycloak_bridge.kafka.dead_letter_topic import DeadLetterReader
from keycloak_bridge.kafka.reader import TopicReader
from keycloak_bridge.messages.dead_letters import Place
from keycloak_bridge.settings.model import KafkaSettings

TOPIC = "dead-letters"


class Raw:
    """What kafka-python gives for a record."""

    def __init__(self, partition: int, offset: int, size: int = 2) -> None:
        self.topic, self.partition, self.offset = TOPIC, partition, offset
        self.timestamp, self.key, self.value = 7, b"u-1", b"x" * size
        self.headers = [("trace", b"1"), ("none", None)]


class StubConsumer:
    """A topic of records by partition, with positions as kafka-python has them."""

    def __init__(self, logs: dict[int, list[Raw]], **options: Any) -> None:
        self.options = options
        self.logs = logs
        self.ends = {number: log[-1].offset + 1 if log else 0 for number, log in logs.items()}
        self.positions: dict[KafkaTopicPartition, int] = {}
        self.seeks: list[tuple[int, int]] = []
        self.polls = 0
        self.error: Exception | None = None
        self.silent = False
        self.lost = False
        self.closed = False
        self._fetcher = self
        self._parse_fetched_data = self.PartitionRecords = self.fetched_records = None

    def partitions_for_topic(self, topic: str) -> set[int]:
        return set(self.logs) if topic == TOPIC else set()

    def beginning_offsets(self, partitions: Any, timeout_ms: int) -> dict[Any, int]:
        return {
            at: self.logs[at.partition][0].offset if self.logs[at.partition] else 0
            for at in partitions
        }

    def end_offsets(self, partitions: Any, timeout_ms: int) -> dict[Any, int]:
        return {at: self.ends[at.partition] for at in partitions}

    def assign(self, partitions: Sequence[KafkaTopicPartition]) -> None:
        self.positions = dict.fromkeys(partitions, 0)

    def assignment(self) -> set[KafkaTopicPartition]:
        return set(self.positions)

    def paused(self) -> set[KafkaTopicPartition]:
        return set()

    def seek(self, partition: KafkaTopicPartition, offset: int) -> None:
        self.seeks.append((partition.partition, offset))
        self.positions[partition] = offset

    def offsets_for_times(self, asked: dict[Any, int], timeout_ms: int) -> dict[Any, Any]:
        found = {
            at: [raw for raw in self.logs[at.partition] if raw.offset >= moment]
            for at, moment in asked.items()
        }
        return {at: raws[0] if raws else None for at, raws in found.items()}

    def position(self, partition: KafkaTopicPartition, timeout_ms: int) -> int | None:
        return None if self.lost else self.positions[partition]

    def poll(self, timeout_ms: int, max_records: int) -> dict[KafkaTopicPartition, list[Raw]]:
        self.polls += 1
        if self.error is not None:
            raise self.error
        if self.silent:
            return {}
        found: dict[KafkaTopicPartition, list[Raw]] = {}
        for at, position in self.positions.items():
            log = [raw for raw in self.logs[at.partition] if raw.offset >= position]
            taken = log[:max_records]
            # what a transaction left behind is passed over without a record
            self.positions[at] = self.ends[at.partition] if len(taken) == len(log) else taken[-1].offset + 1  # fmt: skip
            if taken:
                found[at] = taken
        return found

    def close(self, timeout_ms: int) -> None:
        self.closed = True


class Topic:
    """Builds readers over stub consumers and remembers the last one."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.logs: dict[int, list[Raw]] = {}
        self.consumer: StubConsumer
        monkeypatch.setattr(kafka_reader, "KafkaConsumer", self._build)

    def reader(
        self, logs: dict[int, list[Raw]], topic: str = TOPIC, recent_bytes: int = 0
    ) -> DeadLetterReader:
        self.logs = logs
        return DeadLetterReader(KafkaSettings(), topic, recent_bytes=recent_bytes)

    def _build(self, **options: Any) -> StubConsumer:
        self.consumer = StubConsumer(self.logs, **options)
        return self.consumer


@pytest.fixture
def topic(monkeypatch: pytest.MonkeyPatch) -> Topic:
    """A topic without partitions so far."""
    return Topic(monkeypatch)


def places(records: Any) -> list[Place]:
    """Return where records are."""
    return sorted(Place(one.partition, one.offset) for one in records)


def test_it_is_no_member_of_a_group_and_commits_nothing(topic: Topic) -> None:
    """An operator disturbs no consumer, and sees nothing that may still be undone."""
    topic.reader({0: []})
    options = topic.consumer.options

    assert (None, False, "read_committed", False) == (
        options["group_id"],
        options["enable_auto_commit"],
        options["isolation_level"],
        options["allow_auto_create_topics"],
    )


def test_everything_is_read_from_the_beginning_to_the_end(topic: Topic) -> None:
    """Of every partition, also where the last offsets hold no record; headers are the untouched bytes."""
    reader = topic.reader({0: [Raw(0, 5), Raw(0, 9)], 1: [], 2: [Raw(2, 0)]})
    topic.consumer.ends[0] = 12

    records = list(reader.read())

    assert [Place(0, 5), Place(0, 9), Place(2, 0)] == places(records)
    assert Record(TOPIC, 2, 0, 7, b"u-1", b"xx", (("trace", b"1"), ("none", None))) in records
    assert 0 == reader.remaining()


def test_reading_again_goes_on_where_it_ended(topic: Topic) -> None:
    """What was written meanwhile comes, the rest does not come twice."""
    reader = topic.reader({0: [Raw(0, 0)]})
    assert 1 == reader.remaining()
    list(reader.read())
    topic.logs[0].append(Raw(0, 1))
    topic.consumer.ends[0] = 2

    assert [Place(0, 1)] == places(reader.read())


def test_single_records_are_fetched(topic: Topic) -> None:
    """What is not there is left out: behind the end, before the beginning, in a gap, in no partition."""
    reader = topic.reader({0: [Raw(0, 3), Raw(0, 5)], 1: [Raw(1, 0)]})
    wanted = [Place(0, 5), Place(1, 0), Place(0, 4), Place(0, 99), Place(1, 1), Place(7, 0)]

    found = reader.fetch(wanted)

    assert {Place(0, 5), Place(1, 0)} == found.keys()
    assert all(place == (one.partition, one.offset) for place, one in found.items())


@pytest.mark.parametrize(
    ("place", "reason"),
    [
        ((7, 0), "the topic has no partition 7"),
        ((2, 0), "partition 2 is empty"),
        ((0, 1), "partition 0 has offsets 3 to 5 now"),
        ((0, 6), "partition 0 has offsets 3 to 5 now"),
        ((0, 4), "offset 4 has no record that can be read"),
    ],
)
def test_what_is_absent_has_a_reason(topic: Topic, place: tuple[int, int], reason: str) -> None:
    """The partition, the offsets that it has, or what a place without a record means."""
    reader = topic.reader({0: [Raw(0, 3), Raw(0, 5)], 2: []})
    absent = Place(*place)
    assert {} == reader.fetch([absent])

    assert reader.why_absent(absent).startswith(reason)


def test_records_in_order_are_fetched_without_going_back(topic: Topic) -> None:
    """Batch by batch: the replay of a whole topic reads it once, with little of it in memory."""
    reader = topic.reader({0: [Raw(0, offset) for offset in range(1000)]}, recent_bytes=500_000)
    list(reader.read())
    topic.consumer.polls = 0
    topic.consumer.seeks.clear()

    for begin in range(0, 1000, 70):
        wanted = {Place(0, offset) for offset in range(begin, min(begin + 70, 1000))}
        assert wanted == reader.fetch(wanted).keys()

    assert [(0, 0)] == topic.consumer.seeks
    assert 10 == topic.consumer.polls


def test_a_far_record_is_jumped_to(topic: Topic) -> None:
    """Forward and back; what lies between is not read."""
    log = [Raw(0, offset, size=20_000) for offset in range(5000)]
    reader = topic.reader({0: log, 1: []})

    found = [
        reader.fetch([Place(0, 10), Place(0, 4000)]),
        reader.fetch([Place(0, 20)]),
    ]

    assert [{Place(0, 10), Place(0, 4000)}, {Place(0, 20)}] == [set(one) for one in found]
    assert 4 >= topic.consumer.polls


def test_memory_is_bounded(topic: Topic) -> None:
    """Old records are let go of, and come again when asked for."""
    log = [Raw(0, offset, size=10_000) for offset in range(50)]
    reader = topic.reader({0: log}, recent_bytes=30_000)
    list(reader.read())
    held = len(reader._recent)

    found = reader.fetch([Place(0, 0), Place(0, 49)])

    assert 2 == held
    assert {Place(0, 0), Place(0, 49)} == found.keys()


def test_a_missing_topic_is_a_matter_of_configuration(topic: Topic) -> None:
    """Nothing is created, the connection is closed, and the sentence names the setting."""
    with pytest.raises(ConfigError) as caught:
        topic.reader({0: []}, "nowhere")

    assert "topic-missing" == caught.value.code
    assert "topics.dead_letters" in str(caught.value.remedy)
    assert topic.consumer.closed


def test_a_record_that_no_broker_gives_is_named(
    topic: Topic, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not only that there are no records, but where they end and why."""
    monkeypatch.setattr(kafka_reader, "_STALLED_S", -1.0)
    reader = topic.reader({0: [Raw(0, 0)]})
    topic.consumer.silent = True
    at = KafkaTopicPartition(TOPIC, 0)
    reader._fetched.reads_again(at, 0, "the broker answers UnknownError")

    with pytest.raises(BrokerUnavailableError) as caught:
        list(reader.read())

    assert (
        "the record at dead-letters/0@0 cannot be read: the broker answers UnknownError"
        == caught.value.message
    )


@pytest.mark.parametrize(
    ("fault", "expected"),
    [
        ({"error": kafka_errors.TopicAuthorizationFailedError({TOPIC})}, BrokerAccessError),
        ({"error": kafka_errors.KafkaConnectionError()}, BrokerUnavailableError),
        ({"lost": True}, BrokerUnavailableError),
        ({"silent": True}, BrokerUnavailableError),
    ],
)
def test_errors_of_kafka_are_ours(
    topic: Topic,
    monkeypatch: pytest.MonkeyPatch,
    fault: dict[str, Any],
    expected: type[Exception],
) -> None:
    """Refused, or away: kafka-python gives no position after its time-out, or polls for ever without an error."""
    monkeypatch.setattr(kafka_reader, "_STALLED_S", -1.0)
    reader = topic.reader({0: [Raw(0, 0)]})
    vars(topic.consumer).update(fault)

    with pytest.raises(expected):
        list(reader.read())
    assert topic.consumer.polls <= 1


def test_what_was_polled_is_yielded_whatever_fails_behind_it(
    topic: Topic, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The next call reads on behind it."""
    reader = topic.reader({0: [Raw(0, 0), Raw(0, 1)]})
    poll = topic.consumer.poll

    def losing(**options: Any) -> dict[KafkaTopicPartition, list[Raw]]:
        topic.consumer.lost = True
        return poll(**options)

    monkeypatch.setattr(topic.consumer, "poll", losing)
    found: list[Record] = []
    with pytest.raises(BrokerUnavailableError):
        found.extend(reader.read())
    topic.consumer.lost = False

    assert [Place(0, 0), Place(0, 1)] == places(found)
    assert [] == list(reader.read())


# any topic, by time and by key

LOGS = {number: [Raw(number, offset) for offset in range(10)] for number in range(3)}


@pytest.fixture
def reader(monkeypatch: pytest.MonkeyPatch) -> TopicReader:
    """A topic of three partitions whose records are as old as their offsets say."""
    monkeypatch.setattr(kafka_reader, "KafkaConsumer", lambda **_: StubConsumer(LOGS))
    return TopicReader(KafkaSettings(), TOPIC)


@pytest.mark.parametrize(
    ("begin", "end", "offsets"),
    [(3, 6, range(3, 6)), (100, None, ()), (None, 100, range(10)), (7, None, range(7, 10))],
)
def test_a_range_begins_and_ends_at_a_time(
    reader: TopicReader, begin: int | None, end: int | None, offsets: Collection[int]
) -> None:
    """The first moment counts in, the last does not; an end in the future is the present end."""
    if begin is not None:
        reader.begin_at(begin)
    if end is not None:
        reader.end_at(end)

    assert 3 * len(offsets) == reader.remaining()
    assert [Place(number, offset) for number in range(3) for offset in offsets] == places(
        reader.read()
    )


def test_the_partition_of_a_key_is_read_alone(reader: TopicReader) -> None:
    """Where every producer with the usual partitioner puts that key."""
    number = (murmur2(b"u-1") & 0x7FFFFFFF) % 3

    reader.only_keys([b"u-1"])

    assert 10 == reader.remaining()
    assert [Place(number, offset) for offset in range(10)] == places(reader.read())
    reader.all_keys()
    assert 30 == reader.remaining()


@pytest.mark.parametrize(
    ("count", "not_before", "first", "left_out"),
    [(4, None, 6, {0, 1, 2}), (10, None, 0, set()), (4, 8, 8, set()), (4, 2, 6, {0, 1, 2})],
)
def test_the_end_of_each_partition_is_read_alone(
    reader: TopicReader, count: int, not_before: int | None, first: int, left_out: set[int]
) -> None:
    """So many offsets, or those of a time where these are fewer; partitions that hold more are named."""
    assert left_out == reader.begin_near_end(count, not_before)

    offsets = range(first, 10)
    assert [Place(number, one) for number in range(3) for one in offsets] == places(reader.read())


def test_a_topic_is_followed_into_new_partitions(topic: Topic) -> None:
    """From where the last reading ended; a partition that is added is read from its beginning, no record comes twice."""
    reader = topic.reader({0: [Raw(0, 0)]})
    list(reader.read())
    topic.logs |= {0: [Raw(0, 0), Raw(0, 1)], 1: [Raw(1, 0)]}
    topic.consumer.ends = {0: 2, 1: 1}

    batches = reader.follow()

    assert [Place(0, 1), Place(1, 0)] == places(next(batches))
    assert [] == next(batches)


@pytest.mark.parametrize(("first", "expected"), [(0, False), (4, True)])
def test_a_topic_whose_first_records_are_gone_says_so(
    monkeypatch: pytest.MonkeyPatch, first: int, expected: bool
) -> None:
    """In any partition, and even when a range begins later."""
    logs = {0: LOGS[0], 1: [Raw(1, offset) for offset in range(first, 10)]}
    monkeypatch.setattr(kafka_reader, "KafkaConsumer", lambda **_: StubConsumer(logs))

    assert expected is TopicReader(KafkaSettings(), TOPIC).is_cut
