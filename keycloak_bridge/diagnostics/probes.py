"""Probes of Kafka and Keycloak: each reports a light and a sentence, and none can stop the others.

Of the cluster: brokers, topics, what the bridge may do with them, consumer groups. Of the realm: reachable, token, clock,
roles, profile, mail, look-ups, and where the links in mails lead. All are run one after the other by `examine`.
"""

import contextlib
import ipaddress
import re
import secrets
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from enum import StrEnum
from functools import cached_property
from statistics import median
from typing import Any
from urllib.parse import urlsplit

from keycloak_bridge.app.realm_check import Problem
from keycloak_bridge.delivery.group_position import is_of_another_topic
from keycloak_bridge.delivery.group_stamp import GroupStamp
from keycloak_bridge.domain.errors import (
    BridgeError,
    ConfigError,
    KeycloakAuthError,
    KeycloakConflictError,
    KeycloakError,
)
from keycloak_bridge.domain.times import format_duration
from keycloak_bridge.domain.users import EXACT_ID_ATTRIBUTE
from keycloak_bridge.kafka.topics import GroupFacts, KafkaAdmin, TopicFacts, TopicSpec
from keycloak_bridge.keycloak.activations import recorded_events
from keycloak_bridge.keycloak.admin import KeycloakAdmin
from keycloak_bridge.keycloak.calls import ALTERNATIVES, EVENTS_ROLE, IMPORT_ROLE, USERS_ROLE, Call
from keycloak_bridge.keycloak.errors import keycloak_error
from keycloak_bridge.keycloak.http import KeycloakHttp, from_response
from keycloak_bridge.keycloak.lookup_times import SLOW_S, TOO_SLOW_S
from keycloak_bridge.keycloak.partial_import import IMPORTING, USER_STORAGE
from keycloak_bridge.keycloak.token import TokenFacts, token_facts
from keycloak_bridge.mapping.profile_findings import Severity
from keycloak_bridge.ops.logs import failure
from keycloak_bridge.realm.needs import (
    EXACT,
    MANAGEMENT,
    MAPPING_ROLES,
    REALM_PLAN,
    surplus_roles,
)
from keycloak_bridge.settings.loading import is_loopback
from keycloak_bridge.settings.model import KafkaSettings
from keycloak_bridge.transport.http import json_object

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

KEYCLOAK_CONNECTION, TOKEN = "keycloak.connection", "keycloak.token"

_LINKS_DO_NOT_VERIFY = (26, 8)
"""From this version of Keycloak on, a link verifies the address only if it is asked to."""

_SKEW_RED_S, _SKEW_YELLOW_S = 30.0, 5.0
_SYNCHRONISE = "synchronise both machines with a time server (NTP)"
_NO_MAILS = "the bridge sends no mails (invite.mode)"
INDEX_STATEMENT = (
    "CREATE INDEX CONCURRENTLY user_attribute_lower_value ON user_attribute (name, lower(value))"
)
"""Keycloak compares `lower(value)`, and its own index has the value as it is."""

_OF_OTHER_PROBES = frozenset({"role-missing", "internationalization-off", "mail-ledger-missing"})


class Light(StrEnum):
    """Green: all is well. Yellow: it works, with a risk. Red: it will not work. Gray: it could not be checked."""

    GREEN = "green"
    YELLOW = "yellow"
    RED = "red"
    GRAY = "gray"


@dataclass(frozen=True, slots=True)
class ProbeResult:
    """What a probe found: one row of the doctor's table.

    `subject` tells several results of one probe apart; `examine` fills in the name of the `probe`.
    """

    light: Light
    message: str
    remedy: str | None = None
    subject: str | None = None
    probe: str = ""


@dataclass(frozen=True, slots=True)
class Probe:
    """One thing to check; it is skipped when one of `needs` was red or skipped itself."""

    name: str
    check: Callable[[], Iterable[ProbeResult]]
    needs: tuple[str, ...] = ()


def examine(probes: Sequence[Probe]) -> Iterator[ProbeResult]:
    """Yield the results of all probes in their order; an exception in a probe is a red result."""
    failed: dict[str, str] = {}
    for probe in probes:
        blocker = next((failed[name] for name in probe.needs if name in failed), None)
        if blocker is not None:
            failed[probe.name] = blocker
            yield ProbeResult(Light.GRAY, f"not checked: {blocker} is red", probe=probe.name)
            continue
        for result in _results(probe):
            if result.light is Light.RED:
                failed[probe.name] = probe.name
            yield replace(result, probe=probe.name)


def _results(probe: Probe) -> Iterator[ProbeResult]:
    """Yield what the probe finds; results from before a failure are kept."""
    try:
        yield from probe.check()
    except BridgeError as error:
        yield red(error.message, error.remedy or "look at the bridge's and the server's log")
    except Exception as error:  # noqa: BLE001 # one broken probe must not hide the others
        yield red(
            f"the probe itself failed: {failure(error)}", "report this as a bug of keycloak-bridge"
        )


def green(message: str, subject: str | None = None) -> ProbeResult:
    """Return a result for something that is well."""
    return ProbeResult(Light.GREEN, message, None, subject)


def yellow(message: str, remedy: str, subject: str | None = None) -> ProbeResult:
    """Return a result for something that works, with a risk."""
    return ProbeResult(Light.YELLOW, message, remedy, subject)


def red(message: str, remedy: str, subject: str | None = None) -> ProbeResult:
    """Return a result for something that keeps the bridge from working."""
    return ProbeResult(Light.RED, message, remedy, subject)


def gray(message: str, remedy: str | None = None, subject: str | None = None) -> ProbeResult:
    """Return a result for something that could not be checked, or is not used."""
    return ProbeResult(Light.GRAY, message, remedy, subject)


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
        stamp: Callable[[str], GroupStamp] | None = None,
        link_lives_s: float = 0.0,
    ) -> None:
        """Take what to examine.

        `creates` says that the bridge creates missing topics at its start, `reads_results` that it reads the results topic, for
        its page. `stamp` returns what the commits of a group should
        say whose they are; None where that cannot be known. `link_lives_s` is the longest lifespan of an invitation's link.
        """
        self._link_lives_s = link_lives_s
        self._stamp = stamp
        self._creates = creates
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
        yield green(f"{_count(len(self._versions), 'broker')} at {address} ({how})")

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
                message = f"{spec.name}: {_count(facts.partitions, 'partition')}, {_count(facts.replicas, 'replica')}"
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
            yield from self._losses(group_id)
            yield from self._stale_commits(group_id)
            if self._stamp is not None:
                yield from self._check_stamp(self._stamp(group_id))

    def _losses(self, group_id: str) -> Iterable[ProbeResult]:
        """Compare what the group has committed with where its topic begins now."""
        for topic in self._topics_of(group_id):
            lost = self._cluster.deleted_unread(group_id, topic)
            if lost:
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

    @cached_property
    def _groups(self) -> Mapping[str, GroupFacts]:
        names = [self._settings.group_id]
        if any(spec.purpose == "invitations" for spec in self._specs):
            names.append(self._settings.invite_group_id)
        return {name: self._cluster.group(name) for name in names}


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


def _count(number: int, what: str) -> str:
    return f"{number} {what}" if number == 1 else f"{number} {what}s"


def _kept(config: Mapping[str, str]) -> str:
    kept_ms = int(config.get("retention.ms", -1))
    return "records forever" if kept_ms < 0 else f"records for {format_duration(kept_ms / 1000)}"


@dataclass(frozen=True, slots=True)
class RealmSetup:
    """What settings and mapping say about the realm; the functions raise ConfigError for a broken mapping.

    `watched_events` are the types of user events that tell who set a password. `attributes` returns those that the mapping
    writes, `external_id` the one by which users are found, `used_roles` those that the bridge makes use of, and
    `problems` runs the check that `run` makes at start. `links_only_set_passwords` says whether some invitation asks for a
    password and not for the verification of the address. `authentication` is how the bridge's client authenticates.
    """

    url: str
    name: str
    invites: bool
    watched_events: Sequence[str]
    attributes: Callable[[], Sequence[str]]
    external_id: Callable[[], str]
    used_roles: Callable[[], frozenset[str]]
    problems: Callable[[], Sequence[Problem]]
    links_only_set_passwords: Callable[[], bool] = lambda: False
    authentication: str | None = None


class KeycloakProbes:
    """The probes of one realm; `token` returns the service account's token, `now` the local time."""

    def __init__(
        self,
        realm: RealmSetup,
        survey: "KeycloakSurvey",
        token: Callable[[], str],
        now: Callable[[], datetime],
        *,
        test_mail: str | None = None,
    ) -> None:
        self._realm = realm
        self._survey = survey
        self._token = token
        self._now = now
        self._test_mail = test_mail

    def probes(self) -> Sequence[Probe]:
        """Return the probes; those that others need come first."""
        needs = (KEYCLOAK_CONNECTION, TOKEN)
        found = [
            Probe(KEYCLOAK_CONNECTION, self._check_connection),
            Probe("keycloak.links", self._check_links, (KEYCLOAK_CONNECTION,)),
            Probe(TOKEN, self._check_token, (KEYCLOAK_CONNECTION,)),
            Probe("keycloak.clock", self._check_clock, needs),
            Probe("keycloak.version", self._check_version, needs),
            Probe("keycloak.roles", self._check_roles, needs),
            Probe("keycloak.profile", self._check_profile, (*needs, "mapping")),
            Probe("keycloak.languages", self._check_languages, (*needs, "mapping")),
            Probe("keycloak.admin-events", self._check_admin_events, (*needs, "mapping")),
            Probe("keycloak.user-events", self._check_user_events, needs),
            Probe("keycloak.federation", self._check_federation, needs),
            Probe("keycloak.mail-server", self._check_mail_server, needs),
            Probe("keycloak.passwords", self._check_passwords, needs),
            Probe("keycloak.lookups", self._check_lookups, (*needs, "mapping")),
        ]
        if self._test_mail is not None:
            found.append(Probe("keycloak.test-mail", self._check_test_mail, needs))
        return found

    def _check_connection(self) -> Iterable[ProbeResult]:
        _ = self._discovery
        how = f" ({self._realm.authentication})" if self._realm.authentication else ""
        yield green(f"realm {self._realm.name} at {self._realm.url}{how}")

    def _check_links(self) -> Iterable[ProbeResult]:
        if not self._realm.invites:
            yield gray(_NO_MAILS)
            return
        yield links_result(self._discovery.issuer, follows=self._survey.follows_its_callers())

    def _check_token(self) -> Iterable[ProbeResult]:
        facts = self._facts
        if not facts.audience and not facts.roles:
            yield gray("granted; it does not name its audience, so each role is tried instead")
        elif MANAGEMENT in facts.audience or MANAGEMENT in facts.roles:
            yield green(f"granted, with {MANAGEMENT} in its audience")
        else:
            yield yellow(
                f"granted, but {MANAGEMENT} is neither in its audience nor among its roles",
                f"assign roles of {MANAGEMENT} to the service account, and let the client's scope hold them",
            )
        issuer = facts.issuer
        if issuer is not None and issuer != self._discovery.issuer:
            yield yellow(
                f"the token was issued by {_place(issuer)}, and Keycloak says that it is "
                f"{_place(self._discovery.issuer)}",
                "give Keycloak one public address (KC_HOSTNAME)",
            )

    def _check_clock(self) -> Iterable[ProbeResult]:
        _ = self._facts
        server = self._discovery.server_time
        local = self._discovered_at
        if server is None:
            server, local = self._facts.issued_at, self._granted_at
        if server is None:
            yield gray("Keycloak's answers do not contain its time")
            return
        apart_s = abs((local - server).total_seconds())
        message = f"Keycloak's clock and this one are {apart_s:.0f} s apart"
        if apart_s > _SKEW_RED_S:
            yield red(message, _SYNCHRONISE)
        elif apart_s > _SKEW_YELLOW_S:
            yield yellow(message, _SYNCHRONISE)
        else:
            yield green(message)

    def _check_version(self) -> Iterable[ProbeResult]:
        version = self._survey.server_version()
        if version is None:
            yield gray("unknown: only administrators of the server can read it")
        else:
            yield green(version)
        if self._realm.links_only_set_passwords():
            yield _unverified_addresses(version)

    def _check_roles(self) -> Iterable[ProbeResult]:
        named = self._facts.roles.get(MANAGEMENT)
        if named is not None and USERS_ROLE in named:
            well = f"has {USERS_ROLE}"
        else:
            well = "may create users, and sees all of them"
        yield from self._problem_or_green("role-missing", well)
        if named is None:
            for role in MAPPING_ROLES:
                yield gray(f"{role}: the token does not name its roles", subject=role)
            return
        used = self._realm.used_roles()
        for role in MAPPING_ROLES:
            held = named & {role, *ALTERNATIVES.get(role, ())}
            if role in used and held:
                yield green(f"has {', '.join(sorted(held))}", role)
            elif role in used:
                yield red(
                    f"lacks {role}, which the mapping needs: such events wait, and then all others too",
                    f"assign the {MANAGEMENT} role {role} to the service account, in the client's scope too; {REALM_PLAN}",
                    role,
                )
            elif role not in named:
                yield gray(f"lacks {role}; nothing needs it", subject=role)
        if IMPORT_ROLE in used:
            yield _batch_role(named)
        if surplus := surplus_roles(named, used):
            yield yellow(
                f"has {', '.join(surplus)} beyond what these settings and this mapping need: whoever gets the bridge's credentials can use that",
                f"take it away from the service account and from the client's scope: {EXACT}",
                "surplus",
            )

    def _check_profile(self) -> Iterable[ProbeResult]:
        found = [one for one in self._problems if one.code not in _OF_OTHER_PROBES]
        yield from map(_result, found)
        if not found:
            yield green(f"keeps {', '.join(self._realm.attributes())}")

    def _check_languages(self) -> Iterable[ProbeResult]:
        if "locale" in self._realm.attributes():
            yield from self._problem_or_green(
                "internationalization-off", "internationalization is on"
            )
        else:
            yield gray("the mapping writes no locale")

    def _check_admin_events(self) -> Iterable[ProbeResult]:
        if self._realm.invites:
            yield from self._problem_or_green(
                "mail-ledger-missing", "on, so the bridge can look up whether a mail was sent"
            )
        else:
            yield gray(_NO_MAILS)

    def _check_user_events(self) -> Iterable[ProbeResult]:
        watched = self._realm.watched_events
        if not watched:
            yield gray("nobody asks who set a password (invite.mode, activation.enabled)")
            return
        recorded = self._survey.user_events()
        if missing := [one for one in watched if one not in recorded]:
            yield yellow(
                f"the realm does not save {', '.join(missing)}, or the service account may not read it: each invited user is "
                "asked for in turn",
                "save it under Realm settings > Events > User events settings, and give the service account the role "
                f"{EVENTS_ROLE}, in the client's scope too; {REALM_PLAN}",
            )
        else:
            yield green(f"{', '.join(watched)} are saved, so one call tells who set a password")

    def _check_federation(self) -> Iterable[ProbeResult]:
        providers = self._survey.user_federation()
        if providers is None:
            yield gray(
                "unknown: reading the providers of user federation needs the role view-realm"
            )
        elif not providers:
            yield green("none: all users are Keycloak's own")
        for one in providers or ():
            yield _federation_result(one)

    def _check_lookups(self) -> Iterable[ProbeResult]:
        name = self._realm.external_id()
        users, took_s = self._survey.count_users(), self._survey.lookup_s(name)
        yield lookup_result("username" if name == EXACT_ID_ATTRIBUTE else name, users, took_s)

    def _check_mail_server(self) -> Iterable[ProbeResult]:
        server = self._survey.smtp()
        if not self._realm.invites:
            yield gray(_NO_MAILS)
        elif server is None:
            yield gray(
                "unknown: reading it needs the role view-realm",
                "try it: keycloak-bridge doctor --send-test-mail ADDRESS",
            )
        elif not server.get("host") or not server.get("from"):
            yield red(
                "the realm has no mail server, or no sender address",
                "set both under Realm settings > Email",
            )
        else:
            yield _mail_server_result(server)

    def _check_passwords(self) -> Iterable[ProbeResult]:
        rules = self._survey.password_rules()
        if rules is None:
            yield gray("unknown: reading it needs the role view-realm")
            return
        problems = []
        if self._realm.invites and not rules.get("passwordPolicy"):
            problems.append(_NO_PASSWORD_POLICY)
        if not rules.get("bruteForceProtected"):
            problems.append(_NO_BRUTE_FORCE_DETECTION)
        if rules.get("sslRequired") == "none":
            problems.append(_NO_SSL_REQUIRED)
        yield from problems
        if not problems:
            yield green("there is a password policy, brute force detection, and TLS for log-ins")

    def _check_test_mail(self) -> Iterable[ProbeResult]:
        try:
            self._survey.send_test_mail(str(self._test_mail))
        except KeycloakConflictError:
            yield gray(
                "no mail was sent: the address belongs to a user of the realm",
                "name another address, such as one with a +tag; Keycloak gives an address to one user only",
            )
            return
        yield green("Keycloak's mail server took the test mail; the link in it is dead")

    def _problem_or_green(self, code: str, well: str) -> Iterator[ProbeResult]:
        found = [_result(one) for one in self._problems if one.code == code]
        yield from found or [green(well)]

    @cached_property
    def _discovery(self) -> "Discovery":
        found = self._survey.discovery()
        self._discovered_at = self._now()
        return found

    @cached_property
    def _facts(self) -> TokenFacts:
        facts = token_facts(self._token())
        self._granted_at = self._now()
        return facts

    @cached_property
    def _problems(self) -> Sequence[Problem]:
        return self._realm.problems()


def _result(problem: Problem) -> ProbeResult:
    light = red if problem.severity is Severity.ERROR else yellow
    return light(problem.message, problem.remedy, problem.code)


_NO_PASSWORD_POLICY = yellow(
    "the realm has no password policy: an invitation's link takes any password",
    "set one under Authentication > Policies > Password policy",
    "passwordPolicy",
)
_NO_BRUTE_FORCE_DETECTION = yellow(
    "brute force detection is off: passwords can be guessed without end",
    "switch it on under Realm settings > Security defenses",
    "bruteForceProtected",
)
_NO_SSL_REQUIRED = yellow(
    "the realm takes passwords in clear text from everywhere",
    "set Require SSL to External requests under Realm settings > General",
    "sslRequired",
)


def _mail_server_result(server: Mapping[str, Any]) -> ProbeResult:
    address = f"{server['host']}:{server.get('port', 25)}"
    encrypted = [name for name in ("ssl", "starttls") if str(server.get(name)).lower() == "true"]
    if encrypted or is_loopback(str(server["host"])):
        return green(address)
    return yellow(
        f"{address}: mails, whose links set passwords, cross the network in clear text",
        "switch on SSL or StartTLS under Realm settings > Email",
    )


def _place(url: str) -> str:
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc}"


def _batch_role(roles: frozenset[str]) -> ProbeResult:
    if IMPORTING.isdisjoint(roles):
        return gray(f"lacks {IMPORT_ROLE}; a backlog is written one by one", subject=IMPORT_ROLE)
    return yellow(
        f"has {IMPORT_ROLE}: a backlog of new users is written in batches, and whoever gets the bridge's credentials can change the realm",
        f"take it away when the backlog is written: {EXACT}",
        IMPORT_ROLE,
    )


def _federation_result(provider: "FederationProvider") -> ProbeResult:
    what = f"{provider.name} ({provider.kind}), edit mode {provider.edit_mode or 'unknown'}"
    if not provider.enabled:
        return green(f"{what}: switched off", provider.name)
    if provider.edit_mode == "READ_ONLY":
        return yellow(
            f"{what}: its users can be disabled and enabled; any other change is a dead letter, and "
            "a deleted user comes back and is disabled",
            "delete and change such users in the directory, or leave them out by `when` in the mapping",
            provider.name,
        )
    if provider.edit_mode == "WRITABLE":
        return green(f"{what}: events write to the directory", provider.name)
    return yellow(
        f"{what}: a deleted user may come back from the directory, and is disabled then",
        "delete such users in the directory",
        provider.name,
    )


def lookup_result(name: str, users: int, took_s: float) -> ProbeResult:
    """Judge how long a search by `username` or an attribute takes, which most events cost that are not of a new user."""
    message = f"a search by {name} takes {took_s * 1000:.0f} ms among {_count(users, 'user')}"
    if took_s <= SLOW_S:
        return green(message)
    light = yellow if took_s <= TOO_SLOW_S else red
    if name == "username":
        return light(
            message, "Keycloak has an index for it: look at its load, its database and the network"
        )
    return light(
        f"{message}; without an index, it takes longer with each new user",
        f"have the database administrator run {INDEX_STATEMENT} (PostgreSQL), or make the external id the username "
        "(docs/keycloak.md, Large realms)",
    )


def links_result(issuer: str, *, follows: bool | None) -> ProbeResult:
    """Judge links that lead to the host of `issuer`.

    `follows` says whether Keycloak takes its address from the caller; None if that could not be found out.
    """
    parts = urlsplit(issuer)
    leads = f"links in mails lead to {parts.scheme}://{parts.netloc}"
    fix = (
        "start Keycloak with KC_HOSTNAME=<public URL> and KC_HOSTNAME_BACKCHANNEL_DYNAMIC=true "
        "(docs/keycloak.md, The public host)"
    )
    if is_internal(parts.hostname or ""):
        return yellow(f"{leads}, which people outside cannot open", fix)
    if follows:
        return yellow(f"{leads} because the bridge calls Keycloak by that name", fix)
    if parts.scheme != "https":
        return yellow(f"{leads}, without encryption", fix.replace("<public URL>", "https://…"))
    return green(leads)


def beyond_this_machine(addresses: Sequence[str]) -> Sequence[str]:
    """Return those of the addresses (`host:port`, `[::1]:9092`, `host`) that are not this machine's own."""
    return [one for one in addresses if not is_loopback(urlsplit(f"//{one}").hostname or "")]


def is_internal(host: str) -> bool:
    """Say whether a host name or address is only valid inside a machine or a private network."""
    try:
        return not ipaddress.ip_address(host).is_global
    except ValueError:
        pass
    name = host.rstrip(".").lower()
    return "." not in name or name.endswith((".local", ".internal", ".localhost", ".svc", ".lan"))


STRANGE_HOST = "keycloak-bridge-doctor.invalid"
"""A host name that no Keycloak has; a Keycloak that repeats it takes its public address from its callers."""

_DISCOVERY = Call("GET", "/.well-known/openid-configuration")
_SERVER_INFO = Call("GET", "/admin/serverinfo")
_LINK_LIFESPAN_S = 60
_SEARCHES = 5
"""So many are measured; one before them opens the connection."""


@dataclass(frozen=True, slots=True)
class Discovery:
    """What Keycloak publishes about the realm: its own address, and the server's time where the answer names one."""

    issuer: str
    server_time: datetime | None


@dataclass(frozen=True, slots=True)
class FederationProvider:
    """A directory that the realm takes users from; `kind` is such as `ldap`."""

    name: str
    kind: str
    edit_mode: str | None
    enabled: bool = True


class KeycloakSurvey:
    """Asks Keycloak what no other part of the bridge needs to know. Methods may raise KeycloakError."""

    def __init__(self, http: KeycloakHttp, admin: KeycloakAdmin) -> None:
        self._http = http
        self._admin = admin

    def discovery(self) -> Discovery:
        """Return the realm's public facts; raises KeycloakAuthError (`realm-not-found`) for a wrong name."""
        return self._discovery(None)

    def follows_its_callers(self) -> bool | None:
        """Say whether Keycloak's links lead to whatever host it was called by; None where a proxy is in the way."""
        try:
            return STRANGE_HOST in self._discovery(STRANGE_HOST).issuer
        except KeycloakError:
            return None

    def server_version(self) -> str | None:
        """Return Keycloak's version; None where the service account may not ask."""
        base = self._http.admin_url.rpartition("/admin/realms/")[0]
        try:
            response = self._http.send(
                _SERVER_INFO, f"{base}{_SERVER_INFO.path}", token=self._admin.access_token()
            )
        except KeycloakAuthError:
            return None
        answer = json_object(response) or {}
        info = answer.get("systemInfo") if response.status_code == 200 else None
        version = info.get("version") if isinstance(info, dict) else None
        return None if version is None else str(version)

    def smtp(self) -> Mapping[str, Any] | None:
        """Return the realm's mail server without its password; None where the service account may not read it."""
        if "smtpServer" not in self._realm:
            return None
        server = self._realm["smtpServer"] or {}
        return {key: value for key, value in server.items() if key != "password"}

    def password_rules(self) -> Mapping[str, Any] | None:
        """Return the realm's own settings, among them those for passwords; None where the service account may not read them."""
        return self._realm if "sslRequired" in self._realm else None

    @cached_property
    def _realm(self) -> Mapping[str, Any]:
        """What the service account may read of the realm's settings, asked for once."""
        return self._admin.realm()

    def user_events(self) -> Sequence[str]:
        """Return the types of user events, of those that the bridge reads, that the realm saves and lets it read."""
        return recorded_events(self._admin).types

    def user_federation(self) -> Sequence[FederationProvider] | None:
        """Return where users come from besides Keycloak; None where the service account may not read it."""
        try:
            found = self._admin.components(USER_STORAGE)
        except KeycloakAuthError:
            return None
        return [_provider(one) for one in found]

    def count_users(self) -> int:
        """Return how many users the realm has."""
        return self._admin.count_users()

    def lookup_s(self, attribute: str) -> float:
        """Return how long a search for a user by this external id takes: the median of a few made-up values."""
        took_s = []
        for _ in range(_SEARCHES + 1):
            begun_s = time.perf_counter()
            made_up = f"keycloak-bridge-doctor-{secrets.token_hex(6)}"
            if attribute == EXACT_ID_ATTRIBUTE:
                self._admin.find_users_by_name("username", made_up)
            else:
                self._admin.find_users_by_attribute(attribute, made_up)
            took_s.append(time.perf_counter() - begun_s)
        return median(took_s[1:])

    def send_test_mail(self, address: str) -> None:
        """Have Keycloak mail a link to `address`, through a user that is deleted again, which makes the link invalid.

        Raises KeycloakError: MailDeliveryError when the mail server failed.
        """
        name = f"keycloak-bridge-doctor-{secrets.token_hex(6)}"
        user_id = self._admin.create_user(
            {
                "username": name,
                "email": address,
                "firstName": "Test",
                "lastName": "Mail",
                "enabled": True,
            }
        )
        try:
            self._admin.execute_actions_email(
                user_id, ["UPDATE_PASSWORD"], lifespan_s=_LINK_LIFESPAN_S
            )
        finally:
            self._admin.delete_user(user_id)

    def _discovery(self, host: str | None) -> Discovery:
        url = self._http.realm_url + _DISCOVERY.path
        response = self._http.send(_DISCOVERY, url, host=host)
        if response.status_code != 200:
            raise from_response(_DISCOVERY, response)
        issuer = (json_object(response) or {}).get("issuer")
        if not isinstance(issuer, str):
            raise keycloak_error(code="not-keycloak", call=_DISCOVERY, status=200)
        return Discovery(issuer, _http_date(response.headers.get("Date")))


def _unverified_addresses(version: str | None) -> ProbeResult:
    """Return what it means that the links of invitations do not ask for VERIFY_EMAIL."""
    message = "the actions of invitations lack VERIFY_EMAIL: from Keycloak 26.8 on, the link does not verify the address"
    remedy = "add VERIFY_EMAIL to [invite] actions, in the settings or the mapping; it is right for older versions too"
    numbers = re.match(r"(\d+)\.(\d+)", version or "")
    if numbers is not None and (int(numbers[1]), int(numbers[2])) >= _LINKS_DO_NOT_VERIFY:
        return yellow(message, remedy, "VERIFY_EMAIL")
    return gray(message, remedy, "VERIFY_EMAIL")


def _provider(component: Mapping[str, Any]) -> FederationProvider:
    config = component.get("config") or {}
    mode, enabled = (next(iter(config.get(name) or ()), None) for name in ("editMode", "enabled"))
    return FederationProvider(
        str(component.get("name")), str(component.get("providerId")), mode, enabled != "false"
    )


def _http_date(text: str | None) -> datetime | None:
    with contextlib.suppress(TypeError, ValueError):
        return None if text is None else parsedate_to_datetime(text).astimezone(UTC)
    return None
