"""The external id is the username: found by Keycloak's index, kept unique by it, and compared exactly."""

from pathlib import Path

import pytest
from bridge_harness import Bench, about, an_event

from keycloak_bridge.sandbox import Sandbox
from keycloak_bridge.testing.realm_tools import temporary_realm

pytestmark = pytest.mark.integration

MAPPING = """
matching = ["username"]

[user]
username = "data.userId"
email = "lower(data.email)"
firstName = "data.givenName"
lastName = "data.familyName"
"""


@pytest.mark.parametrize(
    "backlog",
    [
        pytest.param("5", id="in batches"),
        pytest.param("1000", id="one by one", marks=pytest.mark.full),
    ],
)
def test_users_live_by_their_username(sandbox: Sandbox, tmp_path: Path, backlog: str) -> None:
    """Created, changed, disabled and replayed; whose id differs in case alone, or is no username, is a dead letter."""
    (tmp_path / "mapping.toml").write_text(MAPPING, encoding="utf-8")
    people = [an_event(f"U-{number}") for number in range(30)]
    others = [
        an_event("u-3", email="eve@acme.example"),
        an_event("u/7"),
        an_event("xy"),
        about("U-4", "user.updated", 1, familyName="King"),
        about("U-5", "user.disabled", 1),
        about("u-6", "user.disabled", 1),
    ]
    with temporary_realm(sandbox, "manage-realm") as realm:
        bench = Bench.open(sandbox, realm, tmp_path).but(
            INVITE_MODE="none",
            LOG_LEVEL="DEBUG",
            BURST_BACKLOG=backlog,
            DELIVERY_WORKERS="2",  # not all go one by one before it is known who is there
            BRAKE_IN_A_ROW="0",
            MAPPING_FILE=str(tmp_path / "mapping.toml"),
        )
        bench.publish(*people)
        log = bench.catch_up()
        bench.publish(*others)
        bench.catch_up()
        first = {user["username"]: user for user in bench.users()}
        bench.publish(*people)
        bench.catch_up()
        again = {user["username"]: user for user in bench.users()}
        codes = [headers["kb-dlq-code"] for _, headers in bench.dead_letters()]

    assert first == again
    assert {f"u-{number}" for number in range(30)} == set(first)
    assert [f"U-{number}" for number in range(30)] == [
        first[f"u-{number}"]["attributes"]["bridgeUserId"][0] for number in range(30)
    ]
    assert ("King", False, True) == (
        first["u-4"]["lastName"],
        first["u-5"]["enabled"],
        first["u-6"]["enabled"],
    )
    assert ["id-differs-in-case"] * 2 + ["id-refused"] * 2 == sorted(codes)
    assert (backlog == "5") == ('"batch-written"' in log)
