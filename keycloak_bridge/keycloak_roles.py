"""The roles of users, by their names: the realm's own, and those of its clients."""

from collections.abc import Sequence

from keycloak_bridge.core.errors import KeycloakNotFoundError
from keycloak_bridge.core.ports import Clock
from keycloak_bridge.keycloak_admin import KeycloakAdmin
from keycloak_bridge.keycloak_cache import Cache, KnownIds
from keycloak_bridge.keycloak_calls import Json
from keycloak_bridge.keycloak_rejections import client_not_found, role_not_found


class Roles:
    """The roles of a user, by their names: the realm's, or those of the client `client_id`."""

    def __init__(self, admin: KeycloakAdmin, clock: Clock, client_id: str | None = None) -> None:
        self._admin = admin
        self._client_id = client_id
        self._clients = KnownIds(self._look_up_client, clock)
        self._known = Cache[Json](clock)

    def of(self, user_id: str) -> frozenset[str]:
        """Return the names of the roles that are mapped to the user directly; none where there is no such client."""
        if self._client_id is None:
            return _names(self._admin.mapped_roles(user_id))
        client = self._clients.get(self._client_id)
        if client is None:
            return frozenset()
        try:
            return _names(self._admin.mapped_roles(user_id, client))
        except KeycloakNotFoundError:
            self._clients.forget(self._client_id)
            raise

    def missing(self, names: Sequence[str]) -> tuple[str, ...]:
        """Return nothing: roles can be listed only for a user that is there."""
        del names
        return ()

    def join(self, user_id: str, names: Sequence[str]) -> None:
        """Map the roles. Raises KeycloakNotFoundError (`role-not-found`, `client-not-found`); nothing is mapped then."""
        if not names:
            return
        client = self._client()
        try:
            known = {name: self._known.get(name) for name in names}
            if None in known.values():
                known |= self._look_up(user_id, names, client)
            roles = [role for role in known.values() if role is not None]
            if roles:
                self._admin.map_roles(user_id, roles, client)
        except KeycloakNotFoundError:
            self._forget(names)
            raise

    def leave(self, user_id: str, names: Sequence[str]) -> None:
        """Take the roles away that are mapped."""
        try:
            client = self._client()
            mapped = self._admin.mapped_roles(user_id, client)
            roles = [role for role in mapped if role["name"] in names]
            if roles:
                self._admin.unmap_roles(user_id, roles, client)
        except (
            KeycloakNotFoundError
        ):  # the user, the client or a role is gone, and so is the mapping
            self._forget(names)

    def _client(self) -> str | None:
        if self._client_id is None:
            return None
        client = self._clients.get(self._client_id)
        if client is None:
            raise client_not_found(self._client_id)
        return client

    def _look_up(
        self, user_id: str, names: Sequence[str], client: str | None
    ) -> dict[str, Json | None]:
        """Find roles among those that the user could get: `/roles` would need a role more than manage-users."""
        for role in self._admin.available_roles(user_id, client):
            self._known.put(str(role["name"]), role)
        known = {name: self._known.get(name) for name in names}
        if None in known.values():
            mapped = _names(self._admin.mapped_roles(user_id, client))
            missing = [name for name, role in known.items() if role is None and name not in mapped]
            if missing:
                raise role_not_found(missing, self._client_id)
        return known

    def _forget(self, names: Sequence[str]) -> None:
        for name in names:
            self._known.forget(name)
        if self._client_id is not None:
            self._clients.forget(self._client_id)

    def _look_up_client(self, client_id: str) -> str | None:
        found = [one for one in self._admin.clients(client_id) if one.get("clientId") == client_id]
        return str(found[0]["id"]) if found else None


def _names(roles: Sequence[Json]) -> frozenset[str]:
    return frozenset(str(role["name"]) for role in roles)
