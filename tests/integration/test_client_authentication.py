"""The bridge's client authenticates at the real Keycloak by a key, and by an assertion of somebody else."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import rsa
from keycloak_access import outcome

from keycloak_bridge.sandbox import Sandbox
from keycloak_bridge.sandbox.realm_clients import key_attributes
from keycloak_bridge.sandbox.security import key_pem
from keycloak_bridge.sandbox.service_accounts import CLIENT_ATTRIBUTES, ServiceAccounts
from keycloak_bridge.settings.fields import Secret
from keycloak_bridge.settings.model import KeycloakSettings
from keycloak_bridge.testing.realm_tools import FreshRealm, RealmAdministrator

pytestmark = pytest.mark.integration

KEY, OTHER_KEY = (rsa.generate_private_key(65537, 2048) for _ in range(2))


def let_authenticate(
    administrator: RealmAdministrator, realm: FreshRealm, way: str, attributes: Mapping[str, str]
) -> None:
    """Set how the bridge's client authenticates."""
    clients = f"/{realm.name}/clients"
    (client,) = administrator.call("GET", f"{clients}?clientId={realm.client_id}")
    client["clientAuthenticatorType"] = way
    client["attributes"] |= attributes
    administrator.call("PUT", f"{clients}/{client['id']}", json=client)


def settings(sandbox: Sandbox, realm: FreshRealm, **authentication: Any) -> KeycloakSettings:
    """Return how the bridge reaches the realm."""
    return KeycloakSettings(
        url=sandbox.keycloak_url, realm=realm.name, client_id=realm.client_id, **authentication
    )


def test_a_key_of_its_own(sandbox: Sandbox, fresh_realm: FreshRealm, tmp_path: Path) -> None:
    """`private_key_jwt`: each token is asked for with an assertion that the bridge signs; another key is refused."""
    administrator = RealmAdministrator.of(sandbox)
    let_authenticate(administrator, fresh_realm, "client-jwt", key_attributes(KEY, "k-1"))
    file = tmp_path / "client.pem"
    answers = []
    for key in (KEY, OTHER_KEY):
        file.write_bytes(key_pem(key))
        secret = Secret(path=file)
        by_key = settings(sandbox, fresh_realm, client_key=secret, client_key_id="k-1")
        answers.append(outcome(by_key))

    right, wrong = answers
    assert right == "ok"
    assert wrong.startswith("keycloak-credentials: Keycloak refuses the client credentials (POST")


def test_the_token_of_a_kubernetes_service_account(
    sandbox: Sandbox, fresh_realm: FreshRealm, tmp_path: Path
) -> None:
    """The cluster renews the file; no secret is stored anywhere. One that has expired, or for another audience, is refused."""
    administrator = RealmAdministrator.of(sandbox)
    audience = f"{sandbox.keycloak_public_url}/realms/{fresh_realm.name}"
    file = tmp_path / "token"
    cluster = ServiceAccounts()
    try:
        providers = f"/{fresh_realm.name}/identity-provider/instances"
        administrator.call("POST", providers, json=cluster.provider())
        let_authenticate(administrator, fresh_realm, "federated-jwt", CLIENT_ATTRIBUTES)
        by_assertion = settings(sandbox, fresh_realm, client_assertion=Secret(path=file))
        answers = []
        for lives_s, aud in ((3600, audience), (-60, audience), (3600, "https://other.example")):
            file.write_text(cluster.token(aud, lives_s))
            answers.append(outcome(by_assertion))
    finally:
        cluster.stop()

    right, *wrong = answers
    assert right == "ok"
    assert {one.partition(":")[0] for one in wrong} == {"keycloak-credentials"}
