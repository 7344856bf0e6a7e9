"""What the page remembers of the topics, in bounded memory: the newest outcomes, counts over the last hours, open dead letters.

All of it can be read again from the topics at any time.
"""

import threading
from collections import Counter, OrderedDict, deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from datetime import UTC, datetime, timedelta
from typing import Any

from keycloak_bridge.domain.events import Outcome, Record
from keycloak_bridge.events.decode import EnvelopeRules
from keycloak_bridge.invitations.rules import ALREADY_INVITED
from keycloak_bridge.messages.bounds import shortened
from keycloak_bridge.messages.dead_letters import is_replay_mark, marked_replay, read_dead_letter
from keycloak_bridge.messages.results import PastOutcome
from keycloak_bridge.outcome_log.log import OutcomeFilter, newest_of

MOST_OUTCOMES = 10_000
"""Outcomes that are kept, the newest."""

MOST_USERS = 50_000
"""Users whose invitation is kept in mind, those with the newest news of it."""

MOST_DEAD_LETTERS = 10_000
"""Open dead letters that are kept in mind, the newest."""

BUCKET = timedelta(minutes=10)
BUCKETS = 72
"""The plot shows so many spans of time of that length."""

SERIES = ("users", "mails", "dead letters")
"""What is counted over time: users that were written, mails that were sent, records that became dead letters."""

_LARGEST_CHANGED = 1000
_LONGEST_TEXT = 512
_TEXTS = tuple(one.name for one in fields(PastOutcome) if one.name not in ("time", "changed"))
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_SENT, _ACTIVATED = "sent", "activated"
_OF_INVITATION = {
    Outcome.INVITED.value: _SENT,
    Outcome.ACTIVATED.value: _ACTIVATED,
    Outcome.INVITATION_EXPIRED.value: "expired",
}


@dataclass(frozen=True, slots=True)
class Found:
    """The newest of the chosen outcomes, the newest first, and how many were chosen in all."""

    outcomes: Sequence[PastOutcome]
    total: int


@dataclass(frozen=True, slots=True)
class Bucket:
    """What happened from `start` on, for one BUCKET: a count for each of SERIES."""

    start: datetime
    counts: tuple[int, ...]


class RecentOutcomes:
    """The newest outcomes, and counts of them by time. Safe to share between threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._outcomes: deque[PastOutcome] = deque(maxlen=MOST_OUTCOMES)
        self._ids: set[str] = set()
        self._buckets: dict[int, list[int]] = {}
        self._invitations: OrderedDict[str, tuple[datetime, str]] = OrderedDict()

    def clear(self) -> None:
        """Forget everything, before the topic is read again."""
        with self._lock:
            self._outcomes.clear()
            self._ids.clear()
            self._buckets.clear()
            self._invitations.clear()

    def add(self, one: PastOutcome) -> None:
        """Take an outcome; one that repeats another that is kept counts once."""
        one = _bounded(one)
        with self._lock:
            if one.id is not None:
                if one.id in self._ids:
                    return
                self._ids.add(one.id)
            if len(self._outcomes) == MOST_OUTCOMES:
                self._ids.discard(self._outcomes[0].id or "")
            self._outcomes.append(one)
            self._count(one)
            self._note_invitation(one)

    def find(self, chosen: OutcomeFilter, count: int) -> Found:
        """Return the newest `count` of the chosen outcomes that are kept."""
        matching = [one for one in self._snapshot() if chosen.matches(one)]
        return Found(newest_of(matching, count)[::-1], len(matching))

    def oldest(self) -> datetime | None:
        """Return the time of the oldest outcome that is kept; None where there is none."""
        return next((one.time for one in self._snapshot()), None)

    def is_full(self) -> bool:
        """Say whether older outcomes may have been forgotten."""
        with self._lock:
            return len(self._outcomes) == MOST_OUTCOMES

    def seen(self) -> Mapping[str, Sequence[str]]:
        """Return the outcomes, types and codes of what is kept, the most frequent first: what can be asked for."""
        kept = self._snapshot()
        texts = {
            "outcome": Counter(one.outcome for one in kept),
            "type": Counter(one.event_type for one in kept if one.event_type),
            "code": Counter(one.reason for one in kept if one.reason),
        }
        return {
            name: [text for text, _ in counts.most_common(50)] for name, counts in texts.items()
        }

    def by_time(self, now: datetime) -> Sequence[Bucket]:
        """Return the last BUCKETS spans of time, the oldest first."""
        last = _number(now)
        with self._lock:
            return [
                Bucket(_EPOCH + number * BUCKET, tuple(self._buckets.get(number, (0, 0, 0))))
                for number in range(last - BUCKETS + 1, last + 1)
            ]

    def invitations(self) -> Mapping[str, int]:
        """Return how many users' newest news of an invitation is `sent`, `activated` or `expired`."""
        with self._lock:
            counts = Counter(state for _, state in self._invitations.values())
        return {state: counts[state] for state in dict.fromkeys(_OF_INVITATION.values())}

    def _snapshot(self) -> Sequence[PastOutcome]:
        with self._lock:
            return tuple(self._outcomes)

    def _count(self, one: PastOutcome) -> None:
        series = _series_of(one)
        if series is None or one.time is None:
            return
        number = _number(one.time)
        self._buckets.setdefault(number, [0] * len(SERIES))[series] += 1
        if len(self._buckets) > 2 * BUCKETS:
            for old in sorted(self._buckets)[:-BUCKETS]:
                del self._buckets[old]

    def _note_invitation(self, one: PastOutcome) -> None:
        if one.user_id is None or one.time is None:
            return
        time, known = self._invitations.get(one.user_id, (one.time, None))
        if one.outcome == Outcome.PROVISIONED and one.action in ("created", "deleted"):
            if time <= one.time:
                self._invitations.pop(one.user_id, None)  # another life of the same id
            return
        state = _OF_INVITATION.get(one.outcome)
        if known is None and one.reason == ALREADY_INVITED:
            state = _SENT  # by a process that was killed before it said so
        # a quick person is in before the bridge has said that the mail is out, by another machine's clock
        if state is None or known == _ACTIVATED or (state != _ACTIVATED and one.time < time):
            return
        self._invitations[one.user_id] = (one.time, state)
        self._invitations.move_to_end(one.user_id)
        if len(self._invitations) > MOST_USERS:
            self._invitations.popitem(last=False)


def _bounded(one: PastOutcome) -> PastOutcome:
    """Return `one` with its texts shortened where they are longer than what the bridge itself writes."""
    long: dict[str, Any] = {
        name: shortened(text, _LONGEST_TEXT)
        for name in _TEXTS
        if (text := getattr(one, name)) is not None and len(text) > _LONGEST_TEXT
    }
    if sum(map(len, one.changed)) > _LARGEST_CHANGED:
        long["changed"] = ()
    return replace(one, **long) if long else one


def _number(time: datetime) -> int:
    return (time - _EPOCH) // BUCKET


def _series_of(one: PastOutcome) -> int | None:
    if one.outcome == Outcome.PROVISIONED and one.action != "unchanged":
        return 0
    return {Outcome.INVITED.value: 1, Outcome.REJECTED.value: 2}.get(one.outcome)


@dataclass(frozen=True, slots=True)
class DeadLettersOfCode:
    """How many open dead letters have a code, and when the newest of them was written."""

    code: str
    count: int
    newest: datetime


class OpenDeadLetters:
    """The dead letters that were not replayed yet. Safe to share between threads."""

    def __init__(self, rules: EnvelopeRules) -> None:
        self._rules = rules
        self._lock = threading.Lock()
        self._open: OrderedDict[bytes, tuple[str, datetime, str | None]] = OrderedDict()
        self.is_cut = False
        """Whether there may be more than are kept in mind."""

    def clear(self) -> None:
        """Forget everything, before the topic is read again."""
        with self._lock:
            self._open.clear()
            self.is_cut = False

    def add(self, record: Record) -> None:
        """Take the next record of the dead-letter topic."""
        if is_replay_mark(record):
            replay = marked_replay(record)
            with self._lock:
                self._open.pop(replay or b"", None)
            return
        letter = read_dead_letter(record, self._rules)
        if letter is None:
            return
        with self._lock:
            self._open[letter.replay] = (letter.code, letter.time, letter.user_id)
            if len(self._open) > MOST_DEAD_LETTERS:
                self._open.popitem(last=False)
                self.is_cut = True

    def by_code(self) -> Sequence[DeadLettersOfCode]:
        """Return the codes of the open dead letters, the most frequent first."""
        counts: Counter[str] = Counter()
        newest: dict[str, datetime] = {}
        with self._lock:
            for code, time, _ in self._open.values():
                counts[code] += 1
                newest[code] = max(time, newest.get(code, time))
        return [
            DeadLettersOfCode(code, count, newest[code]) for code, count in counts.most_common()
        ]

    def of_user(self, user_id: str) -> int:
        """Return how many open dead letters are about a user."""
        with self._lock:
            return sum(user == user_id for _, _, user in self._open.values())
