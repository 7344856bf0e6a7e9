"""Keycloak's Admin REST API: one method an endpoint, called with the service account's token.

A call that Keycloak refuses with 401 is sent once more with a fresh token. Every answer other than the expected one becomes
a typed error.
"""

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import chain, count
from typing import Any, TypeVar, cast
from urllib.parse import quote

import requests

from keycloak_bridge.domain.errors import KeycloakError, KeycloakNotFoundError
from keycloak_bridge.domain.users import UserRepresentation
from keycloak_bridge.keycloak import shapes
from keycloak_bridge.keycloak.calls import EXECUTE_ACTIONS_EMAIL, Call
from keycloak_bridge.keycloak.errors import keycloak_error, where
from keycloak_bridge.keycloak.http import KeycloakHttp, from_response
from keycloak_bridge.keycloak.shapes import Shape, fits
from keycloak_bridge.keycloak.token import TokenSource
from keycloak_bridge.transport.http import json_in

Params = Mapping[str, str | int | Sequence[str]]
Json = dict[str, Any]

PAGE = 100
"""How many items are asked for at once."""

_Item = TypeVar("_Item")
_Identified = TypeVar("_Identified", bound=Mapping[str, Any])
_PLACE = re.compile(r"\{[^}]+\}")
USERS = Call("GET", "/users")
_REALM_ROLES = "/users/{id}/role-mappings/realm"
_CLIENT_ROLES = "/users/{id}/role-mappings/clients/{client-id}"
_IDENTITY = "/users/{id}/federated-identity/{alias}"
_MEMBERS = "/organizations/{organization-id}/members"


class KeycloakAdmin:
    """The realm's Admin REST API as the bridge's service account sees it. Safe to share between threads.

    Every method may raise KeycloakUnavailableError or KeycloakAuthError; those that name a user, group or role may raise
    KeycloakNotFoundError. `client` is a client's id in Keycloak (not its clientId), None for the realm's own roles.
    """

    def __init__(self, http: KeycloakHttp, tokens: TokenSource) -> None:
        self._http = http
        self._tokens = tokens

    def access_token(self) -> str:
        """Return the token that calls are made with."""
        return self._tokens.token()

    def close(self) -> None:
        """Close the pooled connections; a later call would open them again."""
        self._http.close()

    # users

    def search_users(self, params: Params) -> list[UserRepresentation]:
        """Return one page of the users that `params` (`username`, `email`, `q`, `exact` ...) find, attributes included."""
        params = {"briefRepresentation": "false", "max": PAGE, **params}
        users = self._read("/users", kind=list, params=params)
        if not all(isinstance(user, dict) for user in users):
            raise _not_keycloak(USERS)
        return [_user(USERS, user) for user in users]

    def find_users_by_attribute(self, name: str, value: str) -> list[UserRepresentation]:
        """Return every user whose attribute `name` is `value` in any case.

        Raises ValueError when Keycloak's query language cannot express `value`.
        """
        query = f"{quote_query(name)}:{quote_query(value)}"
        return self._all_users({"q": query})

    def find_users_by_name(self, field: str, value: str) -> list[UserRepresentation]:
        """Return every user whose `field`, `username` or `email`, is `value`; a realm may let many share an address."""
        query: dict[str, str | int] = {field: value, "exact": "true"}
        return self._all_users(query)

    def _all_users(self, query: Params) -> list[UserRepresentation]:
        pages = each_page(USERS, lambda first: self.search_users({**query, "first": first}))
        return list(chain.from_iterable(pages))

    def get_user(self, user_id: str) -> UserRepresentation:
        """Return the user with all attributes that administrators may see."""
        return _user(Call("GET", "/users/{id}"), self._object("/users/{id}", user_id))

    def create_user(self, representation: UserRepresentation) -> str:
        """Create the user and return its id. Raises KeycloakConflictError or KeycloakRejectedError.

        Keycloak answers an unknown group by a bare 500: look groups up before.
        """
        response = self._send("POST", "/users", json=representation, expect=201)
        user_id = response.headers.get("Location", "").rstrip("/").rpartition("/")[2]
        if not user_id:
            raise keycloak_error(code="not-keycloak", call=Call("POST", "/users"), status=201)
        return user_id

    def update_user(self, user_id: str, representation: UserRepresentation) -> None:
        """Replace the user; with `attributes` given, everything that is absent is erased.

        Raises KeycloakConflictError or KeycloakRejectedError.
        """
        self._send("PUT", "/users/{id}", user_id, json=representation)

    def delete_user(self, user_id: str) -> None:
        """Remove the user, with everything that Keycloak keeps of it."""
        self._send("DELETE", "/users/{id}", user_id)

    def sessions(self, user_id: str) -> list[Json]:
        """Return the user's sessions; offline ones are not among them."""
        return self._list("/users/{id}/sessions", user_id)

    def log_out(self, user_id: str) -> None:
        """End the user's sessions; offline ones stay."""
        self._send("POST", "/users/{id}/logout", user_id)

    def credentials(self, user_id: str) -> list[Json]:
        """Return the user's credentials, without their secrets."""
        return self._list("/users/{id}/credentials", user_id)

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
        params: dict[str, str | int] = {"lifespan": lifespan_s}
        if client_id is not None:
            params["client_id"] = client_id
        if redirect_uri is not None:
            params["redirect_uri"] = redirect_uri
        self._send("PUT", EXECUTE_ACTIONS_EMAIL, user_id, params=params, json=list(actions))

    def count_users(self, username: str = "") -> int:
        """Return how many users the realm has whose username contains `username`."""
        params = {"username": username} if username else None
        return self._read("/users/count", kind=int, params=params)

    def import_users(self, users: Sequence[UserRepresentation]) -> list[Json]:
        """Import users that do not exist yet, all or none, and return a result for each; needs the role manage-realm.

        Nothing is validated: what POST /users would refuse or drop is stored. A result has `action` (`ADDED`, `SKIPPED`),
        `resourceName` (the username as it was given) and `id`. Raises KeycloakConflictError or KeycloakRejectedError;
        Keycloak answers most bad users by a bare 500.
        """
        call = Call("POST", "/partialImport")
        body = {"ifResourceExists": "SKIP", "users": users}
        answer = _parsed(call, self._send(*call, json=body, expect=200))
        if not fits(answer, shapes.IMPORTED):
            raise _not_keycloak(call)
        results: list[Json] = answer["results"]
        return results

    # what users belong to

    def user_groups(self, user_id: str) -> list[Json]:
        """Return every group that the user is a direct member of."""
        path = "/users/{id}/groups"
        pages = each_page(
            Call("GET", path),
            lambda first: self._list(
                path, user_id, params={"first": first, "max": PAGE}, each=shapes.GROUP
            ),
        )
        return list(chain.from_iterable(pages))

    def group_by_path(self, path: str) -> Json:
        """Return the group at `path`, with or without its leading slash."""
        names = path.strip("/").split("/")
        return self._object("/group-by-path/{path}", *names, shape=shapes.GROUP)

    def create_group(self, name: str, parent: str | None = None) -> None:
        """Create a group, below the group with the id `parent` if one is given.

        Raises KeycloakConflictError when it exists.
        """
        if parent is None:
            self._send("POST", "/groups", json={"name": name}, expect=201)
        else:
            path = "/groups/{group-id}/children"
            self._send("POST", path, parent, json={"name": name}, expect=201)

    def join_group(self, user_id: str, group_id: str) -> None:
        """Make the user a member; harmless when it is one."""
        self._send("PUT", "/users/{id}/groups/{group-id}", user_id, group_id)

    def leave_group(self, user_id: str, group_id: str) -> None:
        """Take the user out of the group; harmless when it is no member."""
        self._send("DELETE", "/users/{id}/groups/{group-id}", user_id, group_id)

    def clients(self, client_id: str) -> list[Json]:
        """Return the client with this clientId, or nothing; needs the role view-clients."""
        return self._list("/clients", params={"clientId": client_id}, each=shapes.CLIENT)

    def available_roles(self, user_id: str, client: str | None = None) -> list[Json]:
        """Return the roles that could be mapped to the user and are not yet."""
        template, names = _role_mappings(user_id, client)
        return self._list(template + "/available", *names, each=shapes.ROLE)

    def mapped_roles(self, user_id: str, client: str | None = None) -> list[Json]:
        """Return the roles that are mapped to the user directly; those of a client need the role view-clients."""
        template, names = _role_mappings(user_id, client)
        return self._list(template, *names, each=shapes.ROLE)

    def map_roles(self, user_id: str, roles: Sequence[Json], client: str | None = None) -> None:
        """Map these roles, each with its `id` and `name`; harmless when they are mapped."""
        template, names = _role_mappings(user_id, client)
        self._send("POST", template, *names, json=list(roles))

    def unmap_roles(self, user_id: str, roles: Sequence[Json], client: str | None = None) -> None:
        """Undo `map_roles`; harmless when they are not mapped."""
        template, names = _role_mappings(user_id, client)
        self._send("DELETE", template, *names, json=list(roles))

    def organizations_with_alias(self, alias: str) -> list[Json]:
        """Return the organization with this alias, or nothing; like all about them it needs the role manage-organizations.

        Raises ValueError when Keycloak's query language cannot express `alias`.
        """
        query = {"q": f"alias:{quote_query(alias)}"}
        return self._list("/organizations", params=query, each=shapes.ORGANIZATION)

    def organizations_of(self, user_id: str) -> list[Json]:
        """Return the organizations that the user is a member of."""
        return self._list(
            "/organizations/members/{id}/organizations", user_id, each=shapes.ORGANIZATION
        )

    def organization_member(self, organization: str, user_id: str) -> Json:
        """Return the user as a member; its `membershipType` says whether the organization owns the account."""
        return self._object(_MEMBERS + "/{id}", organization, user_id)

    def join_organization(self, user_id: str, organization: str) -> None:
        """Make the user a member. Raises KeycloakConflictError when it is one."""
        # a bare id as a JSON string: an object is answered by 404
        self._send("POST", _MEMBERS, organization, json=user_id, expect=201)

    def leave_organization(self, user_id: str, organization: str) -> None:
        """Take the user out of the organization. A user whose account the organization owns is deleted by that."""
        self._send("DELETE", _MEMBERS + "/{id}", organization, user_id)

    def federated_identities(self, user_id: str) -> list[Json]:
        """Return the user's accounts at the realm's identity providers; those at others are hidden."""
        return self._list("/users/{id}/federated-identity", user_id, each=shapes.IDENTITY)

    def link_identity(self, user_id: str, alias: str, identity: Json) -> None:
        """Link the user to an account; Keycloak checks neither that it is free nor that the alias exists.

        Raises KeycloakConflictError when the user has an account there.
        """
        self._send("POST", _IDENTITY, user_id, alias, json=identity)

    def unlink_identity(self, user_id: str, alias: str) -> None:
        """Remove the link. Raises KeycloakNotFoundError when there is none."""
        self._send("DELETE", _IDENTITY, user_id, alias)

    # the realm

    def realm(self) -> Json:
        """Return what the service account may know of the realm."""
        return self._object("", shape=shapes.REALM)

    def users_profile(self) -> Json:
        """Return the realm's user profile as it was configured."""
        return self._object("/users/profile", shape=shapes.PROFILE)

    def users_profile_metadata(self) -> Json:
        """Return the user profile in effect: `locale` is in it only while internationalization is on."""
        return self._object("/users/profile/metadata", shape=shapes.METADATA)

    def required_actions(self) -> list[Json]:
        """Return the realm's required actions, also those that are switched off; needs the role manage-realm or view-realm."""
        return self._list("/authentication/required-actions", each=shapes.ACTION)

    def components(self, kind: str) -> list[Json]:
        """Return the realm's components of one kind, the name of a Java interface; needs the role view-realm."""
        return self._list("/components", params={"type": kind}, each=shapes.COMPONENT)

    def events_config(self) -> Json:
        """Return which events the realm records; needs the role view-events."""
        return self._object("/events/config")

    def user_events(self, params: Params) -> list[Json]:
        """Return one page of the events of users; needs the role view-events."""
        return self._list("/events", params=params, each=shapes.EVENT)

    def admin_events(self, params: Params) -> list[Json]:
        """Return one page of admin events, newest first; needs the role view-events."""
        return self._list("/admin-events", params=params)

    def _object(self, template: str, *names: str, shape: Shape = shapes.ANYTHING) -> Json:
        found = self._read(template, *names, kind=dict)
        if not fits(found, shape):
            raise _not_keycloak(Call("GET", template or "/"))
        return found

    def _list(
        self,
        template: str,
        *names: str,
        params: Params | None = None,
        each: Shape = shapes.ANYTHING,
    ) -> list[Json]:
        items = self._read(template, *names, kind=list, params=params)
        if not fits(items, [each]):
            raise _not_keycloak(Call("GET", template))
        return items

    def _read(
        self, template: str, *names: str, kind: type[_Item], params: Params | None = None
    ) -> _Item:
        call = Call("GET", template or "/")
        body = _parsed(call, self._send("GET", template, *names, params=params, expect=200))
        if not isinstance(body, kind):
            raise _not_keycloak(call)
        return body

    def _send(
        self,
        method: str,
        template: str,
        *names: str,
        params: Params | None = None,
        json: object = None,
        expect: int = 204,
    ) -> requests.Response:
        """Call the endpoint `template` with `names` in its places, once more if the cached token is refused."""
        call = Call(method, template or "/")
        url = self._http.admin_url + _filled(call, template, names)
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


def _role_mappings(user_id: str, client: str | None) -> tuple[str, tuple[str, ...]]:
    return (_REALM_ROLES, (user_id,)) if client is None else (_CLIENT_ROLES, (user_id, client))


def _filled(call: Call, template: str, names: Sequence[str]) -> str:
    """Return the path with encoded names; those that URLs collapse would call another endpoint, and name nothing."""
    if not {"", ".", ".."}.isdisjoint(names):
        raise KeycloakNotFoundError(f"there is nothing at {call}", **where(call))
    encoded = [quote(name, safe="") for name in names]
    if template == "/group-by-path/{path}":
        return "/group-by-path/" + "/".join(encoded)
    parts = iter(encoded)
    return _PLACE.sub(lambda _: next(parts), template)


def _user(call: Call, found: Json) -> UserRepresentation:
    """Return the user without nulls, which a database that has no empty texts keeps in their place."""
    found = {name: value for name, value in found.items() if value is not None}
    attributes = found.get("attributes")
    if isinstance(attributes, dict):
        found["attributes"] = {
            name: [value for value in values if value is not None]
            if isinstance(values, list)
            else values
            for name, values in attributes.items()
        }
    if not fits(found, shapes.USER):
        raise _not_keycloak(call)
    return cast("UserRepresentation", found)


def _not_keycloak(call: Call) -> KeycloakError:
    return keycloak_error(code="not-keycloak", call=call, status=200)


def _parsed(call: Call, response: requests.Response) -> Any:
    try:
        return json_in(response)
    except ValueError as error:
        raise keycloak_error(code="not-keycloak", call=call, status=response.status_code) from error


def each_page(
    call: Call, page: Callable[[int], list[_Identified]], size: int = PAGE, overlap: int = 0
) -> Iterator[list[_Identified]]:
    """Yield pages until one has fewer items than `size`; `page` gets the number of the first item to return.

    Each page begins with the last `overlap` items of the one before. Raises KeycloakError (`not-keycloak`) where a server
    returns the same pages again and again, in whatever round.
    """
    first, landmark = 0, None
    for number in count():
        found = page(first)
        ids = [item["id"] for item in found]
        if ids == landmark:
            raise _not_keycloak(call)
        if number & (number - 1) == 0:  # a round is noticed once it lies between two powers of two
            landmark = ids
        yield found
        if len(found) < size:
            return
        first += len(found) - overlap
