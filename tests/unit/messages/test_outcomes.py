"""What is told of a plan that was carried out."""

import pytest

from keycloak_bridge.domain.operations import (
    Change,
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
from keycloak_bridge.domain.users import GROUPS, REALM_ROLES, IdentityLink, InvitationTerms
from keycloak_bridge.messages.results import action_of, changed_by

CREATE = CreateUser(
    {
        "username": "ada",
        "groups": ["/staff"],
        "attributes": {"userId": ["u-1"], "bridgeEventId": ["event-1"]},
    }
)
UPDATE = UpdateUser(
    {}, (Change("email", None, "a@x"), Change("attributes.bridgeEventId", None, ["event-2"]))
)
INVITE = RequestInvitation(InvitationTerms((), 60))

TOLD: dict[str, tuple[tuple[Operation, ...], str, tuple[str, ...]]] = {
    "nothing": ((), "unchanged", ()),
    "only the mail": ((INVITE,), "unchanged", ()),
    "created": (
        (CREATE, Join(REALM_ROLES, ("viewer",)), INVITE),
        "created",
        ("username", "groups", "attributes.userId", REALM_ROLES),
    ),
    "updated": ((UPDATE, EndSessions()), "updated", ("email",)),
    "logged out": ((EndSessions(),), "updated", ()),
    "moved": (
        (Join(GROUPS, ("/a",)), Leave(GROUPS, ("/b",))),
        "updated",
        (GROUPS,),
    ),
    "linked": (
        (LinkIdentity(IdentityLink("corp", "1")), UnlinkIdentity(IdentityLink("old", "2"))),
        "updated",
        ("identities.corp", "identities.old"),
    ),
    "deleted": ((DeleteUser(),), "deleted", ()),
}


@pytest.mark.parametrize(("operations", "action", "changed"), TOLD.values(), ids=TOLD)
def test_a_plan_is_told_by_action_and_targets(
    operations: tuple[Operation, ...], action: str, changed: tuple[str, ...]
) -> None:
    """One word for what happened to the user, and the targets without values; bookkeeping is left out."""
    plan = Plan("kc-1", operations)

    assert (action, changed) == (action_of(plan), changed_by(plan))
