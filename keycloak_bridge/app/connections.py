"""What reaches Keycloak and the schema registry, built from settings, and what keeps connections from being opened."""

from collections.abc import Iterator

from keycloak_bridge.domain.errors import BridgeError, ConfigError
from keycloak_bridge.domain.events import IdKind
from keycloak_bridge.domain.ports import Clock, UserDirectory
from keycloak_bridge.domain.users import UserRepresentation
from keycloak_bridge.kafka.security import check_files
from keycloak_bridge.keycloak.access import client_auth, keycloak_http
from keycloak_bridge.keycloak.admin import KeycloakAdmin
from keycloak_bridge.keycloak.http import KeycloakHttp
from keycloak_bridge.keycloak.token import TokenSource
from keycloak_bridge.keycloak.users import KeycloakUserDirectory, each_user
from keycloak_bridge.ops.clock import SystemClock
from keycloak_bridge.registry.client import (
    ConfluentRegistry,
    RegistryConnection,
    basic,
    bearer,
)
from keycloak_bridge.settings.model import Settings
from keycloak_bridge.transport.http import ClientCertificate, unusable_file

_PAGES_AHEAD = 3
"""Pages of users that Keycloak makes while one is read; it makes one in one thread."""

_PAGE, _BRIEF_PAGE = 500, 5000
"""Users of a page. Keycloak walks over all users before a page, so that few large ones cost less where its users are small."""


def keycloak_admin(
    settings: Settings, clock: Clock, http: KeycloakHttp | None = None
) -> KeycloakAdmin:
    """Return the Admin REST client; connects on first use. Raises ConfigError for missing settings."""
    http = http or keycloak_http(settings.keycloak)
    return KeycloakAdmin(http, TokenSource(http, client_auth(settings.keycloak, clock), clock))


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


def connection_problems(settings: Settings) -> Iterator[BridgeError]:
    """Yield what keeps the bridge from opening connections, whatever the network is: certificates, keys and secrets."""
    registry, keycloak = settings.registry, settings.keycloak
    certificate = None
    if keycloak.tls_cert_file is not None:
        certificate = ClientCertificate(keycloak.tls_cert_file, keycloak.tls_key_file)
    for wrong in (
        unusable_file("registry", registry.ca_file),
        unusable_file("keycloak", keycloak.ca_file, certificate),
    ):
        if wrong is not None:
            yield wrong
    try:
        check_files(settings.kafka)
    except BridgeError as error:
        yield error
    secrets = (registry.password, registry.token, keycloak.client_secret, keycloak.client_assertion)
    for secret in (*secrets, keycloak.client_key, settings.ui.token):
        try:
            if secret is not None:
                secret.reveal()
        except ConfigError as error:
            yield error


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
