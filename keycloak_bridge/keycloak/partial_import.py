"""The port UserImporter on Keycloak's partial import.

Read what of the realm decides whether a user may go by partial import.

What of the realm goes beyond single users: everybody in it, how many, and the import of many.
"""

import logging
import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from keycloak_bridge.domain.errors import BridgeError, KeycloakAuthError
from keycloak_bridge.domain.ports import Clock
from keycloak_bridge.domain.users import UserRepresentation
from keycloak_bridge.keycloak.admin import KeycloakAdmin
from keycloak_bridge.keycloak.errors import not_keycloak
from keycloak_bridge.keycloak.import_eligibility import (
    ImportTerms,
    Judgement,
    UserImporter,
    judge_import,
    read_peculiar,
)
from keycloak_bridge.keycloak.refusals import Call
from keycloak_bridge.keycloak.token import granted_roles
from keycloak_bridge.keycloak.user_profile import read_profile
from keycloak_bridge.keycloak.users import everybody
from keycloak_bridge.ops.logs import log_event

_USER_STORAGE = "org.keycloak.storage.UserStorageProvider"
_USER_PROFILE = "org.keycloak.userprofile.UserProfileProvider"
_KNOWN_PROFILE = "declarative-user-profile"


def read_import_terms(admin: KeycloakAdmin) -> ImportTerms:
    """Return the realm's terms; needs the role manage-realm. Raises KeycloakError.

    A realm whose user profile is a provider of somebody else's counts as federated: nothing is known of it.
    """
    realm = admin.realm()
    default_role = realm.get("defaultRole")
    if not isinstance(default_role, dict) or not default_role.get("name"):
        raise not_keycloak(Call("GET", "/"), 200)
    profile = admin.users_profile()
    actions = admin.required_actions()
    wanted, selected = read_peculiar(profile)
    foreign_profile = any(
        one.get("providerId") != _KNOWN_PROFILE for one in admin.components(_USER_PROFILE)
    )
    return ImportTerms(
        profile=read_profile(profile),
        default_role=str(default_role["name"]),
        default_groups=tuple(map(str, realm.get("defaultGroups") or ())),
        default_actions=tuple(
            str(one["alias"]) for one in actions if one.get("enabled") and one.get("defaultAction")
        ),
        known_actions=frozenset(str(one["alias"]) for one in actions),
        email_as_username=bool(realm.get("registrationEmailAsUsername")),
        login_with_email=bool(realm.get("loginWithEmailAllowed", True)),
        duplicate_emails=bool(realm.get("duplicateEmailsAllowed")),
        internationalized=bool(realm.get("internationalizationEnabled")),
        federated=bool(admin.components(_USER_STORAGE)) or foreign_profile,
        wanted=wanted,
        selected=selected,
    )


logger = logging.getLogger(__name__)

IMPORT_ROLE = "manage-realm"
"""The role of realm-management that an import takes."""

IMPORTING = frozenset({IMPORT_ROLE, "realm-admin"})
"""It, and what holds it."""

_GOOD_FOR_S = 30.0
"""How long what was read of the realm is relied on; whoever changes its user profile sees the effect by then."""

_DENIED_FOR_S = 300.0
_ADDED, _SKIPPED = "ADDED", "SKIPPED"
_CALL = Call("POST", "/partialImport")


class KeycloakUserImporter:
    """Imports users where the service account holds `manage-realm`. Safe to share between threads."""

    def __init__(self, admin: KeycloakAdmin, clock: Clock) -> None:
        self._admin = admin
        self._clock = clock
        self._reading = threading.Lock()
        self._terms: ImportTerms | None = None
        self._read_again_at_s = 0.0

    def available(self) -> bool:
        """Say whether users may be imported, as far as was seen within the last half minute.

        One thread asks Keycloak while the others go by what is known.
        """
        if self._clock.monotonic() >= self._read_again_at_s and self._reading.acquire(
            blocking=False
        ):
            try:
                self._read()
            finally:
                self._reading.release()
        return self._terms is not None

    def judge(self, representation: UserRepresentation) -> Judgement:
        """Say whether an import makes of the user what POST /users would; see the port."""
        terms = self._terms
        if terms is None:
            return Judgement.single("the realm is not known")
        return judge_import(terms, representation)

    def import_users(self, users: Sequence[UserRepresentation]) -> Sequence[str | None]:
        """Import all that are not there yet; see the port. A refusal for want of a role switches imports off a while."""
        try:
            results = self._admin.import_users(users)
        except KeycloakAuthError as error:
            if error.status == 403:
                self._deny(error)
            raise
        found = {str(one.get("resourceName", "")).lower(): one for one in results}
        return [_created(found.get(user["username"].lower(), {})) for user in users]

    def _read(self) -> None:
        now_s = self._clock.monotonic()
        try:
            roles = granted_roles(self._admin.access_token())
            if roles is not None and IMPORTING.isdisjoint(roles):
                self._terms, self._read_again_at_s = None, now_s + _DENIED_FOR_S
                return
            self._terms, self._read_again_at_s = (
                read_import_terms(self._admin),
                now_s + _GOOD_FOR_S,
            )
        except KeycloakAuthError as error:
            self._deny(error)
        except BridgeError:
            self._terms, self._read_again_at_s = None, now_s + _GOOD_FOR_S

    def _deny(self, error: KeycloakAuthError) -> None:
        self._terms, self._read_again_at_s = None, self._clock.monotonic() + _DENIED_FOR_S
        log_event(
            logger,
            "burst-denied",
            level=logging.WARNING,
            message=f"users are written one by one: {error.message}",
            reason=error.code,
        )


def _created(result: Mapping[str, Any]) -> str | None:
    """Return the id of a user that was created, None for one that was there."""
    action, user_id = result.get("action"), result.get("id")
    if action == _SKIPPED:
        return None
    if action != _ADDED or not user_id:
        raise not_keycloak(_CALL, 200)
    return str(user_id)


@dataclass(frozen=True, slots=True)
class RealmAccess:
    """How a stage asks for these; each call may raise KeycloakError."""

    everybody: Callable[[], Iterable[UserRepresentation]]
    count: Callable[[], int]
    importer: UserImporter


def realm_access(admin: KeycloakAdmin, clock: Clock) -> RealmAccess:
    """Return the access of the bridge's service account."""
    return RealmAccess(
        partial(everybody, admin), admin.count_users, KeycloakUserImporter(admin, clock)
    )
