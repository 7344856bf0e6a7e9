"""Which dead letters the topic holds: chosen by a filter, counted, and in the order of their records."""

from collections import Counter
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from datetime import datetime

from keycloak_bridge.domain.events import Record
from keycloak_bridge.events.decode import EnvelopeRules
from keycloak_bridge.messages.dead_letters import (
    DeadLetter,
    Place,
    is_replay_mark,
    marked_replay,
    read_dead_letter,
)


@dataclass(frozen=True, slots=True)
class DeadLetterFilter:
    """A choice of dead letters; an empty condition allows all."""

    places: frozenset[Place] = frozenset()
    codes: frozenset[str] = frozenset()
    types: frozenset[str] = frozenset()
    users: frozenset[str] = frozenset()
    step: str | None = None
    since: datetime | None = None
    until: datetime | None = None

    @property
    def is_empty(self) -> bool:
        """Whether every dead letter is chosen."""
        return self == DeadLetterFilter()

    def matches(self, letter: DeadLetter) -> bool:
        """Say whether `letter` meets all conditions; `since` is inclusive, `until` is not."""
        return (
            (not self.places or letter.place in self.places)
            and (not self.codes or letter.code in self.codes)
            and (not self.types or letter.event_type in self.types)
            and (not self.users or letter.user_id in self.users)
            and (self.step is None or letter.step == self.step)
            and (self.since is None or letter.time >= self.since)
            and (self.until is None or letter.time < self.until)
        )


@dataclass(slots=True)
class DeadLetterInventory:
    """The dead letters that a filter chooses and every mark, added record by record; without values."""

    rules: EnvelopeRules
    chosen: DeadLetterFilter = field(default_factory=DeadLetterFilter)
    foreign: int = 0
    """How many records were neither dead letters nor marks."""
    _letters: dict[Place, DeadLetter] = field(default_factory=dict)
    _replayed: set[bytes] = field(default_factory=set)

    def add(self, record: Record) -> None:
        """Add the next record of the dead-letter topic."""
        if is_replay_mark(record):
            self.add_mark(record)
            return
        letter = read_dead_letter(record, self.rules)
        if letter is None:
            self.foreign += 1
        elif self.chosen.matches(letter):
            self._letters[letter.place] = letter

    def add_mark(self, record: Record) -> None:
        """Add `record` if it is a mark, ignore a dead letter."""
        replay = marked_replay(record)
        if replay is not None:
            self._replayed.add(replay)

    def is_open(self, letter: DeadLetter) -> bool:
        """Say whether no mark says that `letter` was replayed."""
        return letter.replay not in self._replayed

    def letters(self, *, replayed: bool) -> list[DeadLetter]:
        """Return the dead letters, the oldest first; with `replayed` also those that are no longer open."""
        found = [one for one in self._letters.values() if replayed or self.is_open(one)]
        return sorted(found, key=lambda letter: (letter.time, letter.place))

    def missing(self) -> list[Place]:
        """Return the places that the filter names and that hold no dead letter of its choice."""
        return sorted(self.chosen.places - self._letters.keys())


def in_original_order(letters: Collection[DeadLetter]) -> list[DeadLetter]:
    """Return `letters` in the order of their records before any replay, which is the order of each user's events."""
    return sorted(letters, key=lambda letter: (letter.topic, letter.origin, letter.place))


def counts_by_code(letters: Collection[DeadLetter]) -> Mapping[str, int]:
    """Return the number of `letters` of each code, the most frequent first."""
    counts = Counter(letter.code for letter in letters)
    return dict(sorted(counts.items(), key=lambda item: (-item[1], item[0])))
