"""What Keycloak's user profile would say of a user."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from keycloak_bridge.keycloak.user_profile import RealmProfile, check_user, read_profile

ADMIN = {"edit": ["admin"], "view": ["admin"]}


def profile(*attributes: dict[str, Any], policy: str | None = None) -> RealmProfile:
    """Return a profile that admins may write."""
    answer: dict[str, Any] = {"attributes": [{"permissions": ADMIN, **one} for one in attributes]}
    return read_profile(
        answer if policy is None else {**answer, "unmanagedAttributePolicy": policy}
    )


LENGTH_3 = {"name": "tenantId", "validations": {"length": {"max": 3}}}


@pytest.mark.parametrize(
    ("read", "user", "violations", "unknown", "dropped"),
    [
        (profile(LENGTH_3), {"attributes": {"tenantId": ["abc"]}}, [], [], []),
        (
            profile(LENGTH_3),
            {"attributes": {"tenantId": ["abcd"]}},
            [("/user/attributes/tenantId", "length")],
            [],
            [],
        ),
        (
            profile(LENGTH_3),
            {"attributes": {"tenantId": ["a", "b"]}},
            [("/user/attributes/tenantId", "multivalued")],
            [],
            [],
        ),
        (
            profile({**LENGTH_3, "multivalued": True}),
            {"attributes": {"tenantId": ["a", "b"]}},
            [],
            [],
            [],
        ),
        (
            profile({"name": "t", "multivalued": True, "validations": {"multivalued": {"min": 2}}}),
            {"attributes": {"t": ["a"]}},
            [("/user/attributes/t", "multivalued")],
            [],
            [],
        ),
        (profile(), {"attributes": {"tenantId": ["a"], "locale": ["de"]}}, [], [], ["tenantId"]),
        (profile(), {"attributes": {"tenantId": [""]}}, [], [], []),
        (profile(policy="ADMIN_EDIT"), {"attributes": {"tenantId": ["a"]}}, [], [], []),
        (profile(policy="ADMIN_VIEW"), {"attributes": {"tenantId": ["a"]}}, [], [], ["tenantId"]),
        (
            profile(policy="ENABLED"),
            {"attributes": {"tenantId": ["a" * 2049]}},
            [("/user/attributes/tenantId", "length")],
            [],
            [],
        ),
        (
            profile({"name": "email", "validations": {"email": {}, "of-a-plugin": {}}}),
            {"email": "ada@acme.example"},
            [],
            ["email: of-a-plugin"],
            [],
        ),
        (
            profile({"name": "username", "validations": {"length": {"min": 3}}}),
            {"username": "ad"},
            [("/user/username", "length")],
            [],
            [],
        ),
        (
            profile({"name": "costCentre", "required": {"roles": ["admin"]}}),
            {"attributes": {"costCentre": [" "]}},
            [("/user/attributes/costCentre", "required")],
            [],
            [],
        ),
        (
            profile({"name": "lastName", "required": {}}),
            {},
            [("/user/lastName", "required")],
            [],
            [],
        ),
        (profile({"name": "lastName", "required": {"roles": ["user"]}}), {}, [], [], []),
        (profile({"name": "lastName", "required": {"scopes": ["phone"]}}), {}, [], [], []),
        (profile({"name": "x", "required": {}, "permissions": {"edit": ["user"]}}), {}, [], [], []),
    ],
)
def test_users_are_checked(
    read: RealmProfile,
    user: Any,
    violations: list[tuple[str, str]],
    unknown: list[str],
    dropped: list[str],
) -> None:
    """Refused, undecided and dropped are three things."""
    verdict = check_user(read, user)

    assert violations == [(one.pointer, one.keyword) for one in verdict.violations]
    assert (unknown, dropped) == (list(verdict.unknown), list(verdict.dropped))
    assert verdict.is_clean is not bool(violations or unknown or dropped)


@pytest.mark.parametrize("answer", [{}, {"attributes": None}, {"attributes": ["x", {}]}])
def test_an_empty_profile_is_read(answer: dict[str, Any]) -> None:
    """What is not there is not invented."""
    assert RealmProfile() == read_profile(answer)


@given(st.dictionaries(st.text(min_size=1), st.lists(st.text(), max_size=3), max_size=5))
def test_no_value_is_ever_told(attributes: dict[str, list[str]]) -> None:
    """A violation names the attribute and the rule; nothing is both dropped and refused."""
    read = profile(*({**LENGTH_3, "name": name} for name in list(attributes)[:3]))
    verdict = check_user(read, {"attributes": attributes})

    assert {"breaks the rule 'length' of the user profile"} >= {
        one.message for one in verdict.violations if one.keyword == "length"
    }
    assert set(verdict.dropped) <= set(list(attributes)[3:])
