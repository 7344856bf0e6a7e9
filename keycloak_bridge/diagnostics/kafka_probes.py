"""Probes of the Kafka cluster: brokers, topics, what the bridge may do with them, consumer groups."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import cached_property

from keycloak_bridge.app.wiring import INVITE_GROUP_SUFFIX
from keycloak_bridge.diagnostics.probe import Probe, ProbeResult, gray, green, red, yellow
from keycloak_bridge.domain.times import format_duration
from keycloak_bridge.kafka.topics import GroupFacts, KafkaAdmin, TopicFacts, TopicSpec
from keycloak_bridge.settings.model import KafkaSettings

CONNECTION = "kafka.connection"
TOPICS = "kafka.topics"

_OLDEST = (2, 1)
"""The oldest broker that kafka-python's consumer and the idempotent producer are known to work with."""
_RIGHTS: Mapping[str, tuple[str, ...]] = {
    "events": ("READ",),
    "invitations": ("READ", "WRITE"),
    "results": ("WRITE",),
    "dead letters": ("READ", "WRITE"),
}
_COMPACTION: Mapping[str, str] = {
    "events": "earlier events of a user vanish",
    "invitations": "an invitation may vanish before it is mailed",
    "results": "only the last result of a user stays",
    "dead letters": "only the last dead letter of a user stays",
}


class KafkaProbes:
    """The probes of one cluster; the first one connects to it."""

    def __init__(
        self,
        settings: KafkaSettings,
        topics: Sequence[TopicSpec],
        connect: Callable[[], KafkaAdmin],
    ) -> None:
        self._settings = settings
        self._specs = topics
        self._connect = connect

    def probes(self) -> Sequence[Probe]:
        """Return the probes, the connection first."""
        needs = (CONNECTION,)
        return (
            Probe(CONNECTION, self._check_connection),
            Probe("kafka.version", self._check_version, needs),
            Probe(TOPICS, self._check_topics, needs),
            Probe("kafka.retention", self._check_retention, needs),
            Probe("kafka.acls", self._check_acls, needs),
            Probe("kafka.groups", self._check_groups, needs),
        )

    def _check_connection(self) -> Iterable[ProbeResult]:
        address = ", ".join(self._settings.bootstrap_servers)
        yield green(f"{_count(len(self._versions), 'broker')} at {address}")

    def _check_version(self) -> Iterable[ProbeResult]:
        message = ", ".join(".".join(map(str, one)) for one in dict.fromkeys(self._versions))
        if self._versions[0] < _OLDEST:
            yield yellow(
                f"brokers speak Kafka {message}, older than any that the bridge was tested with",
                "update the brokers",
            )
        else:
            yield green(f"brokers speak Kafka {message}")

    def _check_topics(self) -> Iterable[ProbeResult]:
        for spec in self._specs:
            facts = self._found.get(spec.name)
            if facts is None:
                yield red(
                    f"Kafka has no topic {spec.name}, or the bridge may not describe it",
                    f"run `keycloak-bridge topics create`, or {spec.create_command()}",
                    spec.purpose,
                )
            elif facts.partitions == 0 or facts.leaderless:
                yield red(
                    f"{facts.leaderless or 'all'} of {facts.partitions} partitions of {spec.name} "
                    "have no leader",
                    "start the brokers that hold them again",
                    spec.purpose,
                )
            else:
                yield self._partitions(spec, facts)

    def _partitions(self, spec: TopicSpec, facts: TopicFacts) -> ProbeResult:
        replicas = _count(facts.replicas, "replica")
        message = f"{spec.name}: {_count(facts.partitions, 'partition')}, {replicas}"
        if facts.partitions < spec.partitions and spec.purpose in ("events", "invitations"):
            return yellow(
                f"{message}; topics.partitions says {spec.partitions}, so fewer sidecars can share the work",
                "add partitions while nothing is in flight, or lower topics.partitions",
                spec.purpose,
            )
        return green(message, spec.purpose)

    def _check_retention(self) -> Iterable[ProbeResult]:
        for spec in self._existing():
            config = self._found[spec.name].config
            if not config:
                yield gray(
                    f"the configuration of {spec.name} may not be read",
                    f"allow DescribeConfigs on the topic {spec.name}",
                    spec.purpose,
                )
                continue
            problems = tuple(self._retention_problems(spec, config))
            yield from problems
            if not problems:
                yield green(f"{spec.name}: keeps {_kept(config)}", spec.purpose)

    def _retention_problems(
        self, spec: TopicSpec, config: Mapping[str, str]
    ) -> Iterator[ProbeResult]:
        if "compact" in config.get("cleanup.policy", "delete"):
            yield yellow(
                f"{spec.name} is compacted: {_COMPACTION[spec.purpose]}",
                f"set cleanup.policy = delete for {spec.name}",
                spec.purpose,
            )
        wanted_ms = int(spec.config["retention.ms"])
        kept_ms = int(config.get("retention.ms", -1))
        if 0 <= kept_ms < wanted_ms:
            yield yellow(
                f"{spec.name} keeps {_kept(config)}, less than the settings say "
                f"({format_duration(wanted_ms / 1000)})",
                f"set retention.ms = {wanted_ms} for {spec.name}, or lower the setting",
                spec.purpose,
            )
        if spec.purpose == "dead letters":
            yield from self._size_problems(spec, config)

    def _size_problems(self, spec: TopicSpec, config: Mapping[str, str]) -> Iterator[ProbeResult]:
        events = next(one for one in self._specs if one.purpose == "events")
        facts = self._found.get(events.name)
        largest = (facts.config or {}).get("max.message.bytes") if facts else None
        most = config.get("max.message.bytes")
        if largest is not None and most is not None and int(most) <= int(largest):
            yield yellow(
                f"{spec.name} takes records of {most} bytes and {events.name} of {largest}: a dead letter "
                "is the record and its headers, and would not fit",
                f"set max.message.bytes = {int(largest) + 65536} for {spec.name}",
                spec.purpose,
            )

    def _check_acls(self) -> Iterable[ProbeResult]:
        for spec in self._existing():
            yield _allowed(
                f"topic {spec.name}",
                self._found[spec.name].operations,
                _RIGHTS[spec.purpose],
                spec.purpose,
            )

    def _check_groups(self) -> Iterable[ProbeResult]:
        for group_id, facts in self._groups.items():
            members = _count(facts.members, "member")
            if facts.state in ("PreparingRebalance", "CompletingRebalance"):
                yield yellow(
                    f"{group_id} is rebalancing ({members})",
                    "check again in a minute; if it does not end, look for members that join and leave repeatedly",
                    group_id,
                )
            elif facts.members:
                yield green(f"{group_id}: {facts.state.lower()}, {members}", group_id)
            else:
                yield green(f"{group_id}: no member at the moment", group_id)

    def _existing(self) -> Sequence[TopicSpec]:
        return [spec for spec in self._specs if spec.name in self._found]

    @cached_property
    def _cluster(self) -> KafkaAdmin:
        return self._connect()

    @cached_property
    def _versions(self) -> tuple[tuple[int, ...], ...]:
        return self._cluster.broker_versions()

    @cached_property
    def _found(self) -> Mapping[str, TopicFacts]:
        return self._cluster.topics([spec.name for spec in self._specs])

    @cached_property
    def _groups(self) -> Mapping[str, GroupFacts]:
        names = [self._settings.group_id]
        if any(spec.purpose == "invitations" for spec in self._specs):
            names.append(self._settings.group_id + INVITE_GROUP_SUFFIX)
        return {name: self._cluster.group(name) for name in names}


def _allowed(
    what: str, operations: frozenset[str] | None, needed: Sequence[str], subject: str
) -> ProbeResult:
    if operations is None:
        return gray(f"the brokers do not say what the bridge may do with {what}", subject=subject)
    # ALL may be listed instead of every single operation
    missing = [one for one in needed if one not in operations and "ALL" not in operations]
    if missing:
        return red(
            f"the bridge may not {' or '.join(missing).lower()} {what}",
            f"add an ACL that allows {', '.join(map(str.capitalize, missing))} on {what}",
            subject,
        )
    return green(f"{what}: {', '.join(needed).lower()} allowed", subject)


def _count(number: int, what: str) -> str:
    return f"{number} {what}" if number == 1 else f"{number} {what}s"


def _kept(config: Mapping[str, str]) -> str:
    kept_ms = int(config.get("retention.ms", -1))
    return "records forever" if kept_ms < 0 else f"records for {format_duration(kept_ms / 1000)}"
