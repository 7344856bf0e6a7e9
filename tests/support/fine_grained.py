"""Fine-grained admin permissions of one realm, as its administrator gives them."""

from collections.abc import Sequence
from typing import Any

from bridge_harness import Bench

from keycloak_bridge.testing.realm_tools import AdminRealmTools, RealmAdministrator

USERS = ("manage", "map-roles", "manage-group-membership")
"""What the bridge needs of all users."""


class Permissions:
    """The permissions of one realm, as its administrator sees them."""

    def __init__(self, bench: Bench) -> None:
        self._bench = bench
        self._realm = f"/{bench.realm.name}"
        self._administrator = RealmAdministrator.of(bench.sandbox)
        self._call("PUT", "", {"adminPermissionsEnabled": True})
        (client,) = self._call("GET", "/clients?clientId=admin-permissions")
        self._server = f"/clients/{client['id']}/authz/resource-server"
        (bridge,) = self._call("GET", f"/clients?clientId={bench.realm.client_id}")
        account = self._call("GET", f"/clients/{bridge['id']}/service-account-user")["id"]
        self.bridge = self.policy("the bridge", account)

    def replace_manage_users(self, role: str = "view-users") -> None:
        """Give the bridge's account this role and a permission on all users in the place of `manage-users`."""
        tools = AdminRealmTools(self._administrator, self._bench.realm.name)
        tools.take_away(self._bench.realm.client_id, "manage-users")
        tools.grant(self._bench.realm.client_id, role)
        self.allow("Users", USERS)

    def policy(self, name: str, user_id: str) -> str:
        """Return a policy that means one user."""
        body = {"name": name, "users": [user_id]}
        created: str = self._call("POST", f"{self._server}/policy/user", body)["id"]
        return created

    def allow(
        self, kind: str, scopes: Sequence[str], *resources: str, policy: str | None = None
    ) -> str:
        """Give these scopes on some resources, or all of this type; returns the permission's id."""
        body = {
            "name": f"{kind} {' '.join(scopes)} {len(resources)} {policy}",
            "resourceType": kind,
            "scopes": scopes,
            "resources": resources,
            "policies": [policy or self.bridge],
        }
        created: str = self._call("POST", f"{self._server}/permission/scope", body)["id"]
        return created

    def withdraw(self, permission: str) -> None:
        """Delete a permission."""
        self._call("DELETE", f"{self._server}/permission/scope/{permission}")

    def _call(self, method: str, path: str, body: Any = None) -> Any:
        return self._administrator.call(method, self._realm + path, json=body)
