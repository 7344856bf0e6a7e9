"""The state of a Keycloak realm in memory, and what an administrator does to it."""

import contextlib
import copy
import threading
import uuid
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import cast

from keycloak_bridge.core.desired import (
    GROUPS,
    ORGANIZATIONS,
    REALM_ROLES,
    IdentityLink,
    InvitationTerms,
    UserRepresentation,
)
from keycloak_bridge.core.desired import client_roles as client_roles_of
from keycloak_bridge.core.errors import BridgeError
from keycloak_bridge.keycloak_errors import error_for
from keycloak_bridge.keycloak_rejections import Call, normal_path
from keycloak_bridge.testing.in_memory_profile import MANAGED, kept_attributes, refusals

POST = Call("POST", "/users")
_PLAIN = ("email", "firstName", "lastName")

_STORED = ("username", "emailVerified", "enabled", *_PLAIN)


@dataclass(frozen=True, slots=True)
class SentMail:
    """A link that was mailed; `locale` is the language that Keycloak would write it in."""

    user_id: str
    email: str
    locale: str
    terms: InvitationTerms


@dataclass(slots=True)
class Account:
    """A user with everything that Keycloak keeps beside its representation; `memberships` are by their kind."""

    user: UserRepresentation
    memberships: defaultdict[str, set[str]] = field(default_factory=lambda: defaultdict(set))
    identities: dict[str, IdentityLink] = field(default_factory=dict)
    credentials: int = 0
    sessions: int = 0


@dataclass(frozen=True, slots=True)
class Failure:
    """What one call shall raise; `after_effect` is an answer that got lost on its way."""

    error: BridgeError
    after_effect: bool


class InMemoryRealm:
    """Users and what they belong to, under the same rules as in Keycloak. Implements RealmTools.

    `redirect_uris` are the clients of the realm, each with the beginnings of the URIs that it allows; `client_roles` are
    the roles of clients.
    """

    def __init__(
        self,
        *,
        managed: Mapping[str, int] = MANAGED,
        internationalization: bool = True,
        groups: Sequence[str] = (),
        realm_roles: Sequence[str] = (),
        client_roles: Mapping[str, Sequence[str]] | None = None,
        organizations: Sequence[str] = (),
        identity_providers: Sequence[str] = (),
        redirect_uris: Mapping[str, Sequence[str]] | None = None,
        actions: Sequence[str] = ("UPDATE_PASSWORD", "VERIFY_EMAIL", "CONFIGURE_TOTP"),
    ) -> None:
        self.calls: list[str] = []
        self.mails: list[SentMail] = []
        self.admin_events = True
        self.view_events = True
        self._recorded: set[str] = set()
        self._failures: dict[str, list[Failure]] = {}
        self._lock = threading.RLock()
        self._managed = managed
        self._internationalization = internationalization
        self._redirect_uris = redirect_uris or {"demo-app": ("http://localhost:8000/",)}
        self._actions = frozenset(actions)
        self._accounts: dict[str, Account] = {}
        self._names: dict[str, set[str]] = {
            GROUPS: set(),
            REALM_ROLES: set(realm_roles),
            ORGANIZATIONS: set(organizations),
        }
        self._identity_providers = set(identity_providers)
        self._owned: set[tuple[str, str]] = set()
        self._smtp_down = False
        self._usernames_editable = False
        self._organizations_enabled = True
        for client_id, names in (client_roles or {}).items():
            self.add_client(client_id, names)
        for path in groups:
            self.add_group(path)

    def users(self) -> tuple[UserRepresentation, ...]:
        """Return all users, in the order of their creation."""
        return tuple(copy.deepcopy(account.user) for account in self._accounts.values())

    def groups_of(self, user_id: str) -> frozenset[str]:
        """Return the paths of the groups that the user is a member of."""
        return self.members_of(user_id, GROUPS)

    def realm_roles_of(self, user_id: str) -> frozenset[str]:
        """Return the names of the realm roles that are mapped to the user."""
        return self.members_of(user_id, REALM_ROLES)

    def members_of(self, user_id: str, kind: str) -> frozenset[str]:
        """Return what the user belongs to of this kind of membership."""
        return frozenset(self._accounts[user_id].memberships.get(kind, ()))

    def identities_of(self, user_id: str) -> tuple[IdentityLink, ...]:
        """Return the user's accounts at identity providers, ordered by alias."""
        links = self._accounts[user_id].identities.values()
        return tuple(sorted(links, key=lambda link: link.alias))

    def sessions_of(self, user_id: str) -> int:
        """Return how many sessions the user has."""
        return self._accounts[user_id].sessions

    def add_user(self, representation: UserRepresentation) -> str:
        """Create a user and return its Keycloak id."""
        with self._lock:
            return self.create_user(representation)

    def delete_user(self, user_id: str) -> None:
        """Delete the user."""
        with self._lock:
            del self._accounts[user_id]

    def set_password(self, user_id: str) -> None:
        """Give the user a password."""
        with self._lock:
            self._accounts[user_id].credentials += 1

    def log_in(self, user_id: str) -> None:
        """Give the user a password if it has none, and begin a session with it."""
        with self._lock:
            account = self._accounts[user_id]
            account.credentials = account.credentials or 1
            account.sessions += 1

    def add_group(self, path: str) -> None:
        """Create the group, and its parents where they are missing."""
        names = path.strip("/").split("/")
        with self._lock:
            for depth in range(1, len(names) + 1):
                self._names[GROUPS].add("/" + "/".join(names[:depth]))

    def delete_group(self, path: str) -> None:
        """Delete the group and those below it."""
        gone = normal_path(path)
        with self._lock:
            self._names[GROUPS] = {
                kept
                for kept in self._names[GROUPS]
                if kept != gone and not kept.startswith(f"{gone}/")
            }
            for account in self._accounts.values():
                account.memberships[GROUPS] &= self._names[GROUPS]

    def add_realm_role(self, name: str) -> None:
        """Create the realm role."""
        with self._lock:
            self._names[REALM_ROLES].add(name)

    def add_client(self, client_id: str, roles: Sequence[str] = ()) -> None:
        """Create a client with these roles."""
        with self._lock:
            self._names.setdefault(client_roles_of(client_id), set()).update(roles)

    def add_organization(self, alias: str) -> None:
        """Create an organization."""
        with self._lock:
            self._names[ORGANIZATIONS].add(alias)

    def own_account(self, user_id: str, alias: str) -> None:
        """Make the organization the owner of the user's account, as one that logged in through its identity provider."""
        with self._lock:
            self._accounts[user_id].memberships[ORGANIZATIONS].add(alias)
            self._owned.add((user_id, alias))

    @contextlib.contextmanager
    def organizations_off(self) -> Iterator[None]:
        """Switch organizations off meanwhile."""
        self._organizations_enabled = False
        try:
            yield
        finally:
            self._organizations_enabled = True

    @contextlib.contextmanager
    def usernames_editable(self) -> Iterator[None]:
        """Let usernames be changed meanwhile."""
        self._usernames_editable = True
        try:
            yield
        finally:
            self._usernames_editable = False

    def add_identity_provider(self, alias: str) -> None:
        """Create an identity provider."""
        with self._lock:
            self._identity_providers.add(alias)

    def mails_sent(self, user_id: str) -> int:
        """Return how many links were mailed to the user."""
        return sum(mail.user_id == user_id for mail in self.mails)

    @contextlib.contextmanager
    def mail_outage(self) -> Iterator[None]:
        """Keep the SMTP server down meanwhile."""
        self._smtp_down = True
        try:
            yield
        finally:
            self._smtp_down = False

    def create_user(self, representation: UserRepresentation) -> str:
        """Do what POST /users does."""
        if not representation.get("username"):
            raise error_for(POST, 400, {"errorMessage": "User name is missing"})
        blank: UserRepresentation = {
            "id": str(uuid.uuid4()),
            "emailVerified": False,
            "enabled": False,
            "requiredActions": [],
        }
        user = self.written(blank, representation)
        self.refuse(POST, user)
        groups = {normal_path(path) for path in representation.get("groups", [])}
        if not groups <= self._names[GROUPS]:
            raise error_for(POST, 500, {"error": "unknown_error"})
        self._accounts[user["id"]] = account = Account(user)
        account.memberships[GROUPS] = groups
        return user["id"]

    def written(self, stored: UserRepresentation, given: UserRepresentation) -> UserRepresentation:
        """Return `stored` with `given` written over it, in the way Keycloak normalises it."""
        asked = cast("dict[str, object]", copy.deepcopy(given))
        merged = {**stored, **{key: asked[key] for key in _STORED if asked.get(key) is not None}}
        for key in ("username", "email"):
            if key in merged:
                merged[key] = str(merged[key]).lower()
        for key in _PLAIN:
            if not merged.get(key):
                merged.pop(key, None)
        user = cast("UserRepresentation", merged)
        if "requiredActions" in given:
            user["requiredActions"] = [
                action for action in given["requiredActions"] if action in self._actions
            ]
        if "attributes" in given:
            user.pop("attributes", None)
            kept = kept_attributes(
                given["attributes"], self._managed, locale=self._internationalization
            )
            if kept:
                user["attributes"] = kept
        return user

    def refuse(self, call: Call, user: UserRepresentation) -> None:
        """Raise what Keycloak answers when `user` breaks a rule or takes what is another's."""
        for other in self._accounts.values():
            if other.user["id"] == user["id"]:
                continue
            taken = {other.user["username"], other.user.get("email")} - {None}
            for key, said in (("username", "same username"), ("email", "same email")):
                if user.get(key) in taken:
                    raise error_for(call, 409, {"errorMessage": f"User exists with {said}"})
        refused = refusals(user, self._managed)
        if refused:
            raise error_for(call, 400, {"errors": refused} if len(refused) > 1 else refused[0])


def without_plain(user: UserRepresentation) -> UserRepresentation:
    """Return the user without the fields that a PUT with `attributes` erases unless it holds them."""
    kept = {key: value for key, value in user.items() if key not in _PLAIN}
    return cast("UserRepresentation", kept)
