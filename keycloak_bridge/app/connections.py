"""What reaches Keycloak and the schema registry, built from settings."""

from collections.abc import Iterator

from keycloak_bridge.domain.events import IdKind
from keycloak_bridge.domain.ports import Clock, UserDirectory
from keycloak_bridge.domain.users import UserRepresentation
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
