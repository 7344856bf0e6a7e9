"""A mapping that makes the external id the username: found by it, and compared exactly."""

from typing import Any

import pytest
from mapping_cases import TERMS, event_of, mapping

from keycloak_bridge.domain.errors import KeyMismatchError, MappingError
from keycloak_bridge.domain.users import DesiredUser, Intent, MatchCriterion
from keycloak_bridge.mapping.lifecycle import Mappings

BY_USERNAME = """
matching = ["username", "email"]
[user]
username = "data.userId"
email = "lower(data.email)"
"""


def desired(
    kind: str, external_id: str | None, subject: str | None = None, **data: Any
) -> DesiredUser:
    """Return what an event of this type wants of the user with this id."""
    seen = event_of(kind, {"userId": external_id, **data}, subject)
    made = Mappings(mapping(BY_USERNAME, invitation=TERMS)).apply(seen)
    assert isinstance(made, DesiredUser)
    return made


def test_the_exact_id_is_kept_and_found_by_the_username() -> None:
    """Keycloak lower-cases the username, so an attribute of the bridge has the id as it was given."""
    made = desired("user.created", "U-1", email="Ada@acme.example")

    assert made.external_id == MatchCriterion("attributes.bridgeUserId", "U-1")
    assert made.external_id.is_username
    assert ("u-1", ["U-1"]) == (
        made.representation["username"],
        made.representation["attributes"]["bridgeUserId"],
    )
    assert ["attributes.bridgeUserId", "username", "email"] == [one.target for one in made.matching]


def test_a_partial_event_names_the_user_the_same_way() -> None:
    """The username itself is written at creation only."""
    made = desired("user.updated", "U-1")

    assert made.external_id.value == "U-1"
    assert {"attributes": {"bridgeUserId": ["U-1"]}} == made.representation
    assert Intent.UPDATE is made.intent


@pytest.mark.parametrize("kind", ["user.disabled", "user.deleted"])
def test_an_event_that_only_names_the_user_has_the_exact_id(kind: str) -> None:
    """Whose user it is needs nothing but the id."""
    made = desired(kind, "U-1")

    assert (MatchCriterion("attributes.bridgeUserId", "U-1"),) == made.matching


@pytest.mark.parametrize(
    "external_id",
    [" u-1", "u-1 ", "u\u200b1", "x" * 256, "anonymous-28518867-8c9e-4f5d-9a3b-2f1e0d4c5b6a"],
)
@pytest.mark.parametrize("kind", ["user.created", "user.disabled"])
def test_an_id_that_no_realm_takes_as_a_username_has_a_code(external_id: str, kind: str) -> None:
    """Keycloak trims, cuts or refuses it, so the user could not be found again."""
    with pytest.raises(MappingError) as caught:
        desired(kind, external_id, email="ada@acme.example")

    assert ("id-refused", ["/user/username"]) == (
        caught.value.code,
        [one.pointer for one in caught.value.violations],
    )


def test_an_event_without_an_id_points_at_the_username() -> None:
    """There is no attribute in the mapping that its author could look for."""
    with pytest.raises(MappingError) as caught:
        desired("user.created", None, email="ada@acme.example")

    assert ("missing-external-id", "/user/username") == (
        caught.value.code,
        caught.value.violations[0].pointer,
    )


def test_the_subject_is_compared_exactly() -> None:
    """Two people may differ in case alone."""
    with pytest.raises(KeyMismatchError):
        desired("user.created", "U-1", "u-1", email="ada@acme.example")
