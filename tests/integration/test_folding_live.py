"""Random lives on the real services: event by event through the bridge, and at once, come to the same realm."""

import random
import uuid
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from bridge_harness import Bench, an_event

from keycloak_bridge.sandbox import Sandbox
from keycloak_bridge.testing.realm_tools import temporary_realm

pytestmark = pytest.mark.integration

LIVES = 30
SEED = 20261123
_START = datetime(2026, 11, 1, 8, tzinfo=UTC)
_COMPARED = ("username", "email", "firstName", "lastName", "enabled", "requiredActions")


@pytest.fixture(scope="module")
def benches(
    sandbox: Sandbox, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[Bench, Bench]]:
    """Two realms; the second reads the topics of the first."""
    suffix = uuid.uuid4().hex[:8]
    with (
        temporary_realm(sandbox) as one,
        temporary_realm(sandbox) as other,
    ):
        yield (
            Bench.open(sandbox, one, tmp_path_factory.mktemp("by-one"), suffix),
            Bench.open(sandbox, other, tmp_path_factory.mktemp("at-once"), suffix),
        )


def life(dice: random.Random, user_id: str) -> list[dict[str, Any]]:
    """Return a creation and up to seven later events of one user, now and then one that comes late."""
    created = an_event(user_id, phoneNumber="+4930123456", roles=["viewer"], groups=["/staff"])
    events = [created]
    for hour in range(1, dice.randint(1, 8)):
        kind, data = dice.choice(LATER)(dice, user_id)
        # no two at the same moment: of those the later one counts, again and again
        time = _START + timedelta(hours=dice.choice((hour, hour, hour, hour - 1.5)))
        event = {**created, "type": kind, "id": f"{user_id}-{hour}", "time": time.isoformat()}
        events.append({**event, "data": {"userId": user_id, **data}})
    return events


def partial(dice: random.Random, user_id: str) -> tuple[str, dict[str, Any]]:
    """Return an update of some properties, some of them taken away."""
    said = {
        "department": dice.choice(("Legal", "Sales", None)),
        "phoneNumber": dice.choice(("+4930654321", None)),
        "givenName": dice.choice(("Ada", "Zoë")),
        "email": f"{dice.choice('xyz')}-{user_id}@acme.example",
        "groups": dice.choice((["/customers"], ["/staff"])),
        "roles": ["editor"],
    }
    return "user.updated", dict(dice.sample(sorted(said.items()), dice.randint(1, 3)))


def complete(dice: random.Random, user_id: str) -> tuple[str, dict[str, Any]]:
    """Return an update that says everything."""
    whole = an_event(user_id, department=dice.choice(("Legal", "R&D")))["data"]
    return "user.updated", {**whole, "complete": True}


def naming(dice: random.Random, user_id: str) -> tuple[str, dict[str, Any]]:
    """Return an event that only names its user."""
    kinds = ("user.disabled", "user.enabled", "user.deleted", "user.invitation.requested")
    return dice.choice(kinds), {}


LATER = (partial, partial, complete, naming)


def state(bench: Bench) -> dict[str, Any]:
    """Return what the realm holds of every user, without ids and the bridge's own notes."""
    return {
        user["attributes"]["userId"][0]: {
            **{name: user.get(name) for name in _COMPARED},
            **{k: v for k, v in user["attributes"].items() if not k.startswith("bridge")},
            "groups": user["groups"],
            "roles": user["roles"],
        }
        for user in bench.users_with_memberships()
    }


def test_one_by_one_is_as_at_once_and_again_is_nothing(benches: tuple[Bench, Bench]) -> None:
    """30 lives through both; then the log over both realms is nothing to do, and its replay writes nothing."""
    by_one, at_once = benches
    dice = random.Random(SEED)  # noqa: S311 # no secret
    lives = [life(dice, f"fold{number}-{by_one.suffix}") for number in range(LIVES)]
    mixed: list[dict[str, Any]] = []
    while any(lives):
        mixed.append(dice.choice([one for one in lives if one]).pop(0))
    by_one.publish(*mixed)

    by_one.catch_up()
    at_once.run_command("reconcile", "--from-topic", "--apply", check=True)

    assert [] == [(headers["kb-dlq-code"], headers) for _, headers in by_one.dead_letters()]
    assert LIVES == len(state(by_one))
    assert state(by_one) == state(at_once)
    for bench in benches:
        planned = bench.run_command("plan", "--from-topic", "--exit-code", "--summary-only")
        assert 0 == planned.returncode, planned.stdout
    users, written = by_one.users(), by_one.written()
    by_one.but(KAFKA_GROUP_ID=f"again-{by_one.suffix}").catch_up()
    assert users == by_one.users()
    assert written == by_one.written()
