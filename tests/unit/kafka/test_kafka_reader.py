from typing import Any

import pytest
from kafka.partitioner.default import murmur2
from test_kafka_letters import TOPIC, Raw, StubConsumer

from keycloak_bridge.domain.errors import ConfigError
from keycloak_bridge.domain.events import Record
from keycloak_bridge.kafka import reader as kafka_reader
from keycloak_bridge.kafka.reader import TopicReader
from keycloak_bridge.settings import KafkaSettings

LOGS = {number: [Raw(number, offset) for offset in range(10)] for number in range(3)}


@pytest.fixture
def reader(monkeypatch: pytest.MonkeyPatch) -> TopicReader:
    """A topic of three partitions whose records are as old as their offsets say."""
    monkeypatch.setattr(kafka_reader, "KafkaConsumer", lambda **_: StubConsumer(LOGS))
    return TopicReader(KafkaSettings(), TOPIC)


def places(records: Any) -> list[tuple[int, int]]:
    """Return partition and offset of each record."""
    return sorted((record.partition, record.offset) for record in records)


def test_a_range_begins_and_ends_at_a_time(reader: TopicReader) -> None:
    """The first moment counts in, the last does not; what is fetched beyond it is not yielded."""
    reader.begin_at(3)
    reader.end_at(6)

    remaining = reader.remaining()

    assert 9 == remaining
    assert [(number, offset) for number in range(3) for offset in (3, 4, 5)] == places(
        reader.read()
    )


def test_a_range_of_the_future_is_empty(reader: TopicReader) -> None:
    """Nothing is as young, and the present end is no record."""
    reader.begin_at(100)

    assert [0, 0] == [reader.remaining(), len(list(reader.read()))]


def test_an_end_in_the_future_is_the_present_end(reader: TopicReader) -> None:
    """All there is now."""
    reader.end_at(100)

    assert 30 == len(list(reader.read()))


def test_the_partition_of_a_key_is_read_alone(reader: TopicReader) -> None:
    """Where every producer with the usual partitioner puts that key."""
    number = (murmur2(b"u-1") & 0x7FFFFFFF) % 3

    reader.only_key(b"u-1")

    assert 10 == reader.remaining()
    assert [(number, offset) for offset in range(10)] == places(reader.read())


def test_a_record_comes_with_everything(reader: TopicReader) -> None:
    """Key, value, headers and time, as they stand in the topic."""
    first = next(reader.read())

    assert Record(TOPIC, 0, 0, 7, b"u-1", b"xx", (("trace", b"1"), ("none", None))) == first


def test_a_missing_topic_names_its_setting(monkeypatch: pytest.MonkeyPatch) -> None:
    """So that whoever reads it knows what to mend."""
    monkeypatch.setattr(kafka_reader, "KafkaConsumer", lambda **_: StubConsumer({}))

    with pytest.raises(ConfigError, match=r"topics\.results") as caught:
        TopicReader(KafkaSettings(), TOPIC, setting="topics.results")

    assert "topic-missing" == caught.value.code


@pytest.mark.parametrize(("first", "expected"), [(0, False), (4, True)])
def test_a_topic_whose_first_records_are_gone_says_so(
    monkeypatch: pytest.MonkeyPatch, first: int, expected: bool
) -> None:
    """In any partition, and even when a range begins later."""
    logs = {0: LOGS[0], 1: [Raw(1, offset) for offset in range(first, 10)]}
    monkeypatch.setattr(kafka_reader, "KafkaConsumer", lambda **_: StubConsumer(logs))

    assert expected is TopicReader(KafkaSettings(), TOPIC).is_cut
