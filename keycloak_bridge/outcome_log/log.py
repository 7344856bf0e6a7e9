"""What became of events, as the results topic tells it: the newest outcomes, all of a time, or those that come now.

The topic is the only source, so that the log survives restarts and shows every sidecar. An outcome holds ids and codes only.
Memory is bounded, however large the topic is.
"""

import heapq
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import count as counter
from typing import NamedTuple

from keycloak_bridge.domain.events import Record
from keycloak_bridge.kafka import reader as kafka_reader
from keycloak_bridge.messages.results import PastOutcome, outcomes_in_order, read_outcome
from keycloak_bridge.settings.model import KafkaSettings

MOST = 10_000
"""Outcomes that are kept at once: at most so many can be asked for, and `read` sorts so many at a time."""

_REACH = 500
_FARTHER = 8
_CLOCKS_DIFFER_MS = 600_000
"""An outcome is published after its time, unless the clocks of bridge and broker differ."""

_BEGINNING = datetime(1, 1, 1, tzinfo=UTC)
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class OutcomeFilter:
    """A choice of outcomes; an empty condition allows all. Texts are compared exactly."""

    outcomes: frozenset[str] = frozenset()
    types: frozenset[str] = frozenset()
    """Types of events, such as `user.created`."""
    codes: frozenset[str] = frozenset()
    """Reason codes, such as `schema-violation` or `stale`."""
    users: frozenset[str] = frozenset()
    """Ids in user management."""
    events: frozenset[str] = frozenset()
    """Ids of events."""
    since: datetime | None = None
    until: datetime | None = None

    def matches(self, one: PastOutcome) -> bool:
        """Say whether `one` meets all conditions; `since` is inclusive, `until` is not."""
        time = one.time or _BEGINNING
        return (
            (not self.outcomes or one.outcome in self.outcomes)
            and (not self.types or one.event_type in self.types)
            and (not self.codes or one.reason in self.codes)
            and (not self.users or one.user_id in self.users)
            and (not self.events or one.event_id in self.events)
            and (self.since is None or time >= self.since)
            and (self.until is None or time < self.until)
        )


EVERYTHING = OutcomeFilter()


class OutcomeLog:
    """Reads the results topic without a group: no consumer is disturbed. Used by one thread at a time."""

    def __init__(
        self,
        settings: KafkaSettings,
        topic: str,
        *,
        watched: Callable[[Iterable[Record], int], Iterable[Record]] = lambda records, _: records,
    ) -> None:
        """Connect; raises BrokerError, or ConfigError (`topic-missing`) where there is no such topic.

        `watched` takes records that are read up to the end, and how many there may be, for a progress bar.
        """
        self._watched = watched
        self._reader = kafka_reader.TopicReader(settings, topic, setting="topics.results")
        self.foreign = 0
        """How many records were passed over so far, since they are no results or cannot be read."""

    def newest(self, count: int, chosen: OutcomeFilter = EVERYTHING) -> Sequence[PastOutcome]:
        """Return the newest `count` chosen outcomes (MOST at most), the oldest of them first.

        Reads back from the end only as far as it must. Raises BrokerError.
        """
        if count <= 0:
            return ()
        count = min(count, MOST)
        for _ in self._partitions(chosen):
            reach = max(_REACH, 2 * count)
            while True:
                cut = self._reader.begin_near_end(reach, _first_ms(chosen))
                newest, horizon_ms = self._read_newest(count, chosen, cut)
                if not cut or (len(newest) == count and _is_after(newest, horizon_ms)):
                    break
                reach *= _FARTHER
            if newest:
                return newest
        return ()

    def read(self, chosen: OutcomeFilter = EVERYTHING) -> Iterator[PastOutcome]:
        """Yield the chosen outcomes up to the present end, by time as far as that is possible in bounded memory.

        Partitions are read side by side, and MOST outcomes are sorted at a time. Raises BrokerError.
        """
        for _ in self._partitions(chosen):
            if chosen.since is not None:
                self._reader.begin_at(_first_ms(chosen) or 0)
            is_empty = True
            for one in by_time(self._chosen(self._records(), chosen)):
                is_empty = False
                yield one
            if not is_empty:
                return

    def follow(self, chosen: OutcomeFilter = EVERYTHING) -> Iterator[PastOutcome | None]:
        """Yield the chosen outcomes as they come, from where the last call ended (at first the beginning); None about each half second without one.

        Never ends. Outcomes that come together are sorted by time. Raises BrokerError; call it again to read on.
        """
        for records in self._reader.follow():
            outcomes = outcomes_in_order(self._chosen(records, chosen))
            yield from outcomes or (None,)

    def of_user(self, user_id: str) -> Sequence[PastOutcome]:
        """Return the newest outcomes of a user (MOST at most), the oldest of them first. Raises BrokerError."""
        return self.newest(MOST, OutcomeFilter(users=frozenset((user_id,))))

    def close(self) -> None:
        """Close the connection."""
        self._reader.close()

    def _records(self) -> Iterable[Record]:
        return self._watched(self._reader.read(), self._reader.remaining())

    def _partitions(self, chosen: OutcomeFilter) -> Iterator[None]:
        """Have the reader read the partitions of the chosen users; then all, which the caller asks for if those had nothing.

        The topic may have had another number of partitions.
        """
        if chosen.users:
            self._reader.only_keys(_keys(chosen))
            yield
        self._reader.all_keys()
        yield

    def _read_newest(
        self, count: int, chosen: OutcomeFilter, cut: frozenset[int]
    ) -> tuple[Sequence[PastOutcome], int]:
        """Return the newest that are read now, and when the last record was written of which records before were left out."""
        begins: dict[int, int] = {}

        def seen() -> Iterator[Record]:
            for record in self._records():
                begins.setdefault(record.partition, record.timestamp_ms)
                yield record

        newest = newest_of(self._chosen(seen(), chosen), count)
        return newest, max((begins[number] for number in cut & begins.keys()), default=0)

    def _chosen(self, records: Iterable[Record], chosen: OutcomeFilter) -> Iterator[PastOutcome]:
        keys = _keys(chosen)
        for record in records:
            if keys and record.key not in keys:
                continue
            one = read_outcome(record)
            if one is None:
                self.foreign += 1
            elif chosen.matches(one):
                yield one


def _keys(chosen: OutcomeFilter) -> frozenset[bytes]:
    """Return the record keys of the chosen users; an id that is no UTF-8, as an argument may be, is nobody's."""
    return frozenset(user_id.encode("utf-8", "surrogatepass") for user_id in chosen.users)


class _Timed(NamedTuple):
    """An outcome that sorts by its time, and among those of one moment by when it came."""

    time: datetime
    number: int
    outcome: PastOutcome


def newest_of(outcomes: Iterable[PastOutcome], count: int) -> Sequence[PastOutcome]:
    """Return the newest `count` of `outcomes`, the oldest of them first; no more of them are held in memory."""
    newest = heapq.nlargest(count, _timed(outcomes))
    return [one.outcome for one in reversed(newest)]


def by_time(outcomes: Iterable[PastOutcome], most: int = MOST) -> Iterator[PastOutcome]:
    """Yield `outcomes` by time, where none is more than `most` places from where it belongs."""
    heap: list[_Timed] = []
    for one in _timed(outcomes):
        if len(heap) < most:
            heapq.heappush(heap, one)
        else:
            yield heapq.heappushpop(heap, one).outcome
    while heap:
        yield heapq.heappop(heap).outcome


def _timed(outcomes: Iterable[PastOutcome]) -> Iterator[_Timed]:
    numbers = counter()
    return (_Timed(one.time or _BEGINNING, next(numbers), one) for one in outcomes)


def _is_after(outcomes: Sequence[PastOutcome], timestamp_ms: int) -> bool:
    """Say whether no record that was written at `timestamp_ms` or before can hold a newer outcome."""
    oldest = outcomes[0].time if outcomes else None
    return oldest is not None and _ms(oldest) >= timestamp_ms


def _first_ms(chosen: OutcomeFilter) -> int | None:
    """Return the timestamp of the first record that can hold a chosen outcome, None where any can."""
    if chosen.since is None:
        return None
    return max(_ms(chosen.since) - _CLOCKS_DIFFER_MS, 0)


def _ms(time: datetime) -> int:
    return (time - _EPOCH) // timedelta(milliseconds=1)
