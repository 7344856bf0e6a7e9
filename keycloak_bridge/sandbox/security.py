"""What secures the sandbox's services: certificates, and the listeners of Kafka that use them, in Kafka's own settings."""

from collections.abc import Iterable, Mapping
from pathlib import Path

import trustme
from cryptography.hazmat.primitives.asymmetric.types import PrivateKeyTypes
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)

from keycloak_bridge.ops.private_files import replace_file

_OAUTH = "org.apache.kafka.common.security.oauthbearer"
ALLOWED_URLS = "org.apache.kafka.sasl.oauthbearer.allowed.urls"
"""Kafka's system property with the URLs that a broker may fetch keys from; without it, it takes none."""

PRINCIPAL_OF_CERTIFICATE = {"ssl.principal.mapping.rules": "RULE:^.*CN=([^,]+).*$/$1/,DEFAULT"}
"""A client certificate counts as the user that its common name is."""


def authority_file(authority: trustme.CA, path: Path) -> Path:
    """Write the certificate of an authority (PEM)."""
    authority.cert_pem.write_to_path(str(path))
    return path


def key_pem(key: PrivateKeyTypes) -> bytes:
    """Return a private key as PKCS #8 (PEM), the only form that Kafka takes."""
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


def certificate_file(leaf: trustme.LeafCert, path: Path) -> Path:
    """Write a certificate with its chain and its key into one file (PEM), which only its owner can read."""
    parts = [key_pem(load_pem_private_key(leaf.private_key_pem.bytes(), None))]
    parts += [one.bytes() for one in leaf.cert_chain_pems]
    replace_file(path, b"".join(parts))
    return path


def tls(certificate: Path, clients_of: Path | None = None) -> dict[str, str]:
    """Return what a listener needs for TLS; with `clients_of`, clients need a certificate of that authority."""
    properties = {"ssl.keystore.type": "PEM", "ssl.keystore.location": str(certificate)}
    if clients_of is not None:
        properties |= {"ssl.client.auth": "required", **trusting(clients_of)}
    return properties


def trusting(authority: Path) -> dict[str, str]:
    """Return what makes Kafka trust an authority."""
    return {"ssl.truststore.type": "PEM", "ssl.truststore.location": str(authority)}


def logins(mechanisms: Iterable[str]) -> dict[str, str]:
    """Return what a listener needs to offer these mechanisms."""
    return {"sasl.enabled.mechanisms": ",".join(mechanisms)}


def scram() -> dict[str, str]:
    """Return what a listener needs for SCRAM-SHA-512; its users are made with Kafka's Admin API."""
    module = "org.apache.kafka.common.security.scram.ScramLoginModule"
    return {"scram-sha-512.sasl.jaas.config": f"{module} required;"}


def plain(users: Mapping[str, str]) -> dict[str, str]:
    """Return what a listener needs for PLAIN: its users and their passwords."""
    module = "org.apache.kafka.common.security.plain.PlainLoginModule"
    given = " ".join(f'user_{name}="{password}"' for name, password in users.items())
    return {"plain.sasl.jaas.config": f"{module} required {given};"}


def oauth(
    issuer: str, *, audience: str, keys_url: str, authority: Path | None = None, session_s: float
) -> dict[str, str]:
    """Return what a listener needs to take tokens of a realm for `audience`, with the client's id as the user.

    The broker checks them with the keys at `keys_url`, whose certificate `authority` signed, and ends a session after
    `session_s` seconds unless the client logs in again.
    """
    trusted = {}
    if authority is not None:
        # with any option Kafka wants to log in itself as well, which the broker's own connections never do by a token
        trusted = {**trusting(authority), "unsecuredLoginStringClaim_sub": "unused"}
    options = "".join(f' {name}="{value}"' for name, value in trusted.items())
    return {
        "oauthbearer.sasl.jaas.config": f"{_OAUTH}.OAuthBearerLoginModule required{options};",
        "oauthbearer.sasl.server.callback.handler.class": f"{_OAUTH}.OAuthBearerValidatorCallbackHandler",
        "oauthbearer.connections.max.reauth.ms": str(int(session_s * 1000)),
        "sasl.oauthbearer.jwks.endpoint.url": keys_url,
        "sasl.oauthbearer.expected.issuer": issuer,
        "sasl.oauthbearer.expected.audience": audience,
        "sasl.oauthbearer.sub.claim.name": "azp",
    }
