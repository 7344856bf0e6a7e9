"""Keep a record that is no longer this member's from being written."""

import contextlib
import threading
from collections.abc import Callable, Iterator, Sequence
from datetime import datetime

from keycloak_bridge.core.errors import PartitionRevokedError
from keycloak_bridge.core.model import (
    FoundUser,
    InvitationTerms,
    MatchCriterion,
    UserRepresentation,
)
from keycloak_bridge.core.ports import UserDirectory


class Fence:
    """Knows, thread by thread, which question decides about writing."""

    def __init__(self) -> None:
        self._local = threading.local()

    @contextlib.contextmanager
    def around(self, may_write: Callable[[], bool]) -> Iterator[None]:
        """Ask `may_write` before each write that this thread makes inside the block."""
        self._local.may_write = may_write
        try:
            yield
        finally:
            self._local.may_write = None

    def check(self) -> None:
        """Raise PartitionRevokedError unless this thread may write."""
        may_write: Callable[[], bool] | None = getattr(self._local, "may_write", None)
        if may_write is not None and not may_write():
            raise PartitionRevokedError(
                "the record may be another member's by now, so nothing is written for it"
            )


class FencedUserDirectory:
    """A UserDirectory whose writes ask the fence first; see the port for the promises."""

    def __init__(self, directory: UserDirectory, fence: Fence) -> None:
        self._directory = directory
        self._fence = fence

    def find(
        self, criteria: Sequence[MatchCriterion], *, groups: bool, realm_roles: bool
    ) -> FoundUser | None:
        """Return the user that the first successful criterion finds."""
        return self._directory.find(criteria, groups=groups, realm_roles=realm_roles)

    def get(self, user_id: str) -> UserRepresentation | None:
        """Return the user with all attributes, or None."""
        return self._directory.get(user_id)

    def missing_groups(self, paths: Sequence[str]) -> tuple[str, ...]:
        """Return those paths that name no group of the realm."""
        return self._directory.missing_groups(paths)

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
        self._fence.check()
        return self._directory.create(representation)

    def update(self, user_id: str, representation: UserRepresentation) -> None:
        """Replace the user by `representation`."""
        self._fence.check()
        self._directory.update(user_id, representation)

    def join_group(self, user_id: str, path: str) -> None:
        """Make the user a member."""
        self._fence.check()
        self._directory.join_group(user_id, path)

    def grant_realm_roles(self, user_id: str, names: Sequence[str]) -> None:
        """Map the roles."""
        self._fence.check()
        self._directory.grant_realm_roles(user_id, names)

    def execute_actions_email(self, user_id: str, terms: InvitationTerms) -> None:
        """Have Keycloak mail the link."""
        self._fence.check()
        self._directory.execute_actions_email(user_id, terms)
