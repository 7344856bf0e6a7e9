"""The groups of users, by their paths."""

import contextlib
from collections.abc import Sequence
from functools import partial

from keycloak_bridge.core.errors import KeycloakConflictError, KeycloakNotFoundError
from keycloak_bridge.core.ports import Clock
from keycloak_bridge.keycloak_admin import KeycloakAdmin
from keycloak_bridge.keycloak_cache import KnownIds
from keycloak_bridge.keycloak_rejections import group_not_found, normal_path

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
