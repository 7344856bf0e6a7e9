"""The user in Keycloak after a plan, without a Keycloak."""

from dataclasses import replace
from typing import cast

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


def apply_plan(plan: Plan, found: FoundUser | None, *, new_id: str = "new") -> FoundUser | None:
    """Return the user as Keycloak would have it after `plan`, None where there would be none.

    A created user gets the Keycloak id `new_id`. The mail that a plan requests changes nothing: it is the invite stage
    that marks it as sent. Of memberships, identities and sessions only those in `found` are known.
    """
    user = found
    for operation in plan.operations:
        if isinstance(operation, CreateUser):
            user = _created(operation.representation, new_id)
        elif isinstance(operation, DeleteUser):
            user = None
        elif user is not None:
            user = _changed(user, operation)
    return user


def _changed(user: FoundUser, operation: Operation) -> FoundUser:
    match operation:
        case UpdateUser(body):
            # a PUT with attributes replaces them and erases absent names and address; other fields stay
            erased = set(_ERASED_WHEN_ABSENT) - body.keys()
            kept = {key: value for key, value in user.representation.items() if key not in erased}
            return replace(user, representation=cast("UserRepresentation", {**kept, **body}))
        case Join(kind, names):
            joined = user.memberships.get(kind, frozenset()) | set(names)
            return replace(user, memberships={**user.memberships, kind: joined})
        case Leave(kind, names):
            left = user.memberships.get(kind, frozenset()) - set(names)
            return replace(user, memberships={**user.memberships, kind: left})
        case LinkIdentity(link):
            return replace(user, identities=(*_others(user, link.alias), link))
        case UnlinkIdentity(before):
            return replace(user, identities=_others(user, before.alias))
        case EndSessions():
            return replace(user, sessions=0)
        case _:
            return user


def _created(representation: UserRepresentation, new_id: str) -> FoundUser:
    user = {**representation, "id": new_id}
    groups = frozenset(cast("list[str]", user.pop("groups", [])))
    memberships = {GROUPS: groups} if groups else {}
    return FoundUser(new_id, cast("UserRepresentation", user), "id", memberships)


def _others(user: FoundUser, alias: str) -> tuple[IdentityLink, ...]:
    return tuple(one for one in user.identities if one.alias != alias)
