"""What users belong to, kind by kind."""

from collections.abc import Sequence
from typing import Protocol

from keycloak_bridge.core.desired import GROUPS, ORGANIZATIONS, REALM_ROLES, client_of
from keycloak_bridge.core.ports import Clock
from keycloak_bridge.keycloak_admin import KeycloakAdmin
from keycloak_bridge.keycloak_groups import Groups
from keycloak_bridge.keycloak_organizations import Organizations
from keycloak_bridge.keycloak_roles import Roles


class Memberships(Protocol):
    """One kind of membership; see the port UserDirectory for the promises."""

    def of(self, user_id: str) -> frozenset[str]:
        """Return what the user belongs to. Raises KeycloakNotFoundError when there is no such user."""
        ...

    def missing(self, names: Sequence[str]) -> tuple[str, ...]:
        """Return those names that the realm does not have, as far as it can be asked."""
        ...

    def join(self, user_id: str, names: Sequence[str]) -> None:
        """Make the user belong to these; harmless where it does."""
        ...

    def leave(self, user_id: str, names: Sequence[str]) -> None:
        """Undo `join`; harmless where there is nothing to undo."""
        ...


class AllMemberships:
    """Every kind of membership. Safe to share between threads."""

    def __init__(self, admin: KeycloakAdmin, clock: Clock) -> None:
        self.groups = Groups(admin, clock)
        self._organizations = Organizations(admin, clock)
        self._realm_roles = Roles(admin, clock)
        self._client_roles: dict[str, Roles] = {}
        self._admin = admin
        self._clock = clock

    def kind(self, kind: str) -> Memberships:
        """Return the memberships of this kind, as Membership spells it."""
        if kind == GROUPS:
            return self.groups
        if kind == ORGANIZATIONS:
            return self._organizations
        if kind == REALM_ROLES:
            return self._realm_roles
        client_id = client_of(kind)
        if client_id is None:
            raise ValueError(f"there is no such kind of membership: {kind}")
        known = self._client_roles.get(client_id)
        if known is None:
            fresh = Roles(self._admin, self._clock, client_id)
            known = self._client_roles.setdefault(client_id, fresh)
        return known
