"""How an event gets to Keycloak: the port that the pipeline writes through, and the writer that writes at once.

The other one, `BulkWriter`, writes new users in batches while there is a backlog, and hands everything else to this one.
"""

from dataclasses import dataclass
from functools import partial
from typing import Protocol

from keycloak_bridge.domain.events import Record, UserEvent
from keycloak_bridge.domain.future import Future, done_by
from keycloak_bridge.domain.users import DesiredUser, Intent, OutOfScope
from keycloak_bridge.provisioning.known_users import KnownUsers
from keycloak_bridge.provisioning.mark_races import MarkRaceCheck
from keycloak_bridge.provisioning.provisioner import Provisioned, Provisioner


@dataclass(frozen=True, slots=True)
class Write:
    """The valid event of a record, and its desired user."""

    record: Record
    event: UserEvent
    desired: DesiredUser | OutOfScope

    @property
    def one_partition(self) -> bool:
        """Whether all events of the user come through one partition, because its external id is their key."""
        if isinstance(self.desired, OutOfScope) or not self.record.key:
            return False
        return self.record.key == self.desired.external_id.value.encode("utf-8", "surrogatepass")

    def is_of_new_user(self, known_users: KnownUsers) -> bool:
        """Say whether the event creates a user whose external id certainly no user has."""
        return (
            isinstance(self.desired, DesiredUser)
            and self.desired.intent is Intent.PROVISION
            and self.one_partition
            and known_users.excludes(self.record.topic_partition, self.desired)
        )


class Writer(Protocol):
    """Brings a user to its desired state. Safe to share between threads."""

    def write(self, write: Write) -> Future[Provisioned]:
        """Return the future of what became of the event; raises nothing, a BridgeError is the future's.

        It may end in another thread.
        """
        ...


class SingleWriter:
    """Writes each user at once, so that its futures are done. Without `known_users` every user is searched for."""

    def __init__(
        self, provisioner: Provisioner | MarkRaceCheck, known_users: KnownUsers | None = None
    ) -> None:
        self._provisioner = provisioner
        self._known_users = known_users

    def write(self, write: Write) -> Future[Provisioned]:
        """Provision the user; see the port."""
        return done_by(partial(self._write, write))

    def _write(self, write: Write) -> Provisioned:
        if self._known_users is None or isinstance(write.desired, OutOfScope):
            return self._provision(write, known_absent=False)
        is_new = write.is_of_new_user(self._known_users)
        with self._known_users.creating(write.desired) as first:
            return self._provision(write, known_absent=is_new and first)

    def _provision(self, write: Write, *, known_absent: bool) -> Provisioned:
        return self._provisioner.provision(
            write.event,
            write.desired,
            one_partition=write.one_partition,
            known_absent=known_absent,
        )
