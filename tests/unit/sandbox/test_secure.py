"""What `sandbox up --secure` makes before anything starts."""

import ssl
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jwt
import pytest
import requests
from acl_commands import rights
from cryptography.hazmat.primitives.serialization import load_pem_private_key
from pytest_socket import enable_socket

from keycloak_bridge.cli.sandbox import _to_try
from keycloak_bridge.sandbox.rights import BRIDGE, RIGHTS
from keycloak_bridge.sandbox.secure import SecureParts
from keycloak_bridge.sandbox.service_accounts import SUBJECT
from keycloak_bridge.settings.loading import KEYCLOAK_ACCESS, read_settings

KAFKA = {"CLIENTS": "127.0.0.1:1", "TLS": "127.0.0.1:2", "MUTUAL": "127.0.0.1:3"}
URL = "https://localhost:8443"
PAGE = Path(__file__).parents[3] / "docs" / "security.md"


def test_the_rights_are_those_of_the_page() -> None:
    """Whoever tries the sandbox has what a production cluster should give."""
    assert set(RIGHTS) == set(rights(PAGE.read_text(encoding="utf-8")))


@pytest.fixture(params=[True, False], ids=["with a cluster", "without"])
def parts(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[SecureParts]:
    """What is made for a Keycloak that takes assertions of a cluster, and for one that does not."""
    enable_socket()
    made = SecureParts.made_in(tmp_path / "secure", federated=request.param)
    try:
        made.write_settings(KAFKA, URL, URL, "acme")
        yield made
    finally:
        made.stop()


def test_only_the_owner_can_read_what_is_secret(parts: SecureParts) -> None:
    """Keys, passwords, tokens and the settings that hold one."""
    modes = {one.name: stat.S_IMODE(one.stat().st_mode) for one in parts.folder.iterdir()}
    modes.pop("ca.pem")

    assert set(modes.values()) == {0o600}
    assert stat.S_IMODE(parts.folder.stat().st_mode) == 0o700


def test_the_settings_files_are_right(parts: SecureParts) -> None:
    """Nothing is missing or unknown; there is each way to Kafka, and each to authenticate at Keycloak."""
    found = {}
    for file in parts.folder.glob("*.toml"):
        loaded = read_settings(file, environ={}, require=KEYCLOAK_ACCESS)
        assert loaded.problems == ()
        kafka, keycloak = loaded.settings.kafka, loaded.settings.keycloak
        at_kafka = kafka.sasl_mechanism or ("mutual TLS" if kafka.ssl_certfile else "TLS")
        found[file.stem] = (at_kafka, keycloak.authentication)
    for_plain = "client_assertion" if parts.accounts else "private_key_jwt"

    assert found == {
        "bridge": ("OAUTHBEARER", "private_key_jwt"),
        "bridge-scram": ("SCRAM-SHA-512", "client_secret"),
        "bridge-plain": ("PLAIN", for_plain),
        "bridge-mutual-tls": ("mutual TLS", "tls_client_auth"),
        "bridge-tls": ("TLS", "private_key_jwt"),
        "operator": ("SCRAM-SHA-512", "private_key_jwt"),
    }
    ssl.create_default_context(cafile=str(parts.ca_file))
    load_pem_private_key((parts.folder / "bridge-key.pem").read_bytes(), None)


def test_what_there_is_to_try_is_printed(parts: SecureParts) -> None:
    """Each settings file of the bridge, with its way, and what begins with them."""
    printed = "\n".join(_to_try(parts.folder))
    for file in parts.folder.glob("bridge*.toml"):
        assert f"{file} " in printed
    for words in (
        "Kafka: OAUTHBEARER; Keycloak: private_key_jwt",
        "operator.toml",
        "client.properties",
    ):
        assert words in printed


def test_the_realm_has_a_client_for_each_way(parts: SecureParts) -> None:
    """Each may do what the bridge's client may, which itself has no secret any more."""
    client = {"clientId": BRIDGE, "secret": "hush", "clientAuthenticatorType": "client-secret"}
    account = {"username": f"service-account-{BRIDGE}", "serviceAccountClientId": BRIDGE}
    scopes = [{"client": BRIDGE, "roles": ["manage-users"]}, {"client": "demo", "roles": []}]
    realm: dict[str, Any] = {
        "clients": [client],
        "users": [account, {"username": "ada"}],
        "clientScopeMappings": {"realm-management": scopes},
    }
    parts.change_realm(realm)

    ways = {one["clientId"]: one["clientAuthenticatorType"] for one in realm["clients"]}
    by_assertion = {f"{BRIDGE}-assertion": "federated-jwt"} if parts.accounts else {}
    assert ways == by_assertion | {
        BRIDGE: "client-jwt",
        f"{BRIDGE}-secret": "client-secret",
        f"{BRIDGE}-certificate": "client-x509",
    }
    assert [one["clientId"] for one in realm["clients"] if "secret" in one] == [f"{BRIDGE}-secret"]
    assert {
        one["serviceAccountClientId"] for one in realm["users"][:1] + realm["users"][2:]
    } == ways.keys()
    assert {one["client"] for one in scopes if one["roles"]} == ways.keys()


def test_the_cluster_publishes_the_key_of_its_tokens(parts: SecureParts) -> None:
    """As Keycloak finds it: by the issuer's own document."""
    if parts.accounts is None:
        return
    document = requests.get(f"{parts.accounts.issuer}/.well-known/openid-configuration", timeout=60)
    (key,) = requests.get(document.json()["jwks_uri"], timeout=60).json()["keys"]
    token = (parts.folder / "service-account-token").read_text()
    claims = jwt.decode(
        token,
        jwt.PyJWK(key).key,
        algorithms=[key["alg"]],
        audience=f"{URL}/realms/acme",
        issuer=document.json()["issuer"],
    )

    assert claims["sub"] == SUBJECT
    assert requests.get(f"{parts.accounts.issuer}/nothing", timeout=60).status_code == 404
