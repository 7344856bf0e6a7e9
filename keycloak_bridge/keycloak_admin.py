"""Keycloak's Admin REST API: one method an endpoint, every other status than the expected one a typed error."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar, cast
from urllib.parse import quote

import requests

from keycloak_bridge.core.errors import KeycloakNotFoundError
from keycloak_bridge.core.model import UserRepresentation
from keycloak_bridge.keycloak_errors import from_response, not_keycloak
from keycloak_bridge.keycloak_http import KeycloakHttp
from keycloak_bridge.keycloak_rejections import EXECUTE_ACTIONS_EMAIL, Call, where
from keycloak_bridge.keycloak_token import TokenSource

Params = Mapping[str, str | int]
Json = dict[str, Any]

_PAGE = 100
_Item = TypeVar("_Item")


class KeycloakAdmin:
    """The realm's Admin REST API as the bridge's service account sees it. Safe to share between threads.

    Every method may raise KeycloakUnavailableError or KeycloakAuthError; those that name a user, group or role may raise
    KeycloakNotFoundError.
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

    def search_users(self, params: Params) -> list[UserRepresentation]:
        """Return one page of the users that `params` (`username`, `email`, `q`, `exact` ...) find, attributes included."""
        asked: dict[str, str | int] = {"briefRepresentation": "false", "max": _PAGE, **params}
        return cast("list[UserRepresentation]", self._list(Call("GET", "/users"), "/users", asked))

    def find_users_by_attribute(self, name: str, value: str) -> list[UserRepresentation]:
        """Return every user whose attribute `name` is `value` in any case.

        Raises ValueError when Keycloak's query language cannot say `value`.
        """
        query = f"{quote_query(name)}:{quote_query(value)}"
        return _all_pages(lambda first: self.search_users({"q": query, "first": first}))

    def get_user(self, user_id: str) -> UserRepresentation:
        """Return the user with all attributes that administrators may see."""
        call = Call("GET", "/users/{id}")
        return cast("UserRepresentation", self._object(call, _user(call, user_id)))

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
        self._send(call, _user(call, user_id), expect=204, json=representation)

    def credentials(self, user_id: str) -> list[Json]:
        """Return the user's credentials, without their secrets."""
        call = Call("GET", "/users/{id}/credentials")
        return self._list(call, _user(call, user_id) + "/credentials")

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
        path = _user(call, user_id) + "/execute-actions-email"
        self._send(call, path, expect=204, params=params, json=list(actions))

    def user_groups(self, user_id: str) -> list[Json]:
        """Return every group that the user is a direct member of."""
        call = Call("GET", "/users/{id}/groups")
        path = _user(call, user_id) + "/groups"
        return _all_pages(lambda first: self._list(call, path, {"first": first, "max": _PAGE}))

    def group_by_path(self, path: str) -> Json:
        """Return the group at `path`, with or without its leading slash."""
        call = Call("GET", "/group-by-path/{path}")
        names = path.strip("/").split("/")
        encoded = "/".join(_segment(call, name) for name in names)
        return self._object(call, f"/group-by-path/{encoded}")

    def join_group(self, user_id: str, group_id: str) -> None:
        """Make the user a member; harmless when it is one."""
        call = Call("PUT", "/users/{id}/groups/{group-id}")
        self._send(call, f"{_user(call, user_id)}/groups/{_segment(call, group_id)}", expect=204)

    def available_realm_roles(self, user_id: str) -> list[Json]:
        """Return the realm roles that could be mapped to the user and are not yet."""
        call = Call("GET", "/users/{id}/role-mappings/realm/available")
        return self._list(call, _user(call, user_id) + "/role-mappings/realm/available")

    def mapped_realm_roles(self, user_id: str) -> list[Json]:
        """Return the realm roles that are mapped to the user directly."""
        call = Call("GET", "/users/{id}/role-mappings/realm")
        return self._list(call, _user(call, user_id) + "/role-mappings/realm")

    def grant_realm_roles(self, user_id: str, roles: Sequence[Json]) -> None:
        """Map these roles, each with its `id` and `name`; harmless when they are mapped."""
        call = Call("POST", "/users/{id}/role-mappings/realm")
        path = _user(call, user_id) + "/role-mappings/realm"
        self._send(call, path, expect=204, json=list(roles))

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

    def _object(self, call: Call, path: str) -> Json:
        response = self._send(call, path, expect=200)
        body = _json(call, response)
        if not isinstance(body, dict):
            raise not_keycloak(call, response.status_code)
        return body

    def _list(self, call: Call, path: str, params: Params | None = None) -> list[Json]:
        response = self._send(call, path, expect=200, params=params)
        body = _json(call, response)
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


def _json(call: Call, response: requests.Response) -> Any:
    try:
        return response.json()
    except ValueError as error:
        raise not_keycloak(call, response.status_code) from error


def _user(call: Call, user_id: str) -> str:
    return f"/users/{_segment(call, user_id)}"


def _segment(call: Call, name: str) -> str:
    """Encode one path segment; those that URLs collapse would call another endpoint, and name nothing."""
    if name in ("", ".", ".."):
        raise KeycloakNotFoundError(f"there is nothing at {call}", **where(call, None))
    return quote(name, safe="")


def _all_pages(page: Callable[[int], list[_Item]]) -> list[_Item]:
    items: list[_Item] = []
    while True:
        found = page(len(items))
        items += found
        if len(found) < _PAGE:
            return items
