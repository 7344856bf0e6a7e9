"""What became of the invited, with a real Kafka and a real Keycloak: activated, and expired."""

import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from bridge_harness import Bench, an_event, wait_until
from ship.mailed_link import set_password_by

from keycloak_bridge.keycloak.activations import KeycloakActivations
from keycloak_bridge.ops.clock import SystemClock
from keycloak_bridge.testing.realm_tools import bridge_admin

pytestmark = pytest.mark.integration


def told(bench: Bench, outcome: str) -> list[dict[str, Any]]:
    """Return the CloudEvents of all results with this outcome; one that was published twice has the same id."""
    events = [json.loads(record.value) for record in bench.read("results")]
    found = {event["id"]: event for event in events if event["data"]["outcome"] == outcome}
    return list(found.values())


def link_to(bench: Bench, user_id: str) -> str:
    """Return the link in the only mail to the user."""
    (mail,) = bench.mails_to(f"{user_id}@acme.example")
    (link,) = [link for link in mail.links if "action-token" in link]
    return link


def test_a_password_is_noticed_by_events_and_without_them(bench: Bench) -> None:
    """Two of three people set a password: one is found by Keycloak's events, one after a restart while there are none."""
    people = [f"{name}-{bench.suffix}" for name in ("ada", "bob", "cyd")]
    bench.publish(*map(an_event, people))
    bench.catch_up()
    began = datetime.now(UTC) - timedelta(seconds=1)
    quick = bench.but(ACTIVATION_INTERVAL="1 s")
    with quick.running():
        set_password_by(link_to(bench, people[0]))
        wait_until(lambda: told(bench, "activated"))
    ada = bench.user(people[0])
    with bridge_admin(bench.sandbox, bench.realm) as admin:
        activations = KeycloakActivations(admin, SystemClock())
        changes = activations.changes_since(began)
        at = activations.activated_at(ada["id"])
        none_at = activations.activated_at(bench.user(people[1])["id"])
    bench.admin("PUT", "/events/config", json={"eventsEnabled": False})
    set_password_by(link_to(bench, people[1]))
    with quick.running():
        wait_until(lambda: len(told(bench, "activated")) == 2)

    assert changes is not None
    assert changes.complete
    assert {one.user_id for one in changes.changes} == {ada["id"]}
    assert len({one.id for one in changes.changes}) == 2, "Keycloak records one password twice"
    assert at is not None
    assert none_at is None
    first, second = sorted(told(bench, "activated"), key=lambda event: event["time"])
    assert [first["subject"], second["subject"]] == people[:2]
    assert first["id"] == f"{ada['id']}/{first['time']}/activated"
    assert datetime.fromisoformat(first["time"]) == at
    assert ada["emailVerified"]
    assert told(bench, "invitation-expired") == []


@pytest.mark.full
def test_a_link_that_ends_unused_is_mailed_again(bench: Bench) -> None:
    """`invitation-expired`, then another mail with a link of its own, and no third one."""
    user_id = f"eve-{bench.suffix}"
    address = f"{user_id}@acme.example"
    bench.publish(an_event(user_id))
    quick = bench.but(
        INVITE_LIFESPAN="2 s",
        INVITE_RESEND_EXPIRED="1",
        ACTIVATION_GRACE="1 s",
        ACTIVATION_INTERVAL="1 s",
    )
    with quick.running():
        wait_until(lambda: len(bench.mails_to(address)) == 2)
        wait_until(lambda: len(told(bench, "invitation-expired")) == 2)

    first, second = told(bench, "invitation-expired")
    outcomes = [one["outcome"] for one in bench.results() if one.get("userId") == user_id]
    assert ["provisioned", "invited"] == outcomes[:2]
    assert sorted(outcomes[2:]) == ["invitation-expired", "invitation-expired", "invited"]
    assert {first["data"]["eventId"], second["data"]["eventId"]} == {f"event-{user_id}"}
    links = [link for mail in bench.mails_to(address) for link in mail.links if "action" in link]
    assert len(set(links)) == len(bench.mails_to(address)) == 2
