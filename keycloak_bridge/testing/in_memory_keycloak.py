"""A Keycloak in memory that behaves as the real one does; the same contract suite holds both to it."""

import copy
import functools
from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Concatenate, ParamSpec, TypeVar

from keycloak_bridge.core.errors import BridgeError
from keycloak_bridge.core.model import (
    FoundUser,
    InvitationTerms,
    MatchCriterion,
    UserRepresentation,
)
from keycloak_bridge.keycloak_admin import quote_query
from keycloak_bridge.keycloak_errors import error_for
from keycloak_bridge.keycloak_rejections import (
    EXECUTE_ACTIONS_EMAIL,
    Call,
    ambiguous,
    group_not_found,
    mail_refusal,
    normal_path,
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
        self, criteria: Sequence[MatchCriterion], *, groups: bool, realm_roles: bool
    ) -> FoundUser | None:
        """Return the user that the first successful criterion finds."""
        for criterion in criteria:
            matches = self._matches(criterion) if criterion.value else []
            if len(matches) > 1:
                raise ambiguous(criterion.target, len(matches))
            for account in matches:
                return FoundUser(
                    account.user["id"],
                    copy.deepcopy(account.user),
                    matched_by=criterion.target,
                    groups=frozenset(account.groups if groups else ()),
                    realm_roles=frozenset(account.realm_roles if realm_roles else ()),
                )
        return None

    @_port
    def get(self, user_id: str) -> UserRepresentation | None:
        """Return the user with all attributes, or None."""
        account = self._accounts.get(user_id)
        return None if account is None else copy.deepcopy(account.user)

    @_port
    def missing_groups(self, paths: Sequence[str]) -> tuple[str, ...]:
        """Return those paths that name no group of the realm."""
        return tuple(path for path in paths if normal_path(path) not in self._groups)

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
        if replaced["username"] != stored["username"]:
            key = "error-user-attribute-read-only"
            raise error_for(_PUT, 400, {"field": "username", "errorMessage": key, "params": []})
        self.refuse(_PUT, replaced)
        self._accounts[user_id].user = replaced

    @_port
    def join_group(self, user_id: str, path: str) -> None:
        """Make the user a member; harmless when it is one."""
        if normal_path(path) not in self._groups:
            raise group_not_found(path)
        self._account(_GET, user_id).groups.add(normal_path(path))

    @_port
    def grant_realm_roles(self, user_id: str, names: Sequence[str]) -> None:
        """Map the roles; harmless when they are mapped."""
        account = self._account(_GET, user_id)
        missing = [name for name in names if name not in self._realm_roles]
        if missing:
            raise role_not_found(missing)
        account.realm_roles.update(names)

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
