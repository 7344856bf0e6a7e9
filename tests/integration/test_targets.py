"""Everything of a user that a mapping can own, on the real Keycloak: groups, roles, organizations, identities."""

from typing import Any

import pytest
from bridge_harness import Bench, an_event

from keycloak_bridge.testing.realm_tools import AdminRealmTools, RealmAdministrator

pytestmark = pytest.mark.integration

_MAPPING = """
matching = ["attributes.userId", "username", "email"]

[user]
username = "lower(data.username || data.email)"
email = "lower(data.email)"
firstName = "data.givenName"
lastName = "data.familyName"
requiredActions = ["CONFIGURE_TOTP", "webauthn-register"]

[user.attributes]
userId = "data.userId"
tenantId = "data.tenantId"
department = { from = "data.department", removal = "managed" }
locale = "data.locale"

[user.groups]
from = "data.groups"
allow = ["/staff", "/customers", "/made/by/event"]
removal = "managed"
missing = "create"

[user.realmRoles]
from = "data.roles"
allow = ["viewer", "editor"]
removal = "managed"

[user.clientRoles."shop"]
from = "data.clientRoles.shop"
allow = ["buyer", "seller"]
removal = "managed"

[user.organizations]
from = "data.organizations"
allow = ["acme", "umbrella"]
removal = "managed"

[user.federatedIdentities.corporate]
userId = "data.federatedIdentities[?provider == 'corporate'].userId | [0]"
removal = "managed"
"""


@pytest.fixture(scope="module")
def bench(module_bench: Bench) -> Bench:
    """A realm with a client, organizations and an identity provider, and an account that may manage them."""
    file = module_bench.folder / "mapping.toml"
    file.write_text(_MAPPING)
    equip(module_bench)
    return module_bench.but(MAPPING_FILE=str(file))


def equip(bench: Bench) -> None:
    """Give the realm what the mapping names, and the bridge's account the roles that it takes."""
    bench.admin("PUT", "", json={**bench.admin("GET", ""), "organizationsEnabled": True})
    bench.admin("POST", "/clients", json={"clientId": "shop"})
    (shop,) = bench.admin("GET", "/clients?clientId=shop")
    for name in ("buyer", "seller"):
        bench.admin("POST", f"/clients/{shop['id']}/roles", json={"name": name})
    for alias in ("acme", "umbrella"):
        domains = [{"name": f"{alias}.example", "verified": True}]
        bench.admin("POST", "/organizations", json={"name": alias, "alias": alias, "domains": domains})  # fmt: skip
    provider = {
        "alias": "corporate",
        "providerId": "oidc",
        "config": {
            "clientId": "x",
            "clientSecret": "x",
            "authorizationUrl": "https://idp.acme.example/auth",
            "tokenUrl": "https://idp.acme.example/token",
        },
    }
    bench.admin("POST", "/identity-provider/instances", json=provider)
    sandbox = bench.sandbox
    tools = AdminRealmTools(RealmAdministrator.of(sandbox), bench.realm.name)
    tools.grant_all_memberships(bench.realm.client_id)


def partition_states(bench: Bench, user_id: str) -> dict[str, Any]:
    """Return everything that the mapping owns of the user and that is no field of it."""
    user = bench.user(user_id)
    path = f"/users/{user['id']}"
    (shop,) = bench.admin("GET", "/clients?clientId=shop")
    shop_roles = bench.admin("GET", f"{path}/role-mappings/clients/{shop['id']}")
    organizations = {
        one["alias"]
        for one in bench.admin("GET", "/organizations")
        if user["id"]
        in {m["id"] for m in bench.admin("GET", f"/organizations/{one['id']}/members?max=1000")}
    }
    return {
        "groups": bench.groups_of(user["id"]),
        "realmRoles": bench.realm_roles_of(user["id"]) & {"viewer", "editor", "auditor"},
        "shop": {role["name"] for role in shop_roles},
        "organizations": organizations,
        "identities": [
            (one["identityProvider"], one["userId"])
            for one in bench.admin("GET", f"{path}/federated-identity")
        ],
        "department": user["attributes"].get("department"),
    }


def at_corporate(account: str) -> list[dict[str, str]]:
    """Return the account at the identity provider as an event names it."""
    return [{"provider": "corporate", "userId": account}]


def test_all_of_it_is_created_changed_and_taken_away(bench: Bench, user_id: str) -> None:
    """At creation, by a complete event that names other things, and by one that names nothing."""
    at_first: dict[str, Any] = {
        "groups": ["/staff", "/made/by/event"],
        "roles": ["viewer"],
        "clientRoles": {"shop": ["buyer"]},
        "organizations": ["acme"],
        "federatedIdentities": at_corporate(f"corp-{user_id}"),
    }
    then: dict[str, Any] = {
        "groups": ["/customers"],
        "roles": ["editor"],
        "clientRoles": {"shop": ["seller"]},
        "organizations": ["umbrella"],
        "federatedIdentities": at_corporate(f"other-{user_id}"),
        "department": None,
    }
    event = an_event(user_id, **at_first)
    bench.publish(event)
    bench.catch_up()
    assert {
        "groups": {"/staff", "/made/by/event"},
        "realmRoles": {"viewer"},
        "shop": {"buyer"},
        "organizations": {"acme"},
        "identities": [("corporate", f"corp-{user_id}")],
        "department": ["R&D"],
    } == partition_states(bench, user_id)
    assert {"CONFIGURE_TOTP", "webauthn-register"} <= set(bench.user(user_id)["requiredActions"])

    # what the mapping does not own stays
    user = bench.user(user_id)
    auditor = bench.admin("GET", "/roles/auditor")
    bench.admin("POST", f"/users/{user['id']}/role-mappings/realm", json=[auditor])
    bench.publish(later(an_event(user_id, **then), 1))
    bench.catch_up()
    assert {
        "groups": {"/customers"},
        "realmRoles": {"editor", "auditor"},
        "shop": {"seller"},
        "organizations": {"umbrella"},
        "identities": [("corporate", f"other-{user_id}")],
        "department": None,
    } == partition_states(bench, user_id)

    written = bench.written()
    bench.publish(later(an_event(user_id, **then), 1))
    bench.catch_up()
    assert written == bench.written()
    bench.publish(later(an_event(user_id, department=None), 2))
    bench.catch_up()
    assert {
        "groups": set(),
        "realmRoles": {"auditor"},
        "shop": set(),
        "organizations": set(),
        "identities": [],
        "department": None,
    } == partition_states(bench, user_id)
    assert [] == bench.dead_letters()


def later(event: dict[str, Any], hours: int) -> dict[str, Any]:
    """Return the event as the next one about its user."""
    return {**event, "id": f"{event['id']}-{hours}", "time": f"2026-11-01T{8 + hours:02}:00:00Z"}


def test_an_account_at_an_identity_provider_belongs_to_one_user(bench: Bench, user_id: str) -> None:
    """Keycloak would link it to both and break both log-ins; the second event becomes a dead letter."""
    bench.publish(an_event(f"{user_id}-1", federatedIdentities=at_corporate(f"corp-{user_id}")))
    bench.catch_up()
    bench.publish(an_event(f"{user_id}-2", federatedIdentities=at_corporate(f"corp-{user_id}")))
    bench.catch_up()

    assert [("corporate", f"corp-{user_id}")] == partition_states(bench, f"{user_id}-1")[
        "identities"
    ]
    codes = [
        h["kb-dlq-code"] for r, h in bench.dead_letters() if f"{user_id}-2".encode() in r.value
    ]
    assert ["identity-taken"] == codes


@pytest.mark.parametrize(
    ("removed", "data", "code"),
    [
        ("organization", {"organizations": ["umbrella"]}, "organization-missing"),
        ("role", {"clientRoles": {"shop": ["seller"]}}, "role-not-found"),
    ],
)
def test_what_the_realm_lacks_is_a_dead_letter_with_its_name(
    bench: Bench, user_id: str, removed: str, data: dict[str, Any], code: str
) -> None:
    """An organization or a role that is gone is told by its code; nothing waits for ever."""
    if removed == "organization":
        (gone,) = bench.admin("GET", "/organizations?search=umbrella")
        bench.admin("DELETE", f"/organizations/{gone['id']}")
    else:
        (shop,) = bench.admin("GET", "/clients?clientId=shop")
        bench.admin("DELETE", f"/clients/{shop['id']}/roles/seller")

    bench.publish(an_event(user_id, **data))
    bench.catch_up()

    codes = [h["kb-dlq-code"] for r, h in bench.dead_letters() if user_id.encode() in r.value]
    assert [code] == codes


def test_an_account_is_linked_to_one_of_those_who_ask_at_the_same_moment(bench: Bench) -> None:
    """Each of ten accounts is wanted by two new users; one of each pair is a conflict."""
    accounts = [f"shared-{at}" for at in range(10)]
    bench.publish(
        *(
            an_event(f"{account}-{side}", federatedIdentities=at_corporate(account))
            for account in accounts
            for side in ("a", "b")
        )
    )
    bench.catch_up()

    owners = {
        account: len(bench.admin("GET", f"/users?idpAlias=corporate&idpUserId={account}"))
        for account in accounts
    }
    assert dict.fromkeys(accounts, 1) == owners
    assert ["identity-taken"] * 10 == [
        one["reason"]
        for one in bench.results()
        if one["outcome"] == "rejected" and str(one.get("userId")).startswith("shared-")
    ]
