"""Clients in a realm's representation: how they authenticate at Keycloak, and whom their tokens are for."""

import copy
import json
from typing import Any

from cryptography.hazmat.primitives.asymmetric import rsa

from keycloak_bridge.sandbox.service_accounts import key_set


def audience_mapper(audience: str) -> dict[str, Any]:
    """Return the protocol mapper that makes a client's tokens be for `audience` too."""
    return {
        "name": audience,
        "protocol": "openid-connect",
        "protocolMapper": "oidc-audience-mapper",
        "config": {"included.custom.audience": audience, "access.token.claim": "true"},
    }


def key_attributes(key: rsa.RSAPrivateKey, key_id: str) -> dict[str, str]:
    """Return the attributes of a client that authenticates by this key (`client-jwt`)."""
    return {"use.jwks.string": "true", "jwks.string": json.dumps(key_set(key, key_id))}


def add_copy(
    realm: dict[str, Any],
    client: dict[str, Any],
    client_id: str,
    authenticator: str,
    attributes: dict[str, str] | None = None,
    **given: str,
) -> None:
    """Add a client that may do what `client` may, and authenticates in another way."""
    twin = copy.deepcopy(client) | given | {"clientId": client_id}
    twin |= {"clientAuthenticatorType": authenticator}
    twin["attributes"] = twin.get("attributes", {}) | (attributes or {})
    realm["clients"].append(twin)
    own = client["clientId"]
    for user in [one for one in realm.get("users", ()) if one.get("serviceAccountClientId") == own]:
        name = f"service-account-{client_id}"
        realm["users"].append(user | {"username": name, "serviceAccountClientId": client_id})
    for mappings in realm.get("clientScopeMappings", {}).values():
        mappings += [one | {"client": client_id} for one in mappings if one.get("client") == own]
