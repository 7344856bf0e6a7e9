"""A Keycloak in memory that behaves as the real one does; the contract suite runs against both.

`InMemoryKeycloak` is a UserDirectory, the administrator of its realm (as AdminRealmTools is of a real one), and can fail on
demand. `InMemoryImporter` is a UserImporter into its users.
"""

import contextlib
import copy
import functools
import re
import threading
import unicodedata
import uuid
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Concatenate, ParamSpec, TypeVar, cast

from keycloak_bridge.domain.errors import READ_ONLY, BridgeError
from keycloak_bridge.domain.ports import NOTHING_MORE, CredentialChange, CredentialChanges
from keycloak_bridge.domain.representation import is_blank
from keycloak_bridge.domain.users import (
    ATTRIBUTE_PREFIX,
    GROUPS,
    ORGANIZATIONS,
    REALM_ROLES,
    FoundUser,
    IdentityLink,
    InvitationTerms,
    Lookup,
    MatchCriterion,
    UserRepresentation,
    can_be_created,
    client_of,
    client_roles,
    may_be,
    targets_of,
)
from keycloak_bridge.keycloak.admin import quote_query
from keycloak_bridge.keycloak.calls import EXECUTE_ACTIONS_EMAIL, Call
from keycloak_bridge.keycloak.errors import (
    conflict,
    error_for,
    keycloak_error,
    mail_refusal,
    refuse_unusable,
    role_not_found,
    unsearchable,
)
from keycloak_bridge.keycloak.memberships import normal_path
from keycloak_bridge.keycloak.users import carriers, exactly

MANAGED: Mapping[str, int] = {
    "userId": 255,
    "tenantId": 255,
    "department": 255,
    "phoneNumber": 32,
    "bridgeEventId": 255,
    "bridgeEventTime": 255,
    "bridgeInvitation": 2048,
    "bridgeUserId": 255,
}
"""The single-valued attributes of keycloak-config's user profile, each with its greatest length."""

_USERNAME_BAN = re.compile(r"""[\s<>&"'$%!#?§,;:*~/\\|^=\[\]{}()`\x00-\x1f\x7f]""")
_NAME_BAN = re.compile(r'[<>&"\v$%!#?§;*~/\\|^=\[\]{}()\x00-\x1f\x7f]')
_LOCAL_PART = re.compile(r"""[a-z0-9!#$%&'*+/=?^_`{|}~-]+(\.[a-z0-9!#$%&'*+/=?^_`{|}~-]+)*""")
_DOMAIN_LABEL = re.compile(r"[^\W_]([\w-]*[^\W_])?")

_Entry = dict[str, Any]
_PLAIN = ("email", "firstName", "lastName")
_STORED = ("username", "emailVerified", "enabled", *_PLAIN)
_POST = Call("POST", "/users")
_GET = Call("GET", "/users/{id}")
_PUT = Call("PUT", "/users/{id}")
_MAIL = Call("PUT", EXECUTE_ACTIONS_EMAIL)
_ACTIONS = frozenset(
    {"UPDATE_PASSWORD", "VERIFY_EMAIL", "CONFIGURE_TOTP", "TERMS_AND_CONDITIONS"}
    | {"webauthn-register"}
)
_REDIRECT_URIS = {"demo-app": ("http://localhost:8000/",)}
"""The realm's clients, each with the beginnings of the URIs that it allows."""

_Params = ParamSpec("_Params")
_Answer = TypeVar("_Answer")


@dataclass(frozen=True, slots=True)
class SentMail:
    """A link that was mailed."""

    user_id: str
    email: str
    terms: InvitationTerms


@dataclass(slots=True)
class _Account:
    """A user with everything that Keycloak keeps beside its representation; `memberships` are by their kind."""

    user: UserRepresentation
    memberships: defaultdict[str, set[str]] = field(default_factory=lambda: defaultdict(set))
    identities: dict[str, IdentityLink] = field(default_factory=dict)
    credentials: list[datetime] = field(default_factory=list)
    sessions: int = 0
    directory_entry: UserRepresentation | None = None


@dataclass(frozen=True, slots=True)
class _Failure:
    """What one call raises; `after_effect` is an answer that was lost."""

    error: BridgeError
    after_effect: bool


def _port(
    method: Callable[Concatenate["InMemoryKeycloak", _Params], _Answer],
) -> Callable[Concatenate["InMemoryKeycloak", _Params], _Answer]:
    """Make a method one call to Keycloak: recorded, one at a time, and failing on demand."""
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


class InMemoryKeycloak:
    """A UserDirectory and its administrator in one. Safe to share between threads.

    `calls` lists the names of the port's methods in the order they were called, `lookups` counts the searches for users by
    what they are searched by (`attribute`, `username`, `email`, `id`), and `mails` lists the links that were sent.
    Switch `admin_events` off for a realm that records no mail, `user_events` for one that records nothing of its users, and
    `view_events` for an account that may not look.
    """

    def __init__(
        self,
        *,
        managed: Mapping[str, int] = MANAGED,
        groups: Sequence[str] = (),
        realm_roles: Sequence[str] = (),
        organizations: Sequence[str] = (),
        identity_providers: Sequence[str] = (),
    ) -> None:
        self.calls: list[str] = []
        self.lookups: Counter[str] = Counter()
        self.mails: list[SentMail] = []
        self.admin_events = True
        self.view_events = True
        self.user_events = True
        self.events_kept_since = datetime.min.replace(tzinfo=UTC)
        """Events that are older have expired."""
        self.now: Callable[[], datetime] = lambda: datetime.now(UTC)
        """Keycloak's clock."""
        self._credential_events: list[CredentialChange] = []
        self._recorded: set[str] = set()
        self._failures: dict[str, list[_Failure]] = {}
        self._lock = threading.RLock()
        self._managed = managed
        self._accounts: dict[str, _Account] = {}
        self._names: dict[str, set[str]] = {
            GROUPS: set(),
            REALM_ROLES: set(realm_roles),
            ORGANIZATIONS: set(organizations),
        }
        self._identity_providers = set(identity_providers)
        self._smtp_down = False
        self._usernames_editable = False
        self._addresses_shared = False
        self._usernames_unchecked = False
        self._addresses_are_usernames = False
        self._organizations_off = False
        for path in groups:
            self.add_group(path)

    def fail(
        self, method: str, error: BridgeError, *, times: int = 1, after_effect: bool = False
    ) -> None:
        """Make the next calls of `method` raise; with `after_effect` the call succeeds and its answer is lost."""
        waiting = self._failures.setdefault(method, [])
        waiting += [_Failure(error, after_effect)] * times

    def recover(self) -> None:
        """Let no call fail any more."""
        self._failures.clear()

    # what a test sees

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

    def mails_sent(self, user_id: str) -> int:
        """Return how many links were mailed to the user."""
        return sum(mail.user_id == user_id for mail in self.mails)

    # what an administrator does

    def add_user(self, representation: UserRepresentation) -> str:
        """Create a user and return its Keycloak id."""
        with self._lock:
            return self._create(representation)

    def add_directory_user(self, representation: UserRepresentation) -> str:
        """Import a user from a read-only directory, such as LDAP, and return its Keycloak id."""
        with self._lock:
            user_id = self._create(representation)
            account = self._accounts[user_id]
            account.directory_entry = representation
            account.user["federationLink"] = "directory"
            return user_id

    def delete_user(self, user_id: str) -> None:
        """Delete the user."""
        with self._lock:
            del self._accounts[user_id]

    def set_password(self, user_id: str) -> None:
        """Give the user a password."""
        with self._lock:
            self._accounts[user_id].credentials.append(self.now())

    def follow_link(self, user_id: str) -> None:
        """Set a password through the mailed link, as the user does: Keycloak records it twice, where it records events."""
        with self._lock:
            at = self.now()
            self._accounts[user_id].credentials.append(at)
            self._accounts[user_id].user["emailVerified"] = True
            if self.user_events:
                numbers = (len(self._credential_events) + number for number in (0, 1))
                self._credential_events += [
                    CredentialChange(f"event-{number}", user_id, at) for number in numbers
                ]

    def log_in(self, user_id: str) -> None:
        """Give the user a password if it has none, and begin a session with it."""
        with self._lock:
            account = self._accounts[user_id]
            account.credentials = account.credentials or [self.now()]
            account.sessions += 1

    def add_group(self, path: str) -> None:
        """Create the group, and its parents where they are missing."""
        names = path.strip("/").split("/")
        with self._lock:
            for depth in range(1, len(names) + 1):
                self._names[GROUPS].add("/" + "/".join(names[:depth]))

    def delete_group(self, path: str) -> None:
        """Delete the group and those below it."""
        below = f"{normal_path(path)}/"
        with self._lock:
            self._names[GROUPS] = {
                kept for kept in self._names[GROUPS] if not f"{kept}/".startswith(below)
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
            self._names.setdefault(client_roles(client_id), set()).update(roles)

    def add_organization(self, alias: str) -> None:
        """Create an organization."""
        with self._lock:
            self._names[ORGANIZATIONS].add(alias)

    def add_identity_provider(self, alias: str) -> None:
        """Create an identity provider."""
        with self._lock:
            self._identity_providers.add(alias)

    def organizations_off(self) -> contextlib.AbstractContextManager[None]:
        """Switch organizations off meanwhile."""
        return self._meanwhile("_organizations_off")

    def usernames_editable(self) -> contextlib.AbstractContextManager[None]:
        """Let usernames be changed meanwhile."""
        return self._meanwhile("_usernames_editable")

    def addresses_shared(self) -> contextlib.AbstractContextManager[None]:
        """Let several users have one e-mail address meanwhile."""
        return self._meanwhile("_addresses_shared")

    def usernames_unchecked(self) -> contextlib.AbstractContextManager[None]:
        """Take all validators of the username out of the user profile meanwhile."""
        return self._meanwhile("_usernames_unchecked")

    def addresses_are_usernames(self) -> contextlib.AbstractContextManager[None]:
        """Take the e-mail address as the username of each user meanwhile."""
        return self._meanwhile("_addresses_are_usernames")

    def mail_outage(self) -> contextlib.AbstractContextManager[None]:
        """Keep the SMTP server down meanwhile."""
        return self._meanwhile("_smtp_down")

    @contextlib.contextmanager
    def _meanwhile(self, flag: str) -> Iterator[None]:
        setattr(self, flag, True)
        try:
            yield
        finally:
            setattr(self, flag, False)

    # the port

    @_port
    def find(
        self,
        criteria: Sequence[MatchCriterion],
        lookup: Lookup = NOTHING_MORE,
        *,
        owner: MatchCriterion | None = None,
    ) -> FoundUser | None:
        """Return the user that the first successful criterion finds, with what `lookup` asks for."""
        kinds = sorted(lookup.memberships)
        for criterion in criteria:
            matches = self._matches(criterion) if criterion.value else []
            if criterion.is_username:
                exact = exactly([each.user for each in matches], criterion)
                matches = [each for each in matches if each.user in exact]
            matches = [account for account in matches if may_be(account.user, owner)]
            if len(matches) > 1:
                raise conflict(code="ambiguous", name=criterion.target, count=len(matches))
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
    def having(self, criterion: MatchCriterion) -> Sequence[UserRepresentation]:
        """Return every user that `criterion` finds."""
        matches = self._matches(criterion) if criterion.value else []
        return tuple(map(copy.deepcopy, carriers([each.user for each in matches], criterion)))

    @_port
    def get(self, user_id: str) -> UserRepresentation | None:
        """Return the user with all attributes, or None."""
        self.lookups["id"] += 1
        account = self._accounts.get(user_id)
        return None if account is None else copy.deepcopy(account.user)

    @_port
    def belongs_to(self, user_id: str, kind: str) -> frozenset[str]:
        """Return the groups, roles or organizations that the user belongs to."""
        self._account(_GET, user_id)
        return self.members_of(user_id, kind)

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
        return self._create(representation)

    @_port
    def update(self, user_id: str, representation: UserRepresentation) -> None:
        """Replace the user; with `attributes` given, what is absent is erased."""
        stored = self._account(_PUT, user_id).user
        erased = _PLAIN if "attributes" in representation else ()
        kept = {key: value for key, value in stored.items() if key not in erased}
        replaced = self._written(cast("UserRepresentation", kept), representation)
        renamed = replaced["username"] != stored["username"]
        read_only = ["username"] if renamed and not self._usernames_editable else []
        if self._accounts[user_id].directory_entry is not None:
            read_only = _changed(stored, replaced)
        if not read_only:
            self._refuse_taken(_PUT, replaced)
        refused = [_refusal(name, READ_ONLY) for name in read_only]
        refused += [one for one in self._refusals(replaced) if one["field"] not in read_only]
        _raise_refused(_PUT, refused)
        self._accounts[user_id].user = replaced

    @_port
    def delete(self, user_id: str) -> None:
        """Remove the user for good; harmless when it is gone. One of a directory comes back at once."""
        account = self._accounts.pop(user_id, None)
        if account is not None and account.directory_entry is not None:
            self.add_directory_user(account.directory_entry)

    @_port
    def join(self, user_id: str, kind: str, names: Sequence[str]) -> None:
        """Make the user a member of these groups or organizations, or give it these roles."""
        self._refuse_organizations(kind)
        known = self._names.get(kind)
        client_id = client_of(kind)
        if known is None and client_id is not None:
            raise keycloak_error(code="client-not-found", name=client_id)
        wanted = [_normal(kind, name) for name in names]
        missing = [name for name in wanted if name not in (known or ())]
        if missing and kind in (GROUPS, ORGANIZATIONS):
            raise keycloak_error(code=f"{kind[:-1]}-not-found", name=missing[0])
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
        if account is not None:
            account.memberships[kind] -= {_normal(kind, name) for name in names}

    @_port
    def create_group(self, path: str) -> None:
        """Create the group and those above it; harmless when they are there."""
        if not can_be_created(path):
            raise keycloak_error(code="group-not-found", name=normal_path(path))
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
            raise conflict(code="identity-taken", name=alias)
        return owners[0] if owners else None

    @_port
    def link_identity(self, user_id: str, link: IdentityLink) -> None:
        """Link the user to its account, in the place of one that it has there."""
        account = self._account(_GET, user_id)
        if link.alias not in self._identity_providers:
            raise keycloak_error(code="identity-provider-not-found", name=link.alias)
        account.identities[link.alias] = link

    @_port
    def unlink_identity(self, user_id: str, alias: str) -> None:
        """Remove the link; harmless when there is none."""
        account = self._accounts.get(user_id)
        if account is not None:
            account.identities.pop(alias, None)

    @_port
    def end_sessions(self, user_id: str) -> None:
        """Log the user out everywhere; harmless when it has no session."""
        account = self._accounts.get(user_id)
        if account is not None:
            account.sessions = 0

    @_port
    def has_credentials(self, user_id: str) -> bool:
        """Say whether the user has set a password already."""
        return bool(self._account(_GET, user_id).credentials)

    @_port
    def activated_at(self, user_id: str) -> datetime | None:
        """Return when the user set its first credential."""
        return min(self._account(_GET, user_id).credentials, default=None)

    @_port
    def changes_since(self, since: datetime) -> CredentialChanges | None:
        """Return which users set a credential; None while no events are recorded or they may not be read."""
        if not (self.user_events and self.view_events):
            return None
        kept = [one for one in self._credential_events if one.at >= self.events_kept_since]
        return CredentialChanges(
            tuple(one for one in kept if one.at >= since), complete=since >= self.events_kept_since
        )

    @_port
    def execute_actions_email(self, user_id: str, terms: InvitationTerms) -> None:
        """Put the link among `mails`."""
        refuse_unusable(terms)
        user = self._account(_MAIL, user_id).user
        if not user.get("email"):
            raise mail_refusal("User email missing")
        if not user["enabled"]:
            raise mail_refusal("User is disabled")
        if terms.client_id is not None and terms.client_id not in _REDIRECT_URIS:
            raise mail_refusal("Client doesn't exist")
        allowed = _REDIRECT_URIS.get(terms.client_id or "", ())
        if terms.redirect_uri is not None and not terms.redirect_uri.startswith(allowed):
            raise mail_refusal("Invalid redirect uri.")
        if not _ACTIONS.issuperset(terms.actions):
            raise mail_refusal("Provided invalid required actions")
        if self._smtp_down:
            raise error_for(_MAIL, 500, {"errorMessage": "Failed to send"})
        self.mails.append(SentMail(user_id, user["email"], terms))
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
            raise error_for(Call("GET", "/admin-events"), 403, {"error": "HTTP 403 Forbidden"})
        return user_id in self._recorded

    def _refuse_organizations(self, *kinds: str) -> None:
        if ORGANIZATIONS in kinds and self._organizations_off:
            call = Call("GET", "/organizations")
            raise keycloak_error(code="organizations-disabled", call=call, status=404)

    def _account(self, call: Call, user_id: str) -> _Account:
        account = self._accounts.get(user_id)
        if account is None:
            raise error_for(call, 404, {"error": "User not found"})
        return account

    def _matches(self, criterion: MatchCriterion) -> list[_Account]:
        target, value = criterion.target, criterion.value
        kind = "username" if criterion.is_username else target.partition(".")[0]
        self.lookups[{"attributes": "attribute"}.get(kind, kind)] += 1
        accounts = self._accounts.values()
        if target in ("username", "email"):
            return [each for each in accounts if each.user.get(target) == value.lower()]
        if criterion.is_username:
            return [each for each in accounts if each.user.get("username") == value.lower()]
        prefix, _, name = target.partition(".")
        if prefix != "attributes":
            raise ValueError(f"users cannot be matched by {target}")
        try:
            quote_query(value)
        except ValueError as error:
            raise unsearchable(f"/user/attributes/{name}") from error
        return [each for each in accounts if value in each.user.get("attributes", {}).get(name, [])]

    def refuses(self, representation: UserRepresentation) -> bool:
        """Say whether the realm's user profile refuses the user."""
        return bool(self._refusals(self._written(UserRepresentation(), representation)))

    def import_user(self, representation: UserRepresentation) -> str:
        """Create a user without a look at the user profile, as a partial import does; return its Keycloak id."""
        with self._lock:
            return self._create(representation, checked=False)

    def _create(self, representation: UserRepresentation, *, checked: bool = True) -> str:
        named = representation.get("username") or (
            self._addresses_are_usernames and representation.get("email")
        )
        if not named:
            raise error_for(_POST, 400, {"errorMessage": "User name is missing"})
        blank: UserRepresentation = {
            "id": str(uuid.uuid4()),
            "emailVerified": False,
            "enabled": False,
            "requiredActions": [],
        }
        user = self._written(blank, representation)
        self._refuse_taken(_POST, user)
        _raise_refused(_POST, self._refusals(user) if checked else [])
        groups = {normal_path(path) for path in representation.get("groups", [])}
        if not groups <= self._names[GROUPS]:
            raise error_for(_POST, 500, {"error": "unknown_error"})
        self._accounts[user["id"]] = account = _Account(user)
        account.memberships[GROUPS] = groups
        return user["id"]

    def _written(self, stored: UserRepresentation, given: UserRepresentation) -> UserRepresentation:
        """Return `stored` with `given` written over it, in the way Keycloak normalises it."""
        asked = cast("dict[str, object]", copy.deepcopy(given))
        merged = {**stored, **{key: asked[key] for key in _STORED if asked.get(key) is not None}}
        for key in ("username", "email"):
            if key in merged:
                merged[key] = str(merged[key]).lower()
        for key in _PLAIN:
            if is_blank(merged.get(key)):
                merged.pop(key, None)
        if self._addresses_are_usernames and "email" in merged:
            merged["username"] = merged["email"]
        user = cast("UserRepresentation", merged)
        if "requiredActions" in given:
            user["requiredActions"] = [
                action for action in given["requiredActions"] if action in _ACTIONS
            ]
        if "attributes" in given:
            user.pop("attributes", None)
            kept = _kept_attributes(given["attributes"], self._managed)
            if kept:
                user["attributes"] = kept
        return user

    def _refuse_taken(self, call: Call, user: UserRepresentation) -> None:
        """Raise what Keycloak answers when `user` takes another user's name."""
        for other in self._accounts.values():
            if other.user["id"] == user["id"]:
                continue
            # a realm where addresses are shared lets nobody log in by them
            unique = ("username",) if self._addresses_shared else ("username", "email")
            taken = {other.user.get(key) for key in unique} - {None}
            for key in unique:
                if user.get(key) in taken:
                    raise error_for(call, 409, {"errorMessage": f"User exists with same {key}"})

    def _refusals(self, user: UserRepresentation) -> list[_Entry]:
        """Return what Keycloak would answer for each field that it refuses."""
        username = user.get("username", "")
        return [
            *(
                ()
                if self._usernames_unchecked
                else _username(username, any_character=self._addresses_are_usernames)
            ),
            *_email(user.get("email", "")),
            *_name("firstName", user.get("firstName", "")),
            *_name("lastName", user.get("lastName", "")),
            *_attributes(user.get("attributes", {}), self._managed),
        ]


def _normal(kind: str, name: str) -> str:
    return normal_path(name) if kind == GROUPS else name


def _raise_refused(call: Call, refused: Sequence[_Entry]) -> None:
    """Raise what Keycloak answers when it refuses these fields: all of them at once."""
    if refused:
        raise error_for(call, 400, {"errors": refused} if len(refused) > 1 else refused[0])


def _changed(stored: UserRepresentation, replaced: UserRepresentation) -> list[str]:
    """Return what changes of a user, besides its switches and actions: nothing of it may change of a directory's user."""
    before, after = targets_of(stored), targets_of(replaced)
    return [
        name.removeprefix(ATTRIBUTE_PREFIX)
        for name in sorted(before.keys() | after.keys())
        if name in (*_PLAIN, "username") or name.startswith(ATTRIBUTE_PREFIX)
        if before.get(name) != after.get(name)
    ]


def _kept_attributes(
    given: Mapping[str, list[str]], managed: Mapping[str, int]
) -> dict[str, list[str]]:
    """Return the attributes that get stored: the rest is dropped without an error, as in Keycloak."""
    known = {*managed, "locale"}
    filled = {
        name: [value for value in values if not is_blank(value)] for name, values in given.items()
    }
    return {name: values for name, values in filled.items() if values and name in known}


def _username(username: str, *, any_character: bool) -> Iterator[_Entry]:
    banned = not any_character and _USERNAME_BAN.search(username)
    if not 3 <= len(username) <= 255:
        yield _refusal("username", "error-invalid-length", 3, 255)
    elif banned or not all(map(_is_latin_or_common, username)):
        yield _refusal("username", "error-username-invalid-character")


def _is_latin_or_common(character: str) -> bool:
    if unicodedata.category(character)[0] not in "LM":
        return True
    return unicodedata.name(character, "").startswith("LATIN ")


def _email(email: str) -> Iterator[_Entry]:
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


def _name(field: str, name: str) -> Iterator[_Entry]:
    if len(name) > 255:
        yield _refusal(field, "error-invalid-length-too-long", None, 255)
    elif _NAME_BAN.search(name):
        yield _refusal(field, "error-person-name-invalid-character")


def _attributes(
    attributes: Mapping[str, list[str]], managed: Mapping[str, int]
) -> Iterator[_Entry]:
    for name, values in attributes.items():
        if name not in managed:
            continue
        if len(values) > 1:
            yield _refusal(name, "error-invalid-multivalued-size", 0, 1)
        elif any(len(value) > managed[name] for value in values):
            yield _refusal(name, "error-invalid-length-too-long", None, managed[name])


def _refusal(field: str, key: str, *params: object) -> _Entry:
    return {"field": field, "errorMessage": key, "params": [field, *params]}


class InMemoryImporter:
    """A UserImporter into the users of an InMemoryKeycloak. Safe to share between threads.

    `allowed` says whether users may be imported, `uncertain` lists the usernames that are left to `create`; `batches` lists
    the usernames of each import that was tried.
    """

    def __init__(self, keycloak: InMemoryKeycloak) -> None:
        self._keycloak = keycloak
        self._lock = threading.Lock()
        self._failures: list[_Failure] = []
        self.allowed = True
        self.uncertain: set[str] = set()
        self.batches: list[tuple[str, ...]] = []

    def fail(self, error: BridgeError, *, times: int = 1, after_effect: bool = False) -> None:
        """Make the next imports raise; with `after_effect` the import succeeds and its answer is lost."""
        self._failures += [_Failure(error, after_effect)] * times

    def available(self) -> bool:
        """Say whether users may be imported."""
        return self.allowed

    def import_body(self, representation: UserRepresentation) -> UserRepresentation | None:
        """Return the user as it is, unless its username is `uncertain` or the realm refuses the user."""
        uncertain = representation.get("username", "") in {"", *self.uncertain}
        return None if uncertain or self._keycloak.refuses(representation) else representation

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
                raise error_for(Call("POST", "/partialImport"), 500, {"error": "unknown_error"})
            ids = [self._keycloak.import_user(user) if user in new else None for user in users]
            if failure is not None:
                raise failure.error
            return ids

    def _has_groups(self, user: UserRepresentation) -> bool:
        return not self._keycloak.missing("groups", user.get("groups", []))
