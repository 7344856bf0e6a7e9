"""Whatever the event, the user and the past: planning is idempotent and keeps to its own."""

from datetime import timedelta
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from plan_cases import NOON, TERMS, done, event, sent

from keycloak_bridge.domain.errors import ConflictError
from keycloak_bridge.domain.events import BOOKKEEPING_ATTRIBUTES, UserEvent
from keycloak_bridge.domain.operations import RequestInvitation
from keycloak_bridge.domain.users import (
    DesiredUser,
    EmailChange,
    FoundUser,
    IdentityLink,
    LinkPolicy,
    MatchCriterion,
    Membership,
)
from keycloak_bridge.planning.plan import plan_user

NAMES = st.sampled_from(["a", "b", "c"])
VALUES = st.lists(st.sampled_from(["1", "2", "3"]), min_size=1, max_size=3, unique=True)
TARGETS = st.sampled_from(
    ["username", "firstName", "enabled", "emailVerified", "requiredActions", "attributes.a"]
)
TIMES = st.none() | st.sampled_from([NOON - timedelta(1), NOON, NOON + timedelta(1)])


@st.composite
def representations(draw: st.DrawFn, external_ids: st.SearchStrategy[list[str]]) -> dict[str, Any]:
    """Draw a user as a mapping makes it, or as Keycloak stores it."""
    user: dict[str, Any] = draw(
        st.fixed_dictionaries(
            {"username": st.sampled_from(["ada", "eve"]), "enabled": st.booleans()},
            optional={
                "email": st.sampled_from(["ada@acme.example", "eve@acme.example"]),
                "firstName": st.sampled_from(["Ada", "Eve"]),
                "emailVerified": st.booleans(),
                "requiredActions": st.lists(NAMES, unique=True),
            },
        )
    )
    external_id = draw(external_ids)
    return {
        **user,
        "attributes": {
            **draw(st.dictionaries(NAMES, VALUES)),
            **({"userId": external_id} if external_id else {}),
        },
    }


EVENTS = st.builds(event, st.sampled_from(["e1", "e2"]), TIMES)
MEMBERSHIPS = st.builds(
    lambda names, owned: Membership("groups", tuple(names), owned),
    st.lists(NAMES, unique=True),
    st.frozensets(NAMES),
)
ROLES = st.builds(
    lambda names, owned: Membership("realmRoles", tuple(names), owned),
    st.lists(NAMES, unique=True),
    st.frozensets(NAMES),
)
IDENTITIES = st.builds(IdentityLink, st.just("okta"), st.none() | NAMES)
DESIRED = st.builds(
    lambda user, create_only, cleared, members, identities, link, terms, change: DesiredUser(
        user,
        (MatchCriterion("attributes.userId", "u1"), MatchCriterion("username", user["username"])),
        frozenset(create_only),
        frozenset(cleared),
        tuple(members),
        tuple(identities),
        link,
        terms,
        email_change=change,
    ),
    representations(st.just(["u1"])),
    st.sets(TARGETS),
    st.sets(TARGETS | st.sampled_from(["email", "attributes.b"])),
    st.tuples(MEMBERSHIPS, ROLES),
    st.lists(IDENTITIES, max_size=1),
    st.sampled_from(LinkPolicy),
    st.sampled_from([None, TERMS]),
    st.sampled_from(EmailChange),
)
FOUND = st.none() | st.builds(
    FoundUser,
    st.just("42"),
    representations(st.sampled_from([[], ["u1"], ["u2"]])),
    st.sampled_from(["attributes.userId", "username", "email"]),
    st.fixed_dictionaries({"groups": st.frozensets(NAMES), "realmRoles": st.frozensets(NAMES)}),
    st.lists(st.builds(IdentityLink, st.just("okta"), NAMES), max_size=1).map(tuple),
)


@given(st.lists(EVENTS, min_size=1, max_size=3), DESIRED, FOUND)
def test_planning_again_gives_nothing_to_do(
    events: list[UserEvent], user: DesiredUser, found: FoundUser | None
) -> None:
    """Whatever happened before: the second time only a mail that is due remains; foreign users stay as they are."""
    for one in events:
        stored = [] if found is None else found.representation["attributes"].get("userId", [])
        try:
            plan = plan_user(one, user, found)
        except ConflictError:
            assert stored != ["u1"]
            return
        assert stored in ([], ["u1"])
        after = done(plan, found)
        if found is not None:
            owned = set(user.representation["attributes"]) | set(BOOKKEEPING_ATTRIBUTES)
            owned |= {one.removeprefix("attributes.") for one in user.cleared}
            for name, values in found.representation["attributes"].items():
                assert name in owned or after.representation["attributes"][name] == values
        again = plan_user(one, user, after)
        assert all(isinstance(left, RequestInvitation) for left in again.operations)
        assert plan_user(one, user, sent(after, one.id)).operations == ()
        found = after
