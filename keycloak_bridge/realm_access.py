"""What of the realm goes beyond single users: everybody in it, how many, and the import of many."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial

from keycloak_bridge.core.desired import UserRepresentation
from keycloak_bridge.core.ports import Clock
from keycloak_bridge.core.user_importer import UserImporter
from keycloak_bridge.keycloak_admin import KeycloakAdmin
from keycloak_bridge.keycloak_importer import KeycloakUserImporter
from keycloak_bridge.keycloak_listing import everybody


@dataclass(frozen=True, slots=True)
class RealmAccess:
    """How a stage asks for these; each call may raise KeycloakError."""

    everybody: Callable[[], Iterable[UserRepresentation]]
    count: Callable[[], int]
    importer: UserImporter


def realm_access(admin: KeycloakAdmin, clock: Clock) -> RealmAccess:
    """Return the access of the bridge's service account."""
    return RealmAccess(
        partial(everybody, admin), admin.count_users, KeycloakUserImporter(admin, clock)
    )
