"""What the tests of planning share: an event, its user, and a model of Keycloak that carries plans out."""

from dataclasses import replace
from datetime import UTC, datetime
from typing import Any, cast

from keycloak_bridge.core.model import (
    CreateUser,
    DesiredUser,
    FoundUser,
    GrantRealmRoles,
    InvitationTerms,
    JoinGroups,
    MatchCriterion,
    Plan,
    UpdateUser,
    UserEvent,
    UserRepresentation,
)
from keycloak_bridge.core.plan import (
    plan_user,
    with_invitation_sent,
)

NOON = datetime(2026, 11, 1, 12, tzinfo=UTC)
TERMS = InvitationTerms(("UPDATE_PASSWORD",), 43200)


def event(event_id: str = "e1", time: datetime | None = NOON) -> UserEvent:
    """Return an event of that id and time; planning looks at nothing else."""
    return UserEvent(event_id, "/um", "user.created", "u1", time, "urn:s", {})


def desired(**changes: Any) -> DesiredUser:
    """Return the user that the event wants, with `changes` to its representation."""
    representation: dict[str, Any] = {
        "username": "ada",
        "email": "ada@acme.example",
        "firstName": "Ada",
        "enabled": True,
        "attributes": {"userId": ["u1"], "tenantId": ["t1"]},
        **changes,
    }
    return DesiredUser(
        representation=cast("UserRepresentation", representation),
        matching=(
            MatchCriterion("attributes.userId", "u1"),
            MatchCriterion("username", "ada"),
            MatchCriterion("email", "ada@acme.example"),
        ),
        create_only=frozenset({"username"}),
        groups=("/staff",),
        realm_roles=("viewer",),
        invitation=TERMS,
    )


def done(plan: Plan, found: FoundUser | None, matched_by: str = "attributes.userId") -> FoundUser:
    """Return the user as Keycloak would hold it after `plan`: a PUT replaces attributes, and absent fields stay."""
    user: dict[str, Any] = {} if found is None else {**found.representation}
    groups, roles = (
        (set[str](), set[str]()) if found is None else (set(found.groups), set(found.realm_roles))
    )
    for operation in plan.operations:
        match operation:
            case CreateUser(representation):
                user = {**representation, "id": "42"}
                groups |= set(user.pop("groups", []))
            case UpdateUser(representation, _):
                user |= representation
                for name in ("email", "firstName", "lastName"):
                    if name not in representation:
                        user.pop(name, None)
            case JoinGroups(paths):
                groups |= set(paths)
            case GrantRealmRoles(names):
                roles |= set(names)
    return FoundUser(
        "42", cast("UserRepresentation", user), matched_by, frozenset(groups), frozenset(roles)
    )


CREATED = done(plan_user(event(), desired(), None), None)


def sent(found: FoundUser, event_id: str = "e1") -> FoundUser:
    """Return the user after the invite stage has mailed the invitation."""
    return replace(
        found,
        representation={
            **found.representation,
            **with_invitation_sent(found.representation, event_id),
        },
    )


INVITED = sent(CREATED)


def changed(
    found: FoundUser, attributes: dict[str, list[str]] | None = None, **fields: Any
) -> FoundUser:
    """Return `found` after somebody else changed fields or attributes."""
    user = {**found.representation, **fields}
    user["attributes"] = {**found.representation["attributes"], **(attributes or {})}
    return replace(found, representation=cast("UserRepresentation", user))
