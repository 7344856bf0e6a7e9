"""How an event gets to Keycloak: in a batch with others, or by itself. Both ways have the same outcome.

`WriteRouter` chooses the way; `BulkWriter` prepares the users of a backlog for a batch, and finishes them one by one once
`BatchWriter` (batches.py) has created them.
"""

import threading
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass

from keycloak_bridge.delivery.scheduler import when_all
from keycloak_bridge.delivery.stage import BoundedDict, StageContext
from keycloak_bridge.delivery.worker_pool import internal_error
from keycloak_bridge.domain.errors import (
    BridgeError,
    Dependency,
    HoldError,
    KeycloakConflictError,
    KeycloakNotFoundError,
)
from keycloak_bridge.domain.events import Record, Result, TopicPartition, UserEvent
from keycloak_bridge.domain.ports import Handled, UserImporter
from keycloak_bridge.domain.users import DesiredUser, Intent, OutOfScope
from keycloak_bridge.provisioning.batches import BatchEntry, BatchOutcome, BatchWriter
from keycloak_bridge.provisioning.known_users import KnownUsers
from keycloak_bridge.provisioning.mark_races import MarkRaceCheck
from keycloak_bridge.provisioning.provisioner import Draft, Provisioned, Provisioner

Publish = Callable[[Callable[[], Provisioned]], Handled]
"""Publishes the result, or a dead letter, of what an event's provisioning returns or raises."""


@dataclass(frozen=True, slots=True)
class PendingWrite:
    """An event to be written to Keycloak, begun at `since_s`; `known` is what its result says in any case."""

    record: Record
    event: UserEvent
    desired: DesiredUser | OutOfScope
    known: Result
    since_s: float

    @property
    def one_partition(self) -> bool:
        """Whether all events of the user come through one partition, because its external id is their key."""
        if isinstance(self.desired, OutOfScope) or not self.record.key:
            return False
        return self.record.key == self.desired.external_id.value.encode("utf-8", "surrogatepass")


class WriteRouter:
    """Writes events to Keycloak. Safe to share between threads.

    Without `known_users` every user is searched for; without `bulk_writer` each is written by itself.
    """

    def __init__(
        self,
        provisioner: Provisioner | MarkRaceCheck,
        known_users: KnownUsers | None = None,
        bulk_writer: "BulkWriter | None" = None,
    ) -> None:
        self._provisioner = provisioner
        self._known_users = known_users
        self._bulk_writer = bulk_writer

    def write(self, write: PendingWrite, publish: Publish) -> Handled:
        """Return what `publish` makes of the event's provisioning, now or once its batch is written.

        Raises BridgeError.
        """
        desired = write.desired
        if self._known_users is None or not isinstance(desired, DesiredUser):
            return publish(lambda: self._provision(write, known_absent=False))
        absent = (
            write.one_partition
            and desired.intent is Intent.PROVISION
            and self._known_users.excludes(write.record.topic_partition, desired)
        )
        if absent and self._bulk_writer is not None:
            pending = self._bulk_writer.offer(write, desired, publish)
            if pending is not None:
                return Handled((pending,), Dependency.KEYCLOAK)
        with self._known_users.creating(desired) as first:
            return publish(lambda: self._provision(write, known_absent=absent and first))

    def _provision(self, write: PendingWrite, *, known_absent: bool) -> Provisioned:
        provisioned = self._provisioner.provision(
            write.event,
            write.desired,
            one_partition=write.one_partition,
            known_absent=known_absent,
        )
        written = provisioned.result.action in ("created", "updated")
        if self._bulk_writer is not None and written and isinstance(write.desired, DesiredUser):
            self._bulk_writer.accepted(write.desired)
        return provisioned


class PendingAcknowledgement:
    """An acknowledgement that arrives once its batch is written."""

    def __init__(self) -> None:
        self._arrived: Future[BridgeError | None] = Future()

    def then(self, done: Callable[[BridgeError | None], None]) -> None:
        """Have `done` called once, from any thread."""
        self._arrived.add_done_callback(lambda future: done(future.result()))

    def arrive(self, error: BridgeError | None) -> None:
        """Call what `then` was given."""
        self._arrived.set_result(error)


@dataclass(frozen=True, slots=True)
class _BatchedWrite:
    """One event while its user is in a batch."""

    record: Record
    draft: Draft
    publish: Publish
    may_write: Callable[[], bool]
    pending: PendingAcknowledgement


class BulkWriter:
    """Decides who may go into a batch, and finishes them one by one afterwards. Safe to share between threads."""

    def __init__(
        self,
        provisioner: Provisioner,
        importer: UserImporter,
        writer: BatchWriter,
        known_users: KnownUsers,
        context: StageContext,
    ) -> None:
        self._provisioner = provisioner
        self._importer = importer
        self._writer = writer
        self._known_users = known_users
        self._context = context
        self._single: BoundedDict[tuple[TopicPartition, int], None] = BoundedDict()
        self._lock = threading.Lock()
        self._accepted_attributes: set[str] = set()

    def offer(
        self, write: PendingWrite, desired: DesiredUser, publish: Publish
    ) -> PendingAcknowledgement | None:
        """Return what arrives once the event's batch is written; None where it must be written by itself.

        `desired` is a user whose external id no user has. Raises BridgeError.
        """
        record = write.record
        if (
            not self._context.backlog.is_large
            or (record.topic_partition, record.offset) in self._single
        ):
            return None
        if not self._attributes_are_accepted(desired) or not self._importer.available():
            return None
        draft = self._provisioner.draft(write.event, desired)
        if draft is None:
            return None
        body = self._importer.import_body(draft.representation)
        if body is None or self._email_may_be_a_username(draft):
            return None
        announced = self._known_users.claim(desired)
        if announced is None:
            return None
        pending = PendingAcknowledgement()
        batched = _BatchedWrite(record, draft, publish, self._context.fence.question(), pending)

        def done(outcome: BatchOutcome) -> None:
            self._known_users.end(announced)  # the rest is done under the lock of the user
            try:
                self._finish(batched, outcome)
            finally:
                self._context.brake.end_batched()

        self._context.brake.begin_batched()
        self._writer.submit(BatchEntry(body, batched.may_write, done))
        return pending

    def accepted(self, desired: DesiredUser) -> None:
        """Note that Keycloak itself accepted a user with these attributes.

        A user profile can hide attributes from administrators without saying so; an import would store them regardless.
        """
        with self._lock:
            self._accepted_attributes |= desired.representation.get("attributes", {}).keys()

    def close(self) -> None:
        """Begin no more batches."""
        self._writer.close()

    def _attributes_are_accepted(self, desired: DesiredUser) -> bool:
        with self._lock:
            names = desired.representation.get("attributes", {}).keys()
            return self._accepted_attributes >= names

    def _email_may_be_a_username(self, draft: Draft) -> bool:
        """Say whether the e-mail address may be another user's username, which no import checks."""
        user = draft.representation
        email = user.get("email")
        return (
            bool(email)
            and email != user.get("username")
            and self._known_users.holds_name(str(email))
        )

    def _finish(self, batched: _BatchedWrite, outcome: BatchOutcome) -> None:
        """Let the acknowledgement of one user of a batch arrive; never raises."""
        if not isinstance(outcome, str):
            batched.pending.arrive(outcome or self._write_singly(batched.record))
            return
        try:
            with self._context.fence.around(batched.may_write):
                handled = batched.publish(lambda: self._complete(batched, outcome))
            when_all(handled.acknowledgements, batched.pending.arrive)
        except BridgeError as error:
            batched.pending.arrive(error)
        except Exception as error:  # noqa: BLE001 # one user must not take the batch with it
            batched.pending.arrive(internal_error(error, batched.record, self._context.name))

    def _complete(self, batched: _BatchedWrite, user_id: str) -> Provisioned:
        try:
            return self._provisioner.complete(batched.draft, user_id)
        except (KeycloakConflictError, KeycloakNotFoundError):
            # another writer was faster: written by itself, the event is planned again with all searches
            raise self._write_singly(batched.record) from None

    def _write_singly(self, record: Record) -> HoldError:
        """Return the error that puts the event back; the next time it is written by itself."""
        self._single.put((record.topic_partition, record.offset), None)
        return HoldError("the user is written by itself", wait_s=0.0, code="single-way")
