from keycloak_script import scripted_admin

from keycloak_bridge.keycloak_listing import each_user
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
