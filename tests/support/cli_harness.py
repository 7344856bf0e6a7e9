"""Run commands in the process, with a realm and a Kafka in memory behind the composition root."""

import io
import json
import signal
from collections.abc import Callable, Collection, Iterator, Mapping
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from click.testing import CliRunner, Result
from stage_harness import DEAD_LETTERS, EVENTS, INVITATIONS, RESULTS, STRUCTURED, event_of

from keycloak_bridge.app import connections, wiring
from keycloak_bridge.app.realm_check import Problem
from keycloak_bridge.cli.main import app
from keycloak_bridge.delivery.rate_limit import wait_out
from keycloak_bridge.domain.errors import ConfigError
from keycloak_bridge.domain.events import Record
from keycloak_bridge.kafka import reader as kafka_reader
from keycloak_bridge.messages.dead_letters import Place
from keycloak_bridge.settings.model import KafkaSettings
from keycloak_bridge.testing.fake_clock import FakeClock
from keycloak_bridge.testing.in_memory_keycloak import InMemoryKeycloak

PARTITIONS = 4
SECRET = "planted-client-secret"
WRITES = ("create", "update", "join", "leave", "delete", "execute_actions_email")


def call(*words: str, stdin: str | bytes | None = None, **environ: str) -> Result:
    """Return what `keycloak-bridge <words>` prints and its exit code; nothing is behind it."""
    return CliRunner().invoke(app, words, input=stdin, env=environ, prog_name="keycloak-bridge")


def an_event(**data: Any) -> dict[str, Any]:
    """Return a valid event of Ada; `data` overrides its data, None removes a property."""
    merged = {
        "userId": "u-1",
        "email": "Ada@acme.example",
        "givenName": "Ada",
        "familyName": "Lovelace",
        "tenantId": "tenant-1",
        **data,
    }
    return {
        "specversion": "1.0",
        "id": "event-1",
        "source": "/user-management",
        "type": "user.created",
        "subject": merged["userId"],
        "data": {key: value for key, value in merged.items() if value is not None},
    }


def updated(user_id: str, event_id: str, **data: Any) -> dict[str, Any]:
    """Return a later event with a part of the user."""
    event = event_of(user_id, event_id, type="user.updated", time="2026-11-02T08:00:00Z")
    return {**event, "data": {"userId": user_id, **data}}


def data_of(number: int, **changes: Any) -> dict[str, Any]:
    """Return the data of a user of its own."""
    user_id = f"u-{number}"
    data: dict[str, Any] = an_event(userId=user_id, email=f"{user_id}@acme.example", **changes)[
        "data"
    ]
    return data


def smallest_mapping(head: str = "") -> str:
    """Return a mapping of the id alone, with `head` before its tables."""
    return (
        f'matching = ["attributes.userId"]\n{head}\n'
        '[user]\nusername = "data.userId"\n[user.attributes]\nuserId = "data.userId"\n'
    )


class Terminal(io.StringIO):
    """A stream that says it is a terminal."""

    def isatty(self) -> bool:
        return True


def write(path: Path, *events: dict[str, Any]) -> str:
    """Write events one a line, and return the path."""
    path.write_text("".join(f"{json.dumps(event)}\n" for event in events), encoding="utf-8")
    return str(path)


class Bench:
    """A folder, an environment, a realm and topics; a record's timestamp is what `since` and `until` look at."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.folder = folder
        self.monkeypatch = monkeypatch
        self.keycloak = InMemoryKeycloak(groups=["/staff"], realm_roles=["viewer"])
        self.clock = FakeClock()
        topics = (EVENTS, RESULTS, INVITATIONS, DEAD_LETTERS)
        self.log: dict[str, list[Record]] = {topic: [] for topic in topics}
        self.fetches: list[int] = []
        self.vanishing: set[tuple[int, int]] = set()
        self.open_readers = 0
        self.realm_problems: list[Problem] = []
        self.keys: list[bytes] = []
        self.wrong_partition = False
        self.cut = False
        monkeypatch.setenv("KEYCLOAK_BRIDGE_KEYCLOAK_REALM", "acme")
        monkeypatch.setenv("KEYCLOAK_BRIDGE_KEYCLOAK_CLIENT_SECRET", SECRET)
        # the process of the tests keeps its own logs and signals
        monkeypatch.setattr("keycloak_bridge.ops.logs.configure_logging", lambda **_: None)
        monkeypatch.setattr(signal, "signal", lambda *_: None)
        for module in (wiring, connections):
            monkeypatch.setattr(module, "SystemClock", lambda: self.clock)
            monkeypatch.setattr(module, "keycloak_admin", self._admin)
            monkeypatch.setattr(module, "KeycloakUserDirectory", lambda *_: self.keycloak)
        monkeypatch.setattr(wiring, "realm_problems", lambda *_: self.realm_problems)
        monkeypatch.setattr(connections, "each_user", lambda *_, **__: iter(self.keycloak.users()))
        monkeypatch.setattr(wiring, "wait_out", partial(wait_out, sleep=self.clock.advance))
        # this imports the module, whose own reader is a subclass of the one that is replaced next
        monkeypatch.setattr("keycloak_bridge.cli.dead_letters.DeadLetterReader", self._topic_reader)
        monkeypatch.setattr(kafka_reader, "TopicReader", self._topic_reader)

    def _admin(self, *_: object) -> SimpleNamespace:
        """Return of the Admin REST API what counts users."""
        return SimpleNamespace(count_users=lambda: len(self.keycloak.users()))

    def run(self, *arguments: str, stdin: str | bytes = "") -> Result:
        """Run `keycloak-bridge` with these arguments; no command may show a traceback or the secret."""
        result = CliRunner().invoke(app, arguments, input=stdin)
        assert "Traceback" not in result.output
        assert SECRET not in result.output
        return result

    def lines(self, *arguments: str) -> list[dict[str, Any]]:
        """Run a command with --format json and return its lines."""
        result = self.run(*arguments, "--format", "json")
        return [json.loads(line) for line in result.stdout.splitlines()]

    def file(self, *events: Any, name: str = "events.ndjson") -> str:
        """Write events, one a line (what is a string is written as it is), and return the name."""
        lines = [one if isinstance(one, str) else json.dumps(one) for one in events]
        (self.folder / name).write_text("\n".join(lines) + "\n", encoding="utf-8")
        return name

    def publish(self, *events: Any, topic: str = EVENTS, timestamp_ms: int = 0) -> None:
        """Put events into a topic as the next records; what is bytes is the value itself."""
        for event in events:
            is_event = isinstance(event, dict)
            key = str(event["subject"]).encode() if is_event else None
            value = json.dumps(event).encode() if is_event else event
            log = self.log[topic]
            log.append(Record(topic, 1, len(log), timestamp_ms, key, value, STRUCTURED))

    def calls(self, *names: str) -> list[str]:
        """Return those calls to Keycloak that are among `names`."""
        return [call for call in self.keycloak.calls if call in names]

    def _topic_reader(
        self, _settings: KafkaSettings, topic: str, **_: Any
    ) -> "InMemoryTopicReader":
        if topic not in self.log:
            raise ConfigError(f"Kafka has no topic {topic}", code="topic-missing")
        self.open_readers += 1
        return InMemoryTopicReader(self, topic)


class InMemoryTopicReader:
    """Promises what `TopicReader` and `DeadLetterReader` do; the records of all partitions are in one list."""

    def __init__(self, bench: Bench, topic: str) -> None:
        self._bench = bench
        self._topic = topic
        self._position = 0
        self._wanted: list[Callable[[Record], bool]] = []

    @property
    def is_cut(self) -> bool:
        return self._bench.cut

    def begin_at(self, timestamp_ms: int) -> None:
        self._wanted.append(lambda one: one.timestamp_ms >= timestamp_ms)

    def end_at(self, timestamp_ms: int) -> None:
        self._wanted.append(lambda one: one.timestamp_ms < timestamp_ms)

    def begin_near_end(self, count: int, not_before_ms: int | None = None) -> frozenset[int]:
        self._position = max(0, len(self._bench.log[self._topic]) - count)
        return frozenset(range(PARTITIONS)) if self._position else frozenset()

    def only_keys(self, keys: Collection[bytes]) -> None:
        self._bench.keys += keys
        self._position = 0
        self._wanted = [lambda _: not self._bench.wrong_partition]

    def all_keys(self) -> None:
        self._position = 0
        self._wanted = []

    def follow(self) -> Iterator[list[Record]]:
        while True:
            yield list(self.read())

    def remaining(self) -> int:
        return len(self._bench.log[self._topic]) - self._position

    def read(self) -> Iterator[Record]:
        log = self._bench.log[self._topic]
        begin, self._position = self._position, len(log)
        for record in log[begin : self._position]:
            if all(wanted(record) for wanted in self._wanted):
                yield record

    def partitions_of(self, topic: str) -> frozenset[int]:
        return frozenset(range(PARTITIONS if topic in self._bench.log else 0))

    def fetch(self, places: Collection[Place]) -> Mapping[Place, Record]:
        self._bench.fetches.append(len(places))
        found = {Place(one.partition, one.offset): one for one in self._bench.log[self._topic]}
        there = found.keys() - self._bench.vanishing
        return {place: found[place] for place in places if place in there}

    def why_absent(self, place: Place) -> str:
        return f"partition {place.partition} is empty"

    def close(self) -> None:
        self._bench.open_readers -= 1
