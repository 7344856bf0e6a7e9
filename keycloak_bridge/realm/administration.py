"""Read and change a realm as its administrator, whose credentials live as long as the command."""

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, TypeVar
from urllib.parse import quote

from keycloak_bridge.domain.errors import (
    ConfigError,
    KeycloakAuthError,
    KeycloakConflictError,
    KeycloakNotFoundError,
    KeycloakRejectedError,
)
from keycloak_bridge.domain.ports import Clock
from keycloak_bridge.keycloak import shapes
from keycloak_bridge.keycloak.admin import KeycloakAdmin
from keycloak_bridge.keycloak.client_auth import by_secret
from keycloak_bridge.keycloak.http import KeycloakHttp
from keycloak_bridge.keycloak.token import TokenSource
from keycloak_bridge.realm.needs import MANAGEMENT, RealmNeeds
from keycloak_bridge.realm.plan import (
    CreateClient,
    CreateGroups,
    CreateRoles,
    EnableAction,
    Json,
    MapRoles,
    RealmState,
    ReplaceProfile,
    Step,
    UpdateClient,
    UpdateEvents,
    UpdateRealm,
    with_parents,
)

MASTER = "master"
ADMIN_CLI = "admin-cli"
"""The client that Keycloak's own command line logs in with."""

Answer = TypeVar("Answer")


@dataclass(frozen=True, slots=True)
class Administrator:
    """Who administers: a user, or with `client` a client's service account; `realm` is where it logs in."""

    secret: str = field(repr=False)
    user: str = "admin"
    client: str | None = None
    realm: str = MASTER


class AdministratorTokens(TokenSource):
    """The administrator's tokens, which are asked for as Keycloak's own command line does."""

    def __init__(self, http: KeycloakHttp, who: Administrator, clock: Clock) -> None:
        super().__init__(http, by_secret(who.client or ADMIN_CLI, lambda: who.secret), clock)
        self._who = who
        self._realms = http.realm_url.rpartition("/")[0]

    def _form(self) -> dict[str, str]:
        if self._who.client is not None:
            return super()._form()
        return {
            "grant_type": "password",
            "client_id": ADMIN_CLI,
            "username": self._who.user,
            "password": self._who.secret,
        }

    def _url(self) -> str:
        return f"{self._realms}/{quote(self._who.realm, safe='')}/protocol/openid-connect/token"


class RealmAdministration(KeycloakAdmin):
    """The Admin REST API as far as a realm is made ready by it. Raises ConfigError for what an administrator may not do."""

    def state(self, needs: RealmNeeds) -> RealmState:
        """Return what the realm has of what is needed."""
        with _explained():
            realm = self._realm_settings()
            client = next(iter(self.clients(needs.client_id)), None)
            client_uuid = None if client is None else str(client["id"])
            account = self._account(client)
            actions = self.required_actions()
            unregistered = self._list("/authentication/unregistered-required-actions")
            config = self.events_config()
            return RealmState(
                realm={**realm, **config},
                profile=self.users_profile(),
                management_roles=self._names("/clients/{id}/roles", self._management),
                client=client,
                secret=None if client is None else client.get("secret"),
                account_roles=self._mapped(_ACCOUNT + "/composite", account),
                mapped_roles=self._mapped(_ACCOUNT, account),
                scope_roles=self._mapped(_SCOPE + "/composite", client_uuid),
                scoped_roles=self._mapped(_SCOPE, client_uuid),
                event_types=frozenset(config.get("enabledEventTypes") or ()),
                actions={one["alias"]: bool(one.get("enabled")) for one in actions},
                unregistered_actions={
                    one["providerId"]: str(one.get("name")) for one in unregistered
                },
                realm_roles=self._existing("/roles/{name}", needs.realm_roles),
                client_roles={
                    name: self._roles_of(name, roles) for name, roles in needs.client_roles.items()
                },
                groups=self._found(self.group_by_path, with_parents(needs.groups)),
                organizations=self._organizations(needs, realm),
                identity_providers=self._existing(
                    "/identity-provider/instances/{alias}", needs.identity_providers
                ),
                invite_clients=frozenset(one for one in needs.invite_clients if self.clients(one)),
            )

    def carry_out(
        self, needs: RealmNeeds, steps: Sequence[Step], secret: str | None
    ) -> Iterator[Step]:
        """Yield each step when it is done; `secret` is that of a new client, None to have Keycloak make one."""
        for step in steps:
            with _explained():
                self._write(needs, step, secret)
            yield step

    def _write(self, needs: RealmNeeds, step: Step, secret: str | None) -> None:
        match step.write:
            case CreateClient(representation):
                given = {} if secret is None else {"secret": secret}
                self._send("POST", "/clients", json={**representation, **given}, expect=201)
            case UpdateClient(keys):
                client = self._client_named(needs.client_id)
                # without its secret, which a Keycloak may mask; what is left out stays
                kept = {name: value for name, value in client.items() if name != "secret"}
                self._send("PUT", "/clients/{id}", client["id"], json={**kept, **keys})
            case MapRoles():
                self._map(needs, step.write)
            case ReplaceProfile(profile):
                self._send("PUT", "/users/profile", json=profile, expect=200)
            case UpdateRealm(keys, attributes):
                # all of it: Keycloak resets settings of CIBA, PAR and the device flow that are left out. Without
                # smtpServer, whose password it masks and which it leaves alone
                realm = self._realm_settings()
                stored = realm.pop("attributes", None) or {}
                realm.pop("smtpServer", None)
                body = {**realm, **keys, "attributes": {**stored, **attributes}}
                self._send("PUT", "", json=body)
            case UpdateEvents(keys):
                # what is left out of these three, Keycloak takes for off
                config = self.events_config()
                kept = {
                    name: config.get(name)
                    for name in ("eventsEnabled", "eventsExpiration", "adminEventsEnabled")
                }
                self._send("PUT", "/events/config", json={**kept, **keys})
            case EnableAction():
                self._enable(step.write)
            case CreateRoles(names, client):
                self._create_roles(names, client)
            case CreateGroups(paths):
                for path in paths:
                    above, _, name = path.rpartition("/")
                    parent = self.group_by_path(above)["id"] if above else None
                    with suppress(KeycloakConflictError):
                        self.create_group(name, parent)

    def _map(self, needs: RealmNeeds, write: MapRoles) -> None:
        client = self._client_named(needs.client_id)
        owner = client["id"] if write.to_scope else self._account(client)
        roles = [
            self._object("/clients/{id}/roles/{name}", self._management, name)
            for name in write.roles
        ]
        method = "DELETE" if write.takes_away else "POST"
        template = _SCOPE if write.to_scope else _ACCOUNT
        self._send(method, template, str(owner), self._management, json=roles)

    def _enable(self, write: EnableAction) -> None:
        if write.registers is not None:
            body = {"providerId": write.alias, "name": write.registers}
            self._send("POST", "/authentication/register-required-action", json=body)
        template = "/authentication/required-actions/{alias}"
        action = self._object(template, write.alias)
        if not action.get("enabled"):
            self._send("PUT", template, write.alias, json={**action, "enabled": True})

    def _create_roles(self, names: Collection[str], client: str | None) -> None:
        owner = () if client is None else (str(self._client_named(client)["id"]),)
        template = "/clients/{id}/roles" if owner else "/roles"
        for name in names:
            with suppress(KeycloakConflictError):
                self._send("POST", template, *owner, json={"name": name}, expect=201)

    @cached_property
    def _management(self) -> str:
        return str(self._client_named(MANAGEMENT)["id"])

    def _client_named(self, client_id: str) -> Json:
        found = self.clients(client_id)
        if not found:
            raise ConfigError(
                f"the realm has no client {client_id}",
                code="client-not-found",
                remedy="create it, or take it out of the mapping; the realm master cannot be the realm of users",
            )
        return found[0]

    def _realm_settings(self) -> Json:
        try:
            return self._object("", shape=shapes.REALM)
        except KeycloakNotFoundError as error:
            raise ConfigError(
                "there is no such realm at [keycloak] url",
                code="realm-not-found",
                remedy="create the realm, or correct [keycloak] realm and url",
            ) from error

    def _account(self, client: Json | None) -> str | None:
        """Return the id of the client's service account, where it has one."""
        if client is None or not client.get("serviceAccountsEnabled"):
            return None
        return str(self._object("/clients/{id}/service-account-user", client["id"])["id"])

    def _mapped(self, template: str, owner: str | None) -> frozenset[str]:
        return frozenset() if owner is None else self._names(template, owner, self._management)

    def _names(self, template: str, *names: str) -> frozenset[str]:
        return frozenset(one["name"] for one in self._list(template, *names, each=shapes.ROLE))

    def _existing(self, template: str, names: Collection[str], *owner: str) -> frozenset[str]:
        return self._found(lambda name: self._object(template, *owner, name), names)

    def _found(self, look: Callable[[str], object], names: Collection[str]) -> frozenset[str]:
        found = set()
        for name in names:
            with suppress(KeycloakNotFoundError):
                look(name)
                found.add(name)
        return frozenset(found)

    def _roles_of(self, client_id: str, names: Collection[str]) -> frozenset[str] | None:
        found = self.clients(client_id)
        return (
            self._existing("/clients/{id}/roles/{name}", names, found[0]["id"]) if found else None
        )

    def _organizations(self, needs: RealmNeeds, realm: Mapping[str, Any]) -> frozenset[str]:
        if not realm.get("organizationsEnabled"):
            return frozenset()
        return frozenset(one for one in needs.organizations if self.organizations_with_alias(one))


_ACCOUNT = "/users/{id}/role-mappings/clients/{client-id}"
_SCOPE = "/clients/{id}/scope-mappings/clients/{client-id}"


@contextmanager
def _explained() -> Iterator[None]:
    """Say of the administrator what Keycloak's errors say of the service account."""
    try:
        yield
    except KeycloakAuthError as error:
        if error.status == 403:
            raise ConfigError(
                f"the administrator may not {error.method} {error.path} ({error.status})",
                code="administrator-forbidden",
                remedy=f"log in as somebody who has the role realm-admin of {MANAGEMENT}, or admin of the realm master",
            ) from error
        if error.code == "keycloak-credentials":
            raise ConfigError(
                f"Keycloak refuses the administrator's credentials ({error.status})",
                code="administrator-credentials",
                remedy="check --user, --user-realm and the password; somebody with a second factor cannot log in here: use --client",
            ) from error
        raise
    except KeycloakRejectedError as error:
        raise ConfigError(
            f"Keycloak refuses {error.method} {error.path} ({error.status})",
            code="realm-refused",
            remedy="look at Keycloak's log; what was written before stays",
        ) from error
