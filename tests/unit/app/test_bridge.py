"""The running bridge over a Kafka and a Keycloak in memory: start, run, stop, health."""

import json
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from email.message import Message as Headers
from functools import partial
from http import HTTPStatus
from pathlib import Path
from typing import Any

import pytest
from delivery_harness import ended_if_it_hangs, passing_time
from otlp_collector import TRACE, TRACEPARENT, KeptSpans
from stage_harness import (
    DEAD_LETTERS,
    EVENTS,
    INVITATIONS,
    PLANTED,
    RESULTS,
    STRUCTURED,
    BrokerArchive,
    counted,
    event_of,
    record_of,
)

from keycloak_bridge.app import bridge, realm_check, wiring
from keycloak_bridge.app import page as app_page
from keycloak_bridge.app.bridge import Bridge, release_brakes
from keycloak_bridge.app.interpretation import Interpretation
from keycloak_bridge.app.realm_check import Problem
from keycloak_bridge.app.wiring import direct_provisioner
from keycloak_bridge.delivery import rate_limit
from keycloak_bridge.domain.errors import (
    BrokerUnavailableError,
    ConfigError,
    HoldError,
    KeycloakAuthError,
    KeycloakUnavailableError,
)
from keycloak_bridge.domain.events import Commit, Message, TopicPartition
from keycloak_bridge.domain.ports import Clock
from keycloak_bridge.kafka.topics import TopicSpec, TopicState
from keycloak_bridge.keycloak import access
from keycloak_bridge.keycloak.lookup_times import LookupTimes
from keycloak_bridge.mapping.profile_findings import Severity
from keycloak_bridge.ops.http_server import Request, Route
from keycloak_bridge.ops.metrics import Metrics
from keycloak_bridge.ops.status import Status
from keycloak_bridge.pipeline.interpret import Prepared
from keycloak_bridge.provisioning.provisioner import Provisioner
from keycloak_bridge.settings.fields import Secret
from keycloak_bridge.settings.model import (
    HealthSettings,
    InviteSettings,
    KafkaSettings,
    KeycloakSettings,
    MappingSettings,
    RetrySettings,
    SchemasSettings,
    Settings,
    TracingSettings,
    UiSettings,
)
from keycloak_bridge.testing.fake_clock import FakeClock
from keycloak_bridge.testing.in_memory_broker import InMemoryBroker, InMemoryConsumer
from keycloak_bridge.testing.in_memory_keycloak import InMemoryKeycloak

SETTINGS = Settings(
    keycloak=KeycloakSettings(realm="acme", client_secret=Secret("hush-hush-hush")),
    health=HealthSettings(enabled=False),
    retry=RetrySettings(initial=0.001, max=0.001),
)


class TimedKeycloak(InMemoryKeycloak):
    """A Keycloak in memory that keeps the times of its searches, as the directory of the real one does."""

    def __init__(self, clock: Clock) -> None:
        super().__init__(groups=["/staff"], realm_roles=["viewer"])
        self.times = LookupTimes(clock)


class World:
    """A Kafka and a Keycloak in memory, in the places of the real ones."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.monkeypatch = monkeypatch
        self.broker = InMemoryBroker()
        self.clock = FakeClock()
        self.keycloak = TimedKeycloak(self.clock)
        self.problems: list[list[Problem]] = []
        self.errors: dict[str, list[Exception]] = {}
        self.joined: list[tuple[str, str]] = []
        self.producers: list[bool] = []
        self.archive = BrokerArchive(self.broker)
        self.closed: list[str] = []
        self.servers: list[StubHealth] = []
        self.stop = threading.Event()
        monkeypatch.setattr(bridge, "KafkaMessageProducer", self._producer)
        monkeypatch.setattr(bridge, "KafkaDeadLetterArchive", self._archive)
        for module in (bridge, wiring):
            monkeypatch.setattr(module, "SystemClock", lambda: self.clock)
            monkeypatch.setattr(module, "KeycloakUserDirectory", lambda *_: self.keycloak)
            monkeypatch.setattr(
                module, "keycloak_admin", lambda *_: Closable(self.closed, "keycloak")
            )
        monkeypatch.setattr(wiring, "KafkaRecordConsumer", self._source)
        monkeypatch.setattr(bridge, "KafkaAdmin", self._kafka_admin)
        monkeypatch.setattr(realm_check, "check_access", self._check)
        monkeypatch.setattr(self.broker, "close", lambda: self.closed.append("producer"))
        monkeypatch.setattr(self.archive, "close", lambda: self.closed.append("archive"))

    def publish(self, *events: Any) -> None:
        for event in events:
            value = event if isinstance(event, bytes) else json.dumps(event).encode()
            key = None if isinstance(event, bytes) else event["subject"].encode()
            self.broker.publish(Message(EVENTS, key, value, STRUCTURED))

    def run(self, settings: Settings = SETTINGS, *, until_caught_up: bool = True) -> None:
        """Run the bridge; one that hangs is ended after a while, and its test fails."""
        with ended_if_it_hangs(self.stop):
            Bridge(settings, self.stop).run(until_caught_up=until_caught_up)

    def outcomes(self) -> list[str]:
        """Return the published outcomes, sorted: users do not wait for each other."""
        records = self.broker.records(RESULTS)
        return sorted(json.loads(record.value or b"")["data"]["outcome"] for record in records)

    def _raise_next(self, what: str) -> None:
        errors = self.errors.get(what)
        if errors:
            raise errors.pop(0)

    def _producer(self, _: KafkaSettings, *, repeats: bool = True) -> InMemoryBroker:
        self._raise_next("producer")
        self.producers.append(repeats)
        return self.broker

    def _archive(self, _: KafkaSettings, topic: str) -> BrokerArchive:
        self.archive_of = topic
        return self.archive

    def _source(
        self, _: KafkaSettings, *, topic: str, group_id: str, largest_record_bytes: int
    ) -> InMemoryConsumer:
        assert largest_record_bytes > 2**20
        self.joined.append((topic, group_id))
        return passing_time(self.broker.source(topic, group_id), self.clock)

    def _kafka_admin(self, _: KafkaSettings) -> "StubKafkaAdmin":
        self._raise_next("topics")
        admin = StubKafkaAdmin(self.closed, "topics")
        admin.group_commits = self.broker.commits
        return admin

    def _check(
        self, _: object, names: Sequence[str], guarded: Sequence[str], **options: Any
    ) -> Sequence[Problem]:
        self.checked = (tuple(names), tuple(guarded), options)
        self._raise_next("realm")
        return self.problems.pop(0) if self.problems else ()


class Closable:
    """Notes that it was closed."""

    def __init__(self, closed: list[str], name: str) -> None:
        self._closed = closed
        self._name = name

    def close(self) -> None:
        self._closed.append(self._name)

    def count_users(self) -> int:
        """The realm is empty."""
        return 0


class StubKafkaAdmin(Closable):
    """A cluster that has every topic."""

    def states(self, specs: Sequence[TopicSpec]) -> tuple[TopicState, ...]:
        return tuple(TopicState(spec, 1) for spec in specs)

    def create(self, missing: Sequence[TopicSpec]) -> None:
        assert not missing

    group_commits: Mapping[str, Mapping[TopicPartition, Commit]] = {}

    def commits(self, group_id: str) -> Mapping[TopicPartition, Commit]:
        return self.group_commits.get(group_id, {})


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch) -> World:
    """Everything in memory, and no event yet."""
    return World(monkeypatch)


# the whole bridge


def test_an_event_becomes_a_user_and_a_mail(world: World) -> None:
    """From the events topic to the mail in one run, which ends by itself, commits and closes everything.

    The invite stage is a group of its own, so that its lag is the backlog of mails. Dead letters have a producer that
    repeats nothing by itself. A second run continues behind what was done.
    """
    world.publish(event_of(), b"{oops")

    world.run()

    assert (1, 1) == (len(world.keycloak.users()), len(world.keycloak.mails))
    assert ["invited", "provisioned", "rejected"] == world.outcomes()
    assert 1 == len(world.broker.records(DEAD_LETTERS))
    assert ([True, False], DEAD_LETTERS) == (world.producers, world.archive_of)
    assert {TopicPartition(EVENTS, 0): 2} == world.broker.offsets("keycloak-bridge")
    assert {TopicPartition(INVITATIONS, 0): 1} == world.broker.offsets("keycloak-bridge-invite")
    assert not world.stop.is_set()
    assert ["archive", "keycloak", "producer", "producer", "topics"] == sorted(world.closed)

    world.run()
    assert (3, 1) == (len(world.outcomes()), len(world.keycloak.mails))


def test_a_record_carries_its_trace_on(
    world: World, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """From the producer to the result, the invitation and the mail, or to the dead letter; each line of the log names it.

    The dead letter keeps the record's own header, and has the bridge's beside its other reasons.
    """
    spans = KeptSpans()
    monkeypatch.setattr(bridge, "open_tracer", lambda: spans.tracer)
    traceparent = ("traceparent", TRACEPARENT.encode())
    world.publish({**event_of(), "traceparent": TRACEPARENT})
    world.broker.publish(Message(EVENTS, None, b"{oops", (*STRUCTURED, traceparent)))
    world.publish(event_of("u-2", "event-2", data={"email": "u-2@acme.example"}))

    with caplog.at_level("INFO"):
        world.run(replace(SETTINGS, tracing=TracingSettings(enabled=True, producer="parent")))

    ended = {f"{one.context.span_id:016x}": one for one in spans.ended()}
    traced = [one for one in ended.values() if f"{one.context.trace_id:032x}" == TRACE]
    assert [
        f"process {EVENTS}",
        f"process {EVENTS}",
        f"process {INVITATIONS}",
        f"send {DEAD_LETTERS}",
        f"send {INVITATIONS}",
        *[f"send {RESULTS}"] * 3,
    ] == sorted(one.name for one in traced)
    of_messages = {
        (one.topic, name): (value or b"").decode()
        for topic in (RESULTS, INVITATIONS, DEAD_LETTERS)
        for one in world.broker.records(topic)
        for name, value in one.headers
        if name.endswith("traceparent") and TRACE in (value or b"").decode()
    }
    assert TRACEPARENT == of_messages.pop((DEAD_LETTERS, "traceparent"))
    assert {
        (RESULTS, "traceparent"),
        (INVITATIONS, "traceparent"),
        (DEAD_LETTERS, "kb-dlq-traceparent"),
    } == of_messages.keys()
    for (topic, _), header in of_messages.items():
        assert f"send {topic}" == ended[header.split("-")[2]].name
    processed = [one for one in traced if one.name == f"process {EVENTS}"]
    assert [("provisioned", None), ("rejected", "not-json")] == sorted(
        (str(attributes["keycloak_bridge.outcome"]), attributes.get("error.type"))
        for one in processed
        if (attributes := one.attributes or {})
    )
    text = " ".join(str(dict(one.attributes or {})) for one in ended.values())
    assert not [value for value in (*PLANTED, "u-2@acme") if value in text]
    lines = [getattr(line, "bridge_fields", {}) for line in caplog.records]
    outcomes = [one for one in lines if one["action"] in ("provisioned", "invited", "rejected")]
    assert [TRACE] * 3 == [one["trace_id"] for one in outcomes if one.get("event_id") != "event-2"]
    assert 2 == len({one["trace_id"] for one in outcomes})


def test_the_trace_of_a_producer_is_a_link_unless_told_otherwise(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A job that publishes a million events in one trace would make one of a million users; the mail is in the event's."""
    spans = KeptSpans()
    monkeypatch.setattr(bridge, "open_tracer", lambda: spans.tracer)
    world.publish({**event_of(), "traceparent": TRACEPARENT})

    world.run(replace(SETTINGS, tracing=TracingSettings(enabled=True)))

    ended = {one.name: one for one in spans.ended()}
    event, mail = ended[f"process {EVENTS}"], ended[f"process {INVITATIONS}"]
    assert event.parent is None
    assert [TRACE] == [f"{one.context.trace_id:032x}" for one in event.links]
    assert {event.context.trace_id} == {one.context.trace_id for one in ended.values()}
    assert mail.parent is not None
    assert ended[f"send {INVITATIONS}"].context.span_id == mail.parent.span_id


# before anything is consumed


@pytest.mark.parametrize("group_id", ["keycloak-bridge", "keycloak-bridge-invite"])
@pytest.mark.parametrize(
    ("keycloak", "refused"),
    [
        ({}, False),
        ({"realm": "partners"}, True),
        ({"url": "http://other:8080"}, True),
        ({"url": "http://LOCALHOST:8080/"}, False),
        ({"url": "http://other:8080", "known_as": "http://localhost:8080/realms/acme"}, False),
        ({"known_as": "production"}, True),
    ],
)
def test_a_group_serves_one_realm(
    world: World, keycloak: dict[str, Any], refused: bool, group_id: str
) -> None:
    """A bridge of another realm does not even join; it would take a share of the users away."""
    world.publish(event_of())
    world.run()
    for other in {"keycloak-bridge", "keycloak-bridge-invite"} - {group_id}:
        world.broker.commits[other].clear()
    world.joined.clear()
    settings = replace(SETTINGS, keycloak=replace(SETTINGS.keycloak, **keycloak))

    if not refused:
        world.run(settings)
        return
    with pytest.raises(ConfigError) as caught:
        world.run(settings)
    assert "foreign-realm" == caught.value.code
    assert group_id in caught.value.message
    assert [] == world.joined


@pytest.mark.parametrize(
    ("errors", "problems"),
    [
        ({"topics": [BrokerUnavailableError("gone")] * 2}, []),
        ({"realm": [KeycloakUnavailableError("gone"), KeycloakAuthError("not yet")]}, []),
        ({"producer": [BrokerUnavailableError("gone")] * 3}, []),
        # Keycloak answers before its import at start-up is done, so a missing realm may still appear
        ({}, [[Problem("realm-not-found", "there is no realm acme", "create it")]] * 2),
        ({}, [[Problem("odd", "only a warning", "look", Severity.WARNING)]]),
    ],
)
def test_it_waits_for_what_is_away_at_start(
    world: World, errors: dict[str, list[Exception]], problems: list[list[Problem]]
) -> None:
    """Each is tried again by itself; a warning about the realm stops nothing."""
    world.publish(event_of())
    world.errors |= errors
    world.problems = problems

    world.run()

    assert ["invited", "provisioned"] == world.outcomes()


def test_types_that_no_mapping_serves_are_a_warning_and_a_dead_letter(
    world: World, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """A small case starts; what it does not cover is said at once, and kept when it comes."""
    (tmp_path / "user.created").mkdir()
    schema = {"$id": "urn:x:1", "type": "object", "properties": {"no": {"type": "string"}}}
    (tmp_path / "user.created" / "1.100.json").write_text(json.dumps(schema))
    (tmp_path / "m.toml").write_text(
        'matching = ["attributes.userId"]\n[user]\nusername = "data.no"\n'
        '[user.attributes]\nuserId = "data.no"\n'
    )
    settings = replace(
        SETTINGS,
        schemas=SchemasSettings(folders=(tmp_path,)),
        mapping=MappingSettings(file=tmp_path / "m.toml"),
        invite=InviteSettings(mode="none"),
    )
    world.publish(event_of(data={"no": "u-1"}), event_of(event_id="event-2", type="user.disabled"))
    with caplog.at_level("WARNING", "keycloak_bridge.app.bridge"):
        world.run(settings)

    assert ["provisioned", "rejected"] == world.outcomes()
    (warning,) = [one for one in caplog.records if one.getMessage().startswith(str(tmp_path))]
    assert "no data.no in user.updated, user.disabled" in warning.getMessage()


def test_a_stop_between_the_connections_closes_what_is_open(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Kafka may go away after the first; nothing stays behind."""
    make = world._producer

    def away(settings: KafkaSettings, *, repeats: bool = True) -> InMemoryBroker:
        if not repeats:
            world.stop.set()
            raise BrokerUnavailableError("gone")
        return make(settings)

    monkeypatch.setattr(bridge, "KafkaMessageProducer", away)

    world.run(until_caught_up=False)

    assert (["keycloak", "producer", "topics"], []) == (sorted(world.closed), world.joined)


@pytest.mark.parametrize(
    ("invite", "delivery"),
    [
        (InviteSettings(), "at-least-once"),
        (InviteSettings(delivery="at-most-once"), "at-most-once"),
        (InviteSettings(mode="none"), None),
    ],
)
def test_what_the_realm_is_checked_for(
    world: World, invite: InviteSettings, delivery: str | None
) -> None:
    """Every attribute of the mapping and the bridge's own; users must not edit those that identify them; mails if any."""
    world.run(replace(SETTINGS, invite=invite))

    names, guarded, options = world.checked
    own = ("bridgeEventId", "bridgeEventTime", "bridgeInvitation")
    assert {"userId", "tenantId", "department", "phoneNumber", "locale", *own} == set(names)
    assert ("userId", *own) == guarded
    assert delivery == options["invite_delivery"]
    assert {"email", "attributes.userId"} < {one.target for one in options["targets"]}


# health


class StubHealth(Closable):
    """A server without a socket."""

    def __init__(
        self,
        world: World,
        status: Status,
        _: object,
        *,
        host: str,
        port: int,
        metrics: Metrics,
        release: Callable[[], Sequence[str]],
        routes: Mapping[str, Route],
    ) -> None:
        super().__init__(world.closed, "health")
        self.routes = routes
        self.status, self.port, self.metrics, self.release = status, port, metrics, release
        self.started_with: tuple[str, ...] | None = None
        world.servers.append(self)

    def start(self) -> None:
        self.started_with = self.status.why_not_ready()


@pytest.fixture
def servers(world: World, monkeypatch: pytest.MonkeyPatch) -> list[StubHealth]:
    """The health servers that were made."""
    monkeypatch.setattr(bridge, "HealthServer", partial(StubHealth, world))
    return world.servers


def test_health_says_starting_until_everything_is_there(
    world: World, servers: list[StubHealth]
) -> None:
    """Probes are answered from the very start, no brake is released before there are stages; it ends with the bridge."""
    seen: list[object] = []
    states = StubKafkaAdmin.states

    def watched(self: StubKafkaAdmin, specs: Sequence[TopicSpec]) -> tuple[TopicState, ...]:
        seen.extend((servers[0].status.why_not_ready(), servers[0].release()))
        return states(self, specs)

    world.monkeypatch.setattr(StubKafkaAdmin, "states", watched)

    world.run(replace(SETTINGS, health=HealthSettings(port=4711)))

    (server,) = servers
    assert (4711, ("startup: starting",)) == (server.port, server.started_with)
    assert [("startup: starting",), []] == seen
    assert () == server.status.why_not_ready()
    assert "health" in world.closed
    world.run()  # health.enabled = false opens no port
    assert [server] == servers


WITH_HEALTH = replace(SETTINGS, health=HealthSettings())


def test_metrics_are_those_of_the_stages(world: World, servers: list[StubHealth]) -> None:
    """Every record, mail and dead letter of both stages is counted where Prometheus reads."""
    world.publish(event_of(), b"{oops")

    world.run(WITH_HEALTH)

    (server,) = servers
    assert {
        ("invited", "", "invite"): 1.0,
        ("provisioned", "", "provision"): 1.0,
        ("rejected", "not-json", "provision"): 1.0,
    } == counted(server.metrics, "records_total")
    assert {(): 1.0} == counted(server.metrics, "mails_total")
    assert {("not-json", "provision"): 1.0} == counted(server.metrics, "dead_letters_total")
    assert {("provision",), ("invite",)} == set(counted(server.metrics, "commits_total"))


class StubFollower(Closable):
    """Reads nothing."""

    problem, caught_up = None, True

    def __init__(self, world: World, name: str, *_: object) -> None:
        super().__init__(world.closed, name)

    def start(self) -> None:
        pass

    def stop(self) -> None:
        pass

    def join(self) -> None:
        self.close()


def test_the_page_shows_the_stages_and_ends_with_the_bridge(
    world: World, servers: list[StubHealth]
) -> None:
    """Where `ui.enabled` says so; its threads are closed."""
    world.monkeypatch.setattr(app_page, "Follower", partial(StubFollower, world))
    world.publish(event_of())

    world.run(replace(WITH_HEALTH, ui=UiSettings(enabled=True)))

    (server,) = servers
    headers = Headers()
    headers["Host"] = "localhost:9090"
    answer = server.routes["/"].answer(Request("", headers))
    body = answer.body.decode()
    assert HTTPStatus.OK == answer.status
    assert all(f"<strong>{stage}</strong>" in body for stage in ("provision", "invite"))
    assert "email changes" in body
    assert {"the results topic", "the dead-letter topic"} <= set(world.closed)


def test_without_the_setting_there_is_no_page(world: World, servers: list[StubHealth]) -> None:
    """It is off by default."""
    world.run(WITH_HEALTH)

    assert [{}] == [server.routes for server in servers]


# its parts


def test_only_what_is_held_is_released(world: World, caplog: pytest.LogCaptureFixture) -> None:
    """Each by its name, with a line of log; asking again finds nothing."""
    stages = wiring.StageBuilder(
        SETTINGS,
        Interpretation(SETTINGS),
        world.keycloak,
        wiring.topic_output(SETTINGS, world.broker, world.broker, world.archive, world.clock),
        world.clock,
        Metrics(),
    ).stages()
    stages[1].context.brake.engage("too much")

    with caplog.at_level("INFO", "keycloak_bridge.app.bridge"):
        released = [release_brakes(stages), release_brakes(stages)]

    assert [["invite"], []] == released
    assert [("brake-released", "invite")] == [
        (line.bridge_fields["action"], line.bridge_fields["stage"])  # type: ignore[attr-defined]
        for line in caplog.records
    ]


def test_a_secret_file_that_is_being_replaced_is_waited_for(tmp_path: Path) -> None:
    """A running bridge treats it like a Keycloak that refuses it: something that the operator fixes."""
    missing = Secret(path=tmp_path / "secret")

    with pytest.raises(KeycloakAuthError) as caught:
        access._reading(missing)()
    (tmp_path / "secret").write_text("renewed-hush-hush")

    assert "secret-unreadable" == caught.value.code
    assert "renewed-hush-hush" == access._reading(missing)()


def apply_directly(settings: Settings, user_id: str, provisioner: Provisioner) -> None:
    event = event_of(user_id, f"event-{user_id}", data={"email": f"{user_id}@acme.example"})
    prepared = Interpretation(settings).read(record_of(event))
    assert isinstance(prepared, Prepared)
    provisioner.provision(prepared.event, prepared.desired)


def test_a_direct_provisioner_waits_for_the_pace(world: World) -> None:
    """The second mail of a slow pace comes later, and the trace says why."""
    traced: list[object] = []
    wait_out = partial(rate_limit.wait_out, sleep=world.clock.advance)
    world.monkeypatch.setattr(wiring, "wait_out", wait_out)
    settings = replace(SETTINGS, invite=InviteSettings(pace=0.1, settle=0.0))
    provisioner = direct_provisioner(
        Interpretation(settings), trace=lambda *step: traced.extend(step)
    )
    for user_id in ("u-1", "u-2"):
        apply_directly(settings, user_id, provisioner)

    holds = [one for one in traced if isinstance(one, HoldError)]
    assert [("pace", 10.0)] == [(one.code, one.wait_s) for one in holds]
    assert 2 == len(world.keycloak.mails)
