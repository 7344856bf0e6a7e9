"""What users belong to: groups, roles, organizations, and accounts at identity providers.

Groups, roles, organizations and clients have an id in Keycloak beside the name in the mapping. Groups and clients can be
renamed while they keep their id, so theirs is remembered for a minute. Keycloak finds a role by its name and takes it only if it
has the given id, so that a renamed role is never mistaken for another, and it never changes the alias of an organization, so their
ids are remembered for good. Any id that Keycloak does not know any more is forgotten, since the thing may have been deleted and
created again, and any role that it refuses.
"""

import contextlib
import math
import threading
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from http import HTTPStatus
from typing import Any, Generic, TypeVar

from keycloak_bridge.domain.errors import (
    KeycloakAuthError,
    KeycloakConflictError,
    KeycloakNotFoundError,
)
from keycloak_bridge.domain.ports import Clock
from keycloak_bridge.domain.users import (
    GROUPS,
    ORGANIZATIONS,
    REALM_ROLES,
    IdentityLink,
    can_be_created,
    client_of,
)
from keycloak_bridge.keycloak.admin import Json, KeycloakAdmin
from keycloak_bridge.keycloak.errors import (
    conflict,
    keycloak_error,
    may_not_map_roles,
    role_not_found,
)

CACHE_TTL_S = 60.0
_FOR_GOOD_S = math.inf

_Value = TypeVar("_Value")


class AllMemberships:
    """Every kind of membership. Safe to share between threads."""

    def __init__(self, admin: KeycloakAdmin, clock: Clock) -> None:
        self.groups = Groups(admin, clock)
        self._admin = admin
        self._clock = clock
        self._kinds: dict[str, Groups | Organizations | Roles] = {
            GROUPS: self.groups,
            ORGANIZATIONS: Organizations(admin, clock),
            REALM_ROLES: Roles(admin, clock),
        }

    def kind(self, kind: str) -> "Groups | Organizations | Roles":
        """Return the memberships of this kind; the port UserDirectory has the promises of their methods."""
        known = self._kinds.get(kind)
        if known is None:
            client_id = client_of(kind)
            if client_id is None:
                raise ValueError(f"there is no such kind of membership: {kind}")
            known = self._kinds.setdefault(kind, Roles(self._admin, self._clock, client_id))
        return known


class Cache(Generic[_Value]):
    """Remembers values for a minute, or for `ttl_s` seconds. Safe to share between threads."""

    def __init__(self, clock: Clock, ttl_s: float = CACHE_TTL_S) -> None:
        self._clock = clock
        self._ttl_s = ttl_s
        self._lock = threading.Lock()
        self._entries: dict[str, tuple[float, _Value]] = {}

    def get(self, key: str) -> _Value | None:
        """Return the value, unless it is too old."""
        with self._lock:
            entry = self._entries.get(key)
        if entry is None or self._clock.monotonic() - entry[0] >= self._ttl_s:
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


class KnownIds(Cache[str]):
    """Keycloak's ids by name. A name that is not found is looked up each time: an administrator may just create it."""

    def __init__(
        self, look_up: Callable[[str], str | None], clock: Clock, ttl_s: float = CACHE_TTL_S
    ) -> None:
        super().__init__(clock, ttl_s)
        self._look_up = look_up

    def get(self, key: str) -> str | None:
        """Return the id, or None."""
        known = super().get(key)
        if known is None:
            known = self._look_up(key)
            if known is not None:
                self.put(key, known)
        return known


class _ById(ABC):
    """Memberships that are joined and left one by one, by the id of what the name stands for."""

    missing_code: str
    known_for_s = CACHE_TTL_S
    """How long an id is remembered."""

    def __init__(self, admin: KeycloakAdmin, clock: Clock) -> None:
        self._admin = admin
        self._ids = KnownIds(self._look_up, clock, self.known_for_s)

    def missing(self, names: Sequence[str]) -> tuple[str, ...]:
        """Return those names that the realm does not have, as they were given."""
        return tuple(name for name in names if self._ids.get(self.normal(name)) is None)

    def join(self, user_id: str, names: Sequence[str]) -> None:
        """Make the user a member. Raises KeycloakNotFoundError (`group-not-found`, `organization-not-found`)."""
        for name in map(self.normal, names):
            known = self._ids.get(name)
            if known is None:
                raise keycloak_error(code=self.missing_code, name=name)
            try:
                self._join(user_id, known)
            except KeycloakNotFoundError:
                self._ids.forget(name)
                raise

    def leave(self, user_id: str, names: Sequence[str]) -> None:
        """Take the user out; where the id is out of date, once more with the new one."""
        for name in map(self.normal, names):
            for _ in range(2):
                known = self._ids.get(name)
                if known is None:
                    break
                try:
                    self._leave(user_id, known, name)
                    break
                except KeycloakNotFoundError:
                    self._ids.forget(name)

    def forget(self, name: str) -> None:
        """Look the id up again the next time."""
        self._ids.forget(self.normal(name))

    def normal(self, name: str) -> str:
        """Return the name as Keycloak spells it."""
        return name

    @abstractmethod
    def _look_up(self, name: str) -> str | None: ...

    @abstractmethod
    def _join(self, user_id: str, known_id: str) -> None: ...

    @abstractmethod
    def _leave(self, user_id: str, known_id: str, name: str) -> None: ...


class Groups(_ById):
    """The groups of a user, by their paths, with or without leading slash."""

    missing_code = "group-not-found"

    def of(self, user_id: str) -> frozenset[str]:
        """Return the paths of the groups that the user is a direct member of."""
        return frozenset(str(group["path"]) for group in self._admin.user_groups(user_id))

    def create(self, path: str) -> None:
        """Create the group and those above it; harmless when they exist.

        Raises KeycloakNotFoundError (`group-not-found`) for a path that no group can have; nothing is created then.
        """
        if not can_be_created(path):
            raise keycloak_error(code=self.missing_code, name=normal_path(path))
        parent: str | None = None
        names = path.strip("/").split("/")
        for depth, name in enumerate(names, 1):
            at = "/" + "/".join(names[:depth])
            known = self._ids.get(at)
            if known is None:
                with contextlib.suppress(KeycloakConflictError):  # another thread was faster
                    self._admin.create_group(name, parent)
                known = self._ids.get(at)
            if known is None:
                raise keycloak_error(code=self.missing_code, name=at)
            parent = known

    def normal(self, name: str) -> str:
        """Return the path as Keycloak spells it."""
        return normal_path(name)

    def _look_up(self, name: str) -> str | None:
        try:
            group = self._admin.group_by_path(name)
        except KeycloakNotFoundError:
            return None
        # some databases find groups without regard to case
        return str(group["id"]) if group.get("path") == name else None

    def _join(self, user_id: str, known_id: str) -> None:
        self._admin.join_group(user_id, known_id)

    def _leave(self, user_id: str, known_id: str, name: str) -> None:
        del name
        self._admin.leave_group(user_id, known_id)


def normal_path(path: str) -> str:
    """Return the group's path as Keycloak spells it."""
    return f"/{path.strip('/')}"


class Organizations(_ById):
    """The organizations of a user, by their aliases.

    Leaving raises KeycloakRejectedError (`managed-member`) where Keycloak would delete the user with its membership.
    """

    missing_code = "organization-not-found"
    known_for_s = _FOR_GOOD_S

    def of(self, user_id: str) -> frozenset[str]:
        """Return the aliases of the organizations that the user is a member of."""
        return frozenset(str(one["alias"]) for one in self._admin.organizations_of(user_id))

    def _look_up(self, name: str) -> str | None:
        try:
            found = self._admin.organizations_with_alias(name)
        except ValueError:  # no query can express it, and Keycloak allows no such alias
            return None
        return next((str(one["id"]) for one in found if one.get("alias") == name), None)

    def _join(self, user_id: str, known_id: str) -> None:
        with contextlib.suppress(KeycloakConflictError):  # it is a member
            self._admin.join_organization(user_id, known_id)

    def _leave(self, user_id: str, known_id: str, name: str) -> None:
        member = self._admin.organization_member(known_id, user_id)
        if member.get("membershipType") == "MANAGED":
            raise keycloak_error(code="managed-member", name=name)
        self._admin.leave_organization(user_id, known_id)


class Roles:
    """The roles of a user, by their names: the realm's, or those of the client `client_id`."""

    def __init__(self, admin: KeycloakAdmin, clock: Clock, client_id: str | None = None) -> None:
        self._admin = admin
        self._client_id = client_id
        self._clients = KnownIds(self._look_up_client, clock)
        self._ids = Cache[str](clock, _FOR_GOOD_S)

    def of(self, user_id: str) -> frozenset[str]:
        """Return the names of the roles that are mapped to the user directly; none where there is no such client."""
        if self._client_id is None:
            return self._mapped(user_id, None)
        client = self._clients.get(self._client_id)
        if client is None:
            return frozenset()
        try:
            return self._mapped(user_id, client)
        except KeycloakNotFoundError:
            self._clients.forget(self._client_id)
            raise

    def missing(self, names: Sequence[str]) -> tuple[str, ...]:
        """Return nothing: roles can be listed only for a user that exists."""
        del names
        return ()

    def join(self, user_id: str, names: Sequence[str]) -> None:
        """Map the roles. Raises KeycloakNotFoundError (`role-not-found`, `client-not-found`); nothing is mapped then."""
        if not names:
            return
        client = self._client()
        try:
            self._map(user_id, names, client)
        except KeycloakNotFoundError:
            self._forget(names)
            raise
        except KeycloakAuthError:
            # since a role was seen, it may have become one that only administrators map
            self._forget(names)
            self._map(user_id, names, client)

    def _map(self, user_id: str, names: Sequence[str], client: str | None) -> None:
        ids = self._known(names)
        if len(ids) < len(set(names)):
            ids = self._look_up(user_id, names, client)
        roles = [{"id": role_id, "name": name} for name, role_id in ids.items()]
        if roles:
            self._admin.map_roles(user_id, roles, client)

    def leave(self, user_id: str, names: Sequence[str]) -> None:
        """Take the roles away that are mapped. Raises KeycloakNotFoundError (`role-not-found`) where only administrators may."""
        try:
            client = self._client()
            mapped = self._admin.mapped_roles(user_id, client)
            roles = [role for role in mapped if role["name"] in names]
        except KeycloakNotFoundError:  # user or client is gone, and with it the mapping
            self._forget(names)
            return
        if not roles:
            return
        try:
            self._admin.unmap_roles(user_id, roles, client)
        except KeycloakNotFoundError:  # or the role
            self._forget(names)
        except KeycloakAuthError as error:
            if error.status != HTTPStatus.FORBIDDEN or not self._may_map(user_id):
                raise
            raise role_not_found([str(role["name"]) for role in roles], self._client_id) from error

    def _client(self) -> str | None:
        if self._client_id is None:
            return None
        client = self._clients.get(self._client_id)
        if client is None:
            raise keycloak_error(code="client-not-found", name=self._client_id)
        return client

    def _known(self, names: Sequence[str]) -> dict[str, str]:
        """Return the ids of those roles that were seen."""
        known = {name: self._ids.get(name) for name in names}
        return {name: role_id for name, role_id in known.items() if role_id is not None}

    def _look_up(self, user_id: str, names: Sequence[str], client: str | None) -> dict[str, str]:
        """Return the ids of those roles that the user has not: `/roles` would need a role beyond manage-users."""
        self._see(self._admin.available_roles(user_id, client))
        known = self._known(names)
        missing = [name for name in names if name not in known]
        if missing:
            mapped = self._mapped(user_id, client)
            missing = [name for name in missing if name not in mapped]
        if missing:
            if not self._may_map(user_id):  # then Keycloak calls no role available
                raise may_not_map_roles()
            raise role_not_found(missing, self._client_id)
        return known

    def _may_map(self, user_id: str) -> bool:
        """Say whether the service account may map roles to the user at all: if not, no role is to blame."""
        access = self._admin.get_user(user_id).get("access")
        return not isinstance(access, dict) or access.get("mapRoles") is not False

    def _mapped(self, user_id: str, client: str | None) -> frozenset[str]:
        return self._see(self._admin.mapped_roles(user_id, client))

    def _see(self, roles: Sequence[Json]) -> frozenset[str]:
        """Remember the ids of these roles, and return their names."""
        for role in roles:
            self._ids.put(str(role["name"]), str(role["id"]))
        return frozenset(str(role["name"]) for role in roles)

    def _forget(self, names: Sequence[str]) -> None:
        for name in names:
            self._ids.forget(name)
        if self._client_id is not None:
            self._clients.forget(self._client_id)

    def _look_up_client(self, client_id: str) -> str | None:
        found = self._admin.clients(client_id)
        return next((str(one["id"]) for one in found if one.get("clientId") == client_id), None)


class Identities:
    """Reads and writes links to identity providers. Safe to share between threads.

    Keycloak itself checks nothing: it links one account to two users, and users to identity providers that it does not
    have (and hides such links from then on).
    """

    def __init__(self, admin: KeycloakAdmin, clock: Clock) -> None:
        self._admin = admin
        self._providers = Cache[bool](clock)

    def of(self, user_id: str) -> tuple[IdentityLink, ...]:
        """Return the user's accounts, ordered by alias. Raises KeycloakNotFoundError."""
        links = [
            IdentityLink(str(one["identityProvider"]), str(one["userId"]), one.get("userName"))
            for one in self._admin.federated_identities(user_id)
        ]
        for link in links:
            self._providers.put(link.alias, True)
        return tuple(sorted(links, key=lambda link: link.alias))

    def owner(self, alias: str, user_id: str) -> str | None:
        """Return the Keycloak id of the user with this account. Raises ConflictError (`identity-taken`) for several."""
        if not alias or not user_id:
            return None  # without one of them, Keycloak finds every user
        found = self._admin.search_users({"idpAlias": alias, "idpUserId": user_id, "max": 2})
        if len(found) > 1:
            raise conflict(code="identity-taken", name=alias)
        return found[0]["id"] if found else None

    def link(self, user_id: str, link: IdentityLink) -> None:
        """Link the user to its account; see the port.

        An account that may not list identity providers sees only afterwards whether the alias exists: Keycloak hides links
        to others. Such a link is removed again.
        """
        if link.user_id is None:
            raise ValueError("a link without an account is for unlink_identity")
        identity: dict[str, Any] = {"identityProvider": link.alias, "userId": link.user_id}
        if link.user_name is not None:
            identity["userName"] = link.user_name
        try:
            self._admin.link_identity(user_id, link.alias, identity)
        except KeycloakConflictError:
            before = self._linked(user_id, link.alias)
            if before == link:
                return
            self.unlink(user_id, link.alias)
            if before is None:  # hidden: an earlier attempt ended before it could remove the link
                raise keycloak_error(code="identity-provider-not-found", name=link.alias) from None
            self._admin.link_identity(user_id, link.alias, identity)
        if not self._providers.get(link.alias) and self._linked(user_id, link.alias) is None:
            self.unlink(user_id, link.alias)
            raise keycloak_error(code="identity-provider-not-found", name=link.alias)

    def unlink(self, user_id: str, alias: str) -> None:
        """Remove the link; harmless when there is none."""
        with contextlib.suppress(KeycloakNotFoundError):
            self._admin.unlink_identity(user_id, alias)

    def _linked(self, user_id: str, alias: str) -> IdentityLink | None:
        return next((link for link in self.of(user_id) if link.alias == alias), None)
