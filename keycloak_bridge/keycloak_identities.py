"""The accounts of users at the realm's identity providers.

Keycloak itself checks nothing: it links one account to two users, and users to identity providers that it does not have
(and hides such links from then on).
"""

import contextlib
from typing import Any

from keycloak_bridge.core.desired import IdentityLink
from keycloak_bridge.core.errors import KeycloakConflictError, KeycloakNotFoundError
from keycloak_bridge.core.ports import Clock
from keycloak_bridge.keycloak_admin import KeycloakAdmin
from keycloak_bridge.keycloak_cache import Cache
from keycloak_bridge.keycloak_rejections import identity_provider_not_found, identity_shared


class Identities:
    """Reads and writes links to identity providers. Safe to share between threads."""

    def __init__(self, admin: KeycloakAdmin, clock: Clock) -> None:
        self._admin = admin
        self._providers = Cache[bool](clock)

    def of(self, user_id: str) -> tuple[IdentityLink, ...]:
        """Return the user's accounts, ordered by alias. Raises KeycloakNotFoundError."""
        links = [_link(one) for one in self._admin.federated_identities(user_id)]
        for link in links:
            self._providers.put(link.alias, True)
        return tuple(sorted(links, key=lambda link: link.alias))

    def owner(self, alias: str, user_id: str) -> str | None:
        """Return the Keycloak id of the user with this account. Raises ConflictError (`identity-taken`) for several."""
        if not alias or not user_id:
            return None  # without one of both, Keycloak finds everybody
        found = self._admin.search_users({"idpAlias": alias, "idpUserId": user_id, "max": 2})
        if len(found) > 1:
            raise identity_shared(alias)
        return found[0]["id"] if found else None

    def link(self, user_id: str, link: IdentityLink) -> None:
        """Link the user to its account; see the port.

        That the alias exists shows only afterwards, to an account that may not list identity providers: Keycloak hides
        links to others. Such a link is taken away again.
        """
        if link.user_id is None:
            raise ValueError("a link without an account is for unlink_identity")
        if not self._replaced(user_id, link):
            return
        if self._providers.get(link.alias) or self._linked(user_id, link.alias) is not None:
            return
        self.unlink(user_id, link.alias)
        raise identity_provider_not_found(link.alias)

    def unlink(self, user_id: str, alias: str) -> None:
        """Take the link away; harmless when there is none."""
        with contextlib.suppress(KeycloakNotFoundError):
            self._admin.unlink_identity(user_id, alias)

    def _replaced(self, user_id: str, link: IdentityLink) -> bool:
        """Put the link in the place of another one; say whether anything had to be written."""
        identity = _identity(link)
        try:
            self._admin.link_identity(user_id, link.alias, identity)
        except KeycloakConflictError:
            before = self._linked(user_id, link.alias)
            if before == link:
                return False
            if before is None:
                # hidden: an earlier try was cut off before it could be taken away again
                self.unlink(user_id, link.alias)
                raise identity_provider_not_found(link.alias) from None
            self.unlink(user_id, link.alias)
            self._admin.link_identity(user_id, link.alias, identity)
        return True

    def _linked(self, user_id: str, alias: str) -> IdentityLink | None:
        return next((link for link in self.of(user_id) if link.alias == alias), None)


def _link(identity: dict[str, Any]) -> IdentityLink:
    name = identity.get("userName")
    return IdentityLink(
        str(identity["identityProvider"]),
        str(identity["userId"]),
        None if name is None else str(name),
    )


def _identity(link: IdentityLink) -> dict[str, Any]:
    identity = {"identityProvider": link.alias, "userId": link.user_id}
    if link.user_name is not None:
        identity["userName"] = link.user_name
    return identity
