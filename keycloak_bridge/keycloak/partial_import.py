"""Many new users at once by Keycloak's partial import, as far as that ends as POST /users would.

An import stores what it is given. It validates nothing, drops nothing, and gives no user the realm's default role, groups
and required actions. So these are added here, and a user of whom the outcome of POST is not certain, a refusal included, is
left to POST.
"""

import logging
import re
import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache, partial
from typing import Any, cast

from keycloak_bridge.domain.errors import BridgeError, KeycloakAuthError
from keycloak_bridge.domain.ports import Clock, UserImporter
from keycloak_bridge.domain.representation import without_blanks
from keycloak_bridge.domain.users import UserRepresentation
from keycloak_bridge.keycloak.admin import KeycloakAdmin
from keycloak_bridge.keycloak.calls import ADMIN_ROLE, IMPORT_ROLE, Call
from keycloak_bridge.keycloak.errors import keycloak_error
from keycloak_bridge.keycloak.lookup_times import LookupTimes
from keycloak_bridge.keycloak.token import granted_roles
from keycloak_bridge.keycloak.user_profile import (
    LOCALE,
    PROFILE_FIELDS,
    ProfileAttribute,
    RealmProfile,
    read_profile,
    uncertain_fields,
)
from keycloak_bridge.keycloak.users import each_user
from keycloak_bridge.ops.logs import log_event

logger = logging.getLogger(__name__)

IMPORTING = frozenset({IMPORT_ROLE, ADMIN_ROLE})
"""The roles that allow an import."""

_TERMS_TTL_S = 30.0
"""How long the terms are relied on: a change of the realm's user profile takes effect by then."""

_RETRY_S = 2.0
"""A realm that could not be read is asked again so soon: a backlog would be written one by one meanwhile."""

BATCHED_SAVES_S = 0.0006
"""What a user in a batch costs Keycloak less than by itself, by the benchmark (docs/benchmark), about."""

_DENIED_FOR_S = 300.0
_LARGE_PAGE = 1000
"""Keycloak walks over all users before a page, so that few large ones cost less."""

_OVERLAP = 20

USER_STORAGE = "org.keycloak.storage.UserStorageProvider"
_USER_PROFILE = "org.keycloak.userprofile.UserProfileProvider"
_KNOWN_PROFILE = "declarative-user-profile"

_FIELDS = frozenset(PROFILE_FIELDS) | {
    "emailVerified",
    "enabled",
    "attributes",
    "groups",
    "requiredActions",
}
_READ_ONLY = re.compile(
    r"kerberos_principal|ldap_id|ldap_entry_dn|create_?timestamp|modify_?timestamp|usercertificate"
    r"|saml\.persistent\.name\.id\.for\..*|enabled|email_?verified|disabledreason",
    re.IGNORECASE,
)
"""Attributes that every Keycloak keeps for itself, and refuses from its callers."""

_UNSTORABLE = re.compile("[\x00\ud800-\udfff]")
"""What one database or another cannot store: it would fail the whole batch."""


class KeycloakUserImporter:
    """Imports users where the service account has `manage-realm`. Safe to share between threads."""

    def __init__(self, admin: KeycloakAdmin, clock: Clock) -> None:
        self._admin = admin
        self._clock = clock
        self._reading = threading.Lock()
        self._terms: ImportTerms | None = None
        self._read_again_at_s = 0.0

    def available(self) -> bool:
        """Say whether users may be imported, as far as was seen within the last half minute.

        One thread asks Keycloak while the others rely on what is known.
        """
        if self._clock.monotonic() >= self._read_again_at_s and self._reading.acquire(
            blocking=False
        ):
            try:
                self._read()
            finally:
                self._reading.release()
        return self._terms is not None

    def import_body(self, representation: UserRepresentation) -> UserRepresentation | None:
        """Return the body to import for the user, None where only POST can tell; see the port."""
        terms = self._terms
        return None if terms is None else import_body(terms, representation)

    def import_users(self, users: Sequence[UserRepresentation]) -> Sequence[str | None]:
        """Import all that do not exist yet; see the port. A 403 switches imports off for some minutes."""
        try:
            results = self._admin.import_users(users)
        except KeycloakAuthError as error:
            if error.status == 403:
                self._deny(error)
            raise
        found = {str(one.get("resourceName", "")).lower(): one for one in results}
        return [_created_id(found.get(user["username"].lower(), {})) for user in users]

    def _read(self) -> None:
        try:
            roles = granted_roles(self._admin.access_token())
            if roles is not None and IMPORTING.isdisjoint(roles):
                self._keep(None, _DENIED_FOR_S)
            else:
                self._keep(read_import_terms(self._admin), _TERMS_TTL_S)
        except KeycloakAuthError as error:
            self._deny(error)
        except BridgeError:
            self._keep(None, _RETRY_S)

    def _deny(self, error: KeycloakAuthError) -> None:
        self._keep(None, _DENIED_FOR_S)
        log_event(
            logger,
            "burst-denied",
            level=logging.WARNING,
            message=f"users are written one by one: {error.message}",
            reason=error.code,
        )

    def _keep(self, terms: "ImportTerms | None", for_s: float) -> None:
        self._terms, self._read_again_at_s = terms, self._clock.monotonic() + for_s


def _created_id(result: Mapping[str, Any]) -> str | None:
    """Return the id of a user that was created, None for one that existed."""
    action, user_id = result.get("action"), result.get("id")
    if action == "SKIPPED":
        return None
    if action != "ADDED" or not user_id:
        raise keycloak_error(code="not-keycloak", call=Call("POST", "/partialImport"), status=200)
    return str(user_id)


@dataclass(frozen=True, slots=True)
class ImportTerms:
    """What of a realm decides about an import.

    `known_actions` are all aliases of its required actions, `default_actions` those that POST gives to every new user.
    `wanted` names attributes that Keycloak fills or demands where they are absent. `post_only` says that nothing can be
    known of new users: they may go to another store, or the user profile has rules for some clients only or is not
    Keycloak's own.
    """

    profile: RealmProfile
    default_role: str
    default_groups: tuple[str, ...] = ()
    default_actions: tuple[str, ...] = ()
    known_actions: frozenset[str] = frozenset()
    email_as_username: bool = False
    login_with_email: bool = True
    internationalized: bool = False
    post_only: bool = False
    wanted: frozenset[str] = frozenset()


def read_import_terms(admin: KeycloakAdmin) -> ImportTerms:
    """Return the realm's terms; needs the role manage-realm. Raises KeycloakError."""
    realm = admin.realm()
    default_role = realm.get("defaultRole")
    if not isinstance(default_role, dict) or not default_role.get("name"):
        raise keycloak_error(code="not-keycloak", call=Call("GET", "/"), status=200)
    profile = admin.users_profile()
    attributes = [one for one in profile.get("attributes") or () if isinstance(one, Mapping)]
    actions = admin.required_actions()
    profile_providers = admin.components(_USER_PROFILE)
    email_as_username = bool(realm.get("registrationEmailAsUsername"))
    return ImportTerms(
        profile=read_profile(profile, email_as_username=email_as_username),
        default_role=str(default_role["name"]),
        default_groups=tuple(map(str, realm.get("defaultGroups") or ())),
        default_actions=tuple(
            str(one["alias"]) for one in actions if one.get("enabled") and one.get("defaultAction")
        ),
        known_actions=frozenset(str(one["alias"]) for one in actions),
        email_as_username=email_as_username,
        login_with_email=bool(realm.get("loginWithEmailAllowed", True)),
        internationalized=bool(realm.get("internationalizationEnabled")),
        post_only=any(one.get("providerId") != _KNOWN_PROFILE for one in profile_providers)
        or bool(admin.components(USER_STORAGE))
        or any(one.get("selector") for one in attributes),
        wanted=frozenset(str(one.get("name")) for one in attributes if _is_wanted(one)),
    )


def _is_wanted(attribute: Mapping[str, Any]) -> bool:
    """Say whether it has a default, or a least number of values: zero values are too few for that."""
    counts = (attribute.get("validations") or {}).get("multivalued") or {}
    return bool(attribute.get("defaultValue")) or str(counts.get("min") or 0) != "0"


def import_body(
    terms: ImportTerms, representation: UserRepresentation
) -> UserRepresentation | None:
    """Return the body whose import makes of a new user what POST would; None where that is not certain."""
    told = without_blanks(representation)
    user = cast("dict[str, Any]", told)
    attributes = user.get("attributes") or {}
    actions = user.get("requiredActions") or ()
    certain = (
        not terms.post_only
        and _FIELDS.issuperset(user)
        and terms.known_actions.issuperset(actions)
        and _names_are_certain(terms, user)
        and _attributes_are_certain(terms, attributes)
        and not uncertain_fields(terms.profile, told)
    )
    if not certain:
        return None
    body = dict(user)
    body["username"] = user["username"].lower()
    if user.get("email"):
        body["email"] = user["email"].lower()
    body["attributes"] = attributes
    groups = [f"/{path.strip('/')}" for path in user.get("groups") or ()]
    body["groups"] = list(dict.fromkeys((*groups, *terms.default_groups)))
    body["requiredActions"] = list(dict.fromkeys((*actions, *terms.default_actions)))
    body["realmRoles"] = [terms.default_role]
    return cast("UserRepresentation", body)


def _names_are_certain(terms: ImportTerms, user: Mapping[str, Any]) -> bool:
    username, email = user.get("username") or "", user.get("email") or ""
    if not username or username != username.strip() or email != email.strip():
        return False
    if username.lower() != email.lower() and (
        terms.email_as_username or ("@" in username and terms.login_with_email)
    ):
        return False  # the username may be another user's e-mail address
    given = [name for name in PROFILE_FIELDS if user.get(name)]
    return all(_is_editable(terms.profile.attributes.get(name)) for name in given) and not any(
        _UNSTORABLE.search(str(user[name])) for name in given
    )


def _attributes_are_certain(terms: ImportTerms, attributes: Mapping[str, list[str]]) -> bool:
    if not terms.wanted.issubset(attributes) or _UNSTORABLE.search(
        "".join(text for name, values in attributes.items() for text in (name, *values))
    ):
        return False
    return all(
        name not in PROFILE_FIELDS
        and not _is_read_only(name)
        and (name != LOCALE or terms.internationalized)
        and (name not in terms.profile.attributes or _is_editable(terms.profile.attributes[name]))
        for name, values in attributes.items()
    )


@lru_cache(maxsize=1024)
def _is_read_only(name: str) -> bool:
    return _READ_ONLY.fullmatch(name) is not None


def _is_editable(attribute: ProfileAttribute | None) -> bool:
    return attribute is not None and "admin" in attribute.edit


@dataclass(frozen=True, slots=True)
class RealmAccess:
    """What a stage asks of the whole realm; each call may raise KeycloakError.

    `list_users` and `count_users` are about all users, or those whose username contains what they are given as `username`.
    `search_s` says what a search by attribute costs Keycloak, in seconds.
    """

    list_users: Callable[..., Iterable[UserRepresentation]]
    count_users: Callable[..., int]
    importer: UserImporter
    search_s: Callable[[], float]


def realm_access(admin: KeycloakAdmin, clock: Clock, times: LookupTimes) -> RealmAccess:
    """Return the access of the bridge's service account; `times` are those of the searches that it makes."""
    return RealmAccess(
        partial(each_user, admin, page_size=_LARGE_PAGE, overlap=_OVERLAP),
        admin.count_users,
        KeycloakUserImporter(admin, clock),
        times.search_s,
    )
