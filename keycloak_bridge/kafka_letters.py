"""The dead-letter topic for an operator: read to its end, without a group."""

from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence

from kafka import TopicPartition as KafkaTopicPartition

from keycloak_bridge.core.model import Record
from keycloak_bridge.core.replays import Place
from keycloak_bridge.kafka_client import translated
from keycloak_bridge.kafka_reader import TopicReader
from keycloak_bridge.settings import KafkaSettings

_OVERHEAD_BYTES = 2048
"""Headers and objects of a record, roughly."""

_WORTH_A_SEEK = 1000
"""Records to skip by reading on; a jump throws away what kafka-python has fetched ahead."""


class LetterReader(TopicReader):
    """Reads the dead-letter topic, and single letters of it."""

    def __init__(self, settings: KafkaSettings, topic: str, *, recent_bytes: int = 0) -> None:
        """Connect; raises BrokerError, or ConfigError where there is no such topic.

        Of the last records that came, `recent_bytes` stay in memory for `fetch`.
        """
        self._recent = _Recent(recent_bytes)
        super().__init__(settings, topic, setting="topics.dead_letters")

    def fetch(self, places: Collection[Place]) -> Mapping[Place, Record]:
        """Return the records at `places`; one that is not there (any more) is left out.

        Moves the position: what `read` yields afterwards is any part of the topic.
        """
        asked = frozenset(places)
        found = self._recent.among(asked)
        missing = self._missing(asked - found.keys())
        self._read_only(missing)

        def wanted() -> set[KafkaTopicPartition]:
            """Forget what the position has passed, and jump where the next one is far."""
            for at, offsets in missing.items():
                while offsets and offsets[-1] < self._position(at):
                    offsets.pop()
                if offsets:
                    self._jump(at, offsets[-1])
            return {at for at, offsets in missing.items() if offsets}

        for record in self._until(wanted):
            place = Place(record.partition, record.offset)
            if place in asked:
                found[place] = record
        return found

    def _missing(self, places: Collection[Place]) -> Mapping[KafkaTopicPartition, list[int]]:
        """Return the offsets to look for by partition, the first one last; what the topic cannot have is left out."""
        ends = self._ends()
        missing: dict[KafkaTopicPartition, list[int]] = defaultdict(list)
        for partition, offset in sorted(places, reverse=True):
            at = KafkaTopicPartition(self._topic, partition)
            if offset < ends.get(at, 0):
                missing[at].append(offset)
        return missing

    def _read_only(self, missing: Mapping[KafkaTopicPartition, Sequence[int]]) -> None:
        """Read those partitions from the first missing record on, without a jump where it comes soon anyway.

        By assignment: kafka-python forgets what it holds of a partition that is paused and resumed (3.0.12).
        """
        if missing and missing.keys() != self._consumer.assignment():
            with translated(f"reading {self._topic}"):
                self._consumer.assign(list(missing))
                for at, offsets in missing.items():
                    self._consumer.seek(at, offsets[-1])
        for at, offsets in missing.items():
            self._jump(at, offsets[-1], back=True)

    def _seen(self, records: Sequence[Record]) -> None:
        self._recent.keep(records)

    def _jump(self, partition: KafkaTopicPartition, offset: int, *, back: bool = False) -> None:
        """Move the position to `offset` where that is far ahead, or behind and `back` is allowed."""
        position = self._position(partition)
        if offset - position > _WORTH_A_SEEK or (back and offset < position):
            with translated(f"reading {self._topic}"):
                self._consumer.seek(partition, offset)


class _Recent:
    """The last records that came, up to a number of bytes: what is fetched next was often read along already."""

    def __init__(self, limit_bytes: int) -> None:
        self._limit_bytes = limit_bytes
        self._records: dict[Place, Record] = {}
        self._bytes = 0

    def keep(self, records: Sequence[Record]) -> None:
        """Take in `records`, and let go of the oldest beyond the limit."""
        for record in records:
            place = Place(record.partition, record.offset)
            before = self._records.pop(place, None)
            self._bytes += _size(record) - (0 if before is None else _size(before))
            self._records[place] = record
        while self._bytes > self._limit_bytes:
            self._bytes -= _size(self._records.pop(next(iter(self._records))))

    def among(self, places: frozenset[Place]) -> dict[Place, Record]:
        """Return those of `places` that are still here."""
        return {place: self._records[place] for place in places & self._records.keys()}


def _size(record: Record) -> int:
    return _OVERHEAD_BYTES + len(record.value or b"")
