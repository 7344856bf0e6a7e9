"""A PUT body holds everything found, the changes, and nothing that could undo the user's own doing."""

import pytest

from keycloak_bridge.domain.operations import (
    Change,
    after_changes,
    differences,
    is_erasable,
    merge,
    normalised,
    with_changes,
)
from keycloak_bridge.domain.users import UserRepresentation

FOUND = UserRepresentation(
    id="42",
    username="ada",
    email="ada@acme.example",
    emailVerified=True,
    enabled=True,
    firstName="Ada",
    attributes={"tenant": ["t1"], "theirs": ["x"]},
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
    """Only what the event wants and Keycloak does not hold; a verified e-mail stays verified."""
    assert changes == differences(FOUND, desired)


def test_an_email_can_become_verified() -> None:
    """The other direction is a change like any other."""
    found = UserRepresentation(username="ada", emailVerified=False)

    assert differences(found, {"emailVerified": True}) == (Change("emailVerified", False, True),)


def test_the_order_of_values_does_not_count() -> None:
    """Keycloak does not keep it, and a plan must come back empty."""
    found = UserRepresentation(attributes={"a": ["2", "1"]})

    assert differences(found, {"attributes": {"a": ["1", "2"]}}) == ()


def test_create_only_targets_stay() -> None:
    """What is written at creation only is left alone, set or not."""
    desired = UserRepresentation(
        firstName="Augusta", lastName="King", attributes={"tenant": ["t2"], "new": ["n"]}
    )
    create_only = {"firstName", "attributes.tenant", "attributes.new"}

    assert differences(FOUND, desired, create_only) == (Change("lastName", None, "King"),)


def test_the_body_of_a_put_is_whole() -> None:
    """Attributes of others, e-mail and names survive; volatile fields are absent and so untouched."""
    desired = UserRepresentation(lastName="King", attributes={"tenant": ["t2"]})

    assert merge(FOUND, desired) == {
        "id": "42",
        "username": "ada",
        "email": "ada@acme.example",
        "firstName": "Ada",
        "lastName": "King",
        "attributes": {"tenant": ["t2"], "theirs": ["x"]},
    }


@pytest.mark.parametrize(
    ("field", "value"),
    [("enabled", False), ("emailVerified", True), ("requiredActions", ["VERIFY_EMAIL"])],
)
def test_volatile_fields_are_sent_when_they_change(field: str, value: object) -> None:
    """A change that the plan wants is in the body."""
    body = with_changes(FOUND, [Change(field, None, value)])

    assert {field: value} == {
        name: found
        for name, found in body.items()
        if name in ("enabled", "emailVerified", "requiredActions")
    }


def test_what_was_found_is_not_touched() -> None:
    """The found representation belongs to the caller."""
    before = {**FOUND, "attributes": {**FOUND["attributes"]}}
    merge(FOUND, {"attributes": {"tenant": ["t2"]}})

    assert before == FOUND


def test_a_user_without_attributes() -> None:
    """Keycloak leaves the key out when there is none."""
    assert merge(UserRepresentation(username="ada"), {"attributes": {"a": ["1"]}}) == {
        "username": "ada",
        "attributes": {"a": ["1"]},
    }


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


def test_what_is_erased_is_absent_from_the_body() -> None:
    """Keycloak erases what a PUT with attributes lacks."""
    changes = differences(FOUND, {}, cleared=frozenset({"email", "attributes.tenant"}))

    assert with_changes(FOUND, changes) == {
        "id": "42",
        "username": "ada",
        "firstName": "Ada",
        "attributes": {"theirs": ["x"]},
    }
    assert after_changes(FOUND, changes) == {
        "id": "42",
        "username": "ada",
        "emailVerified": True,
        "enabled": True,
        "firstName": "Ada",
        "attributes": {"theirs": ["x"]},
        "requiredActions": ["UPDATE_PASSWORD"],
    }


@pytest.mark.parametrize(
    ("target", "expected"),
    [("email", True), ("attributes.a", True), ("username", False), ("enabled", False)],
)
def test_what_a_user_can_be_without(target: str, expected: bool) -> None:
    """Its switches always have a position."""
    assert is_erasable(target) is expected
