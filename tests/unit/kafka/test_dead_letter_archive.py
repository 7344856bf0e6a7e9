"""What the archive answers from the dead-letter topic, and how often it reads it."""

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
from dead_letter_cases import dead_letter, letter_of, stored
from records import record as record_of

from keycloak_bridge.domain.errors import (
    BrokerAccessError,
    BrokerUnavailableError,
    MappingError,
)
from keycloak_bridge.domain.events import Record
from keycloak_bridge.kafka import dead_letter_archive
from keycloak_bridge.kafka.dead_letter_archive import KafkaDeadLetterArchive
from keycloak_bridge.messages.dead_letters import (
    record_without_body,
    replay_mark,
    replay_message,
    without_body,
)
from keycloak_bridge.settings.model import KafkaSettings

NOW_S = 1_793_600_000.0
HOUR_MS = 3_600_000
RECORD = record_of(b"{}", key=b"u-1")


class World:
    """A dead-letter topic, and the id of every topic."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.log: list[Record] = []
        self.begun_ms: list[int] = []
        self.position = 0
        self.topic_id: str | None = "t-1"
        self.now_s = 0.0
        self.refused = False
        self.unanswered = 0
        self.closed = 0
        monkeypatch.setattr(dead_letter_archive, "DeadLetterReader", self._reader)
        monkeypatch.setattr(dead_letter_archive, "KafkaAdmin", lambda _: _Admin(self))
        self.archive = KafkaDeadLetterArchive(
            KafkaSettings(), "dead-letters", lambda: NOW_S, lambda: self.now_s
        )

    def _reader(self, _: KafkaSettings, __: str, **options: Any) -> "_Reader":
        assert {"committed_only": False} == options
        return _Reader(self)

    def give_up(self, record: Record) -> Record:
        """Write the dead letter of `record`, which is as old as the record, and return it."""
        message = dead_letter(record, MappingError("no"), topic_id=self.topic_id)
        letter = stored(message, (0, len(self.log)))
        self.log.append(replace(letter, timestamp_ms=record.timestamp_ms))
        return self.log[-1]


class _Reader:
    def __init__(self, world: World) -> None:
        self._world = world

    def begin_at(self, timestamp_ms: int) -> None:
        if self._world.unanswered:
            self._world.unanswered -= 1
            raise BrokerUnavailableError("gone")
        self._world.begun_ms.append(timestamp_ms)
        later = [n for n, one in enumerate(self._world.log) if one.timestamp_ms >= timestamp_ms]
        self._world.position = later[0] if later else len(self._world.log)

    def read(self) -> Iterator[Record]:
        if self._world.refused:
            raise BrokerAccessError("no")
        while self._world.position < len(self._world.log):
            self._world.position += 1
            yield self._world.log[self._world.position - 1]

    def close(self) -> None:
        self._world.closed += 1


class _Admin:
    def __init__(self, world: World) -> None:
        self._world = world

    def topic_id(self, _: str) -> str | None:
        if self._world.refused:
            raise BrokerAccessError("no")
        return self._world.topic_id

    def close(self) -> None:
        self._world.closed += 1


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch) -> World:
    """An empty topic."""
    return World(monkeypatch)


def test_it_holds_what_was_written(world: World) -> None:
    """Before it was asked, or between two questions."""
    other = replace(RECORD, offset=7)
    world.give_up(RECORD)
    assert (True, False) == (world.archive.holds(RECORD), world.archive.holds(other))
    world.give_up(other)

    assert world.archive.holds(other)
    assert [RECORD.timestamp_ms - HOUR_MS] == world.begun_ms


def test_what_failed_for_another_realm_says_nothing(world: World) -> None:
    """Two groups may read the same events, and one topic may hold the dead letters of both."""
    letter = world.give_up(RECORD)
    assert world.archive.holds(RECORD)
    for group, held in ((b"keycloak-bridge-invite", True), (b"partners", False)):
        other = replace(RECORD, offset=RECORD.offset + 1 + held)
        world.give_up(other)
        headers = tuple(
            (name, group if name == "kb-dlq-group" else value)
            for name, value in world.log[-1].headers
        )
        world.log[-1] = replace(world.log[-1], headers=headers)

        assert held is world.archive.holds(other)
    assert letter in world.log


def test_a_topic_made_anew_has_records_of_its_own(world: World) -> None:
    """Even where they are equal to the last byte; a dead letter without the id of a topic is of any."""
    world.give_up(RECORD)
    assert world.archive.holds(RECORD)
    world.topic_id = "t-2"
    world.now_s = 60.0

    assert not world.archive.holds(RECORD)
    assert "t-2" == world.archive.topic_id("user-events")
    world.topic_id = None
    world.give_up(RECORD)
    assert world.archive.holds(RECORD)


@pytest.mark.parametrize(("size", "held"), [(20_000, True), (100, False)])
def test_a_letter_without_its_body_is_of_a_large_record_only(
    world: World, size: int, held: bool
) -> None:
    """Of any other nobody can say so, and keep what it holds out of the topic."""
    record = replace(RECORD, value=b"x" * size)
    letter = without_body(dead_letter(record, MappingError("no"), topic_id="t-1"))
    world.log.append(replace(stored(letter), timestamp_ms=record.timestamp_ms))

    assert held is world.archive.holds(record)
    assert not world.archive.holds(replace(record, value=b"y" * size))
    bad = tuple(one if one[0] != "kb-dlq-digest" else (one[0], b"z") for one in letter.headers)
    world.log[:] = [stored(replace(letter, headers=bad))]
    assert None is record_without_body(world.log[0])


def test_a_replay_needs_its_mark(world: World) -> None:
    """The mark names the dead letter and what it holds."""
    letter = world.give_up(RECORD)
    replay = stored(replay_message(letter_of(letter), letter, no_invite=False))
    assert not world.archive.replayed(replay)
    world.log.append(stored(replay_mark(letter_of(letter), letter, time=letter_of(letter).time)))

    assert world.archive.replayed(replay)
    assert not world.archive.replayed(replace(replay, value=b"[]"))
    assert not world.archive.replayed(RECORD)


def test_older_and_older_records_have_the_topic_read_twice(world: World) -> None:
    """A producer may give its records any time; one in the future says nothing of when its letter was written."""
    for timestamp_ms in (RECORD.timestamp_ms, 9_000_000, 8_000_000, 1_000, 0, -1):
        world.archive.holds(replace(RECORD, timestamp_ms=timestamp_ms))
    assert [RECORD.timestamp_ms - HOUR_MS, 0] == world.begun_ms

    future = replace(RECORD, timestamp_ms=2**62)
    world.give_up(future)
    assert world.archive.holds(future)


@pytest.mark.parametrize("begun", [True, False])
def test_what_kafka_did_not_answer_is_asked_again(world: World, begun: bool) -> None:
    """A dead letter that was not found since the topic could not be read there would be written twice."""
    old = replace(RECORD, offset=1, timestamp_ms=RECORD.timestamp_ms - 30 * 24 * HOUR_MS)
    world.give_up(old)
    world.give_up(RECORD)
    if begun:
        assert world.archive.holds(RECORD)
    world.unanswered = 2
    for _ in range(2):
        with pytest.raises(BrokerUnavailableError):
            world.archive.holds(old)

    assert world.archive.holds(old)
    assert world.begun_ms.pop() == (0 if begun else old.timestamp_ms - HOUR_MS)
    assert not world.archive.holds(replace(old, offset=2))
    assert len(world.begun_ms) == begun


def test_after_a_close_the_topic_is_read_again(world: World) -> None:
    """From the time of the record on that is asked about then."""
    assert not world.archive.holds(RECORD)
    world.archive.close()
    old = replace(RECORD, offset=1, timestamp_ms=RECORD.timestamp_ms - 2 * HOUR_MS)
    world.give_up(old)

    assert world.archive.holds(old)
    assert [RECORD.timestamp_ms - HOUR_MS, old.timestamp_ms - HOUR_MS] == world.begun_ms


def test_a_record_of_the_future_has_all_of_it_read(world: World) -> None:
    """At once."""
    world.archive.holds(replace(RECORD, timestamp_ms=2**62))

    assert [0] == world.begun_ms


def test_without_read_access_nothing_is_known(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    """A dead letter may be written twice, and a replay counts as new; that is said once."""
    letter = world.give_up(RECORD)
    replay = stored(replay_message(letter_of(letter), letter, no_invite=False))
    world.refused = True

    found = [
        world.archive.holds(RECORD),
        world.archive.replayed(replay),
        world.archive.topic_id("t"),
    ]

    assert [False, False, None] == found
    assert 1 == len(caplog.records)
    world.archive.close()
    assert 2 == world.closed


def test_few_are_remembered(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """The newest; of one that was forgotten a second dead letter may be written."""
    monkeypatch.setattr(dead_letter_archive, "_MOST", 2)
    records = [replace(RECORD, offset=offset) for offset in range(3)]
    for record in records:
        world.give_up(record)

    assert [False, True, True] == [world.archive.holds(record) for record in records]
