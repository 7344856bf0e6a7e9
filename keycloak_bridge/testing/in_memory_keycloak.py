"""The state of a Keycloak realm in memory, and what an administrator does to it.

The user profile of the Keycloak in memory: which attributes it keeps, and what it refuses with which key.

A Keycloak in memory that behaves as the real one does; the same contract suite holds both to it.

An import of users in memory; the same contract suite holds it and the real one to their promises.
"""

import contextlib
import copy
import functools
import re
import threading
import unicodedata
import uuid
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Concatenate, ParamSpec, TypeVar, cast

from keycloak_bridge.domain.errors import BridgeError
from keycloak_bridge.domain.ports import NOTHING_MORE
from keycloak_bridge.domain.users import (
    GROUPS,
    ORGANIZATIONS,
    REALM_ROLES,
    FoundUser,
    IdentityLink,
    InvitationTerms,
    Lookup,
    MatchCriterion,
    UserRepresentation,
    client_of,
)
from keycloak_bridge.domain.users import client_roles as client_roles_of
from keycloak_bridge.keycloak.admin import quote_query
from keycloak_bridge.keycloak.errors import error_for, organizations_disabled
from keycloak_bridge.keycloak.import_eligibility import Judgement, Way
from keycloak_bridge.keycloak.memberships import can_be_created
from keycloak_bridge.keycloak.refusals import (
    EXECUTE_ACTIONS_EMAIL,
    Call,
    ambiguous,
    client_not_found,
    group_not_found,
    identity_provider_not_found,
    identity_shared,
    mail_refusal,
    normal_path,
    organization_not_found,
    owned_by_organization,
    refuse_unusable,
    role_not_found,
    unsearchable,
)

MANAGED: Mapping[str, int] = {
    "userId": 255,
    "tenantId": 255,
    "department": 255,
    "phoneNumber": 32,
    "bridgeEventId": 255,
    "bridgeEventTime": 255,
    "bridgeInvitation": 2048,
}
"""The single-valued attributes of keycloak-config's user profile, each with its greatest length."""

_USERNAME_BAN = re.compile(r"""[\s<>&"'$%!#?§,;:*~/\\|^=\[\]{}()`\x00-\x1f\x7f]""")
_NAME_BAN = re.compile(r'[<>&"\v$%!#?§;*~/\\|^=\[\]{}()\x00-\x1f\x7f]')
_LOCAL_PART = re.compile(r"""[a-z0-9!#$%&'*+/=?^_`{|}~-]+(\.[a-z0-9!#$%&'*+/=?^_`{|}~-]+)*""")
_DOMAIN_LABEL = re.compile(r"[^\W_]([\w-]*[^\W_])?")

Refusal = dict[str, Any]


def refusals(user: UserRepresentation, managed: Mapping[str, int]) -> list[Refusal]:
    """Return what Keycloak would answer for each field that it refuses."""
    return [
        *_username(user.get("username", "")),
        *_email(user.get("email", "")),
        *_name("firstName", user.get("firstName", "")),
        *_name("lastName", user.get("lastName", "")),
        *_attributes(user.get("attributes", {}), managed),
    ]


def kept_attributes(
    given: Mapping[str, list[str]], managed: Mapping[str, int], *, locale: bool
) -> dict[str, list[str]]:
    """Return the attributes that get stored: the rest vanishes without a word, as in Keycloak."""
    known = {*managed, "locale"} if locale else {*managed}
    filled = {name: [value for value in values if value] for name, values in given.items()}
    return {name: values for name, values in filled.items() if values and name in known}


def _username(username: str) -> Iterator[Refusal]:
    if not 3 <= len(username) <= 255:
        yield _refusal("username", "error-invalid-length", 3, 255)
    elif _USERNAME_BAN.search(username) or not all(map(_is_latin_or_common, username)):
        yield _refusal("username", "error-username-invalid-character")


def _is_latin_or_common(character: str) -> bool:
    if unicodedata.category(character)[0] not in "LM":
        return True
    return unicodedata.name(character, "").startswith("LATIN ")


def _email(email: str) -> Iterator[Refusal]:
    if not email:
        return
    local, at, domain = email.lower().rpartition("@")
    labels = domain.split(".")
    if not local.isascii():
        yield _refusal("email", "error-non-ascii-local-part-email")
    elif (
        not at
        or len(local) > 64
        or not _LOCAL_PART.fullmatch(local)
        or not all(_DOMAIN_LABEL.fullmatch(label) for label in labels)
    ):
        yield _refusal("email", "error-invalid-email", email)


def _name(field: str, name: str) -> Iterator[Refusal]:
    if len(name) > 255:
        yield _refusal(field, "error-invalid-length-too-long", None, 255)
    elif _NAME_BAN.search(name):
        yield _refusal(field, "error-person-name-invalid-character")


def _attributes(
    attributes: Mapping[str, list[str]], managed: Mapping[str, int]
) -> Iterator[Refusal]:
    for name, values in attributes.items():
        if name not in managed:
            continue
        if len(values) > 1:
            yield _refusal(name, "error-invalid-multivalued-size", 0, 1)
        elif any(len(value) > managed[name] for value in values):
            yield _refusal(name, "error-invalid-length-too-long", None, managed[name])


def _refusal(field: str, key: str, *params: object) -> Refusal:
    return {"field": field, "errorMessage": key, "params": [field, *params]}


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


_GET = Call("GET", "/users/{id}")
_PUT = Call("PUT", "/users/{id}")
_MAIL = Call("PUT", EXECUTE_ACTIONS_EMAIL)
_EVENTS = Call("GET", "/admin-events")
_ORGANIZATIONS = Call("GET", "/organizations")

_Params = ParamSpec("_Params")
_Answer = TypeVar("_Answer")


def _port(
    method: Callable[Concatenate["InMemoryKeycloak", _Params], _Answer],
) -> Callable[Concatenate["InMemoryKeycloak", _Params], _Answer]:
    """Make a method one call to Keycloak: recorded, one at a time, and failing when told to."""
    name = method.__name__

    @functools.wraps(method)
    def call(self: "InMemoryKeycloak", /, *args: _Params.args, **kwargs: _Params.kwargs) -> _Answer:
        with self._lock:
            self.calls.append(name)
            waiting = self._failures.get(name, [])
            failure = waiting.pop(0) if waiting else None
            if failure is not None and not failure.after_effect:
                raise failure.error
            answer = method(self, *args, **kwargs)
            if failure is not None:
                raise failure.error
            return answer

    return call


class InMemoryKeycloak(InMemoryRealm):
    """A UserDirectory and its RealmTools in one. Safe to share between threads.

    `calls` holds the names of the port's methods in the order they were called, `mails` the links that were sent.
    Switch `admin_events` off for a realm that records no mail, `view_events` for an account that may not look.
    """

    def fail(
        self, method: str, error: BridgeError, *, times: int = 1, after_effect: bool = False
    ) -> None:
        """Make the next calls of `method` raise; `after_effect` is an answer that got lost on its way."""
        waiting = self._failures.setdefault(method, [])
        waiting += [Failure(error, after_effect)] * times

    @_port
    def find(
        self, criteria: Sequence[MatchCriterion], lookup: Lookup = NOTHING_MORE
    ) -> FoundUser | None:
        """Return the user that the first successful criterion finds, with what `lookup` asks for."""
        kinds = sorted(lookup.memberships)
        for criterion in criteria:
            matches = self._matches(criterion) if criterion.value else []
            if len(matches) > 1:
                raise ambiguous(criterion.target, len(matches))
            for account in matches:
                self._refuse_organizations(*kinds)
                user_id = account.user["id"]
                return FoundUser(
                    user_id,
                    copy.deepcopy(account.user),
                    matched_by=criterion.target,
                    memberships={each: self.members_of(user_id, each) for each in kinds},
                    identities=self.identities_of(user_id) if lookup.identities else (),
                    sessions=account.sessions if lookup.sessions else 0,
                )
        return None

    @_port
    def having(self, external_id: MatchCriterion) -> Sequence[UserRepresentation]:
        """Return every user that carries this external id."""
        matches = self._matches(external_id) if external_id.value else []
        return tuple(copy.deepcopy(account.user) for account in matches)

    @_port
    def get(self, user_id: str) -> UserRepresentation | None:
        """Return the user with all attributes, or None."""
        account = self._accounts.get(user_id)
        return None if account is None else copy.deepcopy(account.user)

    @_port
    def missing(self, kind: str, names: Sequence[str]) -> tuple[str, ...]:
        """Return those groups or organizations that the realm does not have; none for roles."""
        self._refuse_organizations(kind)
        if kind not in (GROUPS, ORGANIZATIONS):
            return ()
        known = self._names[kind]
        return tuple(name for name in names if _normal(kind, name) not in known)

    @_port
    def create(self, representation: UserRepresentation) -> str:
        """Create the user and return its Keycloak id."""
        return self.create_user(representation)

    @_port
    def update(self, user_id: str, representation: UserRepresentation) -> None:
        """Replace the user; with `attributes` given, what is absent is erased."""
        stored = self._account(_PUT, user_id).user
        kept = without_plain(stored) if "attributes" in representation else stored
        replaced = self.written(kept, representation)
        if replaced["username"] != stored["username"] and not self._usernames_editable:
            key = "error-user-attribute-read-only"
            raise error_for(_PUT, 400, {"field": "username", "errorMessage": key, "params": []})
        self.refuse(_PUT, replaced)
        self._accounts[user_id].user = replaced

    @_port
    def delete(self, user_id: str) -> None:
        """Remove the user for good; harmless when it is gone."""
        self._accounts.pop(user_id, None)

    @_port
    def join(self, user_id: str, kind: str, names: Sequence[str]) -> None:
        """Make the user a member of these groups or organizations, or give it these roles."""
        self._refuse_organizations(kind)
        known = self._names.get(kind)
        client_id = client_of(kind)
        if known is None and client_id is not None:
            raise client_not_found(client_id)
        wanted = [_normal(kind, name) for name in names]
        missing = [name for name in wanted if name not in (known or ())]
        if missing and kind == GROUPS:
            raise group_not_found(missing[0])
        if missing and kind == ORGANIZATIONS:
            raise organization_not_found(missing[0])
        if names:
            account = self._account(_GET, user_id)
            if missing:
                raise role_not_found(missing, client_id)
            account.memberships[kind].update(wanted)

    @_port
    def leave(self, user_id: str, kind: str, names: Sequence[str]) -> None:
        """Undo `join`; harmless where there is nothing to undo."""
        self._refuse_organizations(kind)
        account = self._accounts.get(user_id)
        for name in names:
            if kind == ORGANIZATIONS and (user_id, name) in self._owned:
                raise owned_by_organization(name)
            if account is not None:
                account.memberships[kind].discard(_normal(kind, name))

    @_port
    def create_group(self, path: str) -> None:
        """Create the group and those above it; harmless when they are there."""
        if not all(map(can_be_created, path.strip("/").split("/"))):
            raise group_not_found(path)
        self.add_group(path)

    @_port
    def identity_owner(self, alias: str, user_id: str) -> str | None:
        """Return the Keycloak id of the user that is linked to this account of the identity provider."""
        owners = [
            each.user["id"]
            for each in self._accounts.values()
            if alias in each.identities and each.identities[alias].user_id == user_id
        ]
        if len(owners) > 1:
            raise identity_shared(alias)
        return owners[0] if owners else None

    @_port
    def link_identity(self, user_id: str, link: IdentityLink) -> None:
        """Link the user to its account, in the place of one that it has there."""
        account = self._account(_GET, user_id)
        if link.alias not in self._identity_providers:
            raise identity_provider_not_found(link.alias)
        account.identities[link.alias] = link

    @_port
    def unlink_identity(self, user_id: str, alias: str) -> None:
        """Take the link away; harmless when there is none."""
        account = self._accounts.get(user_id)
        if account is not None:
            account.identities.pop(alias, None)

    @_port
    def end_sessions(self, user_id: str) -> None:
        """Log the user out everywhere; harmless when it is nowhere logged in."""
        account = self._accounts.get(user_id)
        if account is not None:
            account.sessions = 0

    @_port
    def has_credentials(self, user_id: str) -> bool:
        """Say whether the user has set a password already."""
        return self._account(_GET, user_id).credentials > 0

    @_port
    def execute_actions_email(self, user_id: str, terms: InvitationTerms) -> None:
        """Put the link among `mails`."""
        refuse_unusable(terms)
        user = self._account(_MAIL, user_id).user
        if not user.get("email"):
            raise mail_refusal("User email missing")
        if not user["enabled"]:
            raise mail_refusal("User is disabled")
        if terms.client_id is not None and terms.client_id not in self._redirect_uris:
            raise mail_refusal("Client doesn't exist")
        allowed = tuple(self._redirect_uris.get(terms.client_id or "", ()))
        if terms.redirect_uri is not None and not terms.redirect_uri.startswith(allowed):
            raise mail_refusal("Invalid redirect uri.")
        if not self._actions.issuperset(terms.actions):
            raise mail_refusal("Provided invalid required actions")
        if self._smtp_down:
            raise error_for(_MAIL, 500, {"errorMessage": "Failed to send"})
        locale = user.get("attributes", {}).get("locale", ["en"])[0]
        self.mails.append(SentMail(user_id, user["email"], locale, terms))
        if self.admin_events:
            self._recorded.add(user_id)

    @_port
    def can_look_up_mails(self) -> bool:
        """Say whether `admin_events` and `view_events` are on."""
        return self.admin_events and self.view_events

    @_port
    def mail_recorded(self, user_id: str, since: datetime | None = None) -> bool:
        """Say whether a link was mailed to the user while `admin_events` was on, at whatever time."""
        if not self.view_events:
            raise error_for(_EVENTS, 403, {"error": "HTTP 403 Forbidden"})
        return user_id in self._recorded

    def _refuse_organizations(self, *kinds: str) -> None:
        if ORGANIZATIONS in kinds and not self._organizations_enabled:
            raise organizations_disabled(_ORGANIZATIONS, 404)

    def _account(self, call: Call, user_id: str) -> Account:
        account = self._accounts.get(user_id)
        if account is None:
            raise error_for(call, 404, {"error": "User not found"})
        return account

    def _matches(self, criterion: MatchCriterion) -> list[Account]:
        target, value = criterion.target, criterion.value
        accounts = self._accounts.values()
        if target in ("username", "email"):
            return [each for each in accounts if each.user.get(target) == value.lower()]
        prefix, _, name = target.partition(".")
        if prefix != "attributes":
            raise ValueError(f"users cannot be matched by {target}")
        try:
            quote_query(value)
        except ValueError as error:
            raise unsearchable(f"/user/attributes/{name}") from error
        return [each for each in accounts if value in each.user.get("attributes", {}).get(name, [])]


def _normal(kind: str, name: str) -> str:
    return normal_path(name) if kind == GROUPS else name


_CALL = Call("POST", "/partialImport")


class InMemoryImporter:
    """A UserImporter into the users of an InMemoryKeycloak. Safe to share between threads.

    `allowed` says whether users may be imported, `judgements` what `judge` answers for a username other than "import";
    `batches` holds the usernames of each import that was tried.
    """

    def __init__(self, keycloak: InMemoryKeycloak) -> None:
        self._keycloak = keycloak
        self._lock = threading.Lock()
        self._failures: list[Failure] = []
        self.allowed = True
        self.judgements: dict[str, Judgement] = {}
        self.batches: list[tuple[str, ...]] = []

    def fail(self, error: BridgeError, *, times: int = 1, after_effect: bool = False) -> None:
        """Make the next imports raise; `after_effect` is an answer that got lost on its way."""
        self._failures += [Failure(error, after_effect)] * times

    def available(self) -> bool:
        """Say whether users may be imported."""
        return self.allowed

    def judge(self, representation: UserRepresentation) -> Judgement:
        """Return what was put into `judgements`, else that the user may be imported as it is."""
        usual = Judgement(Way.IMPORT, representation)
        return self.judgements.get(representation["username"], usual)

    def import_users(self, users: Sequence[UserRepresentation]) -> Sequence[str | None]:
        """Create all that are not there yet, or none."""
        with self._lock:
            self.batches.append(tuple(user["username"] for user in users))
            failure = self._failures.pop(0) if self._failures else None
            if failure is not None and not failure.after_effect:
                raise failure.error
            there = self._keycloak.users()
            names = {user["username"] for user in there}
            emails = {user["email"] for user in there if "email" in user}
            new = [user for user in users if user["username"] not in names]
            wrong = any(user.get("email") in emails for user in new)
            if wrong or not all(map(self._has_groups, users)):
                raise error_for(_CALL, 500, {"error": "unknown_error"})
            ids = [self._keycloak.add_user(user) if user in new else None for user in users]
            if failure is not None:
                raise failure.error
            return ids

    def _has_groups(self, user: UserRepresentation) -> bool:
        return not self._keycloak.missing("groups", user.get("groups", []))
