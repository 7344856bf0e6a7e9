from collections.abc import Sequence
from pathlib import Path

import pytest
from cli_harness import Bench

from keycloak_bridge.domain.errors import BrokerUnavailableError
from keycloak_bridge.kafka.topics import TopicSpec, TopicState
from keycloak_bridge.settings.model import KafkaSettings

ALL = ("user-events", "user-invitations", "user-results", "user-events-dead-letters")


class StubAdmin:
    """A cluster with topics by name."""

    topics: dict[str, int]
    closed: int
    error: Exception | None

    def __init__(self, settings: KafkaSettings) -> None:
        if self.error is not None:
            raise self.error

    def states(self, specs: Sequence[TopicSpec]) -> tuple[TopicState, ...]:
        return tuple(TopicState(spec, self.topics.get(spec.name)) for spec in specs)

    def config(self, topic: str) -> dict[str, str] | None:
        return None

    def create(self, specs: Sequence[TopicSpec]) -> None:
        self.topics.update({spec.name: spec.partitions for spec in specs})

    def close(self) -> None:
        type(self).closed += 1


@pytest.fixture
def bench(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Bench:
    """A bench with an empty cluster."""
    StubAdmin.topics = {}
    StubAdmin.closed = 0
    StubAdmin.error = None
    monkeypatch.setattr("keycloak_bridge.cli.topics.KafkaAdmin", StubAdmin)
    return Bench(tmp_path, monkeypatch)


def test_check_names_what_is_missing_and_how_to_create_it(bench: Bench) -> None:
    """Exit 2; each missing topic with the command of Kafka's own tool."""
    StubAdmin.topics = {"user-events": 12}

    result = bench.run("topics", "check")

    lines = result.stdout.splitlines()
    assert 2 == result.exit_code
    assert all(name in line for name, line in zip(ALL, lines[:4], strict=True))
    assert "12 partitions" in lines[0]
    assert 3 == result.stdout.count("missing\n")
    assert 3 == result.stdout.count("kafka-topics.sh --create")
    assert 1 == StubAdmin.closed


def test_check_is_content_when_all_are_there(bench: Bench) -> None:
    """Exit 0 and no command."""
    StubAdmin.topics = dict.fromkeys(ALL, 8)

    result = bench.run("topics", "check")

    assert 0 == result.exit_code
    assert "kafka-topics.sh" not in result.stdout


def test_check_needs_no_keycloak(bench: Bench) -> None:
    """An administrator of Kafka may have no secret of Keycloak."""
    StubAdmin.topics = dict.fromkeys(ALL, 8)
    bench.monkeypatch.delenv("KEYCLOAK_BRIDGE_KEYCLOAK_CLIENT_SECRET")
    bench.monkeypatch.delenv("KEYCLOAK_BRIDGE_KEYCLOAK_REALM")

    assert 0 == bench.run("topics", "check").exit_code


def test_create_creates_what_is_missing(bench: Bench) -> None:
    """Existing ones are left as they are, and each is told."""
    StubAdmin.topics = {"user-events": 12}

    result = bench.run("--set", "topics.partitions=3", "topics", "create")

    assert 0 == result.exit_code
    assert {"user-events": 12, **dict.fromkeys(ALL[1:], 3)} == StubAdmin.topics
    assert [("exists", ALL[0]), *(("created", name) for name in ALL[1:])] == [
        (line.split()[0], line.split()[1]) for line in result.stdout.splitlines()
    ]


def test_create_twice_changes_nothing(bench: Bench) -> None:
    """The second time all exist."""
    bench.run("topics", "create")

    result = bench.run("topics", "create")

    assert 0 == result.exit_code
    assert "created" not in result.stdout


def test_without_mails_there_are_three(bench: Bench) -> None:
    """`invite.mode = none` needs no invitations topic."""
    result = bench.run("--set", "invite.mode=none", "topics", "check")

    assert "user-invitations" not in result.stdout


def test_a_kafka_that_is_away_is_a_sentence(bench: Bench) -> None:
    """Exit 3 with the remedy; this command does not wait."""
    StubAdmin.error = BrokerUnavailableError("Kafka does not answer", remedy="start it")

    result = bench.run("topics", "check")

    assert (3, "") == (result.exit_code, result.stdout)
    assert "Kafka does not answer" in result.stderr
    assert "start it" in result.stderr


@pytest.mark.parametrize("command", ["check", "create"])
def test_help_teaches(bench: Bench, command: str) -> None:
    """Each has an example."""
    assert "Example:" in bench.run("topics", command, "--help").stdout
