"""What no event may do, and what the bridge finds out about Keycloak's own silence, on the real services."""

import json
import uuid
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from bridge_harness import STRUCTURED, Bench, about, an_event, free_port, wait_until

from keycloak_bridge.sandbox import Sandbox
from keycloak_bridge.testing.realm_tools import temporary_realm

pytestmark = pytest.mark.integration

_MAPPING = """
matching = ["attributes.userId", "attributes.tenantId", "username", "email"]
link = "{link}"
protected_groups = ["/staff"]

[user]
username = "lower(data.username || data.email)"
email = "lower(data.email)"
firstName = "data.givenName"
lastName = "data.familyName"

[user.attributes]
userId = "data.userId"
tenantId = "data.tenantId"
department = "data.department"
"""


def mapped(bench: Bench, folder: Path, link: str = "never") -> Bench:
    """Return the bench with a mapping that protects a group and links by `link`."""
    file = folder / f"{link}.toml"
    file.write_text(_MAPPING.format(link=link))
    return bench.but(MAPPING_FILE=str(file))


def decided(bench: Bench) -> set[str]:
    """Return the ids of the events of which the provision stage has told."""
    return {one["eventId"] for one in bench.results() if one["outcome"] != "invited"}


def test_mass_disabling_is_held_and_goes_on_after_a_release(bench: Bench) -> None:
    """Three in an hour are allowed, the fourth stops the flow, says why, and waits for somebody."""
    ids = [f"mass{number}-{bench.suffix}" for number in range(5)]
    bench.publish(*map(an_event, ids))
    bench.catch_up()
    guarded = bench.but(LIMITS_DISABLES="3/1 h", HEALTH_PORT=str(free_port()))
    bench.publish(*(about(one, "user.disabled", 24) for one in ids))

    def disabled() -> int:
        return sum(not user["enabled"] for user in bench.users())

    with guarded.running():
        wait_until(lambda: "brake" in guarded.run_command("guard", "status").stdout)
        assert 3 == disabled()
        assert "disable" in guarded.run_command("guard", "status").stdout
        guarded.run_command("guard", "release", check=True)
        wait_until(lambda: disabled() == 5)

    assert [] == bench.dead_letters()


def test_members_of_a_protected_group_are_out_of_reach(
    module_bench: Bench, user_id: str, tmp_path: Path
) -> None:
    """An administrator's account is not changed, whatever external id it carries."""
    bench = mapped(module_bench, tmp_path)
    bench.publish(an_event(user_id))
    bench.catch_up()
    user = bench.user(user_id)
    group = bench.admin("GET", "/group-by-path/staff")
    bench.admin("PUT", f"/users/{user['id']}/groups/{group['id']}")

    bench.publish(about(user_id, "user.disabled", 24))
    bench.catch_up()

    assert bench.user(user_id)["enabled"]
    assert ["protected-user"] == bench.dead_letter_codes(user_id)


@pytest.mark.parametrize(
    ("link", "verified", "linked"),
    [
        ("never", True, False),
        ("verified-email", False, False),
        ("verified-email", True, True),
        ("matching-attribute", False, False),
    ],
)
def test_an_account_is_taken_on_only_as_the_mapping_allows(
    module_bench: Bench, tmp_path: Path, link: str, verified: bool, linked: bool
) -> None:
    """A stranger with the same address: left alone, or linked where its address was verified."""
    user_id = f"link-{uuid.uuid4().hex[:10]}"
    bench = mapped(module_bench, tmp_path, link)
    stranger = {
        "username": f"stranger-{user_id}",
        "email": f"{user_id}@acme.example",
        "emailVerified": verified,
        "enabled": True,
    }
    bench.admin("POST", "/users", json=stranger)
    # a tenant of its own, so that only the address matches
    bench.publish(an_event(user_id, tenantId=f"tenant-{user_id}"))

    bench.catch_up()

    (user,) = bench.admin("GET", f"/users?email={user_id}@acme.example&briefRepresentation=false")
    owner = user.get("attributes", {}).get("userId")
    assert ([user_id] if linked else None) == owner
    assert ([] if linked else ["conflict"]) == bench.dead_letter_codes(user_id)


def test_a_matching_attribute_links(module_bench: Bench, tmp_path: Path) -> None:
    """Where the mapping says so, an account with the same value of another matching attribute is taken on."""
    user_id = f"attr-{uuid.uuid4().hex[:10]}"
    bench = mapped(module_bench, tmp_path, "matching-attribute")
    tenant = f"tenant-{user_id}"
    known = {
        "username": f"known-{user_id}",
        "enabled": True,
        "attributes": {"tenantId": [tenant]},
    }
    bench.admin("POST", "/users", json=known)

    bench.publish(an_event(user_id, tenantId=tenant))
    bench.catch_up()

    assert f"known-{user_id}" == bench.user(user_id)["username"]


def test_each_of_a_family_that_shares_an_address_gets_an_account(
    sandbox: Sandbox, tmp_path: Path
) -> None:
    """One by one, as a link policy demands, and in batches without one: users of other ids are no candidates."""

    def a_family(name: str, count: int) -> list[dict[str, Any]]:
        ids = [f"{name}-{number}" for number in range(count)]
        email = f"{name}@acme.example"
        return [an_event(one, username=f"user-{one}", email=email, tenantId=one) for one in ids]

    small, large = a_family("small", 3), a_family("large", 60)
    with temporary_realm(sandbox, "manage-realm") as realm:
        bench = Bench.open(sandbox, realm, tmp_path).but(INVITE_MODE="none", LOG_LEVEL="DEBUG")
        bench.admin(
            "PUT", "", json={"loginWithEmailAllowed": False, "duplicateEmailsAllowed": True}
        )

        bench.publish(*small)
        mapped(bench, tmp_path, "verified-email").catch_up()
        bench.publish(*large)
        log = mapped(bench, tmp_path).but(BURST_BACKLOG="10", DELIVERY_WORKERS="2").catch_up()

        assert [] == bench.dead_letters()
        assert {one["subject"] for one in (*small, *large)} == {
            one for user in bench.users() for one in user["attributes"]["userId"]
        }
        assert '"batch-written"' in log


def test_a_bridge_of_another_realm_does_not_join_the_group(
    module_bench: Bench, user_id: str
) -> None:
    """It would take a share of the users away from the first realm; neither stage's group lets it in."""
    module_bench.publish(an_event(user_id))
    module_bench.catch_up()
    before = module_bench.committed()

    answer = module_bench.but(KEYCLOAK_REALM="partners").run_command("run", "--until-caught-up")
    report = module_bench.but(KEYCLOAK_REALM="partners").run_command("doctor").stdout
    known = module_bench.but(KEYCLOAK_KNOWN_AS="http://old.example/realms/acme")

    assert 2 == answer.returncode
    assert "belongs to another realm" in answer.stderr
    assert 2 == report.count("belongs to another realm")
    assert "belongs to another realm" in known.run_command("run", "--until-caught-up").stderr
    assert before == module_bench.committed()
    module_bench.catch_up()


def test_what_keycloak_drops_is_an_error_with_its_name(bench: Bench) -> None:
    """The profile loses an attribute while the bridge runs: nobody is invited into half an account."""
    user_id = f"dropped-{bench.suffix}"
    with bench.running():
        wait_until(lambda: "ready" in bench.log())
        profile = bench.admin("GET", "/users/profile")
        kept = [one for one in profile["attributes"] if one["name"] != "department"]
        bench.admin("PUT", "/users/profile", json={**profile, "attributes": kept})
        bench.publish(an_event(user_id))
        wait_until(lambda: bench.dead_letter_codes(user_id))

    ((_, headers),) = bench.dead_letters()
    assert "dropped-by-keycloak" == headers["kb-dlq-code"]
    assert ["/user/attributes/department"] == [
        one["pointer"] for one in json.loads(headers["kb-dlq-errors"])
    ]
    assert () == bench.mails_to(f"{user_id}@acme.example")


def test_one_user_stays_one_when_its_events_race_on_two_partitions(bench: Bench) -> None:
    """Two bridges, the same external ids under different names, no keys: each id is there once in the end."""
    ids = [f"race{number}-{bench.suffix}" for number in range(40)]
    twins = [
        an_event(
            one,
            event_id=f"{twin}-{one}",
            username=f"{twin}.{one}",
            email=f"{twin}.{one}@acme.example",
        )
        for one in ids
        for twin in ("a", "b")
    ]
    with bench.producer() as sender:
        for at, event in enumerate(twins):
            value = json.dumps(event).encode()
            sender.send(
                bench.topic("events"), value=value, headers=list(STRUCTURED), partition=at % 4
            )
        sender.flush()

    with bench.running(), bench.but(LOG_LEVEL="INFO").running():
        wait_until(lambda: len(decided(bench)) == len(twins), 120)
    bench.catch_up()

    carried = Counter(user["attributes"]["userId"][0] for user in bench.users())
    assert dict.fromkeys(ids, 1) == carried
