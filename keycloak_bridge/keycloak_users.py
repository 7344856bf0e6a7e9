"""The port UserDirectory on Keycloak's Admin REST API."""

import threading
from collections.abc import Sequence
from datetime import datetime
from typing import Any, Generic, TypeVar, cast

from keycloak_bridge.core.errors import (
    KeycloakNotFoundError,
    KeycloakRejectedError,
    KeycloakUnavailableError,
)
from keycloak_bridge.core.model import (
    FoundUser,
    InvitationTerms,
    MatchCriterion,
    UserRepresentation,
)
from keycloak_bridge.core.ports import Clock
from keycloak_bridge.keycloak_admin import KeycloakAdmin
from keycloak_bridge.keycloak_ledger import MailLedger
from keycloak_bridge.keycloak_rejections import (
    ambiguous,
    group_not_found,
    mail_refusal,
    normal_path,
    refuse_unusable,
    role_not_found,
    unsearchable,
)

CACHE_TTL_S = 60.0

_ATTRIBUTE_PREFIX = "attributes."
_COMPUTED = ("access", "userProfileMetadata")

_Value = TypeVar("_Value")


class KeycloakUserDirectory:
    """Finds, writes and invites the users of one realm. Safe to share between threads."""

    def __init__(self, admin: KeycloakAdmin, clock: Clock) -> None:
        self._admin = admin
        self._group_ids = _Cache[str](clock)
        self._roles = _Cache[dict[str, Any]](clock)
        self._ledger = MailLedger(admin, clock)

    def find(
        self, criteria: Sequence[MatchCriterion], *, groups: bool, realm_roles: bool
    ) -> FoundUser | None:
        """Return the user that the first successful criterion finds; see the port.

        Raises KeycloakRejectedError (`unsearchable-value`) for an external id that Keycloak cannot be asked for.
        """
        for criterion in criteria:
            matches = self._matches(criterion) if criterion.value else []
            if len(matches) > 1:
                raise ambiguous(criterion.target, len(matches))
            if matches:
                return self._found(matches[0], criterion.target, groups, realm_roles)
        return None

    def get(self, user_id: str) -> UserRepresentation | None:
        """Return the user with all attributes, or None."""
        try:
            return _stored(self._admin.get_user(user_id))
        except KeycloakNotFoundError:
            return None

    def missing_groups(self, paths: Sequence[str]) -> tuple[str, ...]:
        """Return those paths, with or without leading slash, that name no group of the realm."""
        return tuple(path for path in paths if self._group_id(path) is None)

    def create(self, representation: UserRepresentation) -> str:
        """Create the user and return its Keycloak id; see the port.

        KeycloakUnavailableError leaves open whether it was created: find it again.
        """
        groups = [normal_path(path) for path in representation.get("groups", [])]
        if groups:
            representation = {**representation, "groups": groups}
        try:
            return self._admin.create_user(representation)
        except KeycloakUnavailableError:
            # a group that was deleted meanwhile shows as a bare 500: look afresh before the next attempt
            for path in groups:
                self._group_ids.forget(path)
            raise

    def update(self, user_id: str, representation: UserRepresentation) -> None:
        """Replace the user by `representation`; see the port."""
        self._admin.update_user(user_id, representation)

    def join_group(self, user_id: str, path: str) -> None:
        """Make the user a member; harmless when it is one. Raises KeycloakNotFoundError."""
        group_id = self._group_id(path)
        if group_id is None:
            raise group_not_found(path)
        try:
            self._admin.join_group(user_id, group_id)
        except KeycloakNotFoundError:
            self._group_ids.forget(normal_path(path))
            raise

    def grant_realm_roles(self, user_id: str, names: Sequence[str]) -> None:
        """Map the roles; harmless when they are mapped. Raises KeycloakNotFoundError naming what is missing."""
        known = {name: self._roles.get(name) for name in names}
        if None in known.values():
            known |= self._look_up_roles(user_id, names)
        roles = [role for role in known.values() if role is not None]
        if not roles:
            return
        try:
            self._admin.grant_realm_roles(user_id, roles)
        except KeycloakNotFoundError:
            for name in known:
                self._roles.forget(name)
            raise

    def has_credentials(self, user_id: str) -> bool:
        """Say whether the user can already prove who it is: by a password, a passkey, or anything else."""
        return bool(self._admin.credentials(user_id))

    def execute_actions_email(self, user_id: str, terms: InvitationTerms) -> None:
        """Have Keycloak mail the link; see the port.

        KeycloakRejectedError says by its code what is wrong: `user-disabled`, `no-email`, `no-actions`, `unknown-action`,
        `unknown-client`, `client-disabled` or `invalid-redirect`.
        """
        refuse_unusable(terms)
        try:
            self._admin.execute_actions_email(
                user_id,
                terms.actions,
                lifespan_s=terms.lifespan_s,
                client_id=terms.client_id,
                redirect_uri=terms.redirect_uri,
            )
        except KeycloakRejectedError as error:
            raise self._mail_refusal(user_id, error) from error

    def can_look_up_mails(self) -> bool:
        """Say whether admin events are on and may be read, as far as was seen within the last minute."""
        return self._ledger.usable()

    def mail_recorded(self, user_id: str, since: datetime | None = None) -> bool:
        """Say whether Keycloak recorded a link mailed to the user; see the port."""
        return self._ledger.recorded(user_id, since)

    def _matches(self, criterion: MatchCriterion) -> list[UserRepresentation]:
        """Ask Keycloak, and compare again here: its comparisons depend on the database."""
        target, value = criterion.target, criterion.value
        if target.startswith(_ATTRIBUTE_PREFIX):
            return self._having_attribute(target.removeprefix(_ATTRIBUTE_PREFIX), value)
        if target not in ("username", "email"):
            raise ValueError(f"users cannot be matched by {target}")
        if not _sendable(value):
            raise unsearchable(f"/user/{target}")
        users = self._admin.search_users({target: value, "exact": "true", "max": 10})
        wanted = value.lower()
        return [user for user in users if str(user.get(target, "")).lower() == wanted]

    def _having_attribute(self, name: str, value: str) -> list[UserRepresentation]:
        try:
            users = self._admin.find_users_by_attribute(name, value)
        except ValueError as error:
            raise unsearchable(f"/user/attributes/{name}") from error
        return [user for user in users if value in user.get("attributes", {}).get(name, [])]

    def _found(
        self, user: UserRepresentation, target: str, groups: bool, realm_roles: bool
    ) -> FoundUser:
        user_id = user["id"]
        paths = [group["path"] for group in self._admin.user_groups(user_id)] if groups else ()
        roles = self._admin.mapped_realm_roles(user_id) if realm_roles else ()
        return FoundUser(
            user_id,
            _stored(user),
            matched_by=target,
            groups=frozenset(paths),
            realm_roles=frozenset(role["name"] for role in roles),
        )

    def _group_id(self, path: str) -> str | None:
        wanted = normal_path(path)
        cached = self._group_ids.get(wanted)
        if cached is not None:
            return cached
        try:
            group = self._admin.group_by_path(wanted)
        except KeycloakNotFoundError:
            return None  # not remembered: an administrator is probably about to create it
        if group.get("path") != wanted:
            return None
        group_id = str(group["id"])
        self._group_ids.put(wanted, group_id)
        return group_id

    def _look_up_roles(
        self, user_id: str, names: Sequence[str]
    ) -> dict[str, dict[str, Any] | None]:
        """Find roles among those that the user could get: `/roles` would need a role more than manage-users."""
        for role in self._admin.available_realm_roles(user_id):
            self._roles.put(str(role["name"]), role)
        known = {name: self._roles.get(name) for name in names}
        if None in known.values():
            mapped = {role["name"] for role in self._admin.mapped_realm_roles(user_id)}
            missing = [name for name, role in known.items() if role is None and name not in mapped]
            if missing:
                raise role_not_found(missing)
        return known

    def _mail_refusal(self, user_id: str, error: KeycloakRejectedError) -> KeycloakRejectedError:
        """Tell from the user what Keycloak's wording may tell differently one day."""
        user = self._admin.get_user(user_id)
        if not user.get("enabled"):
            return mail_refusal("User is disabled")
        if not user.get("email"):
            return mail_refusal("User email missing")
        return error


def _stored(user: UserRepresentation) -> UserRepresentation:
    """Leave out what Keycloak works out for each answer, so that two answers about one user are equal."""
    kept = {key: value for key, value in user.items() if key not in _COMPUTED}
    return cast("UserRepresentation", kept)


def _sendable(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


class _Cache(Generic[_Value]):
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
