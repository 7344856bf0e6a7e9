"""Keycloak's Admin REST API: one method an endpoint, every other status than the expected one a typed error."""

from collections.abc import Sequence
from typing import cast

from keycloak_bridge.core.desired import UserRepresentation
from keycloak_bridge.keycloak_calls import (
    PAGE,
    Json,
    Params,
    all_pages,
    parsed,
    quote_query,
    user_path,
)
from keycloak_bridge.keycloak_errors import not_keycloak
from keycloak_bridge.keycloak_membership_calls import MembershipCalls
from keycloak_bridge.keycloak_realm_calls import RealmCalls
from keycloak_bridge.keycloak_rejections import EXECUTE_ACTIONS_EMAIL, Call


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
