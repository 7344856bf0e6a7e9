"""Both stages over a Kafka and a Keycloak in memory."""

import json
from collections.abc import Callable, Collection, Mapping, Sequence
from functools import cache
from typing import Any

from delivery_harness import stage_context
from prometheus_client.parser import text_string_to_metric_families

from keycloak_bridge.app.interpretation import Interpretation
from keycloak_bridge.app.wiring import own_users
from keycloak_bridge.delivery.guards import Brake, Limits
from keycloak_bridge.delivery.results import ResultPublisher, TopicOutput
from keycloak_bridge.delivery.stage_context import DeadLetteredUsers, SentDeadLetters
from keycloak_bridge.domain.errors import BridgeError
from keycloak_bridge.domain.events import Invitation, Message, Record
from keycloak_bridge.domain.future import Future
from keycloak_bridge.domain.ports import (
    Acknowledgement,
    Handled,
    SchemaRegistry,
    Trace,
    no_trace,
)
from keycloak_bridge.invitations.inviter import Inviter
from keycloak_bridge.messages.bridge_headers import content_digest, record_digest
from keycloak_bridge.messages.dead_letters import (
    claimed_replay,
    dead_letter_headers,
    dead_lettered_record,
    is_replay_mark,
    marked_replay,
    may_lack_body,
    record_without_body,
)
from keycloak_bridge.messages.invitations import invitation_message
from keycloak_bridge.ops.metrics import PREFIX, Metrics
from keycloak_bridge.pipeline.interpret import Interpreter
from keycloak_bridge.pipeline.invite import InviteStage
from keycloak_bridge.pipeline.provision import ProvisionStage
from keycloak_bridge.provisioning.provisioner import Provisioner, ProvisionPolicy
from keycloak_bridge.provisioning.writer import SingleWriter
from keycloak_bridge.settings.model import Settings
from keycloak_bridge.testing.fake_clock import FakeClock
from keycloak_bridge.testing.in_memory_broker import InMemoryBroker
from keycloak_bridge.testing.in_memory_keycloak import InMemoryKeycloak

EVENTS = "user-events"
INVITATIONS = "user-invitations"
RESULTS = "user-results"
DEAD_LETTERS = "user-events-dead-letters"
STRUCTURED = (("content-type", b"application/cloudevents+json; charset=UTF-8"),)

PLANTED = ("planted.mail@acme.example", "Plantedname", "Plantedsurname", "+4915112345678")
"""Personal data of every event that `event_of` makes; it must come out nowhere but in Keycloak."""


@cache
def interpretation() -> Interpretation:
    """Return the shipped schemas and mapping; compiled once."""
    built = Interpretation(Settings())
    built.check()
    return built


def event_of(user_id: str = "u-1", event_id: str = "event-1", **changes: Any) -> dict[str, Any]:
    """Return a structured event full of personal data; `data` is merged, `...` takes away."""
    email, given, family, phone = PLANTED
    data = {
        "userId": user_id,
        "email": email,
        "givenName": given,
        "familyName": family,
        "phoneNumber": phone,
        "tenantId": "tenant-1",
        **changes.pop("data", {}),
    }
    event = {
        "specversion": "1.0",
        "id": event_id,
        "source": "/user-management",
        "type": "user.created",
        "subject": user_id,
        "time": "2026-11-01T08:00:00Z",
        "data": {name: value for name, value in data.items() if value is not ...},
        **changes,
    }
    return {name: value for name, value in event.items() if value is not ...}


def record_of(
    event: Any,
    *,
    key: bytes | None = None,
    topic: str = EVENTS,
    offset: int = 42,
    headers: tuple[tuple[str, bytes | None], ...] = (),
) -> Record:
    """Return the record of an event; what is not a dict is the value itself."""
    if isinstance(event, dict):
        key = key if key is not None else str(event.get("subject", "")).encode() or None
        event = json.dumps(event, ensure_ascii=False).encode()
    return Record(topic, 3, offset, 1_795_867_200_000, key, event, (*STRUCTURED, *headers))


def settled(acknowledgement: Acknowledgement) -> None:
    """Return if the record has arrived, which must be certain by now; raise what befell it else."""
    outcomes: list[BridgeError | None] = []
    acknowledgement.then(outcomes.append)
    (error,) = outcomes
    if error is not None:
        raise error


def counted(metrics: Metrics, name: str) -> dict[tuple[str, ...], float]:
    """Return the samples of one metric by the values of their labels, in the order of the labels' names."""
    text = metrics.exposition().decode()
    return {
        tuple(value for _, value in sorted(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
        if sample.name == f"{PREFIX}_{name}"
    }


class BrokerArchive:
    """The dead letters in a broker in memory, as an archive that notes each question."""

    def __init__(self, broker: InMemoryBroker) -> None:
        self._broker = broker
        self.asked: list[int] = []

    def holds(self, record: Record) -> bool:
        """Say whether a dead letter of `record` stands in its topic."""
        self.asked.append(record.offset)
        kinds = [dead_lettered_record, record_without_body][: 1 + may_lack_body(record)]
        return any(record_digest(record) in self._digests(kind) for kind in kinds)

    def replayed(self, record: Record) -> bool:
        """Say whether the mark of this replay stands in the topic."""
        claimed = claimed_replay(record)
        return claimed is not None and claimed in self._digests(marked_replay)

    def topic_id(self, topic: str) -> str | None:
        """Return none: a topic in memory is never made anew."""
        return None

    def close(self) -> None:
        """Nothing to close."""

    def _digests(self, digest: Callable[[Record], bytes | None]) -> list[bytes | None]:
        return [digest(one) for one in self._broker.records(DEAD_LETTERS)]


def output_to(broker: InMemoryBroker, archive: BrokerArchive, clock: FakeClock) -> TopicOutput:
    """Return the topics of the harness as the output of stages."""
    return TopicOutput(broker, broker, archive, clock, RESULTS, DEAD_LETTERS, INVITATIONS)


class Flow:
    """The stages and everything around them; `known` may be other than the shipped schemas and mapping."""

    def __init__(
        self,
        *,
        ignored_types: Collection[str] = (),
        tombstones: str = "ignore",
        after_dead_letter: str = "park",
        keycloak: InMemoryKeycloak | None = None,
        partitions: int = 1,
        known: Interpretation | None = None,
        brake: Brake | None = None,
        lost: DeadLetteredUsers | None = None,
        limits: Limits | None = None,
        trace: Trace = no_trace,
        max_mail_age_s: float | None = None,
        registry: SchemaRegistry | None = None,
    ) -> None:
        known = known or interpretation()
        self.broker = InMemoryBroker(partitions=partitions)
        self.keycloak = keycloak or InMemoryKeycloak(groups=["/staff"], realm_roles=["viewer"])
        self.clock = FakeClock()
        self.brake = brake or Brake(20, 50, 200)
        self.lost = lost or DeadLetteredUsers()
        self.sent_dead_letters = SentDeadLetters(reach=10)
        self.archive = BrokerArchive(self.broker)
        self.metrics = Metrics()
        self.provisioner = Provisioner(
            self.keycloak,
            self.request_invitation,
            self.clock,
            policy=ProvisionPolicy(known.mapping.reserved),
            limits=limits,
            trace=trace,
        )
        self.provision = ProvisionStage(
            interpreter=Interpreter(
                known.rules,
                known.catalog,
                known.mapping,
                frozenset(ignored_types),
                tombstones,
                known.interpreter.arrival,
                registry,
            ),
            after_dead_letter=after_dead_letter,
            writer=SingleWriter(self.provisioner),
            publisher=self.publisher("provision"),
        )
        self.invite = InviteStage(
            catalog=known.catalog,
            mappings=known.mapping,
            inviter=Inviter(
                self.keycloak, own_users(known.mapping), clock=self.clock, limits=limits
            ),
            publisher=self.publisher("invite"),
            max_age_s=max_mail_age_s,
        )

    def publisher(self, stage: str) -> ResultPublisher:
        """Return where a stage of this flow publishes."""
        context = stage_context(
            stage,
            clock=self.clock,
            brake=self.brake,
            metrics=self.metrics,
            sent_dead_letters=self.sent_dead_letters,
            dead_lettered_users=self.lost,
        )
        return ResultPublisher(
            context,
            output_to(self.broker, self.archive, self.clock),
            "keycloak-bridge",
        )

    def handle(self, event: Any, *, confirmed: bool = False, **record: Any) -> Handled:
        """Take one event through the provision stage to its acknowledgements; `confirmed` as the replay that it says it is."""
        made = record_of(event, **record)
        if confirmed:
            self.confirm(made)
        return self.settle(self.provision.handle(made))

    def handle_invitation(self, record: Record) -> Handled:
        """Take one record through the invite stage to its acknowledgements."""
        return self.settle(self.invite.handle(record))

    def settle(self, handled: Future[Handled] | Handled) -> Handled:
        """Return what was handled once it has arrived, which must be certain by now."""
        if isinstance(handled, Future):
            handled = handled.result()
        for acknowledgement in handled.acknowledgements:
            settled(acknowledgement)
        return handled

    def confirm(self, record: Record) -> None:
        """Put the mark of the replay that `record` says it is into the dead-letter topic, as an operator's replay does."""
        digest = content_digest(record).hex().encode()
        headers = (
            ("kb-dlq-replayed", dict(record.headers)["kb-replay-of"]),
            ("kb-dlq-digest", digest),
        )
        self.broker.publish(Message(DEAD_LETTERS, record.key, b"{}", headers))

    def counted(self, name: str) -> Mapping[tuple[str, ...], float]:
        """Return the samples of one metric, as `counted` does."""
        return counted(self.metrics, name)

    @property
    def results(self) -> list[dict[str, Any]]:
        """The data of every result."""
        return [json.loads(one.value or b"")["data"] for one in self.broker.records(RESULTS)]

    @property
    def invitations(self) -> list[Record]:
        """Every record for the invite stage."""
        return self.broker.records(INVITATIONS)

    @property
    def letters(self) -> list[tuple[Record, dict[str, str]]]:
        """Every dead letter with its reason; the prefix of the headers is left out."""
        return [
            (
                record,
                {
                    name.removeprefix("kb-dlq-"): text
                    for name, text in dead_letter_headers(record).items()
                },
            )
            for record in self.broker.records(DEAD_LETTERS)
            if not is_replay_mark(record)
        ]

    @property
    def reasons(self) -> list[tuple[str, str]]:
        """Stage and code of every dead letter."""
        return [(reason["stage"], reason["code"]) for _, reason in self.letters]

    def published(self) -> bytes:
        """Return everything that left the bridge, except the untouched bytes of dead letters."""
        texts = [record.value or b"" for record in self.broker.records(RESULTS)]
        texts += [record.value or b"" for record in self.invitations]
        texts += [json.dumps(reason, ensure_ascii=False).encode() for _, reason in self.letters]
        return b"\n".join(texts)

    def request_invitation(self, invitation: Invitation) -> Sequence[Acknowledgement]:
        message: Message = invitation_message(invitation, topic=INVITATIONS)
        return (self.broker.publish(message),)
