"""Probes of the cluster: brokers, topics, what the bridge may do with them, consumer groups."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import cached_property

from keycloak_bridge.delivery.group_position import is_of_another_topic
from keycloak_bridge.delivery.group_stamp import GroupStamp
from keycloak_bridge.diagnostics.exposure import beyond_this_machine
from keycloak_bridge.diagnostics.probes import Probe, ProbeResult, gray, green, red, yellow
from keycloak_bridge.domain.errors import BrokerAccessError, ConfigError
from keycloak_bridge.domain.numbers import counted
from keycloak_bridge.domain.times import format_duration
from keycloak_bridge.kafka.topics import KafkaAdmin, TopicFacts, TopicSpec
from keycloak_bridge.settings.model import KafkaSettings

KAFKA_CONNECTION = "kafka.connection"

_OLDEST_KAFKA = (2, 1)
"""The oldest broker that kafka-python's consumer and the idempotent producer are known to work with."""
_SAFE_REPLICAS = 2
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
_HARMFUL = frozenset({"WRITE", "DELETE", "ALTER", "ALTER_CONFIGS"})
"""What nobody should be allowed who does not need it."""


class KafkaProbes:
    """The probes of one cluster; the first one connects to it."""

    def __init__(
        self,
        settings: KafkaSettings,
        topics: Sequence[TopicSpec],
        connect: Callable[[], KafkaAdmin],
        *,
        creates: bool = False,
        reads_results: bool = False,
        watches_activations: bool = False,
        stamp: Callable[[str], GroupStamp] | None = None,
        link_lives_s: float = 0.0,
    ) -> None:
        """Take what to examine.

        `creates` says that the bridge creates missing topics at its start, `reads_results` that it reads the results topic, for
        its page, `watches_activations` that it watches who sets a password, where it invites. `stamp` returns what the
        commits of a group should say whose they are; None where that cannot be known. `link_lives_s` is the longest lifespan of an invitation's link.
        """
        self._link_lives_s = link_lives_s
        self._stamp = stamp
        self._creates = creates
        self._watches_activations = watches_activations
        self._rights = {**_RIGHTS, **({"results": ("READ", "WRITE")} if reads_results else {})}
        self._settings = settings
        self._specs = topics
        self._connect = connect

    def probes(self) -> Sequence[Probe]:
        """Return the probes, the connection first."""
        needs = (KAFKA_CONNECTION,)
        return (
            Probe(KAFKA_CONNECTION, self._check_connection),
            Probe("kafka.version", self._check_version, needs),
            Probe("kafka.topics", self._check_topics, needs),
            Probe("kafka.retention", self._check_retention, needs),
            Probe("kafka.acls", self._check_acls, needs),
            Probe("kafka.groups", self._check_groups, needs),
        )

    def _check_connection(self) -> Iterable[ProbeResult]:
        address = ", ".join(self._settings.bootstrap_servers)
        how = ", ".join(
            filter(None, (self._settings.security_protocol, self._settings.sasl_mechanism))
        )
        yield green(f"{counted(len(self._versions), 'broker')} at {address} ({how})")

    def _check_version(self) -> Iterable[ProbeResult]:
        message = ", ".join(".".join(map(str, one)) for one in dict.fromkeys(self._versions))
        if self._versions[0] < _OLDEST_KAFKA:
            yield yellow(
                f"brokers speak Kafka {message}, older than any that the bridge was tested with",
                "update the brokers",
            )
        else:
            yield green(f"brokers speak Kafka {message}")

    def _check_topics(self) -> Iterable[ProbeResult]:
        for spec in self._specs:
            facts = self._found.get(spec.name)
            if facts is None and self._creates:
                yield yellow(
                    f"Kafka has no topic {spec.name}, or the bridge may not describe it: it will be created at the start",
                    f"nothing, if the bridge may create topics; otherwise {spec.create_command()}",
                    spec.purpose,
                )
            elif facts is None:
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
                message = f"{spec.name}: {counted(facts.partitions, 'partition')}, {counted(facts.replicas, 'replica')}"
                risks = tuple(self._topic_risks(spec, facts))
                yield from (
                    yellow(f"{message}; {risk}", remedy, spec.purpose) for risk, remedy in risks
                )
                if not risks:
                    yield green(message, spec.purpose)

    def _topic_risks(self, spec: TopicSpec, facts: TopicFacts) -> Iterator[tuple[str, str]]:
        """Yield what is risky about partitions and replicas, each with its remedy."""
        if facts.partitions < spec.partitions and spec.purpose in ("events", "invitations"):
            yield (
                f"topics.partitions says {spec.partitions}, so fewer sidecars can share the work",
                "add partitions while nothing is in flight, or lower topics.partitions",
            )
        config = facts.config or {}
        if facts.replicas < _SAFE_REPLICAS:
            if self._is_remote:  # a broker on this machine is there to try things
                yield (
                    "its records are lost with one broker",
                    f"give {spec.name} three replicas: kafka-reassign-partitions.sh",
                )
        elif int(config.get("min.insync.replicas", _SAFE_REPLICAS)) < _SAFE_REPLICAS:
            yield (
                "what one replica alone has counts as written, and is lost with its broker",
                f"set min.insync.replicas = 2 for {spec.name}",
            )
        if config.get("unclean.leader.election.enable") == "true":
            yield (
                "a replica that is behind may become the leader, and what it has not is lost",
                f"set unclean.leader.election.enable = false for {spec.name}",
            )

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
        elif spec.purpose == "invitations" and 0 <= kept_ms < self._link_lives_s * 1000:
            yield yellow(
                f"{spec.name} keeps {_kept(config)}, and links live for {format_duration(self._link_lives_s)}: who was invited "
                "earlier is not watched any more after a restart",
                f"raise topics.retention and retention.ms of {spec.name} above invite.lifespan",
                spec.purpose,
            )
        if int(config.get("retention.bytes", -1)) >= 0:
            yield yellow(
                f"{spec.name} deletes records earlier than that when a partition has more than {config['retention.bytes']} bytes",
                f"set retention.bytes = -1 for {spec.name}, and watch its size",
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
            yield _rights_result(
                f"topic {spec.name}",
                self._found[spec.name].operations,
                self._rights[spec.purpose],
                spec.purpose,
                excess=self._is_remote,
            )

    def _check_groups(self) -> Iterable[ProbeResult]:
        for group_id in self._group_ids():
            try:
                yield from self._check_group(group_id)
            except BrokerAccessError as error:  # the other groups may be allowed
                yield red(error.message, error.remedy or "look at the broker's log", group_id)

    def _check_group(self, group_id: str) -> Iterable[ProbeResult]:
        facts = self._cluster.group(group_id)
        members = counted(facts.members, "member")
        if facts.state in ("PreparingRebalance", "CompletingRebalance"):
            yield yellow(
                f"{group_id} is rebalancing ({members})",
                "check again in a minute; if it does not end, look for members that join and leave repeatedly",
                group_id,
            )
        elif facts.members:
            yield green(f"{group_id}: {facts.state.lower()}, {members}", group_id)
        elif self._is_left(group_id):
            yield yellow(
                f"{group_id}: no member, although bridges run: nobody watches who sets a password",
                "nothing, if they are runs with --until-caught-up, which never watch; otherwise look for `activation-off` in their logs, "
                "and restart them: results activated and invitation-expired come late",
                group_id,
            )
        else:
            yield green(f"{group_id}: no member at the moment", group_id)
        yield from self._losses(group_id)
        yield from self._stale_commits(group_id)
        if self._stamp is not None:
            yield from self._check_stamp(self._stamp(group_id))

    def _is_left(self, group_id: str) -> bool:
        """Say whether a group without a member is the one that watches, while invitations are mailed."""
        watches = group_id == self._settings.activation_group_id
        return watches and self._cluster.group(self._settings.invite_group_id).members > 0

    def _losses(self, group_id: str) -> Iterable[ProbeResult]:
        """Compare what the group has committed with where its topic begins now."""
        for topic in self._topics_of(group_id):
            lost = self._cluster.deleted_unread(group_id, topic)
            if lost and group_id == self._settings.activation_group_id:
                # it commits up to the first invitation that is still open, however far it has read
                yield yellow(
                    f"{topic} has lost up to {sum(lost.values()):,} records that {group_id} may still need "
                    f"(partition {', '.join(map(str, lost))}): after a restart it does not watch these invitations",
                    f"raise retention.ms of {topic} above the time that a link is valid",
                    group_id,
                )
            elif lost:
                yield yellow(
                    f"{topic} lost up to {sum(lost.values()):,} records before {group_id} had read them "
                    f"(partition {', '.join(map(str, lost))})",
                    f"raise retention.ms of {topic}, and compare the users: keycloak-bridge reconcile",
                    group_id,
                )

    def _stale_commits(self, group_id: str) -> Iterable[ProbeResult]:
        """Find what the group has committed in a topic that was deleted and made anew since."""
        for topic in self._topics_of(group_id):
            topic_id = self._cluster.topic_id(topic)
            stale = set(self._cluster.beyond_end(group_id, topic)) | {
                at.partition
                for at, commit in self._cluster.commits(group_id).items()
                if at.topic == topic and is_of_another_topic(commit, topic_id)
            }
            if stale:
                yield yellow(
                    f"{group_id} has commits that are not of {topic} as it is now: it was made anew, or its log was cut "
                    f"(partition {', '.join(map(str, sorted(stale)))})",
                    "nothing, if it was on purpose: the bridge reads these partitions from their beginning; compare the users "
                    "afterwards: keycloak-bridge reconcile",
                    group_id,
                )

    def _topics_of(self, group_id: str) -> Sequence[str]:
        """Return the topic that the group reads, none where it does not exist."""
        purpose = "events" if group_id == self._settings.group_id else "invitations"
        return [spec.name for spec in self._existing() if spec.purpose == purpose]

    def _check_stamp(self, stamp: GroupStamp) -> Iterable[ProbeResult]:
        commits = self._cluster.commits(stamp.group_id).values()
        try:
            another = stamp.mapping_of(commit.metadata for commit in commits)
        except ConfigError as error:
            yield red(error.message, str(error.remedy), stamp.group_id)
            return
        if another is not None:
            yield yellow(
                f"{stamp.group_id} was served with another mapping ({another}, here {stamp.mapping})",
                "nothing, if the mapping was changed since; otherwise stop the bridge that has the other one, or give it a group "
                "and topics of its own",
                stamp.group_id,
            )

    def _existing(self) -> Sequence[TopicSpec]:
        return [spec for spec in self._specs if spec.name in self._found]

    @property
    def _is_remote(self) -> bool:
        return bool(beyond_this_machine(self._settings.bootstrap_servers))

    @cached_property
    def _cluster(self) -> KafkaAdmin:
        return self._connect()

    @cached_property
    def _versions(self) -> tuple[tuple[int, ...], ...]:
        return self._cluster.broker_versions()

    @cached_property
    def _found(self) -> Mapping[str, TopicFacts]:
        return self._cluster.topics([spec.name for spec in self._specs])

    def _group_ids(self) -> Sequence[str]:
        names = [self._settings.group_id]
        if any(spec.purpose == "invitations" for spec in self._specs):
            names.append(self._settings.invite_group_id)
            if self._watches_activations:
                names.append(self._settings.activation_group_id)
        return names


def _rights_result(
    what: str,
    operations: frozenset[str] | None,
    needed: Sequence[str],
    subject: str,
    *,
    excess: bool,
) -> ProbeResult:
    """Judge what the bridge may do; `excess` says that too much is a risk, as a broker without any ACL allows it."""
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
    allowed = _HARMFUL if "ALL" in operations else _HARMFUL & operations
    beyond = sorted(allowed.difference(needed))
    if excess and beyond:
        listed = ", ".join(beyond).lower().replace("_", " ")
        return yellow(
            f"{what}: the bridge may also {listed}, which it never does",
            "take these rights from its user (docs/security.md, Access control lists); a broker without an authorizer allows everything to everybody",
            subject,
        )
    return green(f"{what}: {', '.join(needed).lower()} allowed", subject)


def _kept(config: Mapping[str, str]) -> str:
    kept_ms = int(config.get("retention.ms", -1))
    return "records forever" if kept_ms < 0 else f"records for {format_duration(kept_ms / 1000)}"
