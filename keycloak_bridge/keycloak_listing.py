"""Every user of the realm, a page at a time."""

from collections.abc import Iterator

from keycloak_bridge.core.desired import UserRepresentation
from keycloak_bridge.keycloak_admin import KeycloakAdmin

PAGE = 500
"""Users to ask for at once; each comes with all its attributes."""


def each_user(admin: KeycloakAdmin, page_size: int = PAGE) -> Iterator[UserRepresentation]:
    """Yield every user that the realm has, with all attributes; holds one page of them in memory.

    Keycloak counts its pages by place: of users that come or go meanwhile, some may be left out or come twice.
    """
    first = 0
    while True:
        page = admin.search_users({"first": first, "max": page_size})
        yield from page
        if len(page) < page_size:
            return
        first += len(page)
