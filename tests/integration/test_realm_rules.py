"""The realm decides which usernames and addresses are fine, for batches as for single users."""

from pathlib import Path

import pytest
from bridge_harness import Bench, an_event

from keycloak_bridge.sandbox import Sandbox
from keycloak_bridge.testing.realm_tools import (
    AdminRealmTools,
    RealmAdministrator,
    temporary_realm,
)

pytestmark = pytest.mark.integration

USERNAMES = ("jd", "DOM\\jdoe", "maria lopez", "josé#1", "plain")
LOCAL_PARTS = ("o'donnell", "a&b", "foo%bar", "plus+tag", "u5", "a/b#c!")


@pytest.mark.parametrize("rules", ["no-validators", "email-as-username"])
def test_users_of_a_realm_with_other_rules_are_created(
    sandbox: Sandbox, tmp_path: Path, rules: str
) -> None:
    """Also in batches; what this realm still refuses is refused in a backlog too, although an import checks nothing."""
    events = [an_event(f"usual-{number}") for number in range(30)]
    if rules == "no-validators":
        wanted = {name.lower() for name in USERNAMES}
        events += [an_event(f"u-{at}", username=name) for at, name in enumerate(USERNAMES)]
    else:
        addresses = [f"{local}@acme.example" for local in LOCAL_PARTS]
        wanted = set(addresses)
        events += [an_event(f"u-{at}", email=one) for at, one in enumerate(addresses)]
        events.append(an_event("other", username="other", email="other@acme.example"))
        wanted.add("other@acme.example")
    events.insert(20, an_event("refused", givenName="<Ada>"))
    with temporary_realm(sandbox, "manage-realm") as realm:
        tools = AdminRealmTools(RealmAdministrator.of(sandbox), realm.name)
        relaxed = (
            tools.usernames_unchecked()
            if rules == "no-validators"
            else tools.addresses_are_usernames()
        )
        bench = Bench.open(sandbox, realm, tmp_path).but(
            INVITE_MODE="none",
            LOG_LEVEL="DEBUG",
            BURST_BACKLOG="5",
            DELIVERY_WORKERS="2",  # not all go one by one before it is known who is there
            BRAKE_IN_A_ROW="0",
        )
        with relaxed:
            bench.publish(*events)
            log = bench.catch_up()
        usernames = {user["username"] for user in bench.users()}
        letters = [headers for _, headers in bench.dead_letters()]

    assert '"batch-written"' in log
    assert wanted <= usernames
    assert [("keycloak-rejected", "keycloak")] == [
        (headers["kb-dlq-code"], headers["kb-dlq-stage"]) for headers in letters
    ]
    assert "/user/firstName" in letters[0]["kb-dlq-action"]
