"""The endpoints about what a user belongs to: groups, roles, organizations, and accounts at identity providers."""

from collections.abc import Sequence

from keycloak_bridge.keycloak_calls import (
    PAGE,
    AdminCalls,
    Json,
    all_pages,
    quote_query,
    segment,
    user_path,
)
from keycloak_bridge.keycloak_rejections import Call

_ROLES = "/users/{id}/role-mappings/"


class MembershipCalls(AdminCalls):
    """A part of KeycloakAdmin. `client` is a client's id in Keycloak (not its clientId), None for the realm's own roles."""

    def user_groups(self, user_id: str) -> list[Json]:
        """Return every group that the user is a direct member of."""
        call = Call("GET", "/users/{id}/groups")
        path = user_path(call, user_id) + "/groups"
        return all_pages(lambda first: self._list(call, path, {"first": first, "max": PAGE}))

    def group_by_path(self, path: str) -> Json:
        """Return the group at `path`, with or without its leading slash."""
        call = Call("GET", "/group-by-path/{path}")
        names = path.strip("/").split("/")
        encoded = "/".join(segment(call, name) for name in names)
        return self._object(call, f"/group-by-path/{encoded}")

    def create_group(self, name: str, parent: str | None = None) -> None:
        """Create a group, below the group with the id `parent` if one is given.

        Raises KeycloakConflictError when it is there.
        """
        if parent is None:
            self._send(Call("POST", "/groups"), "/groups", expect=201, json={"name": name})
        else:
            call = Call("POST", "/groups/{group-id}/children")
            path = f"/groups/{segment(call, parent)}/children"
            self._send(call, path, expect=201, json={"name": name})

    def join_group(self, user_id: str, group_id: str) -> None:
        """Make the user a member; harmless when it is one."""
        call = Call("PUT", "/users/{id}/groups/{group-id}")
        path = f"{user_path(call, user_id)}/groups/{segment(call, group_id)}"
        self._send(call, path, expect=204)

    def leave_group(self, user_id: str, group_id: str) -> None:
        """Take the user out of the group; harmless when it is no member."""
        call = Call("DELETE", "/users/{id}/groups/{group-id}")
        path = f"{user_path(call, user_id)}/groups/{segment(call, group_id)}"
        self._send(call, path, expect=204)

    def clients(self, client_id: str) -> list[Json]:
        """Return the client with this clientId, or nothing; needs the role view-clients."""
        return self._list(Call("GET", "/clients"), "/clients", {"clientId": client_id})

    def available_roles(self, user_id: str, client: str | None = None) -> list[Json]:
        """Return the roles that could be mapped to the user and are not yet."""
        call = Call("GET", _template(client) + "/available")
        return self._list(call, _roles(call, user_id, client) + "/available")

    def mapped_roles(self, user_id: str, client: str | None = None) -> list[Json]:
        """Return the roles that are mapped to the user directly; those of a client need the role view-clients."""
        call = Call("GET", _template(client))
        return self._list(call, _roles(call, user_id, client))

    def map_roles(self, user_id: str, roles: Sequence[Json], client: str | None = None) -> None:
        """Map these roles, each with its `id` and `name`; harmless when they are mapped."""
        call = Call("POST", _template(client))
        self._send(call, _roles(call, user_id, client), expect=204, json=list(roles))

    def unmap_roles(self, user_id: str, roles: Sequence[Json], client: str | None = None) -> None:
        """Undo `map_roles`; harmless when they are not mapped."""
        call = Call("DELETE", _template(client))
        self._send(call, _roles(call, user_id, client), expect=204, json=list(roles))

    def organizations_with_alias(self, alias: str) -> list[Json]:
        """Return the organization with this alias, or nothing; needs the role manage-organizations, as all about them.

        Raises ValueError when Keycloak's query language cannot say `alias`.
        """
        call = Call("GET", "/organizations")
        return self._list(call, "/organizations", {"q": f"alias:{quote_query(alias)}"})

    def organizations_of(self, user_id: str) -> list[Json]:
        """Return the organizations that the user is a member of."""
        call = Call("GET", "/organizations/members/{id}/organizations")
        return self._list(call, f"/organizations/members/{segment(call, user_id)}/organizations")

    def organization_member(self, organization: str, user_id: str) -> Json:
        """Return the user as a member; its `membershipType` says whether the organization owns the account."""
        call = Call("GET", "/organizations/{organization-id}/members/{id}")
        return self._object(call, _members(call, organization) + f"/{segment(call, user_id)}")

    def join_organization(self, user_id: str, organization: str) -> None:
        """Make the user a member. Raises KeycloakConflictError when it is one."""
        call = Call("POST", "/organizations/{organization-id}/members")
        # a bare id as a JSON string: an object is answered by 404
        self._send(call, _members(call, organization), expect=201, json=user_id)

    def leave_organization(self, user_id: str, organization: str) -> None:
        """Take the user out of the organization. One whose account the organization owns is deleted by that."""
        call = Call("DELETE", "/organizations/{organization-id}/members/{id}")
        path = _members(call, organization) + f"/{segment(call, user_id)}"
        self._send(call, path, expect=204)

    def federated_identities(self, user_id: str) -> list[Json]:
        """Return the user's accounts at the realm's identity providers; those at others are hidden."""
        call = Call("GET", "/users/{id}/federated-identity")
        return self._list(call, user_path(call, user_id) + "/federated-identity")

    def link_identity(self, user_id: str, alias: str, identity: Json) -> None:
        """Link the user to an account; whether it is another's, or the alias anybody's, is not checked.

        Raises KeycloakConflictError when the user has an account there.
        """
        call = Call("POST", "/users/{id}/federated-identity/{alias}")
        path = f"{user_path(call, user_id)}/federated-identity/{segment(call, alias)}"
        self._send(call, path, expect=204, json=identity)

    def unlink_identity(self, user_id: str, alias: str) -> None:
        """Take the link away. Raises KeycloakNotFoundError when there is none."""
        call = Call("DELETE", "/users/{id}/federated-identity/{alias}")
        path = f"{user_path(call, user_id)}/federated-identity/{segment(call, alias)}"
        self._send(call, path, expect=204)


def _template(client: str | None) -> str:
    return _ROLES + ("realm" if client is None else "clients/{client-id}")


def _roles(call: Call, user_id: str, client: str | None) -> str:
    where = "realm" if client is None else f"clients/{segment(call, client)}"
    return f"{user_path(call, user_id)}/role-mappings/{where}"


def _members(call: Call, organization: str) -> str:
    return f"/organizations/{segment(call, organization)}/members"
