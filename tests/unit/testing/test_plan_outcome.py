"""The outcome of a plan, without a Keycloak."""

import pytest
from plan_cases import CREATED, INVITED, TERMS
from plan_outcome import apply_plan

from keycloak_bridge.domain.operations import (
    CreateUser,
    DeleteUser,
    EndSessions,
    Join,
    Leave,
    LinkIdentity,
    Operation,
    Plan,
    RequestInvitation,
    UnlinkIdentity,
    UpdateUser,
)
from keycloak_bridge.domain.users import GROUPS, FoundUser, IdentityLink

OKTA = IdentityLink("okta", "o1")
FOUND = FoundUser(
    "42",
    {"id": "42", "username": "ada", "email": "a@b.example", "enabled": True, "attributes": {}},
    "id",
    {GROUPS: frozenset({"/a"})},
    (OKTA,),
    2,
)


def test_a_created_user_is_as_its_representation() -> None:
    """With the id that is given; Keycloak creates disabled what does not say."""
    plan = Plan(
        None, (CreateUser({"username": "ada", "groups": ["/a"]}), Join("realmRoles", ("v",)))
    )

    assert apply_plan(plan, None, new_id="7") == FoundUser(
        "7",
        {"id": "7", "username": "ada", "enabled": False},
        "id",
        {"groups": frozenset({"/a"}), "realmRoles": frozenset({"v"})},
    )


def test_a_put_erases_what_it_lacks() -> None:
    """Attributes, address and names; other fields stay."""
    plan = Plan("42", (UpdateUser({"username": "ada", "attributes": {"b": ["2"]}}, ()),))
    after = apply_plan(plan, FOUND)

    assert after is not None
    assert after.representation == {
        "id": "42",
        "username": "ada",
        "enabled": True,
        "attributes": {"b": ["2"]},
    }


@pytest.mark.parametrize(
    ("operation", "groups", "identities", "sessions"),
    [
        (Join(GROUPS, ("/b",)), {"/a", "/b"}, (OKTA,), 2),
        (Leave(GROUPS, ("/a", "/b")), set(), (OKTA,), 2),
        (LinkIdentity(IdentityLink("okta", "o2"), OKTA), {"/a"}, (IdentityLink("okta", "o2"),), 2),
        (UnlinkIdentity(OKTA), {"/a"}, (), 2),
        (EndSessions(), {"/a"}, (OKTA,), 0),
        (RequestInvitation(TERMS), {"/a"}, (OKTA,), 2),
    ],
)
def test_every_operation_has_its_effect(
    operation: Operation, groups: set[str], identities: tuple[IdentityLink, ...], sessions: int
) -> None:
    """And no other."""
    after = apply_plan(Plan("42", (operation,)), FOUND)

    assert after is not None
    assert (groups, identities, sessions) == (
        set(after.memberships[GROUPS]),
        after.identities,
        after.sessions,
    )
    assert after.representation == FOUND.representation


def test_a_deleted_user_is_gone() -> None:
    """Until it is created again, under another id."""
    again = Plan("42", (DeleteUser(), CreateUser({"username": "ada"})))

    assert apply_plan(Plan("42", (DeleteUser(),)), INVITED) is None
    assert apply_plan(Plan(None, ()), None) is None
    created = apply_plan(again, CREATED)
    assert created is not None
    assert created.user_id == "new"
