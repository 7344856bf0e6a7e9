"""The bridge without `manage-users`: what fine-grained admin permissions allow, and what they hide (docs/keycloak.md)."""

import pytest
from admin_calls import Targets, refusals, set_stage
from bridge_harness import Bench
from fine_grained import USERS, Permissions

from keycloak_bridge.app.realm_check import Problem, check_access
from keycloak_bridge.domain.errors import KeycloakAuthError
from keycloak_bridge.domain.users import MatchCriterion
from keycloak_bridge.keycloak.users import KeycloakUserDirectory
from keycloak_bridge.ops.clock import SystemClock
from keycloak_bridge.testing.realm_tools import (
    AdminRealmTools,
    RealmAdministrator,
    bridge_admin,
)

pytestmark = [pytest.mark.integration, pytest.mark.full]

CREATES_GROUPS = {"create_group", "create_group below another"}
CLIENT_ROLES = {f"{one} of a client" for one in ("map_roles", "mapped_roles", "unmap_roles")}
ORGANIZATIONS = {
    *("organizations_with_alias", "organizations_of", "organization_member"),
    *("join_organization", "leave_organization"),
}
BY_ROLES_ONLY = {"clients", "import_users"}


@pytest.fixture
def targets(bench: Bench) -> Targets:
    return set_stage(bench.sandbox, bench.realm)


@pytest.fixture
def permissions(bench: Bench, targets: Targets) -> Permissions:
    """A realm with the switch on, where the account still has `manage-users`."""
    return Permissions(bench)


def refused(bench: Bench, targets: Targets) -> set[str]:
    with bridge_admin(bench.sandbox, bench.realm) as admin:
        return set(refusals(admin, targets))


def problems(bench: Bench) -> list[Problem]:
    with bridge_admin(bench.sandbox, bench.realm) as admin:
        return [one for one in check_access(admin, ["userId"]) if one.code == "role-missing"]


def test_the_switch_alone_takes_nothing_from_manage_users(bench: Bench, targets: Targets) -> None:
    """But roles that administer the realm are out of its reach from then on, those that it has itself included."""
    administrator, realm = RealmAdministrator.of(bench.sandbox), f"/{bench.realm.name}"
    (management,) = administrator.call("GET", f"{realm}/clients?clientId=realm-management")
    role = administrator.call("GET", f"{realm}/clients/{management['id']}/roles/view-events")
    before = refused(bench, targets)
    with bridge_admin(bench.sandbox, bench.realm) as admin:
        admin.map_roles(targets.user_id, [role], management["id"])
        Permissions(bench)
        with pytest.raises(KeycloakAuthError) as caught:
            admin.map_roles(targets.user_id, [role], management["id"])

    assert 403 == caught.value.status
    assert before == refused(bench, targets)


def test_the_recommended_permissions_suffice(
    bench: Bench, targets: Targets, permissions: Permissions
) -> None:
    """They allow every call that a mapping with groups and roles makes; the calls of other features take more."""
    permissions.replace_manage_users()
    permissions.allow("Groups", ["manage-membership"], targets.group_id)
    permissions.allow("Roles", ["map-role"], targets.realm_role["id"])
    usual = refused(bench, targets)
    doctor = bench.run_command("doctor")
    permissions.allow("Clients", ["view", "map-roles"], targets.client)
    permissions.allow("Groups", ["manage"])
    permissions.allow("Organizations", ["view", "manage"])

    assert CREATES_GROUPS | CLIENT_ROLES | ORGANIZATIONS | BY_ROLES_ONLY == usual
    assert BY_ROLES_ONLY == refused(bench, targets)
    assert [] == problems(bench)
    assert "may create users, and sees all of them" in doctor.stdout


def test_users_that_permissions_hide_stop_the_bridge(
    bench: Bench, targets: Targets, permissions: Permissions
) -> None:
    """Keycloak finds nobody and says nothing, and takes a second user with the same id: only a role sees everybody."""
    bench.admin(
        "POST", "/users", json={"username": "hidden", "attributes": {"userId": ["u-hidden"]}}
    )
    permissions.replace_manage_users("query-users")
    permissions.allow("Users", ["view"], targets.user_id)
    with bridge_admin(bench.sandbox, bench.realm) as admin:
        directory = KeycloakUserDirectory(admin, SystemClock())
        found = directory.having(MatchCriterion("attributes.userId", "u-hidden"))
        admin.create_user({"username": "twice", "attributes": {"userId": ["u-hidden"]}})
    stopped = problems(bench)
    tools = AdminRealmTools(RealmAdministrator.of(bench.sandbox), bench.realm.name)
    tools.grant(bench.realm.client_id, "view-users")

    assert () == found
    assert ["error"] == [one.severity for one in stopped]
    assert "view-users" in stopped[0].message
    assert [] == problems(bench)


def test_another_permission_on_all_users_locks_the_bridge_out(
    bench: Bench, targets: Targets, permissions: Permissions
) -> None:
    """Keycloak evaluates the permissions of a resource type together; one on a single user denies that user only."""
    permissions.replace_manage_users()
    somebody = permissions.policy("somebody else", targets.user_id)
    writes = {"update_user", "delete_user", "execute_actions_email", "log_out"}
    before = refused(bench, targets) & writes
    locking = permissions.allow("Users", ["impersonate"], policy=somebody)
    locked = refused(bench, targets) & writes
    permissions.withdraw(locking)
    permissions.allow("Users", USERS, targets.user_id, policy=somebody)
    single = refused(bench, targets) & writes

    assert (set(), writes, writes - {"delete_user"}) == (before, locked, single)
