"""What comes of settings that lead to a Keycloak."""

from keycloak_bridge.app.connections import keycloak_admin
from keycloak_bridge.domain.errors import KeycloakError
from keycloak_bridge.ops.clock import SystemClock
from keycloak_bridge.settings.model import KeycloakSettings, Settings


def outcome(keycloak: KeycloakSettings) -> str:
    """Return `ok` where the bridge can count the users of the realm, else what it says."""
    admin = keycloak_admin(Settings(keycloak=keycloak), SystemClock())
    try:
        admin.count_users()
    except KeycloakError as error:
        return f"{error.code}: {error.message}"
    finally:
        admin.close()
    return "ok"
