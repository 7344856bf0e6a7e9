"""Write the new users of a backlog in batches, and finish them one by one afterwards."""

from dataclasses import dataclass
from functools import partial

from keycloak_bridge.delivery.fencing import MayWrite
from keycloak_bridge.delivery.stage_context import StageContext
from keycloak_bridge.domain.errors import (
    BridgeError,
    KeycloakConflictError,
    KeycloakNotFoundError,
)
from keycloak_bridge.domain.future import Future, then
from keycloak_bridge.domain.ports import UserImporter
from keycloak_bridge.domain.users import DesiredUser, OutOfScope, UserRepresentation
from keycloak_bridge.provisioning.batches import BatchWriter
from keycloak_bridge.provisioning.known_users import Announced, KnownUsers
from keycloak_bridge.provisioning.provisioner import Draft, Provisioned, Provisioner
from keycloak_bridge.provisioning.writer import SingleWriter, Write
from keycloak_bridge.threads.brief_lock import BriefLock


@dataclass(frozen=True, slots=True)
class _Batched:
    """A write that goes into a batch: what creates its user, and who may write it."""

    write: Write
    draft: Draft
    body: UserRepresentation
    announced: Announced
    may_write: MayWrite


class BulkWriter:
    """Writes in batches whom it may, and everybody else through `single`. Safe to share between threads."""

    def __init__(
        self,
        single: SingleWriter,
        provisioner: Provisioner,
        importer: UserImporter,
        batches: BatchWriter,
        known_users: KnownUsers,
        context: StageContext,
    ) -> None:
        self._single = single
        self._provisioner = provisioner
        self._importer = importer
        self._batches = batches
        self._known_users = known_users
        self._context = context
        self._lock = BriefLock()
        self._accepted_attributes: set[str] = set()

    def write(self, write: Write) -> Future[Provisioned]:
        """Have the user written in a batch, or at once; see the port."""
        batched = self._batched(write)
        if batched is None:
            return self._write_singly(write)
        try:
            created = self._batches.submit(batched.body, batched.may_write)
        except BaseException:
            # else no event of the user would ever be written
            self._known_users.end(batched.announced)
            raise
        return then(created, partial(self._finish, batched))

    def accepted(self, desired: DesiredUser) -> None:
        """Note that Keycloak itself accepted a user with these attributes.

        A user profile can hide attributes from administrators without saying so; an import would store them regardless.
        """
        with self._lock:
            self._accepted_attributes |= desired.representation.get("attributes", {}).keys()

    def close(self) -> None:
        """Begin no more batches."""
        self._batches.close()

    def _batched(self, write: Write) -> _Batched | None:
        """Claim a user that may go into a batch; None where it must be written by itself."""
        desired = write.desired
        if not self._context.backlog.is_large or isinstance(desired, OutOfScope):
            return None
        if not (self._attributes_are_accepted(desired) and self._importer.available()):
            return None
        if not write.is_of_new_user(self._known_users):
            return None
        try:
            draft = self._provisioner.draft(write.event, desired)
        except BridgeError:
            return None  # written by itself, it meets the same
        body = None if draft is None else self._importer.import_body(draft.representation)
        if draft is None or body is None or self._email_may_be_a_username(draft):
            return None
        announced = self._known_users.claim(desired)
        if announced is None:
            return None
        return _Batched(write, draft, body, announced, self._context.fence.current_check())

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

    def _finish(self, batched: _Batched, created: Future[str | None]) -> Provisioned:
        """Do what is left of a user once its batch has ended; raises BridgeError."""
        self._known_users.end(batched.announced)  # the rest is done under the lock of the user
        user_id = created.result()
        with self._context.fence.around(batched.may_write):
            if user_id is not None:
                try:
                    return self._provisioner.complete(batched.draft, user_id)
                except (KeycloakConflictError, KeycloakNotFoundError):
                    pass  # another writer was faster: the event is planned again with all searches
            return self._write_singly(batched.write).result()

    def _write_singly(self, write: Write) -> Future[Provisioned]:
        written = self._single.write(write)
        written.add_done_callback(partial(self._note_accepted, write.desired))
        return written

    def _note_accepted(
        self, desired: DesiredUser | OutOfScope, written: Future[Provisioned]
    ) -> None:
        if written.exception() is not None or isinstance(desired, OutOfScope):
            return
        if written.result().result.action in ("created", "updated"):
            self.accepted(desired)
