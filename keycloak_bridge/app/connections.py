"""The machine's clock, and what reaches Keycloak, built from settings."""

import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime

from keycloak_bridge.domain.errors import ConfigError, KeycloakAuthError
from keycloak_bridge.domain.events import IdKind
from keycloak_bridge.domain.ports import Clock, UserDirectory
from keycloak_bridge.domain.users import UserRepresentation
from keycloak_bridge.keycloak.admin import KeycloakAdmin
from keycloak_bridge.keycloak.client_auth import (
    ClientAuth,
    by_assertion,
    by_certificate,
    by_key,
    by_secret,
)
from keycloak_bridge.keycloak.http import KeycloakConnection, KeycloakHttp
from keycloak_bridge.keycloak.token import TokenSource
from keycloak_bridge.keycloak.users import KeycloakUserDirectory, each_user
from keycloak_bridge.registry.client import (
    ConfluentRegistry,
    RegistryConnection,
    basic,
    bearer,
)
from keycloak_bridge.settings.fields import Secret
from keycloak_bridge.settings.model import KeycloakSettings, Settings
from keycloak_bridge.transport.http import ClientCertificate

_PAGES_AHEAD = 3
"""Pages of users that Keycloak makes while one is read; it makes one in one thread."""

_PAGE, _BRIEF_PAGE = 500, 5000
"""Users of a page. Keycloak walks over all users before a page, so that few large ones cost less where its users are small."""


class SystemClock:
    """The machine's clock."""

    def now(self) -> datetime:
        """Return the present as an aware datetime in UTC."""
        return datetime.now(UTC)

    def monotonic(self) -> float:
        """Return seconds that never run backwards."""
        return time.monotonic()


def keycloak_http(settings: Settings) -> KeycloakHttp:
    """Return connections to Keycloak, opened on first use; raises ConfigError for missing settings."""
    keycloak = settings.keycloak
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


def keycloak_admin(
    settings: Settings, clock: Clock, http: KeycloakHttp | None = None
) -> KeycloakAdmin:
    """Return the Admin REST client; connects on first use. Raises ConfigError for missing settings."""
    http = http or keycloak_http(settings)
    return KeycloakAdmin(http, TokenSource(http, client_auth(settings.keycloak, clock), clock))


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


def schema_registry(settings: Settings) -> ConfluentRegistry | None:
    """Return the schema registry, connected on first use; None where the settings name none. Raises ConfigError."""
    registry = settings.registry
    if registry.url is None:
        return None

    def authorization() -> str | None:
        if registry.token:
            return bearer(registry.token.reveal())
        if registry.username and registry.password:
            return basic(registry.username, registry.password.reveal())
        return None

    return ConfluentRegistry(
        RegistryConnection(
            url=registry.url,
            authorization=authorization,
            ca_file=registry.ca_file,
            timeout_s=registry.timeout,
            frame_ids=IdKind(registry.frame_ids),
            formats_must_be_known=settings.schemas.unknown_formats == "error",
        )
    )


def _reading(secret: Secret) -> Callable[[], str]:
    """Return `reveal` for a running bridge: a file that is just being replaced is waited for."""

    def reveal() -> str:
        try:
            return secret.reveal()
        except ConfigError as error:
            raise KeycloakAuthError(error.message, code=error.code, remedy=error.remedy) from error

    return reveal


def user_directory(settings: Settings) -> UserDirectory:
    """Return the users of the realm; connects on first use. Raises ConfigError for missing settings."""
    clock = SystemClock()
    return KeycloakUserDirectory(keycloak_admin(settings, clock), clock)


def all_users(settings: Settings, *, brief: bool = False) -> Iterator[UserRepresentation]:
    """Yield every user of the realm, few pages at a time, without attributes where it is `brief`; raises KeycloakError."""
    admin = keycloak_admin(settings, SystemClock())
    page_size = _BRIEF_PAGE if brief else _PAGE
    return each_user(admin, page_size, ahead=_PAGES_AHEAD, brief=brief)


def count_users(settings: Settings) -> int:
    """Return how many users the realm has; raises KeycloakError."""
    return keycloak_admin(settings, SystemClock()).count_users()
