import bisect
from dataclasses import dataclass, field

import pytest
from hypothesis import given
from hypothesis import strategies as st
from keycloak_script import scripted_admin

from keycloak_bridge.domain.errors import KeycloakUnavailableError
from keycloak_bridge.domain.users import UserRepresentation
from keycloak_bridge.keycloak.admin import Params
from keycloak_bridge.keycloak.users import each_user, everybody
from keycloak_bridge.testing.stub_adapter import StubAdapter


def listing(*pages: int) -> tuple[list[str], list[str]]:
    """Return the ids that come of pages with so many users, and what was asked."""
    stub = StubAdapter()
    admin = scripted_admin(stub)
    number = 0
    for size in pages:
        stub.answer(200, [{"id": f"kc-{number + at}"} for at in range(size)])
        number += size

    found = [user["id"] for user in each_user(admin, page_size=2)]

    return found, [sent.url.partition("?")[2] for sent in stub.requests if sent.url]


def test_pages_are_asked_for_until_one_is_not_full() -> None:
    """Each with all attributes, and none of them again."""
    found, asked = listing(2, 2, 1)

    assert ["kc-0", "kc-1", "kc-2", "kc-3", "kc-4"] == found
    assert [
        "briefRepresentation=false&max=2&first=0",
        "briefRepresentation=false&max=2&first=2",
        "briefRepresentation=false&max=2&first=4",
    ] == asked


def test_a_realm_without_users_is_asked_once() -> None:
    """An empty page is the end."""
    assert ([], ["briefRepresentation=false&max=2&first=0"]) == listing(0)


@dataclass
class Restless:
    """A realm whose users come and go between two pages, in the order of their names."""

    names: list[str]
    motions: list[tuple[bool, int]]
    constant: set[str] = field(default_factory=set)

    def __post_init__(self) -> None:
        self.names.sort()
        self.constant = set(self.names)

    def search_users(self, params: Params) -> list[UserRepresentation]:
        """Return a page, and then let somebody come or go."""
        first, most = int(params["first"]), int(params["max"])
        page = [UserRepresentation(id=name) for name in self.names[first : first + most]]
        if self.motions:
            comes, number = self.motions.pop(0)
            if comes:
                bisect.insort(self.names, f"n{number:03}x")
            elif self.names:
                self.constant.discard(self.names.pop(number % len(self.names)))
        return page


@given(st.integers(0, 40), st.lists(st.tuples(st.booleans(), st.integers(0, 60)), max_size=12))
def test_nobody_who_stays_is_left_out(count: int, motions: list[tuple[bool, int]]) -> None:
    """Whoever comes and goes between the pages; one goes at a time, fewer than pages overlap by."""
    realm = Restless([f"n{number:03}" for number in range(count)], motions)
    found = {user["id"] for user in everybody(realm, page_size=6, overlap=2)}

    assert realm.constant <= found


def test_too_many_who_go_are_noticed() -> None:
    """Somebody else may have slipped through."""
    realm = Restless([f"n{number:03}" for number in range(20)], [])
    pages = everybody(realm, page_size=6, overlap=2)
    for _ in range(6):
        next(pages)
    del realm.names[:6]

    with pytest.raises(KeycloakUnavailableError) as raised:
        next(pages)

    assert raised.value.code == "realm-in-motion"
