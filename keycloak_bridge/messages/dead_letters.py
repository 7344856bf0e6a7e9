"""Dead letters as they are read back: which there are, which were replayed, and how one is replayed.

What a replayed record carries: headers that name its dead letter and what the operator wished.
"""

import re
from collections import Counter
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from sys import intern
from typing import NamedTuple, Self

from keycloak_bridge.domain.events import DEAD_LETTER_REPLAYED, Message, Record
from keycloak_bridge.domain.times import format_time, parse_time
from keycloak_bridge.events.decode import EnvelopeRules, peek
from keycloak_bridge.messages.published import (
    DEAD_LETTER_PREFIX,
    cloud_event_message,
    dead_letter_headers,
)

REPLAY_PREFIX = "kb-replay-"
REPLAY_OF = "kb-replay-of"
"""The place of the dead letter, as `PARTITION/OFFSET` of the dead-letter topic."""

REPLAY_ORIGIN = "kb-replay-origin"
"""Where the record stood in its topic before it was ever replayed, as `PARTITION/OFFSET`; replays keep to that order."""

REPLAY_INVITE = "kb-replay-invite"
NO_INVITE = b"none"

_PLACE = re.compile(r"([0-9]{1,10})/([0-9]{1,19})", re.ASCII)


class Place(NamedTuple):
    """A position within one topic, written `PARTITION/OFFSET`."""

    partition: int
    offset: int

    def __str__(self) -> str:
        return f"{self.partition}/{self.offset}"

    @classmethod
    def parse(cls, text: str) -> Self:
        """Return the place that `text` names; raises ValueError with what to write instead."""
        match = _PLACE.fullmatch(text)
        if match is None:
            raise ValueError("write PARTITION/OFFSET, such as 3/41")
        return cls(int(match[1]), int(match[2]))


def is_replay(record: Record) -> bool:
    """Say whether an operator published `record` anew from a dead letter."""
    return any(name == REPLAY_OF for name, _ in record.headers)


def wants_no_invite(record: Record) -> bool:
    """Say whether the operator who replayed `record` wants no mail to go out for it."""
    return (REPLAY_INVITE, NO_INVITE) in record.headers


def place_header(record: Record, name: str) -> Place | None:
    """Return the place that the last header `name` holds, None without a readable one."""
    values = [value for other, value in record.headers if other == name]
    if not values:
        return None
    try:
        return Place.parse((values[-1] or b"").decode("ascii"))
    except ValueError:
        return None


REPLAYED = "kb-dlq-replayed"
"""Header of the mark that a dead letter was replayed: the letter's place."""

INVITE_STAGE = "invite"
_ATTEMPTS = f"{DEAD_LETTER_PREFIX}attempts"
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """What is told of a dead letter without its value; `origin` is where the record stood before any replay."""

    place: Place
    time: datetime
    code: str
    stage: str
    topic: str
    position: Place
    origin: Place
    attempts: int
    event_id: str | None
    event_type: str | None
    user_id: str | None


@dataclass(frozen=True, slots=True)
class LetterFilter:
    """Which dead letters are meant; an empty condition is none."""

    places: frozenset[Place] = frozenset()
    codes: frozenset[str] = frozenset()
    types: frozenset[str] = frozenset()
    users: frozenset[str] = frozenset()
    stage: str | None = None
    since: datetime | None = None
    until: datetime | None = None

    @property
    def is_empty(self) -> bool:
        """Whether every letter is meant."""
        return self == LetterFilter()

    def matches(self, letter: DeadLetter) -> bool:
        """Say whether `letter` meets all conditions; `since` counts in, `until` does not."""
        return (
            (not self.places or letter.place in self.places)
            and (not self.codes or letter.code in self.codes)
            and (not self.types or letter.event_type in self.types)
            and (not self.users or letter.user_id in self.users)
            and (self.stage is None or letter.stage == self.stage)
            and (self.since is None or letter.time >= self.since)
            and (self.until is None or letter.time < self.until)
        )


def is_mark(record: Record) -> bool:
    """Say whether a record of the dead-letter topic is no letter but the mark that one was replayed."""
    return any(name == REPLAYED for name, _ in record.headers)


def read_letter(record: Record, rules: EnvelopeRules) -> DeadLetter | None:
    """Return what `record` of the dead-letter topic tells, None when the bridge did not write it as a letter."""
    headers = dead_letter_headers(record)

    def told(name: str) -> str:
        return headers.get(f"{DEAD_LETTER_PREFIX}{name}", "")

    position = _position(told("partition"), told("offset"))
    if is_mark(record) or not told("topic") or not told("code") or position is None:
        return None
    stage = told("stage")
    # an invitation is the bridge's own record, whatever the envelope of the events is
    head = peek(record, EnvelopeRules() if stage == INVITE_STAGE else rules)
    return DeadLetter(
        place=Place(record.partition, record.offset),
        time=parse_time(told("time")) or _time_of(record),
        # a hundred thousand letters share a few of these texts
        code=intern(told("code")),
        stage=intern(stage),
        topic=intern(told("topic")),
        position=position,
        origin=place_header(record, REPLAY_ORIGIN) or position,
        attempts=max(_count(told("attempts")) or 1, 1),
        event_id=told("event-id") or head.id,
        event_type=None if head.type is None else intern(head.type),
        user_id=head.subject,
    )


@dataclass(slots=True)
class Inventory:
    """The letters that a filter means and every mark, filled record by record; holds no values."""

    rules: EnvelopeRules
    chosen: LetterFilter = field(default_factory=LetterFilter)
    foreign: int = 0
    """How many records were neither letters nor marks."""
    _letters: dict[Place, DeadLetter] = field(default_factory=dict)
    _replayed: set[Place] = field(default_factory=set)

    def add(self, record: Record) -> None:
        """Take in the next record of the dead-letter topic."""
        if is_mark(record):
            self.add_mark(record)
            return
        letter = read_letter(record, self.rules)
        if letter is None:
            self.foreign += 1
        elif self.chosen.matches(letter):
            self._letters[letter.place] = letter

    def add_mark(self, record: Record) -> None:
        """Take in `record` if it is a mark, and pass over a letter."""
        place = place_header(record, REPLAYED)
        if place is not None:
            self._replayed.add(place)

    def is_open(self, letter: DeadLetter) -> bool:
        """Say whether no mark says that `letter` was replayed."""
        return letter.place not in self._replayed

    def letters(self, *, replayed: bool) -> list[DeadLetter]:
        """Return the letters, the oldest first; with `replayed` those too that are not open any more."""
        found = [one for one in self._letters.values() if replayed or self.is_open(one)]
        return sorted(found, key=lambda letter: (letter.time, letter.place))

    def missing(self) -> list[Place]:
        """Return the places that the filter names and where no letter is that it means."""
        return sorted(self.chosen.places - self._letters.keys())


def in_original_order(letters: Collection[DeadLetter]) -> list[DeadLetter]:
    """Return `letters` as their records stood before any replay, so that each user's stay in order."""
    return sorted(letters, key=lambda letter: (letter.topic, letter.origin, letter.place))


def counts_by_code(letters: Collection[DeadLetter]) -> Mapping[str, int]:
    """Return how many letters there are of each code, the most frequent first."""
    counts = Counter(letter.code for letter in letters)
    return dict(sorted(counts.items(), key=lambda item: (-item[1], item[0])))


def original_record(letter: DeadLetter, record: Record) -> Record:
    """Return the record that became the dead letter `record`, without what the bridge added."""
    return replace(
        record,
        topic=letter.topic,
        partition=letter.position.partition,
        offset=letter.position.offset,
        headers=_original_headers(record),
    )


def replay_message(letter: DeadLetter, record: Record, *, no_invite: bool) -> Message:
    """Return the original record for the topic it came from, with headers that say whose replay it is.

    The attempts stay, so that a record that fails again counts on.
    """
    headers: list[tuple[str, bytes | None]] = [
        *_original_headers(record),
        (_ATTEMPTS, str(letter.attempts).encode()),
        (REPLAY_OF, str(letter.place).encode()),
        (REPLAY_ORIGIN, str(letter.origin).encode()),
    ]
    if no_invite:
        headers.append((REPLAY_INVITE, NO_INVITE))
    return Message(letter.topic, record.key, record.value, tuple(headers))


def mark_message(letter: DeadLetter, record: Record, *, time: datetime) -> Message:
    """Return the mark for the dead-letter topic that `letter`, which is `record` there, was replayed at `time`."""
    data = {"letter": str(letter.place), "topic": letter.topic, "code": letter.code}
    identity = f"{letter.place}/{format_time(time)}"
    message = cloud_event_message(
        DEAD_LETTER_REPLAYED, identity, None, data, topic=record.topic, time=time
    )
    mark = (REPLAYED, str(letter.place).encode())
    return replace(message, key=record.key, headers=(*message.headers, mark))


def _original_headers(record: Record) -> tuple[tuple[str, bytes | None], ...]:
    added = (DEAD_LETTER_PREFIX, REPLAY_PREFIX)
    return tuple(one for one in record.headers if not one[0].startswith(added))


def _position(partition: str, offset: str) -> Place | None:
    try:
        return Place.parse(f"{partition}/{offset}")
    except ValueError:
        return None


def _count(text: str) -> int | None:
    return int(text) if text.isascii() and text.isdecimal() and len(text) < 10 else None


def _time_of(record: Record) -> datetime:
    """Return the record's timestamp; anybody can write one that no calendar knows."""
    try:
        return _EPOCH + timedelta(milliseconds=record.timestamp_ms)
    except OverflowError:
        return _EPOCH
