"""What users belong to, kind by kind.

The groups of users, by their paths.

The roles of users, by their names: the realm's own, and those of its clients.

The organizations of users, by their aliases.

What Keycloak said a moment ago.
"""

import contextlib
import threading
from collections.abc import Callable, Sequence
from functools import partial
from typing import Generic, Protocol, TypeVar

from keycloak_bridge.domain.errors import KeycloakConflictError, KeycloakNotFoundError
from keycloak_bridge.domain.ports import Clock
from keycloak_bridge.domain.users import GROUPS, ORGANIZATIONS, REALM_ROLES, client_of
from keycloak_bridge.keycloak.admin import Json, KeycloakAdmin
from keycloak_bridge.keycloak.refusals import (
    client_not_found,
    group_not_found,
    normal_path,
    organization_not_found,
    owned_by_organization,
    role_not_found,
)

CACHE_TTL_S = 60.0

_Value = TypeVar("_Value")


class Cache(Generic[_Value]):
    """Remembers values for a minute. Safe to share between threads."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._entries: dict[str, tuple[float, _Value]] = {}

    def get(self, key: str) -> _Value | None:
        """Return the value, unless it is too old."""
        with self._lock:
            entry = self._entries.get(key)
        if entry is None or self._clock.monotonic() - entry[0] >= CACHE_TTL_S:
            return None
        return entry[1]

    def put(self, key: str, value: _Value) -> None:
        """Remember `value` from now on."""
        with self._lock:
            self._entries[key] = (self._clock.monotonic(), value)

    def forget(self, key: str) -> None:
        """Make the next `get` find nothing."""
        with self._lock:
            self._entries.pop(key, None)


class KnownIds:
    """Keycloak's ids of named things, remembered for a minute; what is not found is asked for again each time.

    An administrator is probably about to create it.
    """

    def __init__(self, look_up: Callable[[str], str | None], clock: Clock) -> None:
        self._look_up = look_up
        self._known = Cache[str](clock)

    def get(self, name: str) -> str | None:
        """Return the id, or None."""
        known = self._known.get(name)
        if known is None:
            known = self._look_up(name)
            if known is not None:
                self._known.put(name, known)
        return known

    def forget(self, name: str) -> None:
        """Ask again the next time."""
        self._known.forget(name)

    def leave(self, name: str, leave: Callable[[str], None]) -> None:
        """Call `leave` with the id; where that is out of date, once more with the new one."""
        for _ in range(2):
            found = self.get(name)
            if found is None:
                return
            try:
                leave(found)
            except KeycloakNotFoundError:
                self.forget(name)
            else:
                return


_LONGEST_NAME = 255


class Groups:
    """The groups of a user, by their paths."""

    def __init__(self, admin: KeycloakAdmin, clock: Clock) -> None:
        self._admin = admin
        self._ids = KnownIds(self._look_up, clock)

    def of(self, user_id: str) -> frozenset[str]:
        """Return the paths of the groups that the user is a direct member of."""
        return frozenset(str(group["path"]) for group in self._admin.user_groups(user_id))

    def missing(self, names: Sequence[str]) -> tuple[str, ...]:
        """Return those paths, with or without leading slash, that name no group of the realm."""
        return tuple(path for path in names if self._ids.get(normal_path(path)) is None)

    def join(self, user_id: str, names: Sequence[str]) -> None:
        """Make the user a member. Raises KeycloakNotFoundError (`group-not-found`)."""
        for path in names:
            group_id = self._ids.get(normal_path(path))
            if group_id is None:
                raise group_not_found(path)
            try:
                self._admin.join_group(user_id, group_id)
            except KeycloakNotFoundError:
                self.forget(path)
                raise

    def leave(self, user_id: str, names: Sequence[str]) -> None:
        """Take the user out of the groups."""
        for path in names:
            self._ids.leave(normal_path(path), partial(self._admin.leave_group, user_id))

    def create(self, path: str) -> None:
        """Create the group and those above it; harmless when they are there.

        Raises KeycloakNotFoundError (`group-not-found`) for a path that can be none.
        """
        parent: str | None = None
        names = path.strip("/").split("/")
        for depth, name in enumerate(names, 1):
            at = "/" + "/".join(names[:depth])
            known = self._ids.get(at)
            if known is None and can_be_created(name):
                with contextlib.suppress(KeycloakConflictError):  # another thread was faster
                    self._admin.create_group(name, parent)
                known = self._ids.get(at)
            if known is None:
                raise group_not_found(at)
            parent = known

    def forget(self, path: str) -> None:
        """Look the group up afresh the next time."""
        self._ids.forget(normal_path(path))

    def _look_up(self, path: str) -> str | None:
        try:
            group = self._admin.group_by_path(path)
        except KeycloakNotFoundError:
            return None
        # some databases find groups without regard to case
        return str(group["id"]) if group.get("path") == path else None


def can_be_created(name: str) -> bool:
    """Say whether a group of this name can be found again, and stored: Keycloak answers a long one by a bare 500."""
    return name not in ("", ".", "..") and len(name) <= _LONGEST_NAME


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
