"""The whole life of a user on the real Keycloak: updated, disabled, enabled, deleted, invited again."""

import json
import uuid
from typing import Any

import pytest
import requests
from bridge_harness import Bench, about, an_event, free_port, wait_until

pytestmark = pytest.mark.integration

_PASSWORD = "correct horse battery"


@pytest.fixture
def bench(module_bench: Bench) -> Bench:
    """The bench of the module."""
    return module_bench


def address(user_id: str) -> str:
    """Return where the mails to a user go that `an_event` made."""
    return f"{user_id}@acme.example"


def told(bench: Bench, user_id: str) -> list[tuple[str, str | None, str | None]]:
    """Return outcome, action and reason of each result about the user, in order."""
    return [
        (one["outcome"], one.get("action"), one.get("reason"))
        for one in bench.results()
        if one.get("userId") == user_id
    ]


def log_in(bench: Bench, user: dict[str, Any]) -> None:
    """Give the user a password and open a session with it."""
    password = {"type": "password", "value": _PASSWORD, "temporary": False}
    bench.admin("PUT", f"/users/{user['id']}/reset-password", json=password)
    secret = uuid.uuid4().hex
    client = {"clientId": f"app-{secret}", "secret": secret, "directAccessGrantsEnabled": True}
    bench.admin("POST", "/clients", json=client)
    answer = requests.post(
        f"{bench.sandbox.keycloak_url}/realms/{bench.realm.name}/protocol/openid-connect/token",
        data={
            "grant_type": "password",
            "client_id": client["clientId"],
            "client_secret": secret,
            "username": user["username"],
            "password": _PASSWORD,
        },
        timeout=30,
    )
    assert answer.status_code == 200, answer.text


def test_a_partial_update_changes_what_is_present_and_null_clears(
    bench: Bench, user_id: str
) -> None:
    """A changed department, a phone number that is gone, and everything else as it was."""
    bench.publish(
        an_event(user_id, phoneNumber="+4930123456", groups=["/staff"], roles=["viewer"]),
        about(user_id, "user.updated", 1, department="Legal", phoneNumber=None),
    )

    bench.catch_up()

    user = bench.user(user_id)
    attributes = user["attributes"]
    assert ["Legal"] == attributes["department"]
    assert "phoneNumber" not in attributes
    assert ["tenant-1"] == attributes["tenantId"]
    assert ("Ada", "Lovelace", address(user_id), True) == (
        user["firstName"],
        user["lastName"],
        user["email"],
        user["enabled"],
    )
    assert {"/staff"} == bench.groups_of(user["id"])
    assert "viewer" in bench.realm_roles_of(user["id"])
    assert 1 == len(bench.mails_to(address(user_id)))
    changed = [one.get("changed") for one in bench.results() if one.get("userId") == user_id]
    assert ["attributes.department", "attributes.phoneNumber"] in [sorted(c or []) for c in changed]


def test_disabled_ends_the_sessions_and_enabled_lets_in_again(bench: Bench, user_id: str) -> None:
    """Logged in, disabled, logged out; the same event again writes nothing; then enabled."""
    bench.publish(an_event(user_id))
    bench.catch_up()
    user = bench.user(user_id)
    log_in(bench, user)
    assert 1 == len(bench.admin("GET", f"/users/{user['id']}/sessions"))

    bench.publish(about(user_id, "user.disabled", 1, reason="left the company"))
    bench.catch_up()

    disabled = bench.user(user_id)
    assert (False, []) == (disabled["enabled"], bench.admin("GET", f"/users/{user['id']}/sessions"))
    written = bench.written()
    bench.publish(about(user_id, "user.disabled", 1, reason="left the company"))
    bench.catch_up()
    assert written == bench.written()
    bench.publish(about(user_id, "user.enabled", 2))
    bench.catch_up()
    assert bench.user(user_id)["enabled"]
    kept = ("username", "email", "firstName", "lastName")
    assert [user[name] for name in kept] == [bench.user(user_id)[name] for name in kept]


def test_an_older_event_changes_nothing(bench: Bench, user_id: str) -> None:
    """Neither the data nor, where a newer event let the user in, its access; a newer update does not keep anybody in."""
    bench.publish(
        an_event(user_id),
        about(user_id, "user.updated", 5, department="Legal"),
        about(user_id, "user.updated", 3, department="Sales"),
        about(user_id, "user.disabled", 2),
    )
    bench.catch_up()
    user = bench.user(user_id)
    assert (["Legal"], False) == (user["attributes"]["department"], user["enabled"])

    bench.publish(about(user_id, "user.enabled", 4), about(user_id, "user.disabled", 3))
    bench.catch_up()
    user = bench.user(user_id)
    assert (["Legal"], True) == (user["attributes"]["department"], user["enabled"])
    assert 2 == told(bench, user_id).count(("skipped", None, "stale"))


def test_a_deleted_user_is_disabled_unless_told_otherwise(bench: Bench, user_id: str) -> None:
    """By default nothing is lost: the user is there, disabled, and logged out."""
    bench.publish(an_event(user_id))
    bench.catch_up()
    log_in(bench, bench.user(user_id))

    bench.publish(about(user_id, "user.deleted", 1))
    bench.catch_up()

    user = bench.user(user_id)
    assert (False, address(user_id)) == (user["enabled"], user["email"])
    assert [] == bench.admin("GET", f"/users/{user['id']}/sessions")


def test_delete_removes_the_user(bench: Bench, user_id: str) -> None:
    """By policy, for good; a second time there is nobody to delete, and no dead letter."""
    bench = bench.but(LIFECYCLE_DELETED="delete")
    bench.publish(an_event(user_id), about(user_id, "user.deleted", 1))
    bench.catch_up()
    bench.publish(about(user_id, "user.deleted", 2))
    bench.catch_up()

    assert [] == bench.admin("GET", f"/users?q=userId:{user_id}")
    assert ("provisioned", "deleted", None) in told(bench, user_id)
    assert ("skipped", None, "unknown-user") in told(bench, user_id)
    assert [] == bench.dead_letter_codes(user_id)


def test_anonymise_keeps_the_account_and_nothing_of_the_person(bench: Bench, user_id: str) -> None:
    """The id stays, so that a replay finds it; name, address and attributes are gone."""
    realm = bench.admin("GET", "")
    deleted = about(user_id, "user.deleted", 1)
    bench.publish(an_event(user_id, phoneNumber="+4930123456"), deleted)
    bench.but(LIFECYCLE_DELETED="anonymise").catch_up()
    half = bench.user(user_id)
    assert (["username-kept"], False) == (bench.dead_letter_codes(user_id), half["enabled"])
    assert {"email", "firstName", "lastName"}.isdisjoint(half)
    bench.admin("PUT", "", json={**realm, "editUsernameAllowed": True})
    try:
        bench.publish(deleted)
        bench.but(LIFECYCLE_DELETED="anonymise").catch_up()
        bench.publish(an_event(user_id))
        bench.catch_up()
    finally:
        bench.admin("PUT", "", json=realm)

    user = bench.user(user_id)
    assert not user["enabled"]
    assert f"anonymous-{user['id']}" == user["username"]
    assert {"email", "firstName", "lastName"}.isdisjoint(user)
    own = {"userId", "bridgeEventId", "bridgeEventTime", "bridgeInvitation"}
    assert user["attributes"].keys() <= own


def test_a_tombstone_deletes_by_policy(bench: Bench, user_id: str) -> None:
    """A record without a value is the deletion of its key's user, where the settings say so; a key may be JSON."""
    bench = bench.but(EVENTS_TOMBSTONES="delete", EVENTS_MATCH_KEY="false")
    other = f"{user_id}-json"
    bench.publish(an_event(user_id), an_event(other))
    bench.catch_up()
    bench.publish_raw((user_id.encode(), None, ()), (f'"{other}"'.encode(), None, ()))

    bench.catch_up()

    assert [False, False] == [bench.user(one)["enabled"] for one in (user_id, other)]


def test_a_changed_address_gets_a_new_invitation_and_the_old_link_is_dead(
    bench: Bench, user_id: str
) -> None:
    """Before the first log-in: the new address is mailed; the username stays; the first link does not work."""
    bench.publish(an_event(user_id))
    bench.catch_up()
    bench.publish(about(user_id, "user.updated", 1, email=f"new-{user_id}@acme.example"))
    bench.catch_up()

    user = bench.user(user_id)
    assert (f"new-{user_id}@acme.example", address(user_id)) == (user["email"], user["username"])
    (first,) = bench.mails_to(address(user_id))
    (second,) = bench.mails_to(f"new-{user_id}@acme.example")
    assert "kc-page-title" in requests.get(second.links[0], timeout=30).text
    assert 400 == requests.get(first.links[0], timeout=30).status_code


def test_a_changed_address_is_verified_where_that_is_the_policy(bench: Bench, user_id: str) -> None:
    """After the first log-in: the address counts as unverified, and a mail asks to verify it."""
    bench.publish(an_event(user_id))
    bench.catch_up()
    user = bench.user(user_id)
    log_in(bench, user)
    bench.admin("PUT", f"/users/{user['id']}", json={**user, "emailVerified": True})

    bench.publish(about(user_id, "user.updated", 1, email=f"new-{user_id}@acme.example"))
    bench.but(LIFECYCLE_EMAIL_CHANGE="verify").catch_up()

    changed = bench.user(user_id)
    assert (f"new-{user_id}@acme.example", False) == (changed["email"], changed["emailVerified"])
    assert 1 == len(bench.mails_to(f"new-{user_id}@acme.example"))


def test_an_invitation_is_sent_again_once(bench: Bench, user_id: str) -> None:
    """Not while the first link is alive, unless told so; and the same request twice mails once."""
    bench.publish(an_event(user_id))
    bench.catch_up()
    bench.publish(about(user_id, "user.invitation.requested", 1))
    bench.catch_up()
    assert 1 == len(bench.mails_to(address(user_id)))
    assert ("skipped", None, "link-still-valid") in told(bench, user_id)

    again = about(user_id, "user.invitation.requested", 2)
    bench.publish(again, again)
    bench.but(LIFECYCLE_RESEND="always").catch_up()

    assert 2 == len(bench.mails_to(address(user_id)))


def test_an_update_of_an_unknown_user_follows_the_policy(bench: Bench, user_id: str) -> None:
    """A dead letter; a user, where the event says everything; or waiting until the user is there."""
    bench.publish(about(f"{user_id}-a", "user.updated", 1, department="Legal"))
    bench.catch_up()
    assert ["unknown-user"] == bench.dead_letter_codes(f"{user_id}-a")

    whole = an_event(f"{user_id}-b")
    updated = {**whole, "type": "user.updated", "data": {**whole["data"], "complete": True}}
    bench.publish(updated)
    bench.but(LIFECYCLE_UNKNOWN_USER="create").catch_up()
    assert f"{user_id}-b@acme.example" == bench.user(f"{user_id}-b")["email"]

    waiting = bench.but(LIFECYCLE_UNKNOWN_USER="wait", HEALTH_PORT=str(free_port()))
    bench.publish(about(f"{user_id}-c", "user.updated", 1, department="Legal"))
    with waiting.running():
        wait_until(lambda: "unknown-user" in waiting.log() or "ready" in waiting.log())
        created = an_event(f"{user_id}-c")
        # by another way than the topic, whose lane waits
        bench.run_command("apply", "--no-invite", "-", stdin=json.dumps(created), check=True)
        wait_until(lambda: ["Legal"] == bench.user(f"{user_id}-c")["attributes"].get("department"))


def test_both_versions_of_user_created_flow(bench: Bench, user_id: str) -> None:
    """Events that name 1.0 and 1.1, and one that names none, side by side."""
    urn = "urn:keycloak-bridge:schema:user.created:"
    events = [
        {**an_event(f"{user_id}-0"), "dataschema": f"{urn}1.0"},
        {**an_event(f"{user_id}-1"), "dataschema": f"{urn}1.1"},
        an_event(f"{user_id}-2"),
    ]
    bench.publish(*events)

    bench.catch_up()

    schemas = {
        one["userId"]: one["schemaId"]
        for one in bench.results()
        if str(one.get("userId")).startswith(user_id) and one["outcome"] == "provisioned"
    }
    assert {
        f"{user_id}-0": f"{urn}1.0",
        f"{user_id}-1": f"{urn}1.1",
        f"{user_id}-2": f"{urn}1.1",
    } == schemas
