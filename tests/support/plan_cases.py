"""What the tests of planning share: events, users and strategies for them, and a model of Keycloak that executes plans."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any, cast

from hypothesis import strategies as st

from keycloak_bridge.domain.events import UserEvent
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
from keycloak_bridge.domain.users import (
    GROUPS,
    REALM_ROLES,
    DesiredUser,
    FoundUser,
    IdentityLink,
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


def identity(event_id: str) -> str:
    """Return the text by which the bridge knows the event of that id."""
    return event(event_id).identity


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


def done(plan: Plan, found: FoundUser | None) -> FoundUser:
    user = apply_plan(plan, found, new_id="42")
    assert user is not None
    return user


CREATED = done(plan_user(event(), desired(), None), None)


def sent(found: FoundUser, event_id: str = "e1") -> FoundUser:
    """Return the user after the invite stage has mailed the invitation."""
    body = with_invitation_mark(
        found.representation, InvitationMark(MarkState.SENT, identity(event_id))
    )
    return replace(found, representation={**found.representation, **body})


INVITED = sent(CREATED)


def changed(
    found: FoundUser, attributes: dict[str, list[str]] | None = None, **fields: Any
) -> FoundUser:
    """Return `found` after another process changed fields or attributes."""
    user = {**found.representation, **fields}
    user["attributes"] = {**found.representation["attributes"], **(attributes or {})}
    return replace(found, representation=cast("UserRepresentation", user))


NAMES = st.sampled_from(["a", "b", "c"])
FIELDS: dict[str, st.SearchStrategy[Any]] = {
    "email": st.sampled_from(["ada@acme.example", "eve@acme.example"]),
    "firstName": st.sampled_from(["Ada", "Eve"]),
    "emailVerified": st.booleans(),
    "enabled": st.booleans(),
    "requiredActions": st.lists(NAMES, unique=True, max_size=2),
}
TARGETS = st.sampled_from([*FIELDS, "username", "attributes.a", "attributes.b"])
VALUES = st.lists(st.sampled_from(["1", "2", "3"]), min_size=1, max_size=2, unique=True)
KINDS = st.lists(
    st.builds(
        lambda kind, names, owned: Membership(kind, tuple(names), owned),
        st.sampled_from([GROUPS, REALM_ROLES]),
        st.lists(NAMES, unique=True),
        st.frozensets(NAMES),
    ),
    unique_by=lambda one: one.kind,
)
IDENTITIES = st.lists(
    st.builds(IdentityLink, st.sampled_from(["okta", "azure"]), st.none() | NAMES),
    unique_by=lambda one: one.alias,
)


@st.composite
def representations(
    draw: st.DrawFn, external_ids: st.SearchStrategy[list[str]]
) -> UserRepresentation:
    """Draw a user as a mapping makes it, or as Keycloak stores it."""
    fields = draw(st.fixed_dictionaries({}, optional=FIELDS))
    attributes = draw(st.dictionaries(NAMES, VALUES))
    if external_id := draw(external_ids):
        attributes["userId"] = external_id
    user = {"username": draw(st.sampled_from(["ada", "eve"])), **fields, "attributes": attributes}
    return cast("UserRepresentation", user)


@st.composite
def mapped(draw: st.DrawFn) -> DesiredUser:
    """Draw what a created or updated event wants, whole or partial."""
    return replace(
        desired(),
        representation=draw(representations(st.just(["u1"]))),
        create_only=draw(st.frozensets(TARGETS)),
        cleared=draw(st.frozensets(TARGETS)),
        memberships=tuple(draw(KINDS)),
        identities=tuple(draw(IDENTITIES)),
        intent=draw(st.sampled_from([Intent.PROVISION, Intent.UPDATE])),
        unknown=draw(st.sampled_from([UnknownUser.CREATE, UnknownUser.DEAD_LETTER])),
    )
