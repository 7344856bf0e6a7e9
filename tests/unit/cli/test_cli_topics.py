from collections.abc import Sequence
from pathlib import Path

import pytest
from cli_harness import Bench

from keycloak_bridge.kafka.topics import TopicSpec, TopicState
from keycloak_bridge.settings.model import KafkaSettings

ALL = ("user-events", "user-invitations", "user-results", "user-events-dead-letters")


class Cluster:
    """Topics by name, behind the admin client of the commands."""

    def __init__(self) -> None:
        self.topics: dict[str, int] = {}
        self.closed = 0
        self.error: Exception | None = None

    def connect(self, _settings: KafkaSettings) -> "Cluster":
        if self.error is not None:
            raise self.error
        return self

    def states(self, specs: Sequence[TopicSpec]) -> tuple[TopicState, ...]:
        return tuple(TopicState(spec, self.topics.get(spec.name)) for spec in specs)

    def config(self, topic: str) -> dict[str, str] | None:
        return None

    def create(self, specs: Sequence[TopicSpec]) -> None:
        self.topics.update({spec.name: spec.partitions for spec in specs})

    def close(self) -> None:
        self.closed += 1


@pytest.fixture
def cluster(monkeypatch: pytest.MonkeyPatch) -> Cluster:
    """An empty cluster."""
    made = Cluster()
    monkeypatch.setattr("keycloak_bridge.cli.run.KafkaAdmin", made.connect)
    return made


@pytest.fixture
def bench(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Bench:
    """A bench without the secret of Keycloak: an administrator of Kafka may have none."""
    made = Bench(tmp_path, monkeypatch)
    monkeypatch.delenv("KEYCLOAK_BRIDGE_KEYCLOAK_CLIENT_SECRET")
    monkeypatch.delenv("KEYCLOAK_BRIDGE_KEYCLOAK_REALM")
    return made


def test_check_names_what_is_missing_and_how_to_create_it(bench: Bench, cluster: Cluster) -> None:
    """Exit 2; each missing topic with the command of Kafka's own tool."""
    cluster.topics = {"user-events": 12}

    result = bench.run("topics", "check")

    lines = result.stdout.splitlines()
    assert 2 == result.exit_code
    assert all(name in line for name, line in zip(ALL, lines[:4], strict=True))
    assert "12 partitions" in lines[0]
    assert 3 == result.stdout.count("missing\n") == result.stdout.count("kafka-topics.sh --create")
    assert 1 == cluster.closed


def test_check_accepts_a_complete_cluster(bench: Bench, cluster: Cluster) -> None:
    """Exit 0 and no command; `invite.mode = none` needs no invitations topic."""
    cluster.topics = dict.fromkeys(ALL, 8)
    result = bench.run("topics", "check")
    without_mails = bench.run("--set", "invite.mode=none", "topics", "check")

    assert (0, False) == (result.exit_code, "kafka-topics.sh" in result.stdout)
    assert [True, False] == ["user-invitations" in one.stdout for one in (result, without_mails)]


def test_create_creates_what_is_missing(bench: Bench, cluster: Cluster) -> None:
    """Existing ones are left as they are, and each is printed; the second time all exist."""
    cluster.topics = {"user-events": 12}

    first, second = (bench.run("--set", "topics.partitions=3", "topics", "create") for _ in "12")

    assert (0, 0) == (first.exit_code, second.exit_code)
    assert {"user-events": 12, **dict.fromkeys(ALL[1:], 3)} == cluster.topics
    assert [("exists", ALL[0]), *(("created", name) for name in ALL[1:])] == [
        (line.split()[0], line.split()[1]) for line in first.stdout.splitlines()
    ]
    assert {"exists"} == {line.split()[0] for line in second.stdout.splitlines()}
