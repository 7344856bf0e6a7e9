"""People read a plan as rows of verb, target, before and after."""

from plan_cases import TERMS

from keycloak_bridge.domain.events import Purpose
from keycloak_bridge.domain.operations import (
    Change,
    CreateUser,
    DeleteUser,
    EndSessions,
    Join,
    Leave,
    LinkIdentity,
    Plan,
    RequestInvitation,
    UnlinkIdentity,
    UpdateUser,
    visible_changes,
)
from keycloak_bridge.domain.users import GROUPS, REALM_ROLES, IdentityLink, client_roles

OKTA = IdentityLink("okta", "o1")


def test_describes_every_operation() -> None:
    """Each as what it does to which target."""
    plan = Plan(
        None,
        (
            CreateUser({"username": "ada", "attributes": {"tenantId": ["t1"]}}),
            UpdateUser({}, (Change("firstName", "Ada", None),)),
            Join(GROUPS, ("/a", "/b")),
            Join(REALM_ROLES, ("viewer",)),
            Leave(GROUPS, ("/c",)),
            Leave(client_roles("app"), ("user",)),
            LinkIdentity(OKTA),
            LinkIdentity(IdentityLink("okta", "o2"), OKTA),
            UnlinkIdentity(OKTA),
            EndSessions(),
            DeleteUser(),
            RequestInvitation(TERMS),
            RequestInvitation(TERMS, Purpose.RESEND),
        ),
    )

    assert visible_changes(plan) == [
        ("create", "username", None, "ada"),
        ("create", "attributes.tenantId", None, ["t1"]),
        ("update", "firstName", "Ada", None),
        ("join", "groups", None, "/a"),
        ("join", "groups", None, "/b"),
        ("grant", "realmRoles", None, "viewer"),
        ("leave", "groups", "/c", None),
        ("revoke", "clientRoles.app", "user", None),
        ("link", "identities.okta", None, "o1"),
        ("link", "identities.okta", "o1", "o2"),
        ("unlink", "identities.okta", "o1", None),
        ("end", "sessions", None, None),
        ("delete", "user", None, None),
        ("invite", "actions", None, ["UPDATE_PASSWORD"]),
        ("resend", "actions", None, ["UPDATE_PASSWORD"]),
    ]
