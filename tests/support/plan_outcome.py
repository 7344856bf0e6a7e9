"""The user in Keycloak after a plan, without a Keycloak."""

from dataclasses import replace
from typing import Any, cast

from keycloak_bridge.domain.operations import (
    CreateUser,
    DeleteUser,
    EndSessions,
    Join,
    Leave,
    LinkIdentity,
    Operation,
    Plan,
    UnlinkIdentity,
    UpdateUser,
)
from keycloak_bridge.domain.users import GROUPS, FoundUser, IdentityLink, UserRepresentation

_ERASED_WHEN_ABSENT = ("email", "firstName", "lastName")
_MATCHED_BY = "id"


def apply_plan(plan: Plan, found: FoundUser | None, *, new_id: str = "new") -> FoundUser | None:
    """Return the user as Keycloak would have it after `plan`, None where there would be none.

    A created user gets the Keycloak id `new_id`. The mail that a plan requests changes nothing: it is the invite stage
    that marks it as sent. Of memberships, identities and sessions only those in `found` are known.
    """
    user = found
    for operation in plan.operations:
        user = _apply(operation, user, new_id)
    return user


def _apply(operation: Operation, user: FoundUser | None, new_id: str) -> FoundUser | None:
    if isinstance(operation, CreateUser):
        return _created(operation.representation, new_id)
    if user is None or isinstance(operation, DeleteUser):
        return None
    match operation:
        case UpdateUser(body):
            return replace(user, representation=_updated(user.representation, body))
        case Join(kind, names):
            return _with_members(user, kind, _names(user, kind) | set(names))
        case Leave(kind, names):
            return _with_members(user, kind, _names(user, kind) - set(names))
        case LinkIdentity(link):
            return replace(user, identities=(*_without(user, link.alias), link))
        case UnlinkIdentity(before):
            return replace(user, identities=_without(user, before.alias))
        case EndSessions():
            return replace(user, sessions=0)
        case _:
            return user


def _created(representation: UserRepresentation, new_id: str) -> FoundUser:
    user: dict[str, Any] = {**representation, "id": new_id}
    groups = frozenset(user.pop("groups", ()))
    user.setdefault("enabled", False)
    return FoundUser(
        new_id,
        cast("UserRepresentation", user),
        matched_by=_MATCHED_BY,
        memberships={GROUPS: groups} if groups else {},
    )


def _updated(stored: UserRepresentation, body: UserRepresentation) -> UserRepresentation:
    """Carry out a PUT with attributes: it replaces them, absent names and address are erased, other fields stay."""
    user = {
        name: value
        for name, value in stored.items()
        if name in body or name not in _ERASED_WHEN_ABSENT
    }
    return cast("UserRepresentation", {**user, **body})


def _names(user: FoundUser, kind: str) -> frozenset[str]:
    return user.memberships.get(kind, frozenset())


def _with_members(user: FoundUser, kind: str, names: frozenset[str]) -> FoundUser:
    return replace(user, memberships={**user.memberships, kind: names})


def _without(user: FoundUser, alias: str) -> tuple[IdentityLink, ...]:
    return tuple(one for one in user.identities if one.alias != alias)
