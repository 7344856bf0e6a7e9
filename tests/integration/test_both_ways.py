"""Both ways into Keycloak bring the same events to the same realm, results and dead letters."""

from collections.abc import Iterator
from typing import Any

import pytest
from bridge_harness import Bench
from mixed_events import Mixture, mix

from keycloak_bridge.sandbox import Sandbox
from keycloak_bridge.testing.realm_tools import temporary_realm

pytestmark = pytest.mark.integration

_OWN = ("id", "createdTimestamp", "access", "userProfileMetadata")
_TOLD = ("outcome", "action", "reason", "changed", "mapping", "eventType", "userId", "schemaId")


@pytest.fixture(scope="module")
def benches(
    sandbox: Sandbox, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[Bench, Bench]]:
    """Two realms and topics of their own; the account of the first may import users."""
    with (
        temporary_realm(sandbox, "manage-realm") as one,
        temporary_realm(sandbox) as other,
    ):
        burst = Bench.open(sandbox, one, tmp_path_factory.mktemp("burst"))
        trickle = Bench.open(sandbox, other, tmp_path_factory.mktemp("trickle"))
        yield (
            burst.but(INVITE_MODE="none", LOG_LEVEL="DEBUG", BRAKE_IN_A_ROW="0", BRAKE_SHARE="0"),
            trickle.but(INVITE_MODE="none", BURST_MODE="off", BRAKE_IN_A_ROW="0", BRAKE_SHARE="0"),
        )


def prepared(bench: Bench, mixture: Mixture) -> None:
    """Have those in the realm who are there before, one by one in either realm."""
    for user in mixture.foreign:
        bench.admin("POST", "/users", json=user)
    bench.publish(*mixture.before)
    bench.but(BURST_MODE="off").catch_up()


def state(bench: Bench) -> dict[str, Any]:
    """Return all that the realm holds of each user, by username, without Keycloak's own ids and times."""
    return {
        user["username"]: {name: value for name, value in user.items() if name not in _OWN}
        for user in bench.users_with_memberships()
    }


def results(bench: Bench) -> dict[str, Any]:
    """Return what was told of each event, without ids of Keycloak's own."""
    return {
        data["eventId"]: {
            **{name: data.get(name) for name in _TOLD},
            "violations": sorted(
                (one["pointer"], one["keyword"]) for one in data.get("violations", ())
            ),
        }
        for data in bench.results()
    }


def letters(bench: Bench) -> dict[bytes, tuple[str, str]]:
    """Return the code and the step of each dead letter, by the event's bytes."""
    return {
        record.value: (headers["kb-dlq-code"], headers["kb-dlq-stage"])
        for record, headers in bench.dead_letters()
    }


@pytest.mark.parametrize("count", [300, pytest.param(2000, marks=pytest.mark.full)])
def test_both_ways_come_to_the_same(benches: tuple[Bench, Bench], count: int) -> None:
    """New, existing, changed, conflicting and invalid users: realms, results and dead letters are equal, field by field."""
    burst, trickle = benches
    mixture = mix(count, f"both{count}")
    for bench in benches:
        prepared(bench, mixture)
        bench.publish(*mixture.events)

    # fewer events are a backlog too
    log = burst.but(BURST_BACKLOG=str(min(200, count // 10))).catch_up()
    trickle.catch_up()

    batched = sum('"batch-written"' in line for line in log.splitlines())
    assert batched, "no user was written in a batch"
    assert results(burst) == results(trickle)
    assert letters(burst) == letters(trickle)
    assert state(burst) == state(trickle)
