"""How to reach Keycloak and authenticate there, as its settings say."""

from collections.abc import Callable

from keycloak_bridge.domain.errors import ConfigError, KeycloakAuthError
from keycloak_bridge.domain.ports import Clock
from keycloak_bridge.keycloak.client_auth import (
    ClientAuth,
    by_assertion,
    by_certificate,
    by_key,
    by_secret,
)
from keycloak_bridge.keycloak.http import KeycloakConnection, KeycloakHttp
from keycloak_bridge.settings.fields import Secret
from keycloak_bridge.settings.model import KeycloakSettings
from keycloak_bridge.transport.http import ClientCertificate


def keycloak_http(keycloak: KeycloakSettings) -> KeycloakHttp:
    """Return connections to Keycloak, opened on first use; raises ConfigError for missing settings."""
    if not keycloak.realm:
        raise ConfigError("keycloak.realm is not set", remedy="name the realm in [keycloak] realm")
    return KeycloakHttp(
        KeycloakConnection(
            url=keycloak.url,
            realm=keycloak.realm,
            connect_timeout_s=keycloak.connect_timeout,
            read_timeout_s=keycloak.read_timeout,
            pool_size=keycloak.pool_size,
            ca_file=keycloak.ca_file,
            client_certificate=None
            if keycloak.tls_cert_file is None
            else ClientCertificate(keycloak.tls_cert_file, keycloak.tls_key_file),
        )
    )


def client_auth(keycloak: KeycloakSettings, clock: Clock) -> ClientAuth:
    """Return how the client authenticates by these settings; raises ConfigError where they do not say."""
    client_id = keycloak.client_id
    if keycloak.client_secret is not None:
        return by_secret(client_id, _reading(keycloak.client_secret))
    if keycloak.client_key is not None:
        return by_key(client_id, _reading(keycloak.client_key), keycloak.client_key_id, clock)
    if keycloak.client_assertion is not None:
        return by_assertion(_reading(keycloak.client_assertion))
    if keycloak.tls_cert_file is not None:
        return by_certificate(client_id)
    raise ConfigError(
        "keycloak.client_secret is not set",
        remedy="set [keycloak] client_secret_file, or KEYCLOAK_BRIDGE_KEYCLOAK_CLIENT_SECRET, or another way to authenticate",
    )


def _reading(secret: Secret) -> Callable[[], str]:
    """Return `reveal` for a running bridge: a file that is just being replaced is waited for."""

    def reveal() -> str:
        try:
            return secret.reveal()
        except ConfigError as error:
            raise KeycloakAuthError(error.message, code=error.code, remedy=error.remedy) from error

    return reveal
