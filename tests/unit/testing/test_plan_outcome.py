"""The outcome of a plan, without a Keycloak."""

from dataclasses import replace
from typing import Any

import pytest
from plan_cases import TERMS
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
from keycloak_bridge.domain.users import GROUPS, REALM_ROLES, FoundUser, IdentityLink

OKTA, OTHER = IdentityLink("okta", "o1"), IdentityLink("okta", "o2")
FOUND = FoundUser(
    "42",
    {"id": "42", "username": "ada", "email": "a@b.example", "enabled": True, "attributes": {}},
    "id",
    {GROUPS: frozenset({"/a"})},
    (OKTA,),
    2,
)
UPDATED: Any = {"id": "42", "username": "ada", "enabled": True, "attributes": {"b": ["2"]}}


@pytest.mark.parametrize(
    ("operation", "changes"),
    [
        (
            UpdateUser({"username": "ada", "attributes": {"b": ["2"]}}, ()),
            {"representation": UPDATED},
        ),
        (Join(GROUPS, ("/b",)), {"memberships": {GROUPS: frozenset({"/a", "/b"})}}),
        (Leave(GROUPS, ("/a", "/b")), {"memberships": {GROUPS: frozenset()}}),
        (LinkIdentity(OTHER, OKTA), {"identities": (OTHER,)}),
        (UnlinkIdentity(OKTA), {"identities": ()}),
        (EndSessions(), {"sessions": 0}),
        (RequestInvitation(TERMS), {}),
    ],
)
def test_every_operation_has_its_effect(operation: Operation, changes: dict[str, Any]) -> None:
    """And no other; a PUT erases the address that it lacks, and other fields stay."""
    assert apply_plan(Plan("42", (operation,)), FOUND) == replace(FOUND, **changes)


def test_a_created_user_is_as_its_representation() -> None:
    """With the id that is given; Keycloak creates a user disabled unless told otherwise. A deleted one is gone before."""
    create = CreateUser({"username": "ada", "groups": ["/a"]})
    plan = Plan("42", (DeleteUser(), create, Join(REALM_ROLES, ("v",))))

    assert apply_plan(plan, FOUND, new_id="7") == FoundUser(
        "7",
        {"id": "7", "username": "ada", "enabled": False},
        "id",
        {GROUPS: frozenset({"/a"}), REALM_ROLES: frozenset({"v"})},
    )
    assert apply_plan(Plan("42", (DeleteUser(),)), FOUND) is None
    assert apply_plan(Plan(None, ()), None) is None
