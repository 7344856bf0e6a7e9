"""What whoever has the credentials of the bridge can do in Keycloak beyond what the bridge does (docs/security.md)."""

import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from http import HTTPStatus
from typing import Any

import pytest
import requests
from bridge_harness import Bench
from fine_grained import Permissions

from keycloak_bridge.testing.realm_tools import AdminRealmTools, RealmAdministrator, bridge_admin

pytestmark = pytest.mark.integration

PASSWORD = "correct horse battery"
TIMEOUT_S = 30
Json = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Thief:
    """Somebody with a token of the bridge's service account; the rest are ids of what is in the realm.

    `root`, the service account `robot`, the members of `admins` and the holders of `power` have realm-admin; `victim` and
    `crew` are nobody special.
    """

    bench: Bench
    token: str
    account: str
    victim: str
    root: str
    robot: str
    management: str
    shop: str
    admins: str
    crew: str
    power: Json
    realm_admin: Json
    own_role: Json

    def may(self, method: str, path: str, body: object = None, refusal: int = 403) -> bool:
        """Say whether Keycloak does it; anything but this refusal is a mistake of the test."""
        answer = self._send(method, path, body)
        assert answer.ok or refusal == answer.status_code, (method, path, answer.text)
        return answer.ok

    def new_user(self) -> str:
        """Create an account of one's own."""
        created = self.new_member()
        assert created is not None
        return created

    def new_member(self, *groups: str) -> str | None:
        """Create an account that is in these groups, None where Keycloak refuses them."""
        name = f"thief-{uuid.uuid4().hex[:8]}"
        body = {**person(name), "attributes": {"userId": [name]}, "groups": groups}
        answer = self._send("POST", "/users", body)
        if groups and answer.status_code == HTTPStatus.FORBIDDEN:
            return None
        return answer.headers["Location"].rpartition("/")[2]

    def administers_as(self, user: str, refusal: int = 403) -> bool:
        """Give a user another password and log in with it; say whether that reads the secrets of other clients."""
        password = {"type": "password", "value": PASSWORD, "temporary": False}
        if not self.may("PUT", f"/users/{user}/reset-password", password, refusal):
            return False
        form = {
            "grant_type": "password",
            "client_id": "admin-cli",
            "username": self._send("GET", f"/users/{user}").json()["username"],
            "password": PASSWORD,
        }
        realm = f"{self.bench.sandbox.keycloak_url}/realms/{self.bench.realm.name}"
        token = (
            requests.post(f"{realm}/protocol/openid-connect/token", data=form, timeout=TIMEOUT_S)
            .json()
            .get("access_token")
        )
        return (
            token is not None
            and self._send("GET", f"/clients/{self.shop}/client-secret", token=token).ok
        )

    def gives(self, role: Json, whom: str) -> bool:
        """Try to give a role of realm-management to a user or group."""
        return self.may("POST", f"/{whom}/role-mappings/clients/{self.management}", [role])

    def reads(self, realm: str) -> bool:
        """Try to read the users of another realm."""
        answer = self._send("GET", f"/../{realm}/users")
        assert answer.ok or answer.status_code in (401, 403)
        return answer.ok

    def _send(
        self, method: str, path: str, body: object = None, token: str | None = None
    ) -> requests.Response:
        root = f"{self.bench.sandbox.keycloak_url}/admin/realms/{self.bench.realm.name}"
        headers = {"Authorization": f"Bearer {token or self.token}"}
        return requests.request(method, root + path, json=body, headers=headers, timeout=TIMEOUT_S)


def person(name: str) -> Json:
    return {
        "username": name,
        "enabled": True,
        "email": f"{name}@acme.example",
        "firstName": "Ada",
        "lastName": "Lovelace",
    }


def by_composite(thief: Thief) -> bool:
    user = thief.new_user()
    mapped = thief.may("POST", f"/users/{user}/role-mappings/realm", [thief.power])
    return mapped and thief.administers_as(user)


def by_group(thief: Thief) -> bool:
    user = thief.new_user()
    joined = thief.may("PUT", f"/users/{user}/groups/{thief.admins}")
    return joined and thief.administers_as(user)


def by_birth(thief: Thief) -> bool:
    user = thief.new_member("/admins")
    return user is not None and thief.administers_as(user)


KEYS = {"name": "x", "providerId": "rsa-generated", "providerType": "org.keycloak.keys.KeyProvider"}
ELSEWHERE = "client_id=demo-app&redirect_uri=https://thief.example/"
IDENTITY = {"identityProvider": "google", "userId": "g-1", "userName": "thief"}

Attack = Callable[[Thief], bool]
ATTACKS: Mapping[str, Attack] = {
    "impersonate": lambda it: it.may("POST", f"/users/{it.victim}/impersonation"),
    "realm-admin for itself": lambda it: it.gives(it.realm_admin, f"users/{it.account}"),
    "realm-admin for a new user": lambda it: it.gives(it.realm_admin, f"users/{it.new_user()}"),
    "realm-admin for a group": lambda it: it.gives(it.realm_admin, f"groups/{it.crew}"),
    "list clients": lambda it: it.may("GET", "/clients"),
    "read a client's secret": lambda it: it.may("GET", f"/clients/{it.shop}/client-secret"),
    "create a client": lambda it: it.may("POST", "/clients", {"clientId": "thief"}),
    "a token to register clients": lambda it: it.may("POST", "/clients-initial-access", {}),
    "change settings": lambda it: it.may("PUT", "", {"displayName": "thief"}),
    "add a key": lambda it: it.may("POST", "/components", KEYS),
    "change the profile": lambda it: it.may("PUT", "/users/profile", {"attributes": []}),
    "add a provider": lambda it: it.may("POST", "/identity-provider/instances", {"alias": "x"}),
    "create a role": lambda it: it.may("POST", "/roles", {"name": "thief"}),
    "have the mail server's password sent": lambda it: it.may("POST", "/testSMTPConnection", {}),
    "export the realm": lambda it: it.may("POST", "/partial-export?exportClients=true"),
    "record no more": lambda it: it.may("PUT", "/events/config", {"adminEventsEnabled": False}),
    "delete the record": lambda it: it.may("DELETE", "/admin-events"),
    "read the master realm": lambda it: it.reads("master"),
    "read another realm": lambda it: it.reads(it.bench.sandbox.realm),
    "a link that leads elsewhere": lambda it: it.may(
        "PUT", f"/users/{it.victim}/execute-actions-email?{ELSEWHERE}", ["UPDATE_PASSWORD"], 400
    ),
    "its own role for a new user": lambda it: it.gives(it.own_role, f"users/{it.new_user()}"),
    "its own role for a group": lambda it: it.gives(it.own_role, f"groups/{it.crew}"),
    "administer by a composite role": by_composite,
    "administer by a group": by_group,
    "administer by a group from the beginning": by_birth,
    "administer by a new password": lambda it: it.administers_as(it.root),
    "administer as a client": lambda it: it.administers_as(it.robot, 400),
    "an identity for somebody": lambda it: it.may(
        "POST", f"/users/{it.root}/federated-identity/google", IDENTITY
    ),
    "disable an administrator": lambda it: it.may("PUT", f"/users/{it.root}", {"enabled": False}),
    "read anybody": lambda it: it.may("GET", f"/users/{it.victim}"),
    "change anybody": lambda it: it.may("PUT", f"/users/{it.victim}", {"lastName": "Thief"}),
    "lift lockouts": lambda it: it.may("DELETE", "/attack-detection/brute-force/users"),
    "delete a group": lambda it: it.may("DELETE", f"/groups/{it.crew}"),
    "delete anybody": lambda it: it.may("DELETE", f"/users/{it.victim}"),
    # the last one: it ends the thief's own token, too
    "log everybody out": lambda it: it.may("POST", "/logout-all"),
}


def token_of(bench: Bench) -> str:
    with bridge_admin(bench.sandbox, bench.realm) as admin:
        return admin.access_token()


def tools(bench: Bench) -> AdminRealmTools:
    return AdminRealmTools(RealmAdministrator.of(bench.sandbox), bench.realm.name)


@pytest.fixture
def thief(bench: Bench) -> Thief:
    """A thief in a realm with administrators of its own, by a role, a group and a composite role."""
    tools(bench).add_client("shop")
    tools(bench).add_identity_provider("google")
    found = {}
    for name in ("realm-management", "shop"):
        (client,) = bench.admin("GET", f"/clients?clientId={name}")
        found[name] = client["id"]
    management = f"/clients/{found['realm-management']}"
    admin_role = bench.admin("GET", f"{management}/roles/realm-admin")
    for name in ("victim", "root"):
        bench.admin("POST", "/users", json={**person(name), "attributes": {"userId": [name]}})
        (user,) = bench.admin("GET", f"/users?username={name}&exact=true")
        found[name] = user["id"]
    for name in ("admins", "crew"):
        bench.admin("POST", "/groups", json={"name": name})
        found[name] = bench.admin("GET", f"/group-by-path/{name}")["id"]
    robot = {"clientId": "robot", "serviceAccountsEnabled": True, "standardFlowEnabled": False}
    bench.admin("POST", "/clients", json=robot)
    found["robot"] = account_of(bench, "robot")
    holders = (f"users/{found['root']}", f"users/{found['robot']}", f"groups/{found['admins']}")
    for holder in holders:
        bench.admin("POST", f"/{holder}/role-mappings{management}", json=[admin_role])
    bench.admin("POST", "/roles", json={"name": "power"})
    bench.admin("POST", "/roles/power/composites", json=[admin_role])
    return Thief(
        bench,
        token_of(bench),
        account=account_of(bench, bench.realm.client_id),
        victim=found["victim"],
        root=found["root"],
        robot=found["robot"],
        management=found["realm-management"],
        shop=found["shop"],
        admins=found["admins"],
        crew=found["crew"],
        power=bench.admin("GET", "/roles/power"),
        realm_admin=admin_role,
        own_role=bench.admin("GET", f"{management}/roles/view-events"),
    )


def account_of(bench: Bench, client_id: str) -> str:
    """Return the id of a client's service account."""
    (client,) = bench.admin("GET", f"/clients?clientId={client_id}")
    account: str = bench.admin("GET", f"/clients/{client['id']}/service-account-user")["id"]
    return account


def done_by(thief: Thief) -> list[str]:
    """Try everything; return what Keycloak let happen."""
    return [name for name, attack in ATTACKS.items() if attack(thief)]


USERS = [
    *("administer by a new password", "an identity for somebody", "disable an administrator"),
    *("read anybody", "change anybody", "lift lockouts", "delete anybody", "log everybody out"),
]
GROUPS = [
    *("administer by a composite role", "administer by a group"),
    *("administer by a group from the beginning", "delete a group"),
]
OWN_ROLES = ["its own role for a new user", "its own role for a group"]


def test_with_the_shipped_roles(bench: Bench, thief: Thief) -> None:
    """`manage-users` leads to `realm-admin` where the realm has administrators; passwords, which the bridge sets none of, are on record."""
    done = done_by(thief)
    traces = bench.admin("GET", "/admin-events?resourcePath=users/*/reset-password")

    assert {*USERS, *GROUPS, *OWN_ROLES} == set(done)
    assert {thief.account} == {one["authDetails"]["userId"] for one in traces}


@pytest.mark.full
def test_with_admin_permissions_switched_on(bench: Bench, thief: Thief) -> None:
    """No roles of its own are given away any more; groups and composite roles still lead on."""
    Permissions(bench)

    assert {*USERS, *GROUPS} == set(done_by(thief))


@pytest.mark.full
def test_with_permissions_in_the_place_of_manage_users(bench: Bench, thief: Thief) -> None:
    """Only the groups and roles that are permitted; users, and so their passwords, are in reach."""
    Permissions(bench).replace_manage_users()

    assert set(USERS) == set(done_by(replace(thief, token=token_of(bench))))


@pytest.mark.full
def test_with_administrators_out_of_reach(bench: Bench, thief: Thief) -> None:
    """A permission on the group of administrators for somebody else only."""
    permissions = Permissions(bench)
    permissions.replace_manage_users()
    somebody = permissions.policy("somebody else", thief.victim)
    bench.admin("PUT", f"/users/{thief.root}/groups/{thief.admins}")
    permissions.allow(
        "Groups", ["manage-members", "manage-membership"], thief.admins, policy=somebody
    )
    kept = {"administer by a new password", "an identity for somebody", "disable an administrator"}

    assert set(USERS) - kept == set(done_by(replace(thief, token=token_of(bench))))
