"""One mailbox that cannot be mailed, on the real Keycloak: it ends among the dead letters, and an outage does not."""

import json
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
import requests
from bridge_harness import STRUCTURED, Bench, an_event, free_port, wait_until

from keycloak_bridge.testing.realm_tools import AdminRealmTools, RealmAdministrator

pytestmark = pytest.mark.integration

_UNKNOWN = "550 5.1.1 No such user here"


def hasty(bench: Bench) -> Bench:
    """Return the bench with pauses of 0.2, 0.4 and 0.8 s for a record that fails alone."""
    return bench.but(RETRY_INITIAL="50 ms", RETRY_MAX="200 ms", DELIVERY_MAX_ATTEMPTS="4")


@contextmanager
def refused(bench: Bench, address: str) -> Iterator[None]:
    """Let the SMTP server know no such mailbox meanwhile."""
    bench.sandbox.mail.refusals[address] = _UNKNOWN
    try:
        yield
    finally:
        del bench.sandbox.mail.refusals[address]


def test_a_refused_mailbox_beside_another_one(module_bench: Bench, user_id: str) -> None:
    """Case 29: the other mail shows that the server works, and then none is needed any more."""
    bench = hasty(module_bench)
    nobody, fine = f"nobody-{user_id}@acme.example", f"fine-{user_id}@acme.example"
    bench.publish(an_event(user_id, email=nobody), an_event(f"{user_id}-2", email=fine))

    with refused(bench, nobody):
        bench.catch_up()

    assert 1 == len(bench.mails_to(fine))
    assert ["given-up"] == invitation_codes(bench, user_id)


def test_nothing_but_a_refused_mailbox(module_bench: Bench, user_id: str) -> None:
    """The shipped account sees that the server greets: bounded, said, and the run ends."""
    bench = hasty(module_bench)
    nobody = f"{user_id}@acme.example"
    bench.publish(an_event(user_id))

    with refused(bench, nobody):
        log = bench.catch_up()

    lines = [json.loads(line) for line in log.splitlines() if line.startswith("{")]
    said = [one["action"] for one in lines if one.get("reason") == "mail-not-sent"]
    assert ["waiting", "retrying", "retrying", "retrying"] == sorted(said, reverse=True)
    assert ["given-up"] == invitation_codes(bench, user_id)


@pytest.mark.full
def test_without_the_role_view_realm_a_run_with_an_end_gives_nothing_up(
    module_bench: Bench, user_id: str
) -> None:
    """Nothing tells the refusal from an outage: it ends, says so, and the next run with the role gives up."""
    tools = AdminRealmTools(RealmAdministrator.of(module_bench.sandbox), module_bench.realm.name)
    client = module_bench.realm.client_id
    bench = hasty(module_bench)
    bench.publish(an_event(user_id))

    with refused(bench, f"{user_id}@acme.example"):
        tools.take_away(client, "view-realm")
        try:
            ended = bench.run_command("run", "--until-caught-up")
            lost = invitation_codes(bench, user_id)
        finally:
            tools.grant(client, "view-realm")
        bench.catch_up()

    assert (3, []) == (ended.returncode, lost)
    assert "only mails that cannot be sent are left to do (1)" in ended.stderr
    assert "role view-realm" in ended.stderr
    assert ["given-up"] == invitation_codes(bench, user_id)


def test_an_outage_waits_with_one_mail_only(module_bench: Bench, user_id: str) -> None:
    """However many attempts fail: nothing greets. A run with an end waits as well."""
    port = free_port()
    bench = hasty(module_bench).but(HEALTH_PORT=str(port))
    server = module_bench.sandbox.mail
    server.stop()
    try:
        bench.publish(an_event(user_id))
        with bench.running("--until-caught-up") as process:
            wait_until(lambda: failures(port) >= 10)
            assert (None, []) == (process.poll(), invitation_codes(bench, user_id))
            server.start()
            assert 0 == process.wait(timeout=60)
        assert 1 == len(bench.mails_to(f"{user_id}@acme.example"))
    finally:
        server.stop()
        server.start()


def failures(port: int) -> float:
    """Return how often the bridge at this port tried a mail again."""
    try:
        text = requests.get(f"http://127.0.0.1:{port}/metrics", timeout=5).text
    except requests.RequestException:
        return 0
    lines = [
        line
        for line in text.splitlines()
        if line.startswith("keycloak_bridge_retries_total{") and "mail-not-sent" in line
    ]
    return sum(float(line.rpartition(" ")[2]) for line in lines)


def test_an_address_that_keycloak_calls_invalid(module_bench: Bench, user_id: str) -> None:
    """At once: it never becomes valid by itself, and the mail stays due. Keycloak's import lets such an address in."""
    bench = module_bench
    attributes = {"userId": [user_id], "bridgeInvitation": ["due:event-1"]}
    user = {"username": user_id, "email": f".{user_id}@acme.example", "enabled": True}
    body = {"ifResourceExists": "FAIL", "users": [{**user, "attributes": attributes}]}
    imported = bench.admin("POST", "/partialImport", json=body)
    ask_for_mail(bench, user_id, imported["results"][0]["id"])
    bench.catch_up()

    assert ["invalid-address"] == invitation_codes(bench, user_id)
    assert ["due:event-1"] == bench.user(user_id)["attributes"]["bridgeInvitation"]


def test_a_forged_invitation_mails_nobody(module_bench: Bench, user_id: str) -> None:
    """A link of ten years for an administrator, on the terms of whoever wrote the record."""
    bench = module_bench
    address = f"root-{user_id}@acme.example"
    body = {"username": f"root-{user_id}", "email": address, "enabled": True}
    bench.admin("POST", "/users", json=body)
    (administrator,) = bench.admin("GET", "/users", params={"email": address})
    ask_for_mail(bench, user_id, administrator["id"])
    bench.catch_up()

    assert ["foreign-user"] == invitation_codes(bench, user_id)
    assert () == bench.mails_to(address)


def ask_for_mail(bench: Bench, user_id: str, keycloak_id: str) -> None:
    """Write an invitation as another client would, who wants a lot."""
    data = {
        "eventId": "event-1",
        "userId": user_id,
        "keycloakId": keycloak_id,
        "actions": ["UPDATE_PASSWORD", "CONFIGURE_TOTP", "delete_account"],
        "lifespan": 315_360_000,
    }
    forged = {**an_event(user_id), "type": "user.invitation.due", "data": data}
    forged["dataschema"] = "urn:keycloak-bridge:schema:user.invitation.due:1.0"
    with bench.producer() as producer:
        producer.send(
            bench.topic("invitations"),
            key=user_id.encode(),
            value=json.dumps(forged).encode(),
            headers=list(STRUCTURED),
        ).get(timeout=30)


def invitation_codes(bench: Bench, user_id: str) -> list[str]:
    """Return the codes of the dead letters of the user's invitations."""
    return [
        headers["kb-dlq-code"]
        for record, headers in bench.dead_letters()
        if headers["kb-dlq-stage"] == "invite" and json.loads(record.value)["subject"] == user_id
    ]
