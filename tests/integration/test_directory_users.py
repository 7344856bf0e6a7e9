"""Users that Keycloak takes from an LDAP directory: what can be done to them, and that a disabled one is out."""

from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from bridge_harness import Bench, about
from ldap_server import BASE, BIND_DN, BIND_PASSWORD, ldap_server

pytestmark = [pytest.mark.integration, pytest.mark.full]

_PEOPLE = f"ou=people,{BASE}"
_ENTRIES = f"""dn: {BASE}
objectClass: domain
dc: acme

dn: {_PEOPLE}
objectClass: organizationalUnit
ou: people
"""


def entry(user_id: str) -> str:
    """Return a person of the directory."""
    return f"""
dn: uid={user_id},{_PEOPLE}
objectClass: inetOrgPerson
uid: {user_id}
cn: Lora
sn: Field
givenName: Lora
mail: {user_id}@acme.example
employeeNumber: {user_id}
userPassword: secret
"""


@contextmanager
def federated(bench: Bench, edit_mode: str, *user_ids: str) -> Iterator[None]:
    """Let the realm take these users from a directory meanwhile."""
    realm_id = bench.admin("GET", "")["id"]
    with ldap_server(_ENTRIES + "".join(map(entry, user_ids))) as url:
        provider = {
            "editMode": edit_mode,
            "connectionUrl": url,
            "usersDn": _PEOPLE,
            "bindDn": BIND_DN,
            "bindCredential": BIND_PASSWORD,
            "authType": "simple",
            "vendor": "other",
            "userObjectClasses": "inetOrgPerson",
            **dict.fromkeys(("usernameLDAPAttribute", "rdnLDAPAttribute"), "uid"),
            "uuidLDAPAttribute": "entryUUID",
            "importEnabled": "true",
        }
        of = "org.keycloak.storage"
        add(bench, "people", "ldap", f"{of}.UserStorageProvider", realm_id, provider)
        (found,) = bench.admin("GET", f"/components?type={of}.UserStorageProvider")
        mapper = {"ldap.attribute": "employeeNumber", "user.model.attribute": "userId"}
        mapper["read.only"] = str(edit_mode == "READ_ONLY").lower()
        kind = f"{of}.ldap.mappers.LDAPStorageMapper"
        add(bench, "employee", "user-attribute-ldap-mapper", kind, found["id"], mapper)
        try:
            yield
        finally:
            bench.admin("DELETE", f"/components/{found['id']}")


def add(
    bench: Bench, name: str, provider: str, kind: str, parent: str, config: dict[str, str]
) -> None:
    """Add a component to the realm."""
    body = {
        "name": name,
        "providerId": provider,
        "providerType": kind,
        "parentId": parent,
        "config": {key: [value] for key, value in config.items()},
    }
    bench.admin("POST", "/components", json=body)


def test_a_user_of_a_read_only_directory_is_disabled_and_no_deletion_brings_it_back(
    bench: Bench,
) -> None:
    """Nothing but its switch can be written, and what is deleted is imported again."""
    bench.settings["KEYCLOAK_BRIDGE_LIFECYCLE_DELETED"] = "delete"
    with federated(bench, "READ_ONLY", "u-ldap-1", "u-ldap-2", "u-ldap-3"):
        bench.publish(
            about("u-ldap-1", "user.disabled", 1),
            about("u-ldap-2", "user.deleted", 1),
            about("u-ldap-3", "user.updated", 1, department="Legal"),
        )
        bench.catch_up()

        enabled = {user: bench.user(user)["enabled"] for user in ("u-ldap-1", "u-ldap-2")}
        reasons = {one["userId"]: (one["outcome"], one.get("reason")) for one in bench.results()}

    assert {"u-ldap-1": False, "u-ldap-2": False} == enabled
    assert {
        "u-ldap-1": ("provisioned", "only-switched"),
        "u-ldap-2": ("provisioned", "deleted-user-returned"),
        "u-ldap-3": ("rejected", "keycloak-rejected"),
    } == reasons


def test_a_user_of_a_read_only_directory_is_neither_anonymised_nor_invited(bench: Bench) -> None:
    """Keycloak refuses to erase anything of it, all at once, and it is disabled; it cannot be marked for a mail."""
    bench.settings["KEYCLOAK_BRIDGE_LIFECYCLE_DELETED"] = "anonymise"
    with federated(bench, "READ_ONLY", "u-ldap-1", "u-ldap-2"):
        bench.publish(
            about("u-ldap-1", "user.deleted", 1),
            about("u-ldap-2", "user.invitation.requested", 1),
        )
        bench.catch_up()

        enabled = bench.user("u-ldap-1")["enabled"]
        results = {one["userId"]: one for one in bench.results()}
        letters = bench.dead_letters()

    assert not enabled
    refused = {one["pointer"] for one in results["u-ldap-1"]["violations"]}
    assert {"/user/username"} < refused
    told = results["u-ldap-2"]
    assert ("provisioned", "only-switched") == (told["outcome"], told["reason"])
    assert "no mail" in told["message"]
    assert 1 == len(letters)


def test_a_user_of_a_writable_directory_is_disabled_changed_and_invited(bench: Bench) -> None:
    """Keycloak shows a password that nobody set; the mail is sent all the same."""
    with federated(bench, "WRITABLE", "u-ldap-1", "u-ldap-2"):
        bench.publish(
            about("u-ldap-1", "user.disabled", 1),
            about("u-ldap-2", "user.invitation.requested", 1),
        )
        bench.catch_up()

        disabled, invited = (bench.user(user) for user in ("u-ldap-1", "u-ldap-2"))

    assert not disabled["enabled"]
    assert disabled["attributes"]["bridgeEventId"]
    assert "sent" in invited["attributes"]["bridgeInvitation"][0]
