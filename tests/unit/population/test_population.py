import gc
import tracemalloc
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
from samples import a_desired_user, an_event
from stage_harness import event_of, interpretation, record_of

from keycloak_bridge.app.interpretation import Interpretation
from keycloak_bridge.domain.events import Record, UserEvent
from keycloak_bridge.domain.users import GROUPS, DesiredUser, Intent, Membership, UserRepresentation
from keycloak_bridge.population.population import Population, Refusal
from keycloak_bridge.settings.model import EventsSettings, Settings

WARM = 20
MEASURED = 500
USERS = 100_000
LIMIT_BYTES = 300_000_000


def taken_in(
    *events: Any, with_settings: Interpretation | None = None
) -> tuple[Population, list[Refusal]]:
    """Return the population that the events make, and what was refused."""
    population = Population(with_settings or interpretation())
    records = (one if isinstance(one, Record) else record_of(one) for one in events)
    return population, [one for one in map(population.take_in, records) if one is not None]


def test_what_would_be_refused_is_told_and_not_folded() -> None:
    """With place, id and user as far as they can be read; the user is known all the same."""
    population, refused = taken_in(event_of("u-1", data={"email": ...}), b"{oops")

    assert [("schema-violation", "event-1", "u-1"), ("not-json", None, None)] == [
        (one.error.code, one.head.id, one.head.subject) for one in refused
    ]
    assert (0, 2) == (len(population), population.refused)
    assert [True, False] == [population.mentions(user) for user in ("u-1", "u-2")]


def test_what_the_bridge_ignores_is_counted() -> None:
    """A type that settings name, and tombstones."""
    ignoring = Interpretation(Settings(events=EventsSettings(ignore_types=("order.placed",))))

    population, refused = taken_in(
        event_of("u-9", type="order.placed"), None, with_settings=ignoring
    )

    assert ([], 2, 0) == (refused, population.ignored, len(population))
    assert population.mentions("u-9")


def test_what_nobody_can_read_past_is_raised(monkeypatch: pytest.MonkeyPatch) -> None:
    """An error that is not the event's own fault ends the reading."""
    monkeypatch.setattr(Interpretation, "read", lambda *_: 1 / 0)

    with pytest.raises(ZeroDivisionError):
        taken_in(event_of())


def test_a_hundred_thousand_users_fit() -> None:
    """Measured with some, each different, each updated once; the rest is multiplication."""
    population = Population(interpretation())
    events = list(_many(WARM + MEASURED))
    for event, desired in events[: 2 * WARM]:
        population.add(event, desired)
    tracemalloc.start()
    try:
        before, _ = tracemalloc.get_traced_memory()
        for event, desired in events[2 * WARM :]:
            population.add(event, desired)
        gc.collect()
        after, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()

    assert [2] * (WARM + MEASURED) == [one.events for one in population]
    assert (after - before) / MEASURED * USERS < LIMIT_BYTES / 3


def _many(users: int) -> Iterator[tuple[UserEvent, DesiredUser]]:
    """Yield two events of each user, without the cost of reading them."""
    for number in range(users):
        user_id = f"{28518867 + number * 7919:010d}"
        email = f"person.{number * 31}@company-{number % 977}.example"
        desired = a_desired_user(user_id=user_id, username=email, email=email)
        yield an_event(f"event-{number}", user_id=user_id), desired
        moved = UserRepresentation(
            firstName=f"Given{number * 17}",
            lastName=f"Family{number * 13}",
            attributes={
                "userId": [user_id],
                "phoneNumber": [f"+49301{number:07d}"],
                "department": [f"Department {number % 53}"],
            },
        )
        groups = Membership(GROUPS, (f"/staff/{number % 11}", "/all"))
        update = replace(desired, representation=moved, intent=Intent.UPDATE, memberships=(groups,))
        yield an_event(f"update-{number}", user_id=user_id, day=2), update
