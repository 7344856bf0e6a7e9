import json
import signal
from pathlib import Path
from typing import Any

import pytest
from bridge_harness import STRUCTURED, Bench, an_event, plain_mark, wait_until

from keycloak_bridge.domain.events import event_id_in

pytestmark = pytest.mark.integration

EVENTS = Path(__file__).parents[1] / "events" / "user-created-2000.ndjson"


def test_an_event_becomes_a_user_with_a_mail(bench: Bench) -> None:
    """Every mapped field can be read back, the mail is out, and user management hears of both."""
    user_id = f"zoe-{bench.suffix}"
    bench.publish(
        an_event(
            user_id,
            email=f"{user_id.upper()}@acme.example",
            givenName="Zoë",
            familyName="山田",
            username=f"zoe.{bench.suffix}",
            locale="fr",
            phoneNumber="+4930123456",
            roles=["viewer", "auditor"],
            groups=["/staff"],
        )
    )

    bench.catch_up()

    user = bench.user(user_id)
    assert {
        "username": f"zoe.{bench.suffix}",
        "email": f"{user_id}@acme.example",
        "firstName": "Zoë",
        "lastName": "山田",
        "enabled": True,
        "emailVerified": False,
    } == {
        name: user[name]
        for name in ("username", "email", "firstName", "lastName", "enabled", "emailVerified")
    }
    assert {
        "userId": [user_id],
        "tenantId": ["tenant-1"],
        "department": ["R&D"],
        "phoneNumber": ["+4930123456"],
        "locale": ["fr"],
        "bridgeEventId": [f"event-{user_id}"],
        "bridgeEventTime": ["2026-11-01T08:00:00.000000Z"],
        "bridgeInvitation": [f"sent:event-{user_id}"],
    } == {
        **user["attributes"],
        "bridgeEventId": [event_id_in(*user["attributes"]["bridgeEventId"])],
        "bridgeInvitation": [plain_mark(*user["attributes"]["bridgeInvitation"])],
    }
    assert {"/staff"} == bench.groups_of(user["id"])
    assert {"viewer", "auditor"} <= bench.realm_roles_of(user["id"])
    assert 1 == len(bench.mails_to(f"{user_id}@acme.example"))
    assert [("provisioned", "created"), ("invited", None)] == sorted(
        ((r["outcome"], r.get("action")) for r in bench.results()), reverse=True
    )


def test_redelivery_changes_nothing_and_mails_nothing(bench: Bench) -> None:
    """The same event twice in one run, and again in a later one: one user, one mail, no write."""
    user_id = f"ada-{bench.suffix}"
    event = an_event(user_id, roles=["viewer"], groups=["/staff"])
    bench.publish(event, event)
    bench.catch_up()
    before = bench.user(user_id)

    bench.publish(event)
    bench.catch_up()

    assert before == bench.user(user_id)
    assert 1 == len(bench.users())
    assert 1 == len(bench.mails_to(f"{user_id}@acme.example"))
    assert ["created", "unchanged", "unchanged"] == sorted(
        r["action"] for r in bench.results() if r["outcome"] == "provisioned"
    )


def test_an_update_keeps_what_the_mapping_does_not_own(bench: Bench) -> None:
    """A newer event writes its own fields; e-mail verification and required actions stay as they are."""
    user_id = f"eve-{bench.suffix}"
    bench.publish(an_event(user_id, phoneNumber="+4930123456"))
    bench.catch_up()
    stored = bench.user(user_id)
    bench.admin(
        "PUT",
        f"/users/{stored['id']}",
        json={**stored, "emailVerified": True, "requiredActions": ["CONFIGURE_TOTP"]},
    )

    newer = an_event(user_id, event_id=f"newer-{user_id}", department="Legal")
    bench.publish({**newer, "time": "2026-11-02T08:00:00Z"})
    bench.catch_up()

    user = bench.user(user_id)
    assert ["Legal"] == user["attributes"]["department"]
    assert ["+4930123456"] == user["attributes"]["phoneNumber"]
    assert (True, ["CONFIGURE_TOTP"], f"{user_id}@acme.example", "Ada") == (
        user["emailVerified"],
        user["requiredActions"],
        user["email"],
        user["firstName"],
    )


def test_an_account_of_somebody_else_is_left_alone(bench: Bench) -> None:
    """An e-mail that belongs to another user ends as a dead letter `conflict`, and the stream goes on."""
    user_id = f"mallory-{bench.suffix}"
    bench.admin(
        "POST",
        "/users",
        json={"username": "owner", "email": f"{user_id}@acme.example", "enabled": True},
    )
    bench.publish(an_event(user_id), an_event(f"next-{bench.suffix}"))

    bench.catch_up()

    ((_, headers),) = bench.dead_letters()
    assert "conflict" == headers["kb-dlq-code"]
    assert {"owner", f"next-{bench.suffix}@acme.example"} == {u["username"] for u in bench.users()}


def test_sigterm_drains_and_exits_zero(bench: Bench) -> None:
    """A running sidecar takes events as they come and leaves in order when asked to."""
    user_id = f"live-{bench.suffix}"
    with bench.running() as process:
        wait_until(lambda: "ready" in bench.log())
        bench.publish(an_event(user_id))
        wait_until(lambda: bench.mails_to(f"{user_id}@acme.example"))
        process.send_signal(signal.SIGTERM)
        assert 0 == process.wait(timeout=120)
    assert [f"{user_id}@acme.example"] == [user["email"] for user in bench.users()]


@pytest.mark.parametrize("count", [300, pytest.param(2000, marks=pytest.mark.full)])
def test_events_arrive_as_they_were_published(bench: Bench, count: int) -> None:
    """Names from 25 languages, field by field what Keycloak stored, each with its mail request done once."""
    lines = EVENTS.read_text(encoding="utf-8").splitlines()[:count]
    events = [json.loads(line) for line in lines]
    earlier = len(bench.sandbox.mail.messages)
    bench.publish(*events)

    bench.catch_up()

    users = bench.users_with_memberships()
    stored = {user["attributes"]["userId"][0]: user for user in users}
    assert count == len(stored) == len(users)
    assert {event["subject"]: expected(event["data"]) for event in events} == {
        user_id: seen(user) for user_id, user in stored.items()
    }
    assert [] == bench.dead_letters()
    mails = [m.recipients[0] for m in bench.sandbox.mail.messages[earlier:]]
    addresses = {event["data"]["email"].lower() for event in events}
    assert sorted(addresses) == sorted(mail for mail in mails if mail in addresses)


def expected(data: dict[str, Any]) -> dict[str, Any]:
    """Return what Keycloak shall hold for the data of one event."""
    attributes = ("userId", "tenantId", "department", "phoneNumber", "locale")
    return {
        "username": (data.get("username") or data["email"]).lower(),
        "email": data["email"].lower(),
        "firstName": data["givenName"],
        "lastName": data["familyName"],
        "enabled": data["active"],
        **{name: [data[name]] for name in attributes if name in data},
        "groups": set(data["groups"]),
        "roles": {"default", *data["roles"]},
    }


def seen(user: dict[str, Any]) -> dict[str, Any]:
    """Return the stored user in the shape of `expected`, without the bridge's bookkeeping."""
    fields = ("username", "email", "firstName", "lastName", "enabled", "groups", "roles")
    attributes = {k: v for k, v in user["attributes"].items() if not k.startswith("bridge")}
    return {**{name: user.get(name) for name in fields}, **attributes}


def test_keys_may_be_missing_but_must_not_lie(bench: Bench) -> None:
    """A null key is fine; a key that names another user than the subject ends as a dead letter."""
    good, bad = an_event(f"nokey-{bench.suffix}"), an_event(f"liar-{bench.suffix}")
    bench.publish_raw(
        (None, json.dumps(good).encode(), STRUCTURED),
        (b"somebody-else", json.dumps(bad).encode(), STRUCTURED),
    )

    bench.catch_up()

    assert [f"nokey-{bench.suffix}@acme.example"] == [user["email"] for user in bench.users()]
    assert ["key-mismatch"] == [headers["kb-dlq-code"] for _, headers in bench.dead_letters()]
