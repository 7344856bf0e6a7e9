"""The organizations of users, by their aliases."""

import contextlib
from collections.abc import Sequence
from functools import partial

from keycloak_bridge.core.errors import KeycloakConflictError, KeycloakNotFoundError
from keycloak_bridge.core.ports import Clock
from keycloak_bridge.keycloak_admin import KeycloakAdmin
from keycloak_bridge.keycloak_cache import KnownIds
from keycloak_bridge.keycloak_rejections import organization_not_found, owned_by_organization


class Organizations:
    """The organizations of a user, by their aliases."""

    def __init__(self, admin: KeycloakAdmin, clock: Clock) -> None:
        self._admin = admin
        self._ids = KnownIds(self._look_up, clock)

    def of(self, user_id: str) -> frozenset[str]:
        """Return the aliases of the organizations that the user is a member of."""
        return frozenset(str(one["alias"]) for one in self._admin.organizations_of(user_id))

    def missing(self, names: Sequence[str]) -> tuple[str, ...]:
        """Return those aliases that name no organization of the realm."""
        return tuple(alias for alias in names if self._ids.get(alias) is None)

    def join(self, user_id: str, names: Sequence[str]) -> None:
        """Make the user a member. Raises KeycloakNotFoundError (`organization-not-found`)."""
        for alias in names:
            organization = self._ids.get(alias)
            if organization is None:
                raise organization_not_found(alias)
            try:
                with contextlib.suppress(KeycloakConflictError):  # it is a member
                    self._admin.join_organization(user_id, organization)
            except KeycloakNotFoundError:
                self._ids.forget(alias)
                raise

    def leave(self, user_id: str, names: Sequence[str]) -> None:
        """Take the user out of the organizations.

        Raises KeycloakRejectedError (`managed-member`) where Keycloak would delete the user with its membership.
        """
        for alias in names:
            self._ids.leave(alias, partial(self._leave, user_id, alias))

    def _leave(self, user_id: str, alias: str, organization: str) -> None:
        member = self._admin.organization_member(organization, user_id)
        if member.get("membershipType") == "MANAGED":
            raise owned_by_organization(alias)
        self._admin.leave_organization(user_id, organization)

    def _look_up(self, alias: str) -> str | None:
        try:
            found = self._admin.organizations_with_alias(alias)
        except ValueError:  # no spelling for it: Keycloak lets no organization be called so
            return None
        ids = [str(one["id"]) for one in found if one.get("alias") == alias]
        return ids[0] if ids else None
