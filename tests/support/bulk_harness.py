"""A process of the bridge in the middle of a backlog, step by step: batches are written and the realm is listed when the test says so."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import cache
from typing import Any

from delivery_harness import Hand, Recorder, policy
from stage_harness import INVITATIONS, BrokerArchive, output_to

from keycloak_bridge.app.interpretation import Interpretation
from keycloak_bridge.delivery.concurrency_limit import ConcurrencyLimit
from keycloak_bridge.delivery.fencing import fenced
from keycloak_bridge.delivery.results import ResultPublisher
from keycloak_bridge.delivery.stage_context import Backlog, SentDeadLetters
from keycloak_bridge.domain.errors import BridgeError
from keycloak_bridge.domain.events import Invitation, Record
from keycloak_bridge.domain.future import Future
from keycloak_bridge.domain.ports import Acknowledgement, Handled
from keycloak_bridge.domain.users import EXACT_ID_ATTRIBUTE, DesiredUser, UserRepresentation
from keycloak_bridge.messages.invitations import invitation_message
from keycloak_bridge.pipeline.provision import ProvisionStage
from keycloak_bridge.provisioning.batches import BatchWriter
from keycloak_bridge.provisioning.bulk_writer import BulkWriter
from keycloak_bridge.provisioning.known_users import KnownUsers
from keycloak_bridge.provisioning.mark_races import MarkRaceCheck
from keycloak_bridge.provisioning.provisioner import Provisioner, ProvisionPolicy
from keycloak_bridge.provisioning.writer import SingleWriter
from keycloak_bridge.settings.model import LifecycleSettings, Settings
from keycloak_bridge.testing.fake_clock import FakeClock
from keycloak_bridge.testing.in_memory_broker import InMemoryBroker
from keycloak_bridge.testing.in_memory_keycloak import InMemoryImporter, InMemoryKeycloak


def nothing() -> None:
    """Do nothing."""


@cache
def deleting() -> Interpretation:
    """Return the shipped mapping of a bridge that deletes who is deleted."""
    built = Interpretation(Settings(lifecycle=LifecycleSettings(deleted="delete")))
    built.check()
    return built


class HandBatchWriter(BatchWriter):
    """A BatchWriter without threads."""

    def _start(self) -> None:
        """Leave all work to `flush`."""

    @property
    def waiting(self) -> int:
        """How many users wait for their batch."""
        return len(self._queue)

    def flush(self, size: int = 20) -> bool:
        """Write the next batch of so many users at most; say whether there was one."""
        with self._changed:
            batch = self._take(size)
        if batch:
            self._write(batch)
        return bool(batch)


class HandKnownUsers(KnownUsers):
    """Known users that list the realm when the test says so; meanwhile anything may happen."""

    wanted = False

    def _begin_listing(self) -> None:
        self.wanted = self.wanted or self._backlog.is_large

    def list_now(self) -> None:
        """List the realm, in the same thread, unless that is being done."""
        if self._listing_now:
            return
        self.wanted, self._listing_now = False, True
        self._list()


class HandImporter(InMemoryImporter):
    """An import that something happens before, on its way or after, and while a user is looked at."""

    def __init__(self, keycloak: InMemoryKeycloak) -> None:
        super().__init__(keycloak)
        self.judging: Callable[[], None] = nothing
        self.before: Callable[[Sequence[UserRepresentation]], None] = lambda _: None
        self.after: Callable[[], None] = nothing

    def import_body(self, representation: UserRepresentation) -> UserRepresentation | None:
        """Let something happen between the look at the known users and the claim."""
        happen, self.judging = self.judging, nothing
        happen()
        return super().import_body(representation)

    def import_users(self, users: Sequence[UserRepresentation]) -> Sequence[str | None]:
        """Let something happen once it is on its way, and before its answer is there."""
        before, self.before = self.before, lambda _: None
        before(users)
        try:
            return super().import_users(users)
        finally:
            after, self.after = self.after, nothing
            after()


class _Handler(Recorder):
    """The real stage in the place of the recorder."""

    stage: ProvisionStage

    def ordering_key(self, record: Record) -> bytes:
        """Ask the stage."""
        return self.stage.ordering_key(record)

    def handle(self, record: Record) -> Future[Handled]:
        """Have the stage handle it."""
        return self.stage.handle(record)

    def give_up(self, record: Record, error: BridgeError) -> Handled:
        """Have the stage write a dead letter."""
        return self.stage.give_up(record, error)


class BulkProcess:
    """A provision stage as it is assembled, in one group with others on the same broker, Keycloak and clock."""

    def __init__(
        self,
        broker: InMemoryBroker,
        keycloak: InMemoryKeycloak,
        clock: FakeClock,
        known: Interpretation,
    ) -> None:
        self._broker = broker
        self._keycloak = keycloak
        self.clock = clock
        self.meanwhile: Callable[[], None] = nothing
        """Happens in the middle of a listing."""
        handler = _Handler(broker)
        self.backlog = Backlog(1)
        self.hand = Hand(
            broker=broker,
            clock=clock,
            handler=handler,
            delivery=policy(max_records=12, max_attempts=1000),
            backlog=self.backlog,
        )
        self.importer = HandImporter(keycloak)
        self.writer = HandBatchWriter(
            self.importer,
            ConcurrencyLimit(clock, most=80, start=80, batch=(1, 20)),
            clock,
            self.hand.metrics,
            threads=0,
        )
        self._external_id = known.mapping.external_id
        self.known_users = HandKnownUsers(
            self._everybody, lambda: 10, self._external_id, self.backlog, clock
        )
        handler.stage = self.stage = self._stage(known)

    def list_now(self) -> None:
        """Read the known users; the clock goes on, so that the list is of later than what came to be before."""
        self.clock.advance(0.001)
        self.known_users.list_now()

    def drain(self) -> None:
        """Write everything that waits for a batch."""
        while self.writer.flush():
            pass

    def _everybody(self) -> Iterator[UserRepresentation]:
        """Yield as little as a listing may: who was there before and is there after, as it was before."""
        before = self._keycloak.users()
        happen, self.meanwhile = self.meanwhile, nothing
        happen()
        there = {user["id"] for user in self._keycloak.users()}
        users = (user for user in before if user["id"] in there)
        if self._external_id == EXACT_ID_ATTRIBUTE:  # Keycloak itself knows who is there
            users = (user for user in users if "@" in user["username"])
        yield from users

    def _stage(self, known: Interpretation) -> ProvisionStage:
        hand, clock = self.hand, self.clock
        provisioner = Provisioner(
            fenced(self._keycloak, hand.fence),
            self._invite,
            clock,
            policy=ProvisionPolicy(known.mapping.reserved),
        )
        self.bulk_writer = BulkWriter(
            SingleWriter(MarkRaceCheck(provisioner, self._invite, clock), self.known_users),
            provisioner,
            self.importer,
            self.writer,
            self.known_users,
            hand.context,
        )
        self.bulk_writer.accepted(_with_every_attribute(known))
        return ProvisionStage(
            interpreter=known.interpreter,
            writer=self.bulk_writer,
            publisher=ResultPublisher(
                replace(hand.context, sent_dead_letters=SentDeadLetters(reach=10)),
                output_to(self._broker, BrokerArchive(self._broker), clock),
                "keycloak-bridge",
            ),
        )

    def _invite(self, invitation: Invitation) -> Sequence[Acknowledgement]:
        return (self._broker.publish(invitation_message(invitation, topic=INVITATIONS)),)


def _with_every_attribute(known: Interpretation) -> DesiredUser:
    """Return a user whose attributes are all that the mapping writes."""
    names = known.mapping.attribute_names
    return DesiredUser(UserRepresentation(attributes={name: ["x"] for name in names}), ())


def fields_of(user: UserRepresentation) -> dict[str, Any]:
    """Return what events decide of a user; how far its mail is depends on what happened on the way."""
    attributes = {k: v for k, v in user["attributes"].items() if k != "bridgeInvitation"}
    names = ("username", "email", "firstName", "lastName", "enabled")
    return {**{name: user.get(name) for name in names}, "attributes": attributes}
