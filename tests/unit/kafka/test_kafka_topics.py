from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest
from kafka import errors as kafka_errors

from keycloak_bridge.domain.errors import BrokerAccessError, BrokerUnavailableError, ConfigError
from keycloak_bridge.kafka import topics as kafka_topics
from keycloak_bridge.kafka.topics import (
    GroupFacts,
    KafkaAdmin,
    TopicFacts,
    TopicSpec,
    ensure_topics,
    wanted_topics,
)
from keycloak_bridge.settings.model import KafkaSettings, TopicsSettings


class StubAdmin:
    """A cluster of two brokers and one group that holds topics by name and number of partitions."""

    def __init__(self, **_: Any) -> None:
        self.topics: dict[str, int] = {}
        self.created: list[dict[str, Any]] = []
        self.describe_code: int | None = None
        self.create_error: Exception | None = None
        self.waits: list[bool] = []
        self.max_message_bytes: str | None = None
        self.config_error: Exception | None = None
        self.group_errors: list[Exception] = []
        self.group: dict[str, Any] = {"group_state": "Stable", "members": [{}, {}]}

    def describe_cluster(self) -> dict[str, Any]:
        return {"brokers": [{"broker_id": 1}, {"broker_id": 2}]}

    def get_broker_version_data(self, broker: int) -> Any:
        return SimpleNamespace(broker_version=(4, 2 - broker))

    def describe_groups(self, names: list[str]) -> dict[str, Any]:
        if self.group_errors:
            raise self.group_errors.pop()
        return {names[0]: self.group}

    def describe_configs(self, resources: list[Any], config_filter: str) -> dict[str, Any]:
        assert "all" == config_filter
        if self.config_error is not None:
            raise self.config_error
        (resource,) = resources
        configs: dict[str, Any] = {"retention.ms": {"value": "1"}, "secret": {"value": None}}
        if self.max_message_bytes is not None:
            configs["max.message.bytes"] = {"value": self.max_message_bytes}
        return {"topic": {resource.name: configs}}

    def describe_topics(self, names: list[str]) -> list[dict[str, Any]]:
        return [
            {
                "name": name,
                "error_code": self._code(name),
                "partitions": [
                    {"leader_id": number - 1, "replica_nodes": [1, 2][: number + 1]}
                    for number in range(self.topics.get(name, 0))
                ],
                "authorized_operations": ["READ"],
            }
            for name in reversed(names)
        ]

    def create_topics(self, topics: dict[str, Any], wait_for_metadata: bool) -> None:
        if self.create_error is not None:
            raise self.create_error
        self.waits.append(wait_for_metadata)
        self.created.append(topics)

    def _code(self, name: str) -> int:
        if self.describe_code is not None:
            return self.describe_code
        unknown: int = kafka_errors.UnknownTopicOrPartitionError.errno
        return 0 if name in self.topics else unknown


@pytest.fixture
def admin(monkeypatch: pytest.MonkeyPatch) -> KafkaAdmin:
    """An admin over the stub that never pauses."""
    monkeypatch.setattr(kafka_topics, "KafkaAdminClient", StubAdmin)
    return KafkaAdmin(KafkaSettings(), sleep=lambda _: None)


@pytest.fixture
def stub(admin: KafkaAdmin) -> StubAdmin:
    """The stub behind the admin."""
    client: StubAdmin = admin._admin
    return client


EVENTS = TopicSpec("user-events", "events", 3, -1, {"retention.ms": "1000"})
LETTERS = TopicSpec("letters", "dead letters", 1, 2)


def test_all_four_topics_are_wanted() -> None:
    """Names, partitions, replicas and retention come from the settings; `invite.mode = none` needs three."""
    settings = TopicsSettings(
        partitions=5, replication_factor=3, retention=60.0, dead_letter_retention=120.5
    )

    wanted = wanted_topics(settings, invitations=True)

    assert [
        ("user-events", "60000"),
        ("user-invitations", "60000"),
        ("user-results", "60000"),
        ("user-events-dead-letters", "120500"),
    ] == [(spec.name, spec.config["retention.ms"]) for spec in wanted]
    assert {(5, 3)} == {(spec.partitions, spec.replication_factor) for spec in wanted}
    assert (wanted[0], *wanted[2:]) == wanted_topics(settings, invitations=False)
    # a dead letter may exceed the largest record that Kafka takes by default by its headers
    assert [None, None, None, str(1_048_588 + 65_536)] == [
        spec.config.get("max.message.bytes") for spec in wanted
    ]


def test_the_command_creates_the_same_topic() -> None:
    """Kafka's own tool gets every setting, and replicas only where they are given."""
    assert (
        "kafka-topics.sh --create --topic user-events --partitions 3 --config retention.ms=1000"
        == EVENTS.create_command()
    )
    assert (
        "kafka-topics.sh --create --topic letters --partitions 1 --replication-factor 2"
        == LETTERS.create_command()
    )


@pytest.mark.parametrize(
    ("code", "expected"),
    [
        (kafka_errors.TopicAuthorizationFailedError.errno, BrokerAccessError),
        (kafka_errors.LeaderNotAvailableError.errno, BrokerUnavailableError),
        (kafka_errors.InvalidTopicError.errno, BrokerAccessError),
    ],
)
def test_a_topic_that_cannot_be_described_is_not_missing(
    admin: KafkaAdmin, stub: StubAdmin, code: int, expected: type[Exception]
) -> None:
    """Missing means that the cluster says so; anything else is its own error."""
    stub.describe_code = code

    with pytest.raises(expected):
        admin.states([EVENTS])


def test_an_answer_that_leaves_a_topic_out_means_missing(
    admin: KafkaAdmin, stub: StubAdmin, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No word about it is no topic."""
    monkeypatch.setattr(stub, "describe_topics", lambda _: [])

    assert [None] == [state.partitions for state in admin.states([EVENTS])]


def test_missing_topics_are_created_as_wanted(admin: KafkaAdmin, stub: StubAdmin) -> None:
    """Only those, and the call waits until they can be used."""
    stub.topics = {"letters": 1}

    created = ensure_topics(admin, [EVENTS, LETTERS], create=True)

    assert ["user-events"] == created
    assert [
        {
            "user-events": {
                "num_partitions": 3,
                "replication_factor": -1,
                "configs": {"retention.ms": "1000"},
            }
        }
    ] == stub.created
    assert [True] == stub.waits


def test_missing_topics_are_named_with_their_commands(admin: KafkaAdmin, stub: StubAdmin) -> None:
    """Where creating is not allowed, one error names them all and how to create each."""
    with pytest.raises(ConfigError) as caught:
        ensure_topics(admin, [EVENTS, LETTERS], create=False)

    assert "topic-missing" == caught.value.code
    assert "user-events (events), letters (dead letters)" in caught.value.message
    remedy = str(caught.value.remedy)
    assert "keycloak-bridge topics create" in remedy
    assert all(spec.create_command() in remedy for spec in (EVENTS, LETTERS))
    assert [] == stub.created


def test_a_refused_creation_stops_and_names_the_topic(admin: KafkaAdmin, stub: StubAdmin) -> None:
    """Missing rights or a policy of the cluster do not pass by waiting; that another bridge was quicker is fine."""
    stub.create_error = kafka_errors.TopicAlreadyExistsError()
    existing = ensure_topics(admin, [EVENTS], create=True)
    stub.create_error = kafka_errors.PolicyViolationError()

    with pytest.raises(BrokerAccessError) as caught:
        ensure_topics(admin, [EVENTS], create=True)

    assert ["user-events"] == existing
    assert "user-events" in caught.value.message


# the cluster


def test_topics_that_exist(admin: KafkaAdmin, stub: StubAdmin) -> None:
    """With partitions, the fewest replicas, rights and configuration, as far as it may be read."""
    stub.topics = {"events": 2}
    known = admin.topics(["events", "other"])
    stub.config_error = kafka_errors.TopicAuthorizationFailedError()

    expected = TopicFacts(2, 1, 1, frozenset({"READ"}), {"retention.ms": "1"})
    assert {"events": expected} == known
    assert {"events": replace(expected, config=None)} == admin.topics(["events"])


@pytest.mark.parametrize(
    ("group", "errors", "expected"),
    [
        ({"group_state": "Stable", "members": [{}]}, [], GroupFacts("Stable", 1)),
        ({"group_state": "", "error": "x"}, [], GroupFacts("Dead", 0)),
        (
            {"group_state": "", "error": str(kafka_errors.GroupAuthorizationFailedError())},
            [],
            BrokerAccessError,
        ),
        (
            {"group_state": "Stable", "members": [{}]},
            [kafka_errors.CoordinatorNotAvailableError()] * 3,
            GroupFacts("Stable", 1),
        ),
        ({}, [kafka_errors.CoordinatorNotAvailableError()] * 10, BrokerUnavailableError),
        ({}, [kafka_errors.GroupAuthorizationFailedError()], BrokerAccessError),
    ],
    ids=[
        "used",
        "never used",
        "refused in words",
        "coordinator comes",
        "no coordinator",
        "refused",
    ],
)
def test_groups(
    admin: KafkaAdmin,
    stub: StubAdmin,
    group: dict[str, Any],
    errors: list[Exception],
    expected: GroupFacts | type[Exception],
) -> None:
    """A coordinator that is being created is asked again, a limited number of times; a refusal is not."""
    stub.group, stub.group_errors = group, list(errors)

    if isinstance(expected, GroupFacts):
        assert expected == admin.group("g")
    else:
        with pytest.raises(expected):
            admin.group("g")
    assert [] == stub.group_errors


def test_brokers_and_their_versions(admin: KafkaAdmin, stub: StubAdmin) -> None:
    """The oldest comes first."""
    assert ((4, 0), (4, 1)) == admin.broker_versions()


@pytest.mark.parametrize(
    ("topics", "events_take", "error", "letters_take"),
    [
        ({"user-events": 3}, "5000000", None, 5_000_000),
        ({"user-events": 3}, "1000", None, 1_048_588),
        ({"user-events": 3}, None, None, 1_048_588),
        ({"user-events": 3}, "9000000", kafka_errors.TopicAuthorizationFailedError(), 1_048_588),
        ({}, None, None, 1_048_588),
    ],
)
def test_dead_letters_take_what_the_events_take(
    admin: KafkaAdmin,
    stub: StubAdmin,
    topics: dict[str, int],
    events_take: str | None,
    error: Exception | None,
    letters_take: int,
) -> None:
    """Every event must fit once more, with its headers; Kafka's default counts where nothing is known."""
    stub.topics, stub.max_message_bytes, stub.config_error = topics, events_take, error

    ensure_topics(admin, [EVENTS, LETTERS], create=True)

    created = stub.created[-1]["letters"]["configs"]["max.message.bytes"]
    assert int(created) >= letters_take + 8192
