"""Every user of the realm, a page at a time."""

from collections.abc import Iterator
from typing import Protocol

from keycloak_bridge.core.desired import UserRepresentation
from keycloak_bridge.core.errors import KeycloakUnavailableError
from keycloak_bridge.keycloak_admin import KeycloakAdmin
from keycloak_bridge.keycloak_calls import Params

PAGE = 500
"""Users to ask for at once; each comes with all its attributes."""

_LARGE_PAGE = 1000
"""Keycloak walks over all users before a page, so that few large ones cost less."""

_OVERLAP = 20


class UserPages(Protocol):
    """What gives the users of a realm out page by page, in an order of their names."""

    def search_users(self, params: Params) -> list[UserRepresentation]:
        """Return the page from place `first` on, `max` users long."""
        ...


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


def everybody(
    admin: UserPages, page_size: int = _LARGE_PAGE, overlap: int = _OVERLAP
) -> Iterator[UserRepresentation]:
    """Yield every user that was there before the first page and is there after the last, some of them twice.

    Each page overlaps the one before, and at least one user must be in both: a page that users were deleted before cannot
    leave anybody out. Raises KeycloakUnavailableError (`realm-in-motion`) where more of them went than the overlap holds.
    """
    first, tail = 0, frozenset[str]()
    while True:
        page = admin.search_users({"first": first, "max": page_size})
        ids = [user["id"] for user in page]
        if tail and tail.isdisjoint(ids):
            raise KeycloakUnavailableError(
                "users are deleted faster than the realm can be listed",
                code="realm-in-motion",
                remedy="nothing need be done: it is tried again",
            )
        yield from page
        if len(page) < page_size:
            return
        tail = frozenset(ids[-overlap:])
        first += page_size - overlap
