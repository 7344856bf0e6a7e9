"""How Keycloak's Admin REST API is called: one token, one retry with a fresh one, every unexpected answer a typed error."""

from collections.abc import Callable, Mapping
from typing import Any, TypeVar
from urllib.parse import quote

import requests

from keycloak_bridge.core.errors import KeycloakNotFoundError
from keycloak_bridge.keycloak_errors import from_response, not_keycloak
from keycloak_bridge.keycloak_http import KeycloakHttp
from keycloak_bridge.keycloak_rejections import Call, where
from keycloak_bridge.keycloak_token import TokenSource

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
