import pytest
from hypothesis import given
from hypothesis import strategies as st
from plan_cases import CREATED, changed, desired, updating, wanting
from plan_outcome import apply_plan
from test_folding import FRESH, NAMING, TIMES, essence, folded, history, mapped, one_by_one

from keycloak_bridge.domain.errors import UnknownUserError
from keycloak_bridge.domain.operations import Plan
from keycloak_bridge.domain.users import DesiredUser, FoundUser, Intent
from keycloak_bridge.planning.fold import plan_folded, steps_of
from keycloak_bridge.planning.plan import plan_user


def planned(wants: list[DesiredUser], found: FoundUser | None) -> Plan | None:
    """Return the folded plan, None for a user whose last event is refused."""
    try:
        return plan_folded(folded(history(wants)), found)
    except UnknownUserError:
        return None


@given(
    st.lists(mapped() | NAMING, min_size=1, max_size=6),
    st.lists(TIMES, min_size=6, max_size=6) | st.just([]),
    st.sampled_from([None, FRESH]),
)
def test_provisioning_the_steps_is_the_folded_plan(
    wants: list[DesiredUser], times: list[object], found: FoundUser | None
) -> None:
    """Whatever the events are: what is planned at once is what the few steps bring."""
    user = folded(history(wants, times))  # type: ignore[arg-type]  # times or none at all
    after = one_by_one(steps_of(user, found), found)

    try:
        expected = apply_plan(plan_folded(user, found), found)
    except UnknownUserError:
        expected = None
    assert essence(expected) == essence(after)


@pytest.mark.parametrize(
    "wants",
    [
        [desired()],
        [desired(), updating(firstName="Eve")],
        [updating(firstName="Eve")],
        [desired(), wanting(Intent.DELETE)],
        [wanting(Intent.DISABLE)],
    ],
)
@pytest.mark.parametrize("found", [None, CREATED], ids=["absent", "there"])
def test_one_step_has_the_very_plan(wants: list[DesiredUser], found: FoundUser | None) -> None:
    """Operation by operation, and refused where that is."""
    ((event, desired_user),) = steps_of(folded(history(wants)), found)

    try:
        plan = plan_user(event, desired_user, found)
    except UnknownUserError:
        plan = None
    assert planned(wants, found) == plan


def test_a_user_that_comes_back_takes_two_steps() -> None:
    """It is removed, then created."""
    user = folded(history([desired(), wanting(Intent.DELETE), desired(firstName="Eve")]))

    removing, creating = steps_of(user, CREATED)

    assert (Intent.DELETE, "e1") == (removing[1].intent, removing[0].id)
    assert (Intent.PROVISION, "e2") == (creating[1].intent, creating[0].id)


def test_nothing_is_left_to_do_for_a_user_that_is_newer_than_its_deletion() -> None:
    """A deletion that is stale, and nothing behind it."""
    newer = changed(CREATED, {"bridgeEventTime": ["2026-11-01T23:00:00Z"]})
    user = folded(history([wanting(Intent.DELETE)]))

    assert () == steps_of(user, newer)
