"""Both stages over a Kafka and a Keycloak in memory."""

import json
from collections.abc import Sequence
from functools import cache
from typing import Any

from keycloak_bridge.core.contracts import dead_letter_headers, invitation_message
from keycloak_bridge.core.errors import BridgeError
from keycloak_bridge.core.model import Invitation, Message, Record
from keycloak_bridge.core.ports import Acknowledgement
from keycloak_bridge.interpretation import Interpretation
from keycloak_bridge.inviter import Inviter
from keycloak_bridge.provisioner import Provisioner
from keycloak_bridge.settings import Settings
from keycloak_bridge.stages import EventPolicy, InviteStage, Outlets, ProvisionStage
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


def record_of(event: Any, *, key: bytes | None = None, topic: str = EVENTS) -> Record:
    """Return the record of an event; what is not a dict is the value itself."""
    if isinstance(event, dict):
        key = key if key is not None else str(event.get("subject", "")).encode() or None
        event = json.dumps(event, ensure_ascii=False).encode()
    return Record(topic, 3, 42, 1_793_577_600_000, key, event, STRUCTURED)


def settled(acknowledgement: Acknowledgement) -> None:
    """Return if the record has arrived, which must be certain by now; raise what befell it else."""
    outcomes: list[BridgeError | None] = []
    acknowledgement.then(outcomes.append)
    (error,) = outcomes
    if error is not None:
        raise error


class Flow:
    """The stages and everything around them."""

    def __init__(
        self,
        *,
        policy: EventPolicy | None = None,
        keycloak: InMemoryKeycloak | None = None,
        partitions: int = 1,
    ) -> None:
        known = interpretation()
        self.broker = InMemoryBroker(partitions=partitions)
        self.keycloak = keycloak or InMemoryKeycloak(groups=["/staff"], realm_roles=["viewer"])
        self.clock = FakeClock()
        outlets = Outlets(self.broker, self.clock, RESULTS, DEAD_LETTERS, "keycloak-bridge")
        self.provisioner = Provisioner(
            self.keycloak, self._invite, self.clock, reserved=known.mapping.reserved
        )
        self.provision = ProvisionStage(
            rules=known.rules,
            catalog=known.catalog,
            mapping=known.mapping,
            policy=policy or EventPolicy(),
            provisioner=self.provisioner,
            outlets=outlets,
        )
        self.invite = InviteStage(
            catalog=known.catalog, inviter=Inviter(self.keycloak), outlets=outlets
        )

    def handle(self, event: Any, **record: Any) -> None:
        """Take one event through the provision stage to its acknowledgements."""
        self.settle(self.provision.handle(record_of(event, **record)))

    def handle_invitation(self, record: Record) -> None:
        """Take one record through the invite stage to its acknowledgements."""
        self.settle(self.invite.handle(record))

    def settle(self, acknowledgements: Sequence[Acknowledgement]) -> None:
        """Wait as the worker does."""
        for acknowledgement in acknowledgements:
            settled(acknowledgement)

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
        ]

    @property
    def reasons(self) -> list[tuple[str, str]]:
        """Stage and code of every dead letter."""
        return [(reason["stage"], reason["code"]) for _, reason in self.letters]

    def published(self) -> bytes:
        """Return everything that left the bridge, except the untouched bytes of dead letters."""
        told = [record.value or b"" for record in self.broker.records(RESULTS)]
        told += [record.value or b"" for record in self.invitations]
        told += [json.dumps(reason, ensure_ascii=False).encode() for _, reason in self.letters]
        return b"\n".join(told)

    def _invite(self, invitation: Invitation) -> Sequence[Acknowledgement]:
        message: Message = invitation_message(invitation, topic=INVITATIONS)
        return (self.broker.publish(message),)
