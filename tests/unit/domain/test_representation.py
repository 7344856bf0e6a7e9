"""A PUT body holds everything found, the changes, and nothing that could undo the user's own doing."""

import copy

import pytest

from keycloak_bridge.domain.operations import Change
from keycloak_bridge.domain.representation import (
    after_changes,
    differences,
    normalised,
    with_changes,
)
from keycloak_bridge.domain.users import UserRepresentation, targets_of

FOUND = UserRepresentation(
    id="42",
    username="ada",
    email="ada@acme.example",
    emailVerified=True,
    enabled=True,
    firstName="Ada",
    attributes={"tenant": ["t1"], "theirs": ["x"], "two": ["2", "1"]},
    requiredActions=["UPDATE_PASSWORD"],
)


def test_normalises_as_keycloak_stores() -> None:
    """Lower case for username and e-mail only; nothing empty, no value twice."""
    given = UserRepresentation(
        username="Ada",
        email="ADA@acme.example",
        firstName="Ada",
        lastName="",
        enabled=False,
        attributes={"a": ["X", "X", ""], "b": [], "c": [""]},
    )

    assert normalised(given) == {
        "username": "ada",
        "email": "ada@acme.example",
        "firstName": "Ada",
        "enabled": False,
        "attributes": {"a": ["X"]},
    }


@pytest.mark.parametrize(
    ("desired", "changes"),
    [
        ({}, ()),
        ({"firstName": "Ada", "attributes": {"tenant": ["t1"]}}, ()),
        ({"attributes": {"two": ["1", "2"]}}, ()),
        ({"firstName": "Augusta"}, (Change("firstName", "Ada", "Augusta"),)),
        ({"lastName": "King"}, (Change("lastName", None, "King"),)),
        ({"enabled": False}, (Change("enabled", True, False),)),
        ({"emailVerified": False}, ()),
        ({"requiredActions": ["UPDATE_PASSWORD"]}, ()),
        (
            {"attributes": {"tenant": ["t2"], "new": ["n"]}},
            (
                Change("attributes.tenant", ["t1"], ["t2"]),
                Change("attributes.new", None, ["n"]),
            ),
        ),
    ],
)
def test_finds_what_differs(desired: UserRepresentation, changes: tuple[Change, ...]) -> None:
    """Only what the event wants and Keycloak does not hold; neither the order of values nor a verified e-mail counts."""
    assert changes == differences(FOUND, desired)
    assert () == differences(FOUND, desired, targets_of(desired).keys())


def test_an_email_can_become_verified() -> None:
    """The other direction is a change like any other."""
    found = UserRepresentation(username="ada", emailVerified=False)

    assert differences(found, {"emailVerified": True}) == (Change("emailVerified", False, True),)


@pytest.mark.parametrize(
    ("cleared", "changes"),
    [
        (
            {"email", "attributes.theirs", "lastName", "attributes.none"},
            (Change("attributes.theirs", ["x"], None), Change("email", "ada@acme.example", None)),
        ),
        ({"requiredActions"}, (Change("requiredActions", ["UPDATE_PASSWORD"], []),)),
        ({"username", "enabled", "emailVerified"}, ()),
        ({"firstName", "attributes.tenant"}, ()),
    ],
    ids=["what-is-there", "actions", "not-without", "create-only-or-wanted"],
)
def test_clears(cleared: set[str], changes: tuple[Change, ...]) -> None:
    """Only what is there and not wanted; a user cannot be without username and switches."""
    desired = UserRepresentation(attributes={"tenant": ["t1"]})

    assert changes == differences(FOUND, desired, frozenset({"firstName"}), frozenset(cleared))


def test_the_body_of_a_put_is_whole() -> None:
    """What is erased is absent; attributes of others survive; volatile fields are in it only when they change."""
    changes = (
        Change("email", "ada@acme.example", None),
        Change("attributes.two", ["2", "1"], None),
        Change("attributes.tenant", ["t1"], ["t2"]),
        Change("enabled", True, False),
    )
    before = copy.deepcopy(FOUND)
    body = {
        "id": "42",
        "username": "ada",
        "enabled": False,
        "firstName": "Ada",
        "attributes": {"tenant": ["t2"], "theirs": ["x"]},
    }
    volatile = {"emailVerified": True, "requiredActions": ["UPDATE_PASSWORD"]}

    assert body == with_changes(FOUND, changes)
    assert {**body, **volatile} == after_changes(FOUND, changes)
    assert {"username": "a", "attributes": {}} == with_changes({"username": "a"}, ())
    assert before == FOUND
