"""Every call that the bridge's service account makes to Keycloak's Admin REST API, and the role that each takes.

The messages of refused calls, the roles that a realm needs and the table in docs/keycloak.md are made of this.
"""

from collections.abc import Mapping
from typing import NamedTuple


class Call(NamedTuple):
    """An endpoint: `path` is a template below the realm, so that no id or value reaches a message."""

    method: str
    path: str

    def __str__(self) -> str:
        return f"{self.method} {self.path}"


EXECUTE_ACTIONS_EMAIL = "/users/{id}/execute-actions-email"

USERS_ROLE, VIEW_ROLE = "manage-users", "view-users"
EVENTS_ROLE, REALM_ROLE = "view-events", "view-realm"
CLIENTS_ROLE, ORGANIZATIONS_ROLE = "view-clients", "manage-organizations"
IMPORT_ROLE, ADMIN_ROLE = "manage-realm", "realm-admin"
"""Roles of the client realm-management."""

ALTERNATIVES: Mapping[str, tuple[str, ...]] = {
    VIEW_ROLE: (USERS_ROLE,),
    REALM_ROLE: (IMPORT_ROLE,),
    CLIENTS_ROLE: ("manage-clients",),
    ORGANIZATIONS_ROLE: (IMPORT_ROLE,),
}
"""Roles that Keycloak accepts in the place of another."""


class RequiredRole(NamedTuple):
    """What a call takes: the least role, the feature of the bridge that makes it, and what happens `without` the role."""

    role: str
    feature: str
    without: str


_FIND = RequiredRole(VIEW_ROLE, "finding users", "the bridge does not start (`role-missing`)")
_WRITE = RequiredRole(
    USERS_ROLE,
    "writing users",
    "the bridge does not start (`role-missing`); if it is taken away later, events wait",
)
_MAIL = RequiredRole(USERS_ROLE, "[invite]", "invitations wait")
_CLIENT_ROLES = RequiredRole(
    CLIENTS_ROLE, "[user.clientRoles] of the mapping", "events with such roles wait"
)
_ORGANIZATIONS = RequiredRole(
    ORGANIZATIONS_ROLE, "[user.organizations] of the mapping", "events with organizations wait"
)
_MAIL_RECORD = RequiredRole(
    EVENTS_ROLE,
    "mails in doubt",
    "`invite.delivery` decides whether a mail in doubt is sent again (`mail-ledger-missing`)",
)
_ACTIVATION = RequiredRole(
    EVENTS_ROLE, "[activation]", "each invited user is asked for in turn, which takes longer"
)
_DIRECTORIES = RequiredRole(REALM_ROLE, "doctor and [burst]", "one light of `doctor` is gray")
_BATCHES = RequiredRole(IMPORT_ROLE, "[burst]", "a backlog is written one by one")

_REALM_MAPPINGS = "/users/{id}/role-mappings/realm"
_CLIENT_MAPPINGS = "/users/{id}/role-mappings/clients/{client-id}"
_MEMBERS = "/organizations/{organization-id}/members"

REQUIRED_ROLES: Mapping[Call, RequiredRole] = {
    Call("GET", "/users"): _FIND,
    Call("GET", "/users/{id}"): _FIND,
    Call("GET", "/users/count"): _FIND,
    Call("GET", "/users/profile"): _FIND,
    Call("GET", "/users/profile/metadata"): _FIND,
    Call("GET", "/users/{id}/groups"): _FIND,
    Call("GET", "/users/{id}/credentials"): _FIND,
    Call("GET", "/users/{id}/sessions"): _FIND,
    Call("GET", "/users/{id}/federated-identity"): _FIND,
    Call("GET", _REALM_MAPPINGS): _FIND,
    Call("GET", f"{_REALM_MAPPINGS}/available"): _FIND,
    Call("GET", f"{_CLIENT_MAPPINGS}/available"): _FIND,
    Call("GET", "/group-by-path/{path}"): _FIND,
    Call("POST", "/users"): _WRITE,
    Call("PUT", "/users/{id}"): _WRITE,
    Call("DELETE", "/users/{id}"): _WRITE,
    Call("POST", "/users/{id}/logout"): _WRITE,
    Call("PUT", "/users/{id}/groups/{group-id}"): _WRITE,
    Call("DELETE", "/users/{id}/groups/{group-id}"): _WRITE,
    Call("POST", "/groups"): _WRITE,
    Call("POST", "/groups/{group-id}/children"): _WRITE,
    Call("POST", _REALM_MAPPINGS): _WRITE,
    Call("DELETE", _REALM_MAPPINGS): _WRITE,
    Call("POST", _CLIENT_MAPPINGS): _WRITE,
    Call("DELETE", _CLIENT_MAPPINGS): _WRITE,
    Call("POST", "/users/{id}/federated-identity/{alias}"): _WRITE,
    Call("DELETE", "/users/{id}/federated-identity/{alias}"): _WRITE,
    Call("PUT", EXECUTE_ACTIONS_EMAIL): _MAIL,
    Call("GET", "/events/config"): _MAIL_RECORD,
    Call("GET", "/admin-events"): _MAIL_RECORD,
    Call("GET", "/events"): _ACTIVATION,
    Call("GET", "/"): RequiredRole(
        REALM_ROLE,
        "refused mails, doctor, usernames that are ids, [burst]",
        "Keycloak answers with less: a refused mail waits like an outage, and two lights of `doctor` are gray",
    ),
    Call("GET", "/components"): _DIRECTORIES,
    Call("GET", "/clients"): _CLIENT_ROLES,
    Call("GET", _CLIENT_MAPPINGS): _CLIENT_ROLES,
    Call("GET", "/organizations"): _ORGANIZATIONS,
    Call("GET", "/organizations/members/{id}/organizations"): _ORGANIZATIONS,
    Call("GET", f"{_MEMBERS}/{{id}}"): _ORGANIZATIONS,
    Call("POST", _MEMBERS): _ORGANIZATIONS,
    Call("DELETE", f"{_MEMBERS}/{{id}}"): _ORGANIZATIONS,
    Call("GET", "/authentication/required-actions"): _BATCHES,
    Call("POST", "/partialImport"): _BATCHES,
}
"""Each call as KeycloakAdmin makes it; the service account makes no other."""
