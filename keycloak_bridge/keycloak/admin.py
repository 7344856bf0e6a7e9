"""Keycloak's Admin REST API: one method an endpoint, every other status than the expected one a typed error.

How Keycloak's Admin REST API is called: one token, one retry with a fresh one, every unexpected answer a typed error.

The endpoints about what a user belongs to: groups, roles, organizations, and accounts at identity providers.

What the Admin REST API tells about a realm to an account that holds manage-realm.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar, cast
from urllib.parse import quote

import requests

from keycloak_bridge.domain.errors import KeycloakNotFoundError
from keycloak_bridge.domain.users import UserRepresentation
from keycloak_bridge.keycloak.errors import from_response, not_keycloak
from keycloak_bridge.keycloak.http import KeycloakHttp
from keycloak_bridge.keycloak.refusals import EXECUTE_ACTIONS_EMAIL, Call, where
from keycloak_bridge.keycloak.token import TokenSource

Params = Mapping[str, str | int]
Json = dict[str, Any]

PAGE = 100
"""How many items are asked for at once."""

_Item = TypeVar("_Item")


class AdminCalls:
    """Sends calls below the realm as the bridge's service account. Safe to share between threads."""

    def __init__(self, http: KeycloakHttp, tokens: TokenSource) -> None:
        self._http = http
        self._tokens = tokens

    def access_token(self) -> str:
        """Return the token that calls are made with."""
        return self._tokens.token()

    def close(self) -> None:
        """Close the pooled connections; a later call would open them again."""
        self._http.close()

    def _object(self, call: Call, path: str) -> Json:
        response = self._send(call, path, expect=200)
        body = parsed(call, response)
        if not isinstance(body, dict):
            raise not_keycloak(call, response.status_code)
        return body

    def _list(self, call: Call, path: str, params: Params | None = None) -> list[Json]:
        response = self._send(call, path, expect=200, params=params)
        body = parsed(call, response)
        if not isinstance(body, list) or not all(isinstance(item, dict) for item in body):
            raise not_keycloak(call, response.status_code)
        return body

    def _send(
        self,
        call: Call,
        path: str,
        *,
        expect: int,
        params: Params | None = None,
        json: object = None,
    ) -> requests.Response:
        """Send once, and once more with a fresh token when Keycloak no longer takes the cached one."""
        url = self._http.admin_url + path
        token = self._tokens.token()
        response = self._http.send(call, url, token=token, params=params, json=json)
        if response.status_code == 401:
            self._tokens.invalidate(token)
            token = self._tokens.token()
            response = self._http.send(call, url, token=token, params=params, json=json)
        if response.status_code != expect:
            raise from_response(call, response)
        return response


def quote_query(text: str) -> str:
    r"""Return `text` as one word of Keycloak's `q` parameter. Raises ValueError when no spelling of it exists.

    Inside double quotes only `\"` is an escape; of two backslashes both are dropped, so a backslash can stand neither
    before another, nor before a quote, nor at the end.
    """
    if not text or "\\\\" in text or '\\"' in text or text.endswith("\\"):
        raise ValueError("Keycloak's attribute search has no spelling for this value")
    text.encode()  # half a surrogate pair cannot be sent: UnicodeEncodeError is a ValueError
    return '"' + text.replace('"', '\\"') + '"'


def parsed(call: Call, response: requests.Response) -> Any:
    """Return the JSON of an answer; what is none is not Keycloak's."""
    try:
        return response.json()
    except ValueError as error:
        raise not_keycloak(call, response.status_code) from error


def user_path(call: Call, user_id: str) -> str:
    """Return the path of a user below the realm."""
    return f"/users/{segment(call, user_id)}"


def segment(call: Call, name: str) -> str:
    """Encode one path segment; those that URLs collapse would call another endpoint, and name nothing."""
    if name in ("", ".", ".."):
        raise KeycloakNotFoundError(f"there is nothing at {call}", **where(call, None))
    return quote(name, safe="")


def all_pages(page: Callable[[int], list[_Item]]) -> list[_Item]:
    """Return all items, page by page; `page` gets the number of the first one to return."""
    items: list[_Item] = []
    while True:
        found = page(len(items))
        items += found
        if len(found) < PAGE:
            return items


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


class RealmCalls(AdminCalls):
    """Reads the settings of one realm. Safe to share between threads."""

    def required_actions(self) -> list[Json]:
        """Return the realm's required actions, those that are switched off too."""
        path = "/authentication/required-actions"
        return self._list(Call("GET", path), path)

    def components(self, kind: str) -> list[Json]:
        """Return the realm's components of one kind, the name of a Java interface."""
        return self._list(Call("GET", "/components"), "/components", {"type": kind})


class KeycloakAdmin(MembershipCalls, RealmCalls):
    """The realm's Admin REST API as the bridge's service account sees it. Safe to share between threads.

    Every method may raise KeycloakUnavailableError or KeycloakAuthError; those that name a user, group or role may raise
    KeycloakNotFoundError.
    """

    def search_users(self, params: Params) -> list[UserRepresentation]:
        """Return one page of the users that `params` (`username`, `email`, `q`, `exact` ...) find, attributes included."""
        asked: dict[str, str | int] = {"briefRepresentation": "false", "max": PAGE, **params}
        return cast("list[UserRepresentation]", self._list(Call("GET", "/users"), "/users", asked))

    def find_users_by_attribute(self, name: str, value: str) -> list[UserRepresentation]:
        """Return every user whose attribute `name` is `value` in any case.

        Raises ValueError when Keycloak's query language cannot say `value`.
        """
        query = f"{quote_query(name)}:{quote_query(value)}"
        return all_pages(lambda first: self.search_users({"q": query, "first": first}))

    def get_user(self, user_id: str) -> UserRepresentation:
        """Return the user with all attributes that administrators may see."""
        call = Call("GET", "/users/{id}")
        return cast("UserRepresentation", self._object(call, user_path(call, user_id)))

    def create_user(self, representation: UserRepresentation) -> str:
        """Create the user and return its id. Raises KeycloakConflictError or KeycloakRejectedError.

        Keycloak answers an unknown group by a bare 500: look groups up before.
        """
        call = Call("POST", "/users")
        response = self._send(call, "/users", expect=201, json=representation)
        user_id = response.headers.get("Location", "").rstrip("/").rpartition("/")[2]
        if not user_id:
            raise not_keycloak(call, response.status_code)
        return user_id

    def update_user(self, user_id: str, representation: UserRepresentation) -> None:
        """Replace the user; with `attributes` given, everything that is absent is erased.

        Raises KeycloakConflictError or KeycloakRejectedError.
        """
        call = Call("PUT", "/users/{id}")
        self._send(call, user_path(call, user_id), expect=204, json=representation)

    def delete_user(self, user_id: str) -> None:
        """Remove the user, with everything that Keycloak keeps of it."""
        call = Call("DELETE", "/users/{id}")
        self._send(call, user_path(call, user_id), expect=204)

    def sessions(self, user_id: str) -> list[Json]:
        """Return the user's sessions; offline ones are not among them."""
        call = Call("GET", "/users/{id}/sessions")
        return self._list(call, user_path(call, user_id) + "/sessions")

    def log_out(self, user_id: str) -> None:
        """End the user's sessions; offline ones stay."""
        call = Call("POST", "/users/{id}/logout")
        self._send(call, user_path(call, user_id) + "/logout", expect=204)

    def credentials(self, user_id: str) -> list[Json]:
        """Return the user's credentials, without their secrets."""
        call = Call("GET", "/users/{id}/credentials")
        return self._list(call, user_path(call, user_id) + "/credentials")

    def execute_actions_email(
        self,
        user_id: str,
        actions: Sequence[str],
        *,
        lifespan_s: int,
        client_id: str | None = None,
        redirect_uri: str | None = None,
    ) -> None:
        """Have Keycloak mail a link to these required actions.

        Raises MailDeliveryError when the SMTP server failed, KeycloakRejectedError otherwise.
        """
        call = Call("PUT", EXECUTE_ACTIONS_EMAIL)
        params: dict[str, str | int] = {"lifespan": lifespan_s}
        if client_id is not None:
            params["client_id"] = client_id
        if redirect_uri is not None:
            params["redirect_uri"] = redirect_uri
        path = user_path(call, user_id) + "/execute-actions-email"
        self._send(call, path, expect=204, params=params, json=list(actions))

    def count_users(self) -> int:
        """Return how many users the realm has."""
        call = Call("GET", "/users/count")
        response = self._send(call, "/users/count", expect=200)
        count = parsed(call, response)
        if not isinstance(count, int):
            raise not_keycloak(call, response.status_code)
        return count

    def import_users(self, users: Sequence[UserRepresentation]) -> list[Json]:
        """Import users that are not there yet, all or none, and return what became of each; needs the role manage-realm.

        Nothing is validated: what POST /users would refuse or drop is stored. A result has `action` (`ADDED`, `SKIPPED`),
        `resourceName` (the username as it was given) and `id`. Raises KeycloakConflictError or KeycloakRejectedError;
        Keycloak answers most bad users by a bare 500.
        """
        call = Call("POST", "/partialImport")
        body = {"ifResourceExists": "SKIP", "users": users}
        response = self._send(call, "/partialImport", expect=200, json=body)
        answer = parsed(call, response)
        results = answer.get("results") if isinstance(answer, dict) else None
        if not isinstance(results, list):
            raise not_keycloak(call, response.status_code)
        return results

    def users_profile(self) -> Json:
        """Return the realm's user profile as it was configured."""
        return self._object(Call("GET", "/users/profile"), "/users/profile")

    def users_profile_metadata(self) -> Json:
        """Return the user profile in effect: `locale` is in it only while internationalization is on."""
        return self._object(Call("GET", "/users/profile/metadata"), "/users/profile/metadata")

    def events_config(self) -> Json:
        """Return which events the realm records; needs the role view-events."""
        return self._object(Call("GET", "/events/config"), "/events/config")

    def admin_events(self, params: Params) -> list[Json]:
        """Return one page of admin events, newest first; needs the role view-events."""
        return self._list(Call("GET", "/admin-events"), "/admin-events", params)

    def realm(self) -> Json:
        """Return what the service account may know of the realm."""
        return self._object(Call("GET", "/"), "")
