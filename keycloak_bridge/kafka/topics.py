"""The topics that the bridge needs, created and examined through Kafka's admin API, with the brokers and groups around them."""

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any
from uuid import UUID

from kafka import KafkaAdminClient
from kafka import TopicPartition as KafkaTopicPartition
from kafka import errors as kafka_errors
from kafka.admin import ConfigResource, ConfigResourceType
from kafka.protocol.consumer import OffsetSpec

from keycloak_bridge.domain.errors import BrokerAccessError, ConfigError
from keycloak_bridge.domain.events import Commit, TopicPartition
from keycloak_bridge.kafka.client import connect, translated
from keycloak_bridge.settings.model import KafkaSettings, TopicsSettings

_EVENTS = "events"
_DEAD_LETTERS = "dead letters"
_MAX_MESSAGE_BYTES = 1_048_588
"""Kafka's own default for max.message.bytes."""
_DEAD_LETTER_HEADROOM_BYTES = 64 * 1024
"""A dead letter is the original record plus headers, so its topic must take a little more."""

_COORDINATOR_ATTEMPTS = 10
_COORDINATOR_PAUSE_S = 1.0
_COORDINATOR_COMING = (
    kafka_errors.CoordinatorNotAvailableError,
    kafka_errors.CoordinatorLoadInProgressError,
    kafka_errors.NotCoordinatorError,
)
"""A cluster that never had a group creates its coordinator at the first request."""


@dataclass(frozen=True, slots=True)
class TopicSpec:
    """A topic as the settings want it; a replication factor of -1 leaves it to the broker."""

    name: str
    purpose: str
    partitions: int
    replication_factor: int
    config: dict[str, str] = field(default_factory=dict)

    @property
    def definition(self) -> dict[str, Any]:
        """The topic as kafka-python's admin client takes it."""
        return {
            "num_partitions": self.partitions,
            "replication_factor": self.replication_factor,
            "configs": self.config,
        }

    def create_command(self) -> str:
        """Return the command of Kafka's own tools that creates this topic."""
        replication = (
            f" --replication-factor {self.replication_factor}"
            if self.replication_factor > 0
            else ""
        )
        config = "".join(f" --config {key}={value}" for key, value in sorted(self.config.items()))
        return (
            f"kafka-topics.sh --create --topic {self.name} --partitions {self.partitions}"
            f"{replication}{config}"
        )


@dataclass(frozen=True, slots=True)
class TopicState:
    """A topic that the settings want, and how many partitions it has; None: it does not exist."""

    spec: TopicSpec
    partitions: int | None


def wanted_topics(settings: TopicsSettings, *, invitations: bool) -> tuple[TopicSpec, ...]:
    """Return every topic that `run` needs with these settings."""

    def spec(name: str, purpose: str, retention_s: float, **config: str) -> TopicSpec:
        config["retention.ms"] = str(int(retention_s * 1000))
        options = dict(sorted((key.replace("_", "."), value) for key, value in config.items()))
        return TopicSpec(name, purpose, settings.partitions, settings.replication_factor, options)

    dead_letter_bytes = str(_MAX_MESSAGE_BYTES + _DEAD_LETTER_HEADROOM_BYTES)
    topics = [
        spec(settings.events, _EVENTS, settings.retention),
        spec(settings.results, "results", settings.retention),
        spec(
            settings.dead_letters,
            _DEAD_LETTERS,
            settings.dead_letter_retention,
            max_message_bytes=dead_letter_bytes,
        ),
    ]
    if invitations:
        topics.insert(1, spec(settings.invitations, "invitations", settings.retention))
    return tuple(topics)


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


class KafkaAdmin:
    """Creates topics and examines the cluster. Every method may raise BrokerError."""

    def __init__(
        self, settings: KafkaSettings, sleep: Callable[[float], None] = time.sleep
    ) -> None:
        """Connect; raises BrokerUnavailableError while no broker answers."""
        self._sleep = sleep
        self._admin: Any = connect(KafkaAdminClient, settings, request_timeout_ms=15_000)

    def states(self, specs: Sequence[TopicSpec]) -> tuple[TopicState, ...]:
        """Return for each wanted topic how many partitions it has, in the order of `specs`."""
        with translated(_describing(spec.name for spec in specs)):
            described = {
                topic["name"]: topic
                for topic in self._admin.describe_topics([spec.name for spec in specs])
            }
            return tuple(
                TopicState(spec, _partition_count(described.get(spec.name))) for spec in specs
            )

    def create(self, specs: Sequence[TopicSpec]) -> None:
        """Create these topics and wait until they can be used; one that exists by now is fine."""
        for spec in specs:
            with translated(f"creating topic {spec.name}"):
                try:
                    self._admin.create_topics({spec.name: spec.definition}, wait_for_metadata=True)
                except kafka_errors.TopicAlreadyExistsError:
                    continue

    def config(self, topic: str) -> Mapping[str, str] | None:
        """Return the configuration of `topic`; None where the bridge may not read it."""
        resource = ConfigResource(ConfigResourceType.TOPIC, topic)
        try:
            with translated(f"reading the configuration of topic {topic}"):
                answer = self._admin.describe_configs([resource], config_filter="all")
        except BrokerAccessError:
            return None
        found = answer.get("topic", {}).get(topic, {})
        return {key: one["value"] for key, one in found.items() if one.get("value") is not None}

    def broker_versions(self) -> tuple[tuple[int, ...], ...]:
        """Return the version of each broker by its API versions, the oldest first."""
        with translated("asking the brokers for their versions"):
            brokers = [one["broker_id"] for one in self._admin.describe_cluster()["brokers"]]
            versions = (self._admin.get_broker_version_data(one).broker_version for one in brokers)
            return tuple(sorted(map(tuple, versions)))

    def topics(self, names: Sequence[str]) -> Mapping[str, TopicFacts]:
        """Return those of the topics that exist."""
        with translated(_describing(names)):
            described = self._admin.describe_topics(list(names))
        return {
            topic["name"]: self._topic(topic) for topic in described if not topic.get("error_code")
        }

    def topic_id(self, name: str) -> str | None:
        """Return the id of the topic, which one that is made anew has not; None where there is none or Kafka gives none."""
        with translated(f"asking for the id of topic {name}"):
            (topic,) = self._admin.describe_topics([name])
        return id_text(topic.get("topic_id"))

    def group(self, group_id: str) -> GroupFacts:
        """Return what the coordinator knows of the group; one that was never used is `Dead`."""
        with translated(f"describing the consumer group {group_id}"):
            found = self._of_coordinator(lambda: self._admin.describe_groups([group_id]))
            described = found[group_id]
            # kafka-python raises for the whole call only, and reports what concerns one group as text
            if kafka_errors.GroupAuthorizationFailedError.__name__ in str(described.get("error")):
                raise kafka_errors.GroupAuthorizationFailedError
        return GroupFacts(
            state=str(described.get("group_state") or "Dead"),
            members=len(described.get("members") or ()),
        )

    def commits(self, group_id: str) -> Mapping[TopicPartition, Commit]:
        """Return all that the group has committed; nothing of one that was never used."""
        with translated(f"reading the commits of the consumer group {group_id}"):
            found = self._of_coordinator(lambda: self._admin.list_group_offsets(group_id))
        return {
            TopicPartition(*partition): Commit(one.offset, one.metadata or "")
            for partition, one in found.get(group_id, {}).items()
            if one.offset >= 0
        }

    def deleted_unread(self, group_id: str, topic: str) -> Mapping[int, int]:
        """Return by partition how many offsets of `topic` were deleted before the group had committed them."""
        commits = self.commits(group_id).items()
        own = {KafkaTopicPartition(*at): found.offset for at, found in commits if at.topic == topic}
        if not own:
            return {}
        with translated(f"comparing the commits of {group_id} with topic {topic}"):
            begins = self._admin.list_partition_offsets(dict.fromkeys(own, OffsetSpec.EARLIEST))
        gaps = {at.partition: begins[at].offset - offset for at, offset in own.items()}
        return {number: gap for number, gap in sorted(gaps.items()) if gap > 0}

    def beyond_end(self, group_id: str, topic: str) -> frozenset[int]:
        """Return the partitions of `topic` that end before what the group has committed."""
        own = {at: one.offset for at, one in self.commits(group_id).items() if at.topic == topic}
        if not own:
            return frozenset()
        asked = {KafkaTopicPartition(*at): OffsetSpec.LATEST for at in own}
        with translated(f"comparing the commits of {group_id} with topic {topic}"):
            ends = self._admin.list_partition_offsets(asked)
        return frozenset(
            at.partition for at, found in ends.items() if found.offset < own[TopicPartition(*at)]
        )

    def close(self) -> None:
        """Close the connection."""
        self._admin.close()

    def _of_coordinator(self, ask: Callable[[], Mapping[str, Any]]) -> Mapping[str, Any]:
        attempts = _COORDINATOR_ATTEMPTS
        while True:
            try:
                return ask()
            except _COORDINATOR_COMING:
                attempts -= 1
                if not attempts:
                    raise
                self._sleep(_COORDINATOR_PAUSE_S)

    def _topic(self, described: Mapping[str, Any]) -> TopicFacts:
        partitions = described.get("partitions") or ()
        operations = described.get("authorized_operations")
        return TopicFacts(
            partitions=len(partitions),
            replicas=min((len(one.get("replica_nodes") or ()) for one in partitions), default=0),
            leaderless=sum(one.get("leader_id", -1) < 0 for one in partitions),
            operations=None if operations is None else frozenset(operations),
            config=self.config(described["name"]),
        )


def id_text(topic_id: UUID | None) -> str | None:
    """Return the id as the bridge writes it; None for the zeros that stand for none."""
    return str(topic_id) if topic_id not in (None, UUID(int=0)) else None


def ensure_topics(admin: KafkaAdmin, specs: Sequence[TopicSpec], *, create: bool) -> list[str]:
    """Return the names of topics that were created; raise ConfigError for missing ones if not allowed to."""
    states = admin.states(specs)
    missing = [state.spec for state in states if state.partitions is None]
    missing = [_large_enough(admin, states, spec) for spec in missing]
    if missing and not create:
        names = ", ".join(f"{spec.name} ({spec.purpose})" for spec in missing)
        commands = "".join(f"\n  {spec.create_command()}" for spec in missing)
        raise ConfigError(
            f"Kafka has no topic {names}",
            code="topic-missing",
            remedy="run `keycloak-bridge topics create`, or set topics.create = true, or use "
            f"Kafka's own tool:{commands}",
        )
    admin.create(missing)
    return [spec.name for spec in missing]


def _large_enough(admin: KafkaAdmin, states: Sequence[TopicState], spec: TopicSpec) -> TopicSpec:
    """Let the topic for dead letters take every record of the events topic, plus its headers."""
    if spec.purpose != _DEAD_LETTERS:
        return spec
    events = next(state for state in states if state.spec.purpose == _EVENTS)
    config = None if events.partitions is None else admin.config(events.spec.name)
    largest = int((config or {}).get("max.message.bytes", 0))
    limit = max(largest, _MAX_MESSAGE_BYTES) + _DEAD_LETTER_HEADROOM_BYTES
    return replace(spec, config={**spec.config, "max.message.bytes": str(limit)})


def _describing(topics: Iterable[str]) -> str:
    return f"describing one of the topics {', '.join(topics)}"


def _partition_count(described: dict[str, Any] | None) -> int | None:
    if described is None:
        return None
    error: Any = kafka_errors.for_code(described.get("error_code", 0))  # type: ignore[no-untyped-call]
    if error in (kafka_errors.UnknownTopicOrPartitionError, kafka_errors.UnknownTopicIdError):
        return None
    if error is not kafka_errors.NoError:
        raise error()
    return len(described.get("partitions") or ())
