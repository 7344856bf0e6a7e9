"""The probes of Kafka, against a stub of the cluster."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial

import pytest

from keycloak_bridge.delivery.group_stamp import GroupStamp
from keycloak_bridge.diagnostics.kafka_probes import KafkaProbes
from keycloak_bridge.diagnostics.probes import Light, ProbeResult, examine
from keycloak_bridge.domain.errors import BrokerAccessError
from keycloak_bridge.domain.events import Commit, TopicPartition
from keycloak_bridge.kafka.topics import GroupFacts, KafkaAdmin, TopicFacts, wanted_topics
from keycloak_bridge.settings.model import KafkaSettings, TopicsSettings

SPECS = wanted_topics(TopicsSettings(), invitations=True)
NEEDED = {
    "events": frozenset({"READ", "DESCRIBE"}),
    "results": frozenset({"WRITE", "DESCRIBE"}),
}
EVERYTHING = frozenset({"READ", "WRITE", "DESCRIBE"})
NAMES = {spec.purpose: spec.name for spec in SPECS}
WATCHING = "keycloak-bridge-activation"


def healthy() -> dict[str, TopicFacts]:
    """Return topics as `topics create` makes them."""
    return {
        spec.name: TopicFacts(
            partitions=spec.partitions,
            replicas=3,
            operations=NEEDED.get(spec.purpose, EVERYTHING),
            config={"cleanup.policy": "delete", "max.message.bytes": "1048588", **spec.config},
        )
        for spec in SPECS
    }


@dataclass
class StubCluster(KafkaAdmin):
    """Returns what it was given."""

    found: dict[str, TopicFacts] = field(default_factory=healthy)
    versions: tuple[tuple[int, ...], ...] = ((4, 1),)
    lost: Mapping[int, int] = field(default_factory=dict)
    seen: GroupFacts = field(default_factory=lambda: GroupFacts("Stable", 2))
    metadata: tuple[str, ...] = ()
    behind: frozenset[int] = frozenset()
    others: Mapping[str, GroupFacts] = field(default_factory=dict)
    refused: str = ""

    def broker_versions(self) -> tuple[tuple[int, ...], ...]:
        return self.versions

    def topics(self, names: Sequence[str]) -> Mapping[str, TopicFacts]:
        return {name: self.found[name] for name in names if name in self.found}

    def group(self, group_id: str) -> GroupFacts:
        assert group_id.startswith("keycloak-bridge")
        if group_id == self.refused:
            raise BrokerAccessError(
                f"Kafka does not allow describing the consumer group {group_id}"
            )
        return self.others.get(group_id, self.seen)

    def deleted_unread(self, group_id: str, topic: str) -> Mapping[int, int]:
        purpose = "events" if group_id == "keycloak-bridge" else "invitations"
        assert NAMES[purpose] == topic
        return self.lost if group_id != "keycloak-bridge-invite" else {}

    def topic_id(self, name: str) -> str | None:
        return "0-1" if name == NAMES["events"] else None

    def beyond_end(self, group_id: str, topic: str) -> frozenset[int]:
        return self.behind if topic == NAMES["events"] else frozenset()

    def commits(self, group_id: str) -> Mapping[TopicPartition, Commit]:
        return {
            TopicPartition("user-events", at): Commit(0, one)
            for at, one in enumerate(self.metadata)
        }

    def change(self, purpose: str, **facts: object) -> None:
        """Change the facts of one topic; `config` is added to."""
        topic = self.found[NAMES[purpose]]
        if "config" in facts and isinstance(facts["config"], dict):
            facts["config"] = {**(topic.config or {}), **facts["config"]}
        self.found[NAMES[purpose]] = replace(topic, **facts)  # type: ignore[arg-type]


def examined(cluster: KafkaAdmin, server: str = "localhost:9092") -> list[ProbeResult]:
    """Return the results of all probes."""
    settings = KafkaSettings(bootstrap_servers=(server,))
    return list(examine(KafkaProbes(settings, SPECS, lambda: cluster).probes()))


def not_green(
    cluster: KafkaAdmin, server: str = "localhost:9092"
) -> list[tuple[str, Light, str | None]]:
    """Return everything that is not green."""
    return [
        (one.probe, one.light, one.subject)
        for one in examined(cluster, server)
        if one.light is not Light.GREEN
    ]


@pytest.mark.parametrize(
    ("purpose", "facts", "expected"),
    [
        ("events", {"partitions": 0}, ("kafka.topics", Light.RED)),
        ("results", {"leaderless": 1}, ("kafka.topics", Light.RED)),
        ("events", {"partitions": 1}, ("kafka.topics", Light.YELLOW)),
        ("events", {"config": {"cleanup.policy": "compact"}}, ("kafka.retention", Light.YELLOW)),
        ("results", {"config": {"retention.ms": "1000"}}, ("kafka.retention", Light.YELLOW)),
        ("dead letters", {"config": {"max.message.bytes": "9"}}, ("kafka.retention", Light.YELLOW)),
        ("results", {"config": None}, ("kafka.retention", Light.GRAY)),
        ("results", {"config": {"retention.bytes": "9"}}, ("kafka.retention", Light.YELLOW)),
        ("events", {"config": {"min.insync.replicas": "1"}}, ("kafka.topics", Light.YELLOW)),
        (
            "events",
            {"config": {"unclean.leader.election.enable": "true"}},
            ("kafka.topics", Light.YELLOW),
        ),
        ("events", {"operations": frozenset({"DESCRIBE"})}, ("kafka.acls", Light.RED)),
        ("results", {"operations": frozenset({"READ"})}, ("kafka.acls", Light.RED)),
        ("results", {"operations": None}, ("kafka.acls", Light.GRAY)),
        # harmless: the bridge does not read it, nothing expires, everything is allowed
        ("results", {"partitions": 1}, None),
        ("results", {"config": {"retention.ms": "-1"}}, None),
        ("results", {"operations": frozenset({"ALL"})}, None),
    ],
)
def test_one_topic_is_different(
    purpose: str, facts: dict[str, object], expected: tuple[str, Light] | None
) -> None:
    """The right probe reports it for the right topic, unless it is harmless."""
    cluster = StubCluster()
    cluster.change(purpose, **facts)

    assert ([] if expected is None else [(*expected, purpose)]) == not_green(cluster)


@pytest.mark.parametrize(
    ("facts", "probe"),
    [
        ({"replicas": 1}, "kafka.topics"),
        ({"operations": frozenset({"ALL"})}, "kafka.acls"),
        ({"operations": EVERYTHING | {"WRITE"}}, "kafka.acls"),
        ({"operations": frozenset({"READ", "ALTER_CONFIGS"})}, "kafka.acls"),
    ],
)
def test_what_only_a_broker_to_try_things_may_do(facts: dict[str, object], probe: str) -> None:
    """One replica, and more rights than are needed, are a risk unless Kafka is on this machine."""
    cluster = StubCluster()
    cluster.change("events", **facts)

    assert [] == not_green(cluster)
    assert [(probe, Light.YELLOW, "events")] == not_green(cluster, "kafka.example.com:9092")


def test_the_page_reads_results() -> None:
    """So that the right to read them is missed only where there is a page."""
    cluster = StubCluster()
    cluster.change("results", operations=frozenset({"WRITE"}))
    lights = [
        {
            one.light
            for one in examine(
                KafkaProbes(KafkaSettings(), SPECS, lambda: cluster, reads_results=reads).probes()
            )
            if one.probe == "kafka.acls" and one.subject == "results"
        }
        for reads in (False, True)
    ]

    assert [{Light.GREEN}, {Light.RED}] == lights


@pytest.mark.parametrize(("days", "light"), [(3, Light.GREEN), (8, Light.YELLOW)])
def test_invitations_are_kept_for_as_long_as_links_live(days: int, light: Light) -> None:
    """They are what the bridge knows whom to watch by."""
    probes = KafkaProbes(KafkaSettings(), SPECS, StubCluster, link_lives_s=days * 86_400).probes()
    found = [one for one in examine(probes) if one.probe == "kafka.retention"]

    assert [light] == [one.light for one in found if one.subject == "invitations"]


def test_a_missing_topic_is_created_where_the_settings_say_so() -> None:
    """Then it is no failure that it is not there yet."""
    lights = []
    for creates in (False, True):
        cluster = StubCluster()
        del cluster.found[NAMES["results"]]
        probes = KafkaProbes(
            KafkaSettings(), SPECS, partial(StubCluster, cluster.found), creates=creates
        ).probes()
        lights += [one for one in examine(probes) if one.probe == "kafka.topics"]

    assert [Light.RED, Light.YELLOW] == [one.light for one in lights if one.subject == "results"]
    assert ["it will be created at the start" in one.message for one in lights].count(True) == 1


@pytest.mark.parametrize(
    ("cluster", "expected"),
    [
        (StubCluster(versions=((1, 1), (4, 1))), [("kafka.version", Light.YELLOW)]),
        (StubCluster(seen=GroupFacts("Dead", 0)), []),
        (
            StubCluster(seen=GroupFacts("PreparingRebalance", 1)),
            [("kafka.groups", Light.YELLOW)] * 2,
        ),
        (StubCluster(lost={3: 1_000, 4: 200}), [("kafka.groups", Light.YELLOW)]),
        (StubCluster(behind=frozenset({2})), [("kafka.groups", Light.YELLOW)]),
    ],
)
def test_brokers_and_groups(cluster: StubCluster, expected: list[tuple[str, Light]]) -> None:
    """Old brokers are a risk, a group without members is not."""
    assert expected == [(probe, light) for probe, light, _ in not_green(cluster)]


def test_commits_of_a_recreated_topic() -> None:
    """Those in another topic of that name are found by its id, others by an offset behind the end."""
    cluster = StubCluster(
        metadata=("kbs1:acme|ab|0-0", "kbs1:acme|ab|0-1", "kbs1:acme|ab"), behind=frozenset({2})
    )

    (found,) = (
        one
        for one in examined(cluster)
        if one.light is Light.YELLOW and one.subject == "keycloak-bridge"
    )

    assert "commits that are not of user-events as it is now" in found.message
    assert "(partition 0, 2)" in found.message


@pytest.mark.parametrize(
    ("metadata", "lights"),
    [
        ((), {Light.GREEN}),
        (("", "kb1:x", "kbs1:acme|ab"), {Light.GREEN}),
        (("kbs1:acme|ab", "kbs1:acme|cd"), {Light.GREEN, Light.YELLOW}),
        (("kbs1:partners|ab",), {Light.GREEN, Light.RED}),
    ],
)
def test_whose_group_it_is(metadata: tuple[str, ...], lights: set[Light]) -> None:
    """Another realm shares the users out; another mapping may be an older one."""
    probes = KafkaProbes(
        KafkaSettings(),
        SPECS,
        lambda: StubCluster(metadata=metadata),
        stamp=lambda group_id: GroupStamp(group_id, "acme", "ab"),
    ).probes()

    assert lights == {one.light for one in examine(probes) if one.probe == "kafka.groups"}


def of_groups(cluster: KafkaAdmin, *, watches: bool = True) -> dict[str, Light]:
    """Return the worst light of each group."""
    probes = KafkaProbes(
        KafkaSettings(), SPECS, lambda: cluster, watches_activations=watches
    ).probes()
    found = [one for one in examine(probes) if one.probe == "kafka.groups" and one.subject]
    order = (Light.RED, Light.YELLOW, Light.GREEN)
    return {
        str(one.subject): min(
            (it.light for it in found if it.subject == one.subject), key=order.index
        )
        for one in found
    }


@pytest.mark.parametrize(
    ("cluster", "light"),
    [
        (StubCluster(), Light.GREEN),
        (StubCluster(others={WATCHING: GroupFacts("Empty", 0)}), Light.YELLOW),
        (StubCluster(refused=WATCHING), Light.RED),
    ],
)
def test_the_group_that_watches_who_sets_a_password_is_examined(
    cluster: StubCluster, light: Light
) -> None:
    """Where it has no member although mails go out, or Kafka does not let it in; the other groups are examined all the same."""
    others = {"keycloak-bridge": Light.GREEN, "keycloak-bridge-invite": Light.GREEN}

    assert {**others, WATCHING: light} == of_groups(cluster)
    assert others == of_groups(cluster, watches=False)


def test_a_group_without_members_is_no_fault_where_no_bridge_runs() -> None:
    """As before the first start."""
    assert {Light.GREEN} == set(of_groups(StubCluster(seen=GroupFacts("Dead", 0))).values())


def test_invitations_that_are_gone_before_they_are_closed_are_told() -> None:
    """The group commits no further than the first open one, so that a restart would not find it."""
    lights = of_groups(StubCluster(lost={0: 3}))

    assert Light.YELLOW == lights[WATCHING]
