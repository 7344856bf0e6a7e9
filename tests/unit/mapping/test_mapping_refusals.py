"""An event that makes no user is refused with a code and a pointer."""

from collections.abc import Mapping
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from mapping_cases import (
    ATTRIBUTES,
    HEAD,
    MINIMAL,
    USER,
    desired,
    event,
    mapping,
    names,
)

from keycloak_bridge.domain.errors import ConflictError, EventError, KeyMismatchError, MappingError
from keycloak_bridge.domain.users import DesiredUser


@pytest.mark.parametrize(
    ("text", "data", "error", "code", "pointer"),
    [
        (MINIMAL, {"username": "a b c"}, MappingError, "invalid-username", "/user/username"),
        (MINIMAL, {"email": None}, MappingError, "invalid-username", "/user/username"),
        (MINIMAL, {"username": "Admin"}, ConflictError, "reserved-user", "/user/username"),
        (
            MINIMAL,
            {"username": "service-account-x"},
            ConflictError,
            "reserved-user",
            "/user/username",
        ),
        (MINIMAL, {"userId": ""}, MappingError, "missing-external-id", "/user/attributes/userId"),
        (
            MINIMAL,
            {"userId": ["u1", "u2"]},
            MappingError,
            "missing-external-id",
            "/user/attributes/userId",
        ),
        (MINIMAL, {"userId": "u2"}, KeyMismatchError, "subject-mismatch", "/subject"),
        (MINIMAL, {"email": ["a", "b"]}, MappingError, "mapping-failed", "/user/username"),
        (
            HEAD + USER + 'enabled = "data.active"' + ATTRIBUTES,
            {"active": "yes"},
            MappingError,
            "mapping-failed",
            "/user/enabled",
        ),
        (
            MINIMAL + '"a/b~c" = "data.tags"',
            {"tags": [{"x": 1}]},
            MappingError,
            "mapping-failed",
            "/user/attributes/a~1b~0c",
        ),
        (
            MINIMAL + 'tags = { from = "data.tags", required = true }',
            {},
            MappingError,
            "missing-value",
            "/user/attributes/tags",
        ),
        (
            MINIMAL + 'tags = "data.tags"',
            {"tags": "a\0b"},
            MappingError,
            "invalid-value",
            "/user/attributes/tags",
        ),
        (
            MINIMAL + 'tags = "data.tags"',
            {"tags": "\ud800"},
            MappingError,
            "invalid-value",
            "/user/attributes/tags",
        ),
    ],
)
def test_an_event_that_makes_no_user_is_refused(
    text: str, data: dict[str, Any], error: type[EventError], code: str, pointer: str
) -> None:
    """Each reason has its code and points at its target."""
    with pytest.raises(error) as caught:
        desired(text, **data)

    assert caught.value.code == code
    assert [one.pointer for one in caught.value.violations] == [pointer]
    assert caught.value.remedy


TEXT = st.text(alphabet="aB1 é한\0\ud800/<", max_size=4)
SCALARS = st.sampled_from([None, True, False, 0, -1, 1.5, "u1", "viewer"]) | TEXT
JSON = SCALARS | st.lists(SCALARS, max_size=3) | st.dictionaries(TEXT, SCALARS, max_size=2)
FUZZED = ("userId", "email", "username", "active", "roles", "groups", "tags")
WHOLE = mapping(
    HEAD
    + USER
    + 'enabled = "data.active"'
    + ATTRIBUTES
    + 'tags = "data.tags"\n[user.groups]\nfrom = "data.groups"\n'
    + '[user.realmRoles]\nfrom = "data.roles"\nallow = ["viewer"]'
)


@given(st.fixed_dictionaries({}, optional=dict.fromkeys(FUZZED, JSON)))
def test_any_data_makes_a_user_or_an_event_error(data: Mapping[str, Any]) -> None:
    """Nothing else escapes, whatever the data hold; what comes out is as Keycloak stores it."""
    try:
        user = WHOLE.apply(event(subject=None, **data))
    except EventError:
        return

    assert isinstance(user, DesiredUser)
    assert user.representation["username"] == user.representation["username"].lower()
    assert all(all(values) for values in user.representation["attributes"].values())
    assert set(names(user, "realmRoles") or ()) <= {"viewer"}
