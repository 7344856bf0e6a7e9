"""The cluster as kafka-python tells it."""

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
from kafka import errors as kafka_errors

from keycloak_bridge.domain.errors import BrokerAccessError, BrokerUnavailableError
from keycloak_bridge.kafka import topics as module
from keycloak_bridge.kafka.topics import GroupFacts, KafkaSurvey, TopicFacts, kafka_survey
from keycloak_bridge.settings import KafkaSettings


class StubAdmin:
    """A cluster of two brokers, one topic and one group."""

    def __init__(self, **_: Any) -> None:
        self.closed = False
        self.config_error: Exception | None = None
        self.group_errors: list[Exception] = []
        self.group: dict[str, Any] = {"group_state": "Stable", "members": [{}, {}]}

    def describe_cluster(self) -> dict[str, Any]:
        return {"brokers": [{"broker_id": 1}, {"broker_id": 2}]}

    def get_broker_version_data(self, broker: int) -> Any:
        return SimpleNamespace(broker_version=(4, 2 - broker))

    def describe_topics(self, names: list[str]) -> list[dict[str, Any]]:
        return [self._topic(name) for name in names]

    def describe_configs(self, resources: list[Any], config_filter: str) -> dict[str, Any]:
        assert "all" == config_filter
        if self.config_error is not None:
            raise self.config_error
        values = {"retention.ms": {"value": "1"}, "secret": {"value": None}}
        return {"topic": {resources[0].name: values}}

    def describe_groups(self, names: list[str]) -> dict[str, Any]:
        if self.group_errors:
            raise self.group_errors.pop()
        return {names[0]: self.group}

    def close(self) -> None:
        self.closed = True

    def _topic(self, name: str) -> dict[str, Any]:
        if name != "events":
            return {"name": name, "error_code": 3}
        return {
            "name": name,
            "error_code": 0,
            "partitions": [
                {"leader_id": 1, "replica_nodes": [1, 2]},
                {"leader_id": -1, "replica_nodes": [1]},
            ],
            "authorized_operations": ["READ"],
        }


@pytest.fixture
def survey(monkeypatch: pytest.MonkeyPatch) -> KafkaSurvey:
    """A survey of the stub that never pauses."""
    monkeypatch.setattr(module, "KafkaAdminClient", StubAdmin)
    return KafkaSurvey(KafkaSettings(), sleep=lambda _: None)


def stub_of(survey: KafkaSurvey) -> StubAdmin:
    """Return the stub behind a survey."""
    stub: StubAdmin = survey._admin
    return stub


def test_brokers_and_their_versions(survey: KafkaSurvey) -> None:
    """The oldest comes first."""
    assert ((4, 0), (4, 1)) == survey.broker_versions()


def test_topics_that_exist(survey: KafkaSurvey) -> None:
    """With partitions, the fewest replicas, rights and configuration."""
    expected = TopicFacts(2, 1, 1, frozenset({"READ"}), {"retention.ms": "1"})

    assert {"events": expected} == survey.topics(["events", "other"])


def test_a_configuration_that_may_not_be_read(survey: KafkaSurvey) -> None:
    """The rest is known all the same."""
    stub_of(survey).config_error = kafka_errors.TopicAuthorizationFailedError()

    assert survey.topics(["events"])["events"].config is None


@pytest.mark.parametrize(
    ("group", "expected"),
    [
        ({"group_state": "Stable", "members": [{}]}, GroupFacts("Stable", 1)),
        ({"group_state": "", "error": "x"}, GroupFacts("Dead", 0)),
    ],
)
def test_groups(survey: KafkaSurvey, group: dict[str, Any], expected: GroupFacts) -> None:
    """One that nobody ever used is dead."""
    stub_of(survey).group = group

    assert expected == survey.group("g")


def test_a_coordinator_that_is_being_made(survey: KafkaSurvey) -> None:
    """It is asked again."""
    stub_of(survey).group_errors = [kafka_errors.CoordinatorNotAvailableError()] * 3

    assert "Stable" == survey.group("g").state


@pytest.mark.parametrize(
    ("error", "expected", "times"),
    [
        (kafka_errors.CoordinatorNotAvailableError, BrokerUnavailableError, 10),
        (kafka_errors.GroupAuthorizationFailedError, BrokerAccessError, 1),
    ],
)
def test_a_group_that_cannot_be_described(
    survey: KafkaSurvey, error: Callable[[], Exception], expected: type[Exception], times: int
) -> None:
    """Patience ends, and a refusal is none."""
    stub_of(survey).group_errors = [error() for _ in range(times)]

    with pytest.raises(expected):
        survey.group("g")
    assert [] == stub_of(survey).group_errors


def test_a_group_that_may_not_be_described(survey: KafkaSurvey) -> None:
    """The library tells it in words."""
    error = str(kafka_errors.GroupAuthorizationFailedError())
    stub_of(survey).group = {"group_state": "", "error": error}

    with pytest.raises(BrokerAccessError):
        survey.group("g")


def test_a_lent_survey_is_closed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever happens meanwhile."""
    monkeypatch.setattr(module, "KafkaAdminClient", StubAdmin)
    with kafka_survey(KafkaSettings()) as lent:
        assert not stub_of(lent).closed

    assert stub_of(lent).closed
