"""All events of a user at once have the same effect as one by one."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any, cast

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from plan_cases import (
    CREATED,
    INVITED,
    LATER,
    NOON,
    TERMS,
    apply_plan,
    changed,
    desired,
    event,
    identity,
    mapped,
    updating,
    wanting,
)

from keycloak_bridge.domain.errors import UnknownUserError
from keycloak_bridge.domain.events import BOOKKEEPING_ATTRIBUTES, UserEvent
from keycloak_bridge.domain.operations import CreateUser, DeleteUser, Plan, RequestInvitation
from keycloak_bridge.domain.users import (
    EXACT_ID,
    EXACT_ID_ATTRIBUTE,
    GROUPS,
    REALM_ROLES,
    DesiredUser,
    FoundUser,
    IdentityLink,
    Intent,
    MatchCriterion,
    UnknownUser,
    UserRepresentation,
)
from keycloak_bridge.planning.bookkeeping import mark_text
from keycloak_bridge.planning.fold import FoldedUser, fold, plan_folded, steps_of
from keycloak_bridge.planning.plan import plan_user

Step = tuple[UserEvent, DesiredUser]

NAMING = st.builds(
    wanting,
    st.sampled_from(
        [Intent.DISABLE, Intent.ENABLE, Intent.ANONYMISE, Intent.DELETE, Intent.INVITE]
    ),
)
KEEPING = st.builds(
    wanting, st.sampled_from([Intent.DISABLE, Intent.ENABLE, Intent.ANONYMISE, Intent.INVITE])
)
TIMES = st.none() | st.integers(0, 5).map(lambda hours: NOON + timedelta(hours=hours))
FRESH = changed(
    replace(
        INVITED,
        identities=(IdentityLink("okta", "x"),),
        memberships={GROUPS: frozenset("ax"), REALM_ROLES: frozenset("bx")},
    ),
    {"a": ["9"], "theirs": ["x"], **{name: [] for name in BOOKKEEPING_ATTRIBUTES}},
)
VERIFYING = [
    replace(desired(emailVerified=True), create_only=frozenset({"emailVerified"})),
    desired(emailVerified=False),
]


def history(wants: Sequence[DesiredUser], times: Sequence[datetime | None] = ()) -> list[Step]:
    """Return events that want `wants` in this order, an hour between them unless `times` says otherwise."""
    spaced = times or [NOON + timedelta(hours=at) for at in range(len(wants))]
    pairs = zip(spaced, wants, strict=False)
    return [(event(f"e{at}", time), want) for at, (time, want) in enumerate(pairs)]


def one_by_one(steps: Sequence[Step], found: FoundUser | None) -> FoundUser | None:
    for one, want in steps:
        try:
            found = apply_plan(plan_user(one, want, found), found)
        except UnknownUserError:
            continue
    return found


def folded(steps: Sequence[Step]) -> FoldedUser:
    user: FoldedUser | None = None
    for one, want in steps:
        user = fold(user, one, want)
    assert user is not None
    return user


def at_once(steps: Sequence[Step], found: FoundUser | None) -> FoundUser | None:
    try:
        return apply_plan(plan_folded(folded(steps), found, reserved=()), found)
    except UnknownUserError:
        assert found is None
        return None


def essence(found: FoundUser | None) -> object:
    """Return what two users must have in common to be the same."""
    if found is None:
        return None
    user: dict[str, Any] = {**found.representation}
    attributes = {
        name: sorted(values)
        for name, values in user.pop("attributes").items()
        if name not in BOOKKEEPING_ATTRIBUTES
    }
    anonymous = user["username"].startswith("anonymous-")
    return (
        {**user, "id": None, "username": "anonymous" if anonymous else user["username"]}
        | {"requiredActions": set(user.get("requiredActions", []))}
        | {"emailVerified": bool(user.get("emailVerified"))},
        attributes,
        {kind: names for kind, names in found.memberships.items() if names},
        {one.alias: one.user_id for one in found.identities},
    )


@given(
    st.lists(mapped() | NAMING, min_size=1, max_size=7),
    st.lists(TIMES, min_size=7, max_size=7) | st.just([]),
    st.sampled_from([None, FRESH]),
)
@example(VERIFYING, [], None)
@example(VERIFYING, [], FRESH)
def test_at_once_is_as_one_by_one(
    wants: list[DesiredUser], times: list[datetime | None], found: FoundUser | None
) -> None:
    """Whether Keycloak has the user or not, in order or not, and so do the few steps that are provisioned."""
    steps = history(wants, times)
    after = essence(at_once(steps, found))

    assert essence(one_by_one(steps, found)) == after
    assert essence(one_by_one(steps_of(folded(steps), found), found)) == after


def by_username(want: DesiredUser) -> DesiredUser:
    """Return the same where the username is the external id."""
    user: dict[str, Any] = {**want.representation}
    exact = want.external_id.value.upper()
    if "username" in user:
        user["username"] = exact.lower()
    attributes = user.get("attributes", {})
    user["attributes"] = {**attributes, EXACT_ID_ATTRIBUTE: [exact]}
    matching = (MatchCriterion(EXACT_ID, exact), *want.matching[1:])
    return replace(want, representation=cast("UserRepresentation", user), matching=matching)


@given(
    st.lists((mapped() | NAMING).map(by_username), min_size=1, max_size=7),
    st.lists(TIMES, min_size=7, max_size=7) | st.just([]),
    st.booleans(),
)
def test_at_once_is_as_one_by_one_where_the_username_is_the_id(
    wants: list[DesiredUser], times: list[datetime | None], exists: bool
) -> None:
    """Then an anonymised user keeps its username, and every event finds it."""
    steps = history(wants, times)
    exact = wants[0].external_id.value
    known = changed(FRESH, {EXACT_ID_ATTRIBUTE: [exact]}, username=exact.lower())
    found = known if exists else None
    after = at_once(steps, found)

    assert essence(one_by_one(steps, found)) == essence(after)
    assert after is None or after.representation["username"] == exact.lower()


@given(
    st.lists(mapped() | NAMING, min_size=1, max_size=7),
    st.integers(0, 7),
    st.sampled_from([None, FRESH]),
)
def test_events_that_were_applied_do_no_harm(
    wants: list[DesiredUser], applied: int, found: FoundUser | None
) -> None:
    """If the first events were applied already, the result is that of the others alone."""
    steps = history(wants)
    seen = one_by_one(steps[:applied], found)

    if seen is not None:
        assert essence(one_by_one(steps[applied:], seen)) == essence(at_once(steps, seen))


@given(
    st.lists(mapped() | KEEPING, min_size=1, max_size=7),
    st.integers(0, 7),
    st.sampled_from([None, FRESH]),
)
def test_reading_again_changes_nothing(
    wants: list[DesiredUser], again: int, found: FoundUser | None
) -> None:
    """Whatever is read again is stale or done, at once and one by one.

    Where events delete, it is not so: with the user goes the memory of what was applied to it, and a creation that is
    read again creates.
    """
    steps = history([replace(one, unknown=UnknownUser.CREATE) for one in wants])
    after = at_once(steps, found)
    if after is None:  # no event could create it
        return

    assert essence(one_by_one(steps[:again], after)) == essence(after)
    plan = plan_folded(folded(steps), after, reserved=())
    assert all(isinstance(one, RequestInvitation) for one in plan.operations)


def test_a_disabled_user_stays_disabled() -> None:
    """An administrator disabled it after the event that enabled it; a later one changes something else."""
    steps = history([desired(), updating(firstName="Eve")])
    after = at_once(steps, changed(CREATED, enabled=False))

    assert after is not None
    assert after.representation["enabled"] is False
    assert after.representation["firstName"] == "Eve"


def test_changes_by_others_are_overwritten() -> None:
    """By the last event that set each target."""
    steps = history([desired(), updating(lastName="King")])
    live = one_by_one(steps, None)
    assert live is not None
    after = at_once(steps, changed(live, {"tenantId": ["t9"]}))

    assert essence(after) == essence(live)


def test_one_mail_for_one_new_user() -> None:
    """Under the last event, whatever the others asked for."""
    steps = history([desired(), updating(email="eve@acme.example"), wanting(Intent.INVITE)])
    create, *_, mail = plan_folded(folded(steps), None, reserved=()).operations

    assert isinstance(create, CreateUser)
    assert create.representation["attributes"]["bridgeInvitation"] == [f"due:{identity('e2')}"]
    assert mail == RequestInvitation(TERMS)


def test_an_invitation_is_asked_for_once() -> None:
    """A user that has seen the event gets no second mail by what came after it."""
    steps = history([desired(), wanting(Intent.INVITE), updating(firstName="Eve")])
    before, seen = one_by_one(steps[:1], None), one_by_one(steps[:2], None)
    assert before is not None
    assert seen is not None

    after = at_once(steps, before)
    assert after is not None
    assert mark_text(after.representation) == f"due:{identity('e2')}"
    plan = plan_folded(folded(steps), seen, reserved=())
    assert not any(isinstance(one, RequestInvitation) for one in plan.operations)


def test_a_user_that_comes_back_is_another() -> None:
    """The one that was deleted goes first, in a step of its own; who came back already stays."""
    steps = history([desired(), wanting(Intent.DELETE), desired(firstName="Eve")])
    again = one_by_one(steps, CREATED)
    plan = plan_folded(folded(steps), CREATED, reserved=())

    removing, creating = steps_of(folded(steps), CREATED)

    assert (Intent.DELETE, "e1") == (removing[1].intent, removing[0].id)
    assert (Intent.PROVISION, "e2") == (creating[1].intent, creating[0].id)
    assert [type(one) for one in plan.operations][:2] == [DeleteUser, CreateUser]
    assert again is not None
    assert all(
        isinstance(one, RequestInvitation)
        for one in plan_folded(folded(steps), again, reserved=()).operations
    )


def test_a_deletion_that_is_older_than_the_user_is_stale() -> None:
    """Keycloak knows better."""
    found = changed(CREATED, {"bridgeEventTime": ["2026-11-01T13:00:00Z"]})
    one = folded(history([wanting(Intent.DELETE)]))

    assert plan_folded(one, found, reserved=()) == Plan("42", (), "stale")


def test_an_update_of_a_user_that_nothing_creates_is_refused() -> None:
    """Until a later event creates it."""
    steps = history([updating(firstName="Eve")])
    with pytest.raises(UnknownUserError):
        plan_folded(folded(steps), None, reserved=())

    after = at_once([*steps, (event("e9", LATER), desired())], None)
    assert after is not None
    assert after.representation["firstName"] == "Ada"
    assert folded(steps).absent.course is None


def test_no_data_is_kept() -> None:
    """Very many folded users are in memory at once."""
    one = replace(event(), data={"givenName": "Ada"})
    user = fold(None, one, desired())

    assert user.event == replace(one, data={})
    assert user.absent.course is not None
    assert user.absent.course.desired == desired()


@pytest.mark.parametrize(
    "wants",
    [
        [desired()],
        [desired(), updating(firstName="Eve")],
        [updating(firstName="Eve")],
        [desired(), wanting(Intent.DELETE)],
        [wanting(Intent.DISABLE)],
    ],
)
@pytest.mark.parametrize("found", [None, CREATED], ids=["absent", "there"])
def test_one_step_has_the_very_plan(wants: list[DesiredUser], found: FoundUser | None) -> None:
    """Operation by operation, and refused where that is."""
    ((one, want),) = steps_of(folded(history(wants)), found)

    try:
        expected = plan_user(one, want, found)
    except UnknownUserError:
        with pytest.raises(UnknownUserError):
            plan_folded(folded(history(wants)), found, reserved=())
    else:
        assert expected == plan_folded(folded(history(wants)), found, reserved=())
