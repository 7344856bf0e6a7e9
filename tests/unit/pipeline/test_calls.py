"""How many calls to Keycloak each kind of event costs, so that no change makes one dearer unseen."""

from collections.abc import Sequence

import pytest
from keycloak_calls import CASES, LAYOUTS, Case, CountedBridge, counted

CHEAPEST = {
    "created, known to be new": 1,
    "… with groups": 1,
    "… with realm roles": 2,
    "… with roles of a client": 2,
    "… with two organizations": 3,
    "50 created, in batches": 2,
    "created, redelivered": 1,
    "updated": 2,
    "disabled": 3,
    "enabled": 2,
    "deleted (disables)": 3,
    "deleted (deletes)": 2,
    "invited": 3,
    "invited, more than a moment after the creation": 4,
    "invited, mails not on record": 5,
}
"""The most calls of these cases, in every layout; docs/scaling.md has the calls themselves."""

BY_USERNAME = {
    "created": 1,
    # a new user costs no search, so that one which exists costs the answer that it does
    "created, redelivered": 2,
}
"""Those of the layout in which Keycloak keeps the external id unique, where they are others."""


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("what", CHEAPEST)
def test_no_more_calls_than_that(layout: str, what: str) -> None:
    """A new user is one call, its roles are one more, and each organization is one more."""
    (case,) = (one for one in CASES if one.what == what)

    calls: Sequence[str] = counted(layout, case)

    most = {**CHEAPEST, **(BY_USERNAME if layout == "username" else {})}
    assert len(calls) <= most[what], calls


def test_a_new_user_whose_id_is_its_username_is_one_call() -> None:
    """Keycloak itself says where the username is taken."""
    (case,) = (one for one in CASES if one.what == "created")

    assert ["POST /users"] == counted("username", case)


@pytest.mark.parametrize("case", CASES, ids=[case.what for case in CASES])
def test_no_user_is_searched_for_by_attribute(case: Case) -> None:
    """Where the external id is the username, whatever happens to the user."""
    calls = counted("username", case)

    assert not [call for call in calls if call.startswith("GET /users?q")]


@pytest.mark.parametrize(
    ("layout", "listed"),
    [("attribute", {"GET /users"}), ("username", {"GET /users?username"})],
)
def test_a_backlog_lists_only_whom_keycloak_itself_would_not_name(
    layout: str, listed: set[str]
) -> None:
    """All users; where the external id is the username, those whose username may be another one's e-mail address."""
    (case,) = (one for one in CASES if one.what == "50 created, in batches")
    bridge = CountedBridge(layout, case)
    bridge.begin_backlog()
    counts = {call.replace("/count", "") for call in bridge.realm.calls if "/count" in call}

    assert listed == counts
    assert listed <= set(bridge.realm.calls)
    assert not ({"GET /users", "GET /users?username"} - listed) & set(bridge.realm.calls)
