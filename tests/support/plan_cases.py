"""What the tests of planning share: an event, its user, and a model of Keycloak that executes plans."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any, cast

from plan_outcome import apply_plan

from keycloak_bridge.domain.events import UserEvent
from keycloak_bridge.domain.operations import Plan
from keycloak_bridge.domain.users import (
    GROUPS,
    REALM_ROLES,
    DesiredUser,
    FoundUser,
    Intent,
    InvitationTerms,
    MatchCriterion,
    Membership,
    UnknownUser,
    UserRepresentation,
)
from keycloak_bridge.planning.bookkeeping import InvitationMark, MarkState, with_invitation_mark
from keycloak_bridge.planning.plan import plan_user

NOON = datetime(2026, 11, 1, 12, tzinfo=UTC)
LATER = NOON + timedelta(hours=1)
TERMS = InvitationTerms(("UPDATE_PASSWORD",), 43200)
MEMBERSHIPS = (Membership(GROUPS, ("/staff",)), Membership(REALM_ROLES, ("viewer",)))


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
        memberships=MEMBERSHIPS,
        invitation=TERMS,
    )


def wanting(intent: Intent, **changes: Any) -> DesiredUser:
    """Return what an event that only names its user wants of it, with `changes` to the desired user."""
    switch: dict[str, Any] = {
        Intent.DISABLE: {"enabled": False},
        Intent.ANONYMISE: {"enabled": False},
        Intent.ENABLE: {"enabled": True},
    }.get(intent, {})
    named = DesiredUser(
        representation=cast("UserRepresentation", {**switch, "attributes": {"userId": ["u1"]}}),
        matching=(MatchCriterion("attributes.userId", "u1"),),
        invitation=TERMS if intent in (Intent.INVITE, Intent.ENABLE) else None,
        intent=intent,
        unknown=UnknownUser.SKIP if intent is Intent.DELETE else UnknownUser.DEAD_LETTER,
        ends_sessions=intent in (Intent.DISABLE, Intent.ANONYMISE),
    )
    return replace(named, **changes)


def updating(**changes: Any) -> DesiredUser:
    """Return what a partial update wants: only its `changes`, and never a new user."""
    named = wanting(Intent.UPDATE, invitation=TERMS)
    representation = {**changes, "attributes": {"userId": ["u1"], **changes.get("attributes", {})}}
    return replace(named, representation=cast("UserRepresentation", representation))


def done(plan: Plan, found: FoundUser | None) -> FoundUser:
    """Return the user as Keycloak would store it after `plan`, which leaves one."""
    user = apply_plan(plan, found, new_id="42")
    assert user is not None
    return user


CREATED = done(plan_user(event(), desired(), None), None)


def sent(found: FoundUser, event_id: str = "e1") -> FoundUser:
    """Return the user after the invite stage has mailed the invitation."""
    body = with_invitation_mark(found.representation, InvitationMark(MarkState.SENT, event_id))
    return replace(found, representation={**found.representation, **body})


INVITED = sent(CREATED)


def changed(
    found: FoundUser, attributes: dict[str, list[str]] | None = None, **fields: Any
) -> FoundUser:
    """Return `found` after another process changed fields or attributes."""
    user = {**found.representation, **fields}
    user["attributes"] = {**found.representation["attributes"], **(attributes or {})}
    return replace(found, representation=cast("UserRepresentation", user))
