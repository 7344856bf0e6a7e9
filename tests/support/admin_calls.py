"""Every method of KeycloakAdmin, called once on a realm that has all that they name."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from keycloak_bridge.domain.errors import KeycloakError
from keycloak_bridge.keycloak.admin import KeycloakAdmin
from keycloak_bridge.sandbox import Sandbox
from keycloak_bridge.testing.realm_tools import AdminRealmTools, FreshRealm, RealmAdministrator

Json = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Targets:
    """What the calls name, by Keycloak's ids; `spare_user` returns one that may be deleted."""

    user_id: str
    group_id: str
    client: str
    organization: str
    realm_role: Json
    client_role: Json
    spare_user: Callable[[], str]


def set_stage(sandbox: Sandbox, realm: FreshRealm) -> Targets:
    """Create what is missing in the realm."""
    administrator = RealmAdministrator.of(sandbox)
    tools = AdminRealmTools(administrator, realm.name)
    tools.add_client("shop", ["buyer"])
    tools.add_organization("initech")
    tools.add_identity_provider("google")

    def read(path: str) -> Any:
        return administrator.call("GET", f"/{realm.name}{path}")

    (client,) = read("/clients?clientId=shop")
    (organization,) = read("/organizations?search=initech")
    return Targets(
        user_id=_new_user(administrator, realm, "ada", email="ada@acme.example"),
        group_id=read("/group-by-path/customers")["id"],
        client=client["id"],
        organization=organization["id"],
        realm_role=_reference(read("/roles/viewer")),
        client_role=_reference(read(f"/clients/{client['id']}/roles/buyer")),
        spare_user=lambda: _new_user(administrator, realm, "spare"),
    )


def _new_user(
    administrator: RealmAdministrator, realm: FreshRealm, name: str, **fields: str
) -> str:
    users = f"/{realm.name}/users"
    for old in administrator.call("GET", f"{users}?username={name}&exact=true"):
        administrator.call("DELETE", f"{users}/{old['id']}")
    body = {"username": name, "enabled": True, **fields}
    answer = administrator.send("POST", users, json=body)
    answer.raise_for_status()
    return answer.headers["Location"].rpartition("/")[2]


def _reference(role: Json) -> Json:
    return {name: role[name] for name in ("id", "name")}


def every_call(targets: Targets) -> Mapping[str, Callable[[KeycloakAdmin], object]]:
    """Return a call of each method by its name, in an order in which all of them can succeed."""
    user, group = targets.user_id, targets.group_id
    client, organization = targets.client, targets.organization
    realm_roles, client_roles = [targets.realm_role], [targets.client_role]
    return {
        "search_users": lambda admin: admin.search_users({"max": 1}),
        "find_users_by_attribute": lambda admin: admin.find_users_by_attribute("userId", "u-1"),
        "find_users_by_name": lambda admin: admin.find_users_by_name("username", "ada"),
        "count_users": lambda admin: admin.count_users(),
        "get_user": lambda admin: admin.get_user(user),
        # without a username nothing is created
        "create_user": lambda admin: admin.create_user({}),
        "update_user": lambda admin: admin.update_user(user, {"firstName": "Ada"}),
        "sessions": lambda admin: admin.sessions(user),
        "log_out": lambda admin: admin.log_out(user),
        "credentials": lambda admin: admin.credentials(user),
        "execute_actions_email": lambda admin: admin.execute_actions_email(
            user, ["UPDATE_PASSWORD"], lifespan_s=60
        ),
        "group_by_path": lambda admin: admin.group_by_path("/customers"),
        "create_group": lambda admin: admin.create_group("customers"),
        "create_group below another": lambda admin: admin.create_group("made", group),
        "join_group": lambda admin: admin.join_group(user, group),
        "user_groups": lambda admin: admin.user_groups(user),
        "leave_group": lambda admin: admin.leave_group(user, group),
        "available_roles": lambda admin: admin.available_roles(user),
        "map_roles": lambda admin: admin.map_roles(user, realm_roles),
        "mapped_roles": lambda admin: admin.mapped_roles(user),
        "unmap_roles": lambda admin: admin.unmap_roles(user, realm_roles),
        "clients": lambda admin: admin.clients("shop"),
        "available_roles of a client": lambda admin: admin.available_roles(user, client),
        "map_roles of a client": lambda admin: admin.map_roles(user, client_roles, client),
        "mapped_roles of a client": lambda admin: admin.mapped_roles(user, client),
        "unmap_roles of a client": lambda admin: admin.unmap_roles(user, client_roles, client),
        "organizations_with_alias": lambda admin: admin.organizations_with_alias("initech"),
        "join_organization": lambda admin: admin.join_organization(user, organization),
        "organizations_of": lambda admin: admin.organizations_of(user),
        "organization_member": lambda admin: admin.organization_member(organization, user),
        "leave_organization": lambda admin: admin.leave_organization(user, organization),
        "link_identity": lambda admin: admin.link_identity(
            user, "google", {"identityProvider": "google", "userId": "g-1", "userName": "ada"}
        ),
        "federated_identities": lambda admin: admin.federated_identities(user),
        "unlink_identity": lambda admin: admin.unlink_identity(user, "google"),
        "realm": lambda admin: admin.realm(),
        "users_profile": lambda admin: admin.users_profile(),
        "users_profile_metadata": lambda admin: admin.users_profile_metadata(),
        "required_actions": lambda admin: admin.required_actions(),
        "components": lambda admin: admin.components("org.keycloak.storage.UserStorageProvider"),
        "events_config": lambda admin: admin.events_config(),
        "user_events": lambda admin: admin.user_events({"max": 1}),
        "admin_events": lambda admin: admin.admin_events({"max": 1}),
        "import_users": lambda admin: admin.import_users([]),
        "delete_user": lambda admin: admin.delete_user(targets.spare_user()),
    }


def refusals(admin: KeycloakAdmin, targets: Targets) -> Mapping[str, KeycloakError]:
    """Make every call; return the error of each that the account may not make."""
    found = {}
    for name, call in every_call(targets).items():
        try:
            call(admin)
        except KeycloakError as error:
            if error.status == 403:
                found[name] = error
    return found
