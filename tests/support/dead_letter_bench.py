"""A dead-letter topic in memory behind `dead-letters`, read and replayed as the real one."""

from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace

import pytest
from cli_harness import Bench
from stage_harness import DEAD_LETTERS

from keycloak_bridge.domain.errors import BrokerAccessError, BrokerError
from keycloak_bridge.domain.events import Record
from keycloak_bridge.kafka.dead_letter_topic import FENCED, Outgoing
from keycloak_bridge.messages.dead_letters import is_replay_mark
from keycloak_bridge.settings.model import KafkaSettings


class DeadLetterBench(Bench):
    """A bench with a Kafka in memory; other operators and failures come on demand."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        super().__init__(folder, monkeypatch)
        self.transactions: list[Sequence[Outgoing]] = []
        self.transactional_id: str | None = None
        self.fails_at: int | None = None
        self.largest = 1_000_000
        self.meanwhile: list[Record] = []
        monkeypatch.setattr("keycloak_bridge.cli.dead_letters.DeadLetterReplayer", self._replayer)

    def letters(self, *records: Record) -> None:
        """Put records into the dead-letter topic at the places that they carry."""
        self.log[DEAD_LETTERS] += records

    def replayed(self) -> list[tuple[str, int | None]]:
        """Return which letter was replayed to which partition, in order."""
        return [
            (dict(one.message.headers)["kb-replay-of"].decode(), one.partition)  # type: ignore[union-attr]
            for batch in self.transactions
            for one in batch
            if one.message.topic != DEAD_LETTERS
        ]

    def marks(self) -> list[Record]:
        """Return the marks of the dead-letter topic."""
        return [record for record in self.log[DEAD_LETTERS] if is_replay_mark(record)]

    def at_a_terminal(self) -> None:
        """Make standard input a terminal."""
        terminal = SimpleNamespace(stdin=SimpleNamespace(isatty=lambda: True))
        self.monkeypatch.setattr("keycloak_bridge.cli.dead_letters.sys", terminal)

    def _replayer(self, _settings: KafkaSettings, transactional_id: str) -> "InMemoryReplayer":
        self.transactional_id = transactional_id
        self.letters(*self.meanwhile)
        return InMemoryReplayer(self)


class InMemoryReplayer:
    """Promises what `DeadLetterReplayer` does."""

    def __init__(self, bench: DeadLetterBench) -> None:
        self._bench = bench
        bench.open_readers += 1

    def publish(self, batch: Sequence[Outgoing]) -> None:
        bench = self._bench
        if any(len(one.message.value or b"") > bench.largest for one in batch):
            raise BrokerAccessError("the topic does not take it", code="record-too-large")
        if bench.fails_at == len(bench.transactions):
            raise BrokerError("another replay has begun meanwhile", code=FENCED)
        bench.transactions.append(batch)
        for message, partition in batch:
            log = bench.log[message.topic]
            number = partition or 0
            offset = 1000 + len(log)
            log.append(Record(message.topic, number, offset, 0, message.key, message.value, message.headers))  # fmt: skip

    def close(self) -> None:
        self._bench.open_readers -= 1
