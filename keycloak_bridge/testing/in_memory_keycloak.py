"""A Keycloak in memory that behaves as the real one does; the same contract suite holds both to it."""

import copy
import functools
from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Concatenate, ParamSpec, TypeVar

from keycloak_bridge.core.desired import (
    GROUPS,
    ORGANIZATIONS,
    FoundUser,
    IdentityLink,
    InvitationTerms,
    Lookup,
    MatchCriterion,
    UserRepresentation,
    client_of,
)
from keycloak_bridge.core.errors import BridgeError
from keycloak_bridge.core.ports import NOTHING_MORE
from keycloak_bridge.keycloak_calls import quote_query
from keycloak_bridge.keycloak_errors import error_for, organizations_disabled
from keycloak_bridge.keycloak_groups import can_be_created
from keycloak_bridge.keycloak_rejections import (
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
from keycloak_bridge.testing.in_memory_realm import (
    Account,
    Failure,
    InMemoryRealm,
    SentMail,
    without_plain,
)

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
