"""Keep a record that is no longer this member's from being written.

How long a member may write after Kafka last confirmed that it belongs to its group.
"""

import contextlib
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime

from keycloak_bridge.delivery.concurrency_limit import ConcurrencyLimit
from keycloak_bridge.domain.errors import PartitionRevokedError
from keycloak_bridge.domain.ports import NOTHING_MORE, UserDirectory
from keycloak_bridge.domain.users import (
    FoundUser,
    IdentityLink,
    InvitationTerms,
    Lookup,
    MatchCriterion,
    UserRepresentation,
)


class Fence:
    """Knows, thread by thread, which question decides about writing."""

    def __init__(self) -> None:
        self._local = threading.local()

    @contextlib.contextmanager
    def around(self, may_write: Callable[[], bool]) -> Iterator[None]:
        """Ask `may_write` before each write that this thread makes inside the block."""
        outer: Callable[[], bool] | None = getattr(self._local, "may_write", None)
        self._local.may_write = may_write
        try:
            yield
        finally:
            self._local.may_write = outer

    def question(self) -> Callable[[], bool]:
        """Return what decides about the writes of this thread now, to be asked from another one later."""
        may_write: Callable[[], bool] | None = getattr(self._local, "may_write", None)
        return may_write or _always

    def check(self) -> None:
        """Raise PartitionRevokedError unless this thread may write."""
        may_write: Callable[[], bool] | None = getattr(self._local, "may_write", None)
        if may_write is not None and not may_write():
            raise PartitionRevokedError(
                "the record may be another member's by now, so nothing is written for it"
            )


class FencedUserDirectory:
    """A UserDirectory whose writes ask the fence first; see the port for the promises.

    Users are created and updated through `gate`, so that a weak Keycloak is not asked for more at once than it bears.
    """

    def __init__(
        self, directory: UserDirectory, fence: Fence, gate: ConcurrencyLimit | None = None
    ) -> None:
        self._directory = directory
        self._fence = fence
        self._slot = contextlib.nullcontext if gate is None else gate.slot

    def find(
        self, criteria: Sequence[MatchCriterion], lookup: Lookup = NOTHING_MORE
    ) -> FoundUser | None:
        """Return the user that the first successful criterion finds."""
        return self._directory.find(criteria, lookup)

    def having(self, external_id: MatchCriterion) -> Sequence[UserRepresentation]:
        """Return every user that carries this external id."""
        return self._directory.having(external_id)

    def get(self, user_id: str) -> UserRepresentation | None:
        """Return the user with all attributes, or None."""
        return self._directory.get(user_id)

    def missing(self, kind: str, names: Sequence[str]) -> tuple[str, ...]:
        """Return those groups or organizations that the realm does not have."""
        return self._directory.missing(kind, names)

    def identity_owner(self, alias: str, user_id: str) -> str | None:
        """Return the Keycloak id of the user that is linked to this account, or None."""
        return self._directory.identity_owner(alias, user_id)

    def has_credentials(self, user_id: str) -> bool:
        """Say whether the user has set a password already."""
        return self._directory.has_credentials(user_id)

    def can_look_up_mails(self) -> bool:
        """Say whether Keycloak records mails and lets this account read it."""
        return self._directory.can_look_up_mails()

    def mail_recorded(self, user_id: str, since: datetime | None = None) -> bool:
        """Say whether Keycloak recorded a mail to this user."""
        return self._directory.mail_recorded(user_id, since)

    def create(self, representation: UserRepresentation) -> str:
        """Create the user and return its Keycloak id."""
        with self._slot():
            self._fence.check()
            return self._directory.create(representation)

    def update(self, user_id: str, representation: UserRepresentation) -> None:
        """Replace the user by `representation`."""
        with self._slot():
            self._fence.check()
            self._directory.update(user_id, representation)

    def delete(self, user_id: str) -> None:
        """Remove the user for good."""
        self._fence.check()
        self._directory.delete(user_id)

    def join(self, user_id: str, kind: str, names: Sequence[str]) -> None:
        """Make the user a member of these, or give it these roles."""
        self._fence.check()
        self._directory.join(user_id, kind, names)

    def leave(self, user_id: str, kind: str, names: Sequence[str]) -> None:
        """Undo `join`."""
        self._fence.check()
        self._directory.leave(user_id, kind, names)

    def create_group(self, path: str) -> None:
        """Create the group and those above it."""
        self._fence.check()
        self._directory.create_group(path)

    def link_identity(self, user_id: str, link: IdentityLink) -> None:
        """Link the user to its account."""
        self._fence.check()
        self._directory.link_identity(user_id, link)

    def unlink_identity(self, user_id: str, alias: str) -> None:
        """Take the link away."""
        self._fence.check()
        self._directory.unlink_identity(user_id, alias)

    def end_sessions(self, user_id: str) -> None:
        """Log the user out everywhere."""
        self._fence.check()
        self._directory.end_sessions(user_id)

    def execute_actions_email(self, user_id: str, terms: InvitationTerms) -> None:
        """Have Keycloak mail the link."""
        self._fence.check()
        self._directory.execute_actions_email(user_id, terms)


def _always() -> bool:
    return True


@dataclass(slots=True)
class Lease:
    """Holds for `length_s` seconds after each proof of membership.

    Kafka gives the partitions of a member that fell silent to others once its session has ended. A member that was
    frozen, or cut off from Kafka, does not hear of it, so it must stop writing by itself before that moment.
    """

    length_s: float
    proven_at_s: float | None = None

    def renew(self, asked_at_s: float) -> None:
        """Note a proof: an answer from the group's coordinator to a question of second `asked_at_s`."""
        if self.proven_at_s is None or asked_at_s > self.proven_at_s:
            self.proven_at_s = asked_at_s

    def holds(self, now_s: float) -> bool:
        """Say whether a write may begin now."""
        return self.proven_at_s is not None and now_s - self.proven_at_s < self.length_s
