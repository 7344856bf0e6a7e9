"""Look at the Kafka cluster without changing anything: its brokers, topics, groups, and what the bridge may do."""

import contextlib
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from kafka import KafkaAdminClient
from kafka import errors as kafka_errors
from kafka.admin import ConfigResource, ConfigResourceType

from keycloak_bridge.core.errors import BrokerAccessError
from keycloak_bridge.kafka_client import connect, translated
from keycloak_bridge.settings import KafkaSettings

_COORDINATOR_ATTEMPTS = 10
_COORDINATOR_PAUSE_S = 1.0
_COORDINATOR_COMING = (
    kafka_errors.CoordinatorNotAvailableError,
    kafka_errors.CoordinatorLoadInProgressError,
    kafka_errors.NotCoordinatorError,
)
"""A cluster in which no group ever was makes its coordinator when it is first asked for."""


@dataclass(frozen=True, slots=True)
class TopicFacts:
    """What the cluster says about a topic that exists.

    `operations` are what the bridge may do with it, and `config` its configuration; None where that may not be asked.
    """

    partitions: int
    replicas: int
    leaderless: int = 0
    operations: frozenset[str] | None = None
    config: Mapping[str, str] | None = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class GroupFacts:
    """A consumer group: its state as Kafka names it, and how many members."""

    state: str
    members: int


class KafkaSurvey:
    """Asks the cluster. Every method may raise BrokerError."""

    def __init__(
        self, settings: KafkaSettings, sleep: Callable[[float], None] = time.sleep
    ) -> None:
        """Connect; raises BrokerUnavailableError while no broker answers."""
        self._sleep = sleep
        self._admin: Any = connect(KafkaAdminClient, settings, request_timeout_ms=15_000)

    def broker_versions(self) -> tuple[tuple[int, ...], ...]:
        """Return the version of each broker as its API versions tell, the oldest first."""
        with translated("asking the brokers for their versions"):
            brokers = [one["broker_id"] for one in self._admin.describe_cluster()["brokers"]]
            return tuple(
                sorted(
                    tuple(self._admin.get_broker_version_data(broker).broker_version)
                    for broker in brokers
                )
            )

    def topics(self, names: Sequence[str]) -> Mapping[str, TopicFacts]:
        """Return those of the topics that exist."""
        with translated("describing topics"):
            described = self._admin.describe_topics(list(names))
        return {
            topic["name"]: self._topic(topic) for topic in described if not topic.get("error_code")
        }

    def group(self, group_id: str) -> GroupFacts:
        """Return what the coordinator knows of the group; one that nobody used yet is `Dead`."""
        with translated(f"describing the consumer group {group_id}"):
            described = self._describe_group(group_id)
            # kafka-python raises for the whole call only, and tells what concerns one group as text
            if kafka_errors.GroupAuthorizationFailedError.__name__ in str(described.get("error")):
                raise kafka_errors.GroupAuthorizationFailedError
        return GroupFacts(
            state=str(described.get("group_state") or "Dead"),
            members=len(described.get("members") or ()),
        )

    def close(self) -> None:
        """Close the connection."""
        self._admin.close()

    def _describe_group(self, group_id: str) -> Mapping[str, Any]:
        for _ in range(_COORDINATOR_ATTEMPTS - 1):
            try:
                found: Mapping[str, Any] = self._admin.describe_groups([group_id])[group_id]
            except _COORDINATOR_COMING:
                self._sleep(_COORDINATOR_PAUSE_S)
            else:
                return found
        last: Mapping[str, Any] = self._admin.describe_groups([group_id])[group_id]
        return last

    def _topic(self, described: Mapping[str, Any]) -> TopicFacts:
        partitions = described.get("partitions") or ()
        return TopicFacts(
            partitions=len(partitions),
            replicas=min((len(one.get("replica_nodes") or ()) for one in partitions), default=0),
            leaderless=sum(one.get("leader_id", -1) < 0 for one in partitions),
            operations=_operations(described),
            config=self._config(described["name"]),
        )

    def _config(self, topic: str) -> Mapping[str, str] | None:
        resource = ConfigResource(ConfigResourceType.TOPIC, topic)
        try:
            with translated(f"reading the configuration of topic {topic}"):
                answer = self._admin.describe_configs([resource], config_filter="all")
        except BrokerAccessError:
            return None
        found = answer.get("topic", {}).get(topic, {})
        return {key: one["value"] for key, one in found.items() if one.get("value") is not None}


@contextlib.contextmanager
def kafka_survey(settings: KafkaSettings) -> Iterator[KafkaSurvey]:
    """Lend a survey of the cluster; raises BrokerUnavailableError while no broker answers."""
    survey = KafkaSurvey(settings)
    try:
        yield survey
    finally:
        survey.close()


def _operations(described: Mapping[str, Any]) -> frozenset[str] | None:
    named = described.get("authorized_operations")
    return None if named is None else frozenset(named)
