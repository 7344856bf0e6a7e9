"""What the burst asks of Keycloak: many users at once."""

from collections.abc import Sequence
from typing import Protocol

from keycloak_bridge.core.desired import UserRepresentation
from keycloak_bridge.core.import_rules import Judgement


class UserImporter(Protocol):
    """Creates many users at once, as `UserDirectory.create` would one by one. Safe to share between threads."""

    def available(self) -> bool:
        """Say whether the realm and the account let users be imported, as far as was seen a short while ago."""
        ...

    def judge(self, representation: UserRepresentation) -> Judgement:
        """Say whether an import makes of the user what `create` would, and what to hand to `import_users` for it."""
        ...

    def import_users(self, users: Sequence[UserRepresentation]) -> Sequence[str | None]:
        """Create all that are not there yet, and return their Keycloak ids in order, None for one that is.

        All or none: one bad user fails them all. Raises KeycloakError.
        """
        ...
