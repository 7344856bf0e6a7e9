"""The burst path: what a backlog brings of new users is created in batches, with the same outcome as one by one.

Choose the way by which an event is brought to Keycloak: with others in a batch, without a search, or with one.
"""

import logging
import threading
from collections.abc import Callable
from dataclasses import dataclass

from keycloak_bridge.delivery.bounded import BoundedDict
from keycloak_bridge.delivery.fencing import Fence
from keycloak_bridge.delivery.guards import Brake
from keycloak_bridge.delivery.scheduler import when_all
from keycloak_bridge.delivery.stage import Backlog
from keycloak_bridge.domain.errors import (
    BridgeError,
    HoldError,
    InternalError,
    KeycloakConflictError,
    KeycloakNotFoundError,
)
from keycloak_bridge.domain.events import Record, Result, TopicPartition, UserEvent
from keycloak_bridge.domain.ports import Dependency, Handled, UserImporter
from keycloak_bridge.domain.users import DesiredUser, Intent, OutOfScope
from keycloak_bridge.ops.logs import log_event
from keycloak_bridge.provisioning.batches import Alone, BatchWriter, Entry, Verdict
from keycloak_bridge.provisioning.known_users import KnownUsers
from keycloak_bridge.provisioning.mark_races import Provisions
from keycloak_bridge.provisioning.provisioner import Draft, Provisioned, Provisioner

logger = logging.getLogger(__name__)

Done = Callable[[BridgeError | None], None]
Publish = Callable[[Callable[[], Provisioned]], Handled]
"""Makes news, or a dead letter, of what an event's provisioning returns or raises."""


class Pending:
    """An acknowledgement that is still to come."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._done: Done | None = None
        self._arrived: tuple[BridgeError | None] | None = None

    def then(self, done: Done) -> None:
        """Have `done` called once, from any thread."""
        with self._lock:
            self._done = done
            arrived = self._arrived
        if arrived is not None:
            done(*arrived)

    def arrive(self, error: BridgeError | None) -> None:
        """Let the acknowledgement arrive."""
        with self._lock:
            self._arrived = (error,)
            done = self._done
        if done is not None:
            done(error)


class BulkWriter:
    """Decides who goes by a batch, and finishes them one by one afterwards. Safe to share between threads."""

    def __init__(
        self,
        provisioner: Provisioner,
        importer: UserImporter,
        writer: BatchWriter,
        known_users: KnownUsers,
        backlog: Backlog,
        fence: Fence,
        brake: Brake,
    ) -> None:
        self._provisioner = provisioner
        self._importer = importer
        self._writer = writer
        self._known_users = known_users
        self._backlog = backlog
        self._fence = fence
        self._brake = brake
        self._lock = threading.Lock()
        self._alone: BoundedDict[tuple[TopicPartition, int], None] = BoundedDict()
        self._proven: set[str] = set()

    def offer(
        self,
        record: Record,
        event: UserEvent,
        desired: DesiredUser,
        mapping: str | None,
        conclude: Publish,
    ) -> Pending | None:
        """Return what becomes of the event once its batch is written; None where it must go the single way.

        `desired` is a user whose external id nobody carries. Raises BridgeError for one that can never be created.
        """
        if not self._backlog.is_large or self._goes_alone(record) or not self._is_proven(desired):
            return None
        if not self._importer.available():
            return None
        draft = self._provisioner.draft(event, desired, mapping=mapping)
        if draft is None:
            return None
        body = self._importer.body(draft.representation)
        if body is None or self._may_be_anothers_name(draft):
            return None
        announced = self._known_users.claim(desired)
        if announced is None:
            return None
        pending = Pending()
        flight = _Flight(record, draft, conclude, self._fence.question(), pending)

        def done(verdict: Verdict) -> None:
            self._known_users.end(announced)  # what is left is done under the lock of the user
            try:
                self._land(flight, verdict)
            finally:
                self._brake.end_batched()

        self._brake.begin_batched()
        self._writer.submit(Entry(body, flight.may_write, done))
        return pending

    def proved(self, desired: DesiredUser) -> None:
        """Take down that Keycloak itself took a user with these attributes.

        A server can keep attributes from administrators without telling anybody; an import would store them all the same.
        """
        with self._lock:
            self._proven |= desired.representation.get("attributes", {}).keys()

    def close(self) -> None:
        """Begin no batch any more."""
        self._writer.close()

    def _is_proven(self, desired: DesiredUser) -> bool:
        with self._lock:
            return self._proven >= desired.representation.get("attributes", {}).keys()

    def _may_be_anothers_name(self, draft: Draft) -> bool:
        """Say whether the e-mail address may be somebody's username, which no import looks for."""
        user = draft.representation
        email = user.get("email")
        return (
            bool(email)
            and email != user.get("username")
            and self._known_users.holds_name(str(email))
        )

    def _goes_alone(self, record: Record) -> bool:
        return (record.topic_partition, record.offset) in self._alone

    def _land(self, flight: "_Flight", verdict: Verdict) -> None:
        """Tell the delivery what became of one user of a batch; never raises."""
        try:
            self._tell(flight, verdict)
        except BridgeError as error:
            flight.pending.arrive(error)
        except Exception as error:  # noqa: BLE001 # one user must not take the batch with it
            log_event(
                logger,
                "internal-error",
                level=logging.ERROR,
                error=error,
                topic=flight.record.topic,
                partition=flight.record.partition,
                offset=flight.record.offset,
            )
            flight.pending.arrive(
                InternalError(f"the bridge failed on this record ({type(error).__name__})")
            )

    def _tell(self, flight: "_Flight", verdict: Verdict) -> None:
        if isinstance(verdict, BridgeError):
            flight.pending.arrive(verdict)
            return
        if isinstance(verdict, Alone):
            raise self._alone_now(flight.record)
        with self._fence.around(flight.may_write):
            handled = flight.conclude(lambda: self._complete(flight, verdict))
        when_all(handled.acknowledgements, flight.pending.arrive)

    def _complete(self, flight: "_Flight", user_id: str) -> Provisioned:
        try:
            return self._provisioner.complete(flight.draft, user_id)
        except (KeycloakConflictError, KeycloakNotFoundError):
            # another writer was faster: the single way plans anew with the whole search
            raise self._alone_now(flight.record) from None

    def _alone_now(self, record: Record) -> HoldError:
        self._alone.put((record.topic_partition, record.offset), None)
        return HoldError("the user goes the single way", wait_s=0.0, code="single-way")


@dataclass(frozen=True, slots=True)
class _Flight:
    """One user on its way through a batch."""

    record: Record
    draft: Draft
    conclude: Publish
    may_write: Callable[[], bool]
    pending: Pending


@dataclass(frozen=True, slots=True)
class PendingWrite:
    """An event on its way to Keycloak, begun at `since_s`; `known` is what its news will say in any case."""

    record: Record
    event: UserEvent
    desired: DesiredUser | OutOfScope
    known: Result
    since_s: float


class WriteRouter:
    """Brings events to Keycloak; all ways have the same outcome. Safe to share between threads.

    Without a roll each user is searched for; without a burst each is written by itself.
    """

    def __init__(
        self,
        provisions: Provisions,
        known_users: KnownUsers | None = None,
        burst: BulkWriter | None = None,
    ) -> None:
        self._provisions = provisions
        self._known_users = known_users
        self._burst = burst

    def bring(self, taken: PendingWrite, conclude: Publish) -> Handled:
        """Return what `conclude` makes of the event's provisioning, now or once its batch is written.

        Raises BridgeError.
        """
        desired = taken.desired
        if self._known_users is None or not isinstance(desired, DesiredUser):
            return conclude(lambda: self._provision(taken, absent=False))
        absent = _is_pinned(taken) and desired.intent is Intent.PROVISION
        absent = absent and self._known_users.excludes(taken.record.topic_partition, desired)
        if absent and self._burst is not None:
            pending = self._burst.offer(
                taken.record, taken.event, desired, taken.known.mapping, conclude
            )
            if pending is not None:
                return Handled((pending,), Dependency.KEYCLOAK)
        with self._known_users.creating(desired) as first:
            return conclude(lambda: self._provision(taken, absent=absent and first))

    def _provision(self, taken: PendingWrite, *, absent: bool) -> Provisioned:
        provisioned = self._provisions.provision(
            taken.event,
            taken.desired,
            pinned=_is_pinned(taken),
            mapping=taken.known.mapping,
            absent=absent,
        )
        written = provisioned.result.action in ("created", "updated")
        if self._burst is not None and written and isinstance(taken.desired, DesiredUser):
            self._burst.proved(taken.desired)
        return provisioned


def _is_pinned(taken: PendingWrite) -> bool:
    """Say whether all events of the user come by one partition, because its external id is their key."""
    record, desired = taken.record, taken.desired
    if isinstance(desired, OutOfScope) or not record.key:
        return False
    return record.key == desired.external_id.value.encode("utf-8", "surrogatepass")
