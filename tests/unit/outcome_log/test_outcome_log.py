"""The log of outcomes over topics of several partitions."""

from collections.abc import Callable, Collection, Iterator, Sequence
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any

import pytest
from kafka.partitioner.default import murmur2

from keycloak_bridge.domain.events import Outcome, Record, Result
from keycloak_bridge.kafka import reader as kafka_reader
from keycloak_bridge.messages.results import PastOutcome, read_outcome, result_message
from keycloak_bridge.outcome_log.log import OutcomeFilter, OutcomeLog, by_time, newest_of
from keycloak_bridge.settings.model import KafkaSettings

NOON = datetime(2026, 11, 2, 12, tzinfo=UTC)
PARTITIONS = 3


def at(seconds: float) -> datetime:
    """Return a time after noon."""
    return NOON + timedelta(seconds=seconds)


class Topic:
    """Partitions of records, and readers that promise what `TopicReader` does."""

    def __init__(self) -> None:
        self.partitions: list[list[Record]] = [[] for _ in range(PARTITIONS)]
        self.reads = 0

    def put(self, number: int, value: bytes, seconds: float = 0, key: bytes | None = None) -> None:
        log = self.partitions[number]
        timestamp_ms = int(at(seconds).timestamp() * 1000)
        log.append(Record("results", number, len(log), timestamp_ms, key, value, ()))

    def add(
        self, seconds: float, *, number: int | None = None, late: float = 0, **facts: Any
    ) -> None:
        """Publish an outcome of a time; `late` is by how much its record is younger."""
        result = Result(**{"outcome": Outcome.SKIPPED, "event_id": f"e-{seconds}", "user_id": "u-1", **facts})  # fmt: skip
        message = result_message(result, topic="results", time=at(seconds))
        if number is None:
            number = place_of(str(result.user_id))
        assert message.value is not None
        self.put(number, message.value, seconds + late, message.key)


def place_of(user_id: str) -> int:
    """Return the partition on which producers put the user."""
    return int((murmur2(user_id.encode()) & 0x7FFFFFFF) % PARTITIONS)


class Reader:
    """What the log asks of `TopicReader`."""

    def __init__(self, topic: Topic) -> None:
        self._topic = topic
        self._starts = dict.fromkeys(range(PARTITIONS), 0)

    def only_keys(self, keys: Collection[bytes]) -> None:
        self._starts = {place_of(key.decode(errors="replace")): 0 for key in keys}

    def all_keys(self) -> None:
        self._starts = dict.fromkeys(range(PARTITIONS), 0)

    def begin_at(self, timestamp_ms: int) -> None:
        self.begin_near_end(1_000_000, timestamp_ms)

    def begin_near_end(self, count: int, not_before_ms: int | None = None) -> frozenset[int]:
        left_out = set()
        for number in self._starts:
            log = self._topic.partitions[number]
            fit = [one.offset for one in log if not_before_ms is None or one.timestamp_ms >= not_before_ms]  # fmt: skip
            first = fit[0] if fit else len(log)
            self._starts[number] = max(first, len(log) - count)
            if self._starts[number] > first:
                left_out.add(number)
        return frozenset(left_out)

    def remaining(self) -> int:
        return sum(len(self._topic.partitions[at]) - begin for at, begin in self._starts.items())

    def read(self) -> Iterator[Record]:
        self._topic.reads += self.remaining()
        for number, start in self._starts.items():
            log = self._topic.partitions[number]
            self._starts[number] = len(log)
            yield from log[start:]

    def follow(self) -> Iterator[Sequence[Record]]:
        while True:
            yield list(self.read())

    def close(self) -> None:
        """Nothing to close."""


@pytest.fixture
def topic(monkeypatch: pytest.MonkeyPatch) -> Topic:
    """An empty results topic."""
    found = Topic()
    monkeypatch.setattr(kafka_reader, "TopicReader", lambda *_, **__: Reader(found))
    return found


def log_of(**options: Any) -> OutcomeLog:
    """Return the log of the topic."""
    return OutcomeLog(KafkaSettings(), "results", **options)


def ids(outcomes: Any) -> list[str]:
    """Return the ids of the events."""
    return [one.event_id for one in outcomes]


def test_outcomes_of_all_partitions_come_by_time(topic: Topic) -> None:
    """Whatever the partition; those of one moment in the order in which they were read."""
    for second in (5, 1, 3):
        topic.add(second, number=second % PARTITIONS)
    topic.add(3, number=0, event_id="later")

    assert ["e-1", "e-3", "later", "e-5"] == sorted(ids(log_of().read()), key=["e-1", "e-3", "later", "e-5"].index)  # fmt: skip
    assert [1, 3, 3, 5] == [(one.time - NOON).seconds for one in log_of().read() if one.time]


def test_what_is_no_result_is_passed_over_and_counted(topic: Topic) -> None:
    """Garbage, other events, results without an outcome, and one whose outcome is no text."""
    event = b'{"specversion":"1.0","id":"1","source":"/x","type":"%s","data":%s}'
    for value in (
        b"",
        b"\x00\xff",
        b"[" * 5000,
        event % (b"user.created", b'{"outcome":"skipped"}'),
        event % (b"user.provisioning.result", b"{}"),
        event % (b"user.provisioning.result", b'{"outcome":7}'),
    ):
        topic.put(0, value)
    topic.add(1)
    log = log_of()

    assert ["e-1"] == ids(log.read())
    assert 6 == log.foreign


@pytest.mark.parametrize(
    ("chosen", "expected"),
    [
        (OutcomeFilter(), ["e-1", "e-2", "e-3"]),
        (OutcomeFilter(outcomes=frozenset({"rejected", "invited"})), ["e-2", "e-3"]),
        (OutcomeFilter(types=frozenset({"user.created"})), ["e-1"]),
        (OutcomeFilter(codes=frozenset({"schema-violation"})), ["e-2"]),
        (OutcomeFilter(users=frozenset({"u-1", "u-3"})), ["e-1", "e-3"]),
        (OutcomeFilter(events=frozenset({"e-3"})), ["e-3"]),
        (OutcomeFilter(since=at(2)), ["e-2", "e-3"]),
        (OutcomeFilter(until=at(2)), ["e-1"]),
        (OutcomeFilter(since=at(2), until=at(3)), ["e-2"]),
        (OutcomeFilter(users=frozenset({"u-1"}), since=at(2)), []),
        (OutcomeFilter(users=frozenset({"\udcfc"})), []),
        (OutcomeFilter(since=datetime.min.replace(tzinfo=UTC)), ["e-1", "e-2", "e-3"]),
        (OutcomeFilter(since=datetime.max.replace(tzinfo=UTC)), []),
    ],
)
def test_outcomes_are_chosen(topic: Topic, chosen: OutcomeFilter, expected: list[str]) -> None:
    """By outcome, type, code, user, event and time; all conditions together."""
    topic.add(1, event_type="user.created")
    topic.add(2, outcome=Outcome.REJECTED, reason="schema-violation", user_id="u-2")
    topic.add(3, outcome=Outcome.INVITED, user_id="u-3")

    assert expected == ids(log_of().read(chosen))
    assert expected == ids(log_of().newest(10, chosen))
    assert expected == ids(one for one, _ in zip(log_of().follow(chosen), expected, strict=False))


def test_a_result_of_something_that_happened_before_belongs_to_its_own_time(topic: Topic) -> None:
    """A mail's link was used an hour before the bridge heard of it: the record is younger than the outcome."""
    topic.add(1, number=0)
    topic.add(2, number=0, late=3600)

    assert ["e-2"] == ids(log_of().read(OutcomeFilter(since=at(2), until=at(3))))


def test_the_newest_are_those_of_reading_everything(topic: Topic) -> None:
    """However differently partitions fill, and without reading a long topic from its beginning."""
    for second in range(4_000):
        number = 0 if second % 10 else 1 if second % 100 else 2
        topic.add(second, number=number, user_id=f"u-{second % 50}")
    everything = list(log_of().read())
    topic.reads = 0

    assert everything[-100:] == list(log_of().newest(100))
    assert topic.reads < 1_500
    of_one = OutcomeFilter(events=frozenset({"e-17"}))
    assert ["e-17"] == ids(log_of().newest(100, of_one))
    assert [] == list(log_of().newest(0))


def test_a_user_is_looked_for_where_its_key_is(topic: Topic) -> None:
    """And everywhere when that partition has none, since the topic may have had fewer partitions."""
    elsewhere = (place_of("u-2") + 1) % PARTITIONS
    for second in range(30):
        topic.add(second, number=place_of("u-1"))
        topic.add(second, number=elsewhere, user_id="u-2")
    topic.put(place_of("u-1"), b"of another key, so that it is not even decoded")
    log = log_of()

    assert 30 == len(log.of_user("u-1"))
    assert topic.reads <= 61
    assert 30 == len(log.of_user("u-2"))
    assert 0 == log.foreign


def test_what_comes_is_followed(topic: Topic) -> None:
    """From the end of what was read before; None says that nothing came."""
    topic.add(1)
    log = log_of()
    assert ["e-1"] == ids(log.newest(10))
    coming = log.follow(OutcomeFilter(outcomes=frozenset({"invited"})))

    assert next(coming) is None
    topic.add(2, outcome=Outcome.SKIPPED)
    assert next(coming) is None
    topic.add(4, outcome=Outcome.INVITED, number=0)
    topic.add(3, outcome=Outcome.INVITED, number=1)

    assert ["e-3", "e-4"] == [one.event_id for one in (next(coming), next(coming)) if one]


def test_reading_can_be_watched(topic: Topic) -> None:
    """With how many there may be, for a progress bar."""
    topic.add(1)
    totals = []

    def watched(records: Any, total: int) -> Any:
        totals.append(total)
        return records

    list(log_of(watched=watched).read())

    assert [1] == totals


def past(second: int) -> PastOutcome:
    """Return an outcome of a time."""
    return PastOutcome(at(second), "skipped", event_id=str(second))


@pytest.mark.parametrize("read", [lambda them: by_time(them, 5), lambda them: newest_of(them, 5)])
def test_memory_is_bounded(read: Callable[[Any], Any]) -> None:
    """No more outcomes are alive than are kept, whatever comes."""
    alive = SimpleNamespace(now=0, most=0)

    class Counted(PastOutcome):
        def __del__(self) -> None:
            alive.now -= 1

    def many() -> Iterator[PastOutcome]:
        for second in range(1000):
            alive.now += 1
            alive.most = max(alive.most, alive.now)
            yield Counted(at(second ^ 1), "skipped", event_id=str(second))

    last = datetime.min.replace(tzinfo=UTC)
    for one in read(many()):
        assert last <= one.time
        last = one.time
    assert alive.most <= 10


def test_what_a_stranger_writes_is_kept_in_part() -> None:
    """A long text is no id, names of targets are counted, a place is a place."""
    changed = '["' + '","'.join(f"{number:0999}" for number in range(50)) + '",7]'
    data = f'{{"outcome":"skipped","eventId":"{"x" * 9000}","changed":{changed},"source":{{"topic":"t","partition":"x","offset":1}}}}'
    value = f'{{"specversion":"1.0","id":"1","source":"/x","type":"user.provisioning.result","data":{data}}}'

    found = read_outcome(Record("results", 0, 0, 0, None, value.encode(), ()))

    assert found is not None
    assert (None, 16, None, "1") == (found.event_id, len(found.changed), found.origin, found.id)
