"""Both ways into Keycloak bring the same events to the same realm, results and dead letters."""

import os
import uuid
from collections.abc import Iterator
from typing import Any

import pytest
from bridge_harness import Bench
from mixed_events import Mixture, mix

from keycloak_bridge.sandbox import Sandbox
from keycloak_bridge.testing.fresh_realms import RealmAdministrator, temporary_realm
from keycloak_bridge.testing.realm_tools import AdminRealmTools

pytestmark = pytest.mark.integration

EVENTS = int(os.environ.get("BURST_EVENTS", "2000"))
_PAGE = 10_000
_OWN = ("id", "createdTimestamp", "access", "userProfileMetadata")
_TOLD = ("outcome", "action", "reason", "changed", "mapping", "eventType", "userId", "schemaId")


@pytest.fixture(scope="module")
def benches(
    sandbox: Sandbox, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[Bench, Bench]]:
    """Two realms and topics of their own; the account of the first may import users."""
    suffix = uuid.uuid4().hex[:8]
    with (
        temporary_realm(sandbox) as one,
        temporary_realm(sandbox) as other,
        Bench.open(sandbox, one, f"{suffix}b", tmp_path_factory.mktemp("burst")) as burst,
        Bench.open(sandbox, other, f"{suffix}t", tmp_path_factory.mktemp("trickle")) as trickle,
    ):
        AdminRealmTools(RealmAdministrator.of(sandbox), one.name).grant(
            one.client_id, "manage-realm"
        )
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
    users = {
        user["username"]: {name: value for name, value in user.items() if name not in _OWN}
        for user in bench.users()
    }
    for user in users.values():
        user |= {"groups": set(), "roles": set()}
    for role in bench.admin("GET", "/roles"):
        path = f"/roles/{role['name']}/users?max={_PAGE}"
        for user in bench.admin("GET", path):
            # the administrator of the other realm has another default role
            users[user["username"]]["roles"].add(role["name"].replace(bench.realm.name, "realm"))
    for path in ("/staff", "/staff/engineering", "/customers"):
        group = bench.admin("GET", f"/group-by-path{path}")
        for user in bench.admin("GET", f"/groups/{group['id']}/members?max={_PAGE}"):
            users[user["username"]]["groups"].add(path)
    return users


def news(bench: Bench) -> dict[str, Any]:
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


def test_both_ways_come_to_the_same(benches: tuple[Bench, Bench]) -> None:
    """New, existing, changed, conflicting and invalid users: realms, news and dead letters are equal, field by field."""
    burst, trickle = benches
    mixture = mix(EVENTS, "both")
    for bench in benches:
        prepared(bench, mixture)
        bench.publish(*mixture.events)

    log = burst.catch_up()
    trickle.catch_up()

    batched = sum('"batch-written"' in line for line in log.splitlines())
    assert batched > EVENTS / 200, "hardly anybody went by a batch"
    assert news(burst) == news(trickle)
    assert letters(burst) == letters(trickle)
    assert state(burst) == state(trickle)
