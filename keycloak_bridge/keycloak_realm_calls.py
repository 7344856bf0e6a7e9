"""What the Admin REST API tells about a realm to an account that holds manage-realm."""

from keycloak_bridge.keycloak_calls import AdminCalls, Json
from keycloak_bridge.keycloak_rejections import Call


class RealmCalls(AdminCalls):
    """Reads the settings of one realm. Safe to share between threads."""

    def required_actions(self) -> list[Json]:
        """Return the realm's required actions, those that are switched off too."""
        path = "/authentication/required-actions"
        return self._list(Call("GET", path), path)

    def components(self, kind: str) -> list[Json]:
        """Return the realm's components of one kind, the name of a Java interface."""
        return self._list(Call("GET", "/components"), "/components", {"type": kind})
