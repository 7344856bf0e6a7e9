"""How many calls to Keycloak each kind of event costs, so that no change makes one dearer unseen."""

from collections.abc import Sequence

import pytest
from keycloak_calls import CASES, LAYOUTS, counted

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
}
"""The most calls of these cases, in every layout; docs/scaling.md has the calls themselves."""


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("what", CHEAPEST)
def test_no_more_calls_than_that(layout: str, what: str) -> None:
    """A new user is one call, its roles are one more, and each organization is one more."""
    (case,) = (one for one in CASES if one.what == what)

    calls: Sequence[str] = counted(layout, case)

    assert len(calls) <= CHEAPEST[what], calls
