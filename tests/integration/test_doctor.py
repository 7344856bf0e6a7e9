"""`doctor` tells a healthy bridge from a sick one, by real services."""

import json
import uuid
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from bridge_harness import Bench

from keycloak_bridge.sandbox import Sandbox
from keycloak_bridge.testing.fresh_realms import FreshRealm, temporary_realm

pytestmark = pytest.mark.integration

WELL = {
    "settings": {"green"},
    "schemas": {"green"},
    "envelope": {"green"},
    "mapping": {"green"},
    "kafka.connection": {"green"},
    "kafka.version": {"green"},
    "kafka.topics": {"green"},
    "kafka.retention": {"green"},
    "kafka.acls": {"green"},
    "kafka.groups": {"green"},
    "keycloak.connection": {"green"},
    # the sandbox is on this machine, and its links lead there
    "keycloak.links": {"yellow"},
    "keycloak.token": {"green"},
    "keycloak.clock": {"green"},
    # neither is open to the service account
    "keycloak.version": {"gray"},
    "keycloak.mail-server": {"gray"},
    "keycloak.roles": {"green", "gray"},
    "keycloak.profile": {"green"},
    "keycloak.languages": {"green"},
    "keycloak.admin-events": {"green"},
}


@pytest.fixture(scope="module")
def realm(sandbox: Sandbox) -> Iterator[FreshRealm]:
    """One realm for all of this module."""
    with temporary_realm(sandbox) as fresh:
        yield fresh


@pytest.fixture(scope="module")
def ready_bench(
    sandbox: Sandbox, realm: FreshRealm, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Bench]:
    """A bench on which everything is right, for tests that spoil one thing."""
    folder = tmp_path_factory.mktemp("doctor")
    with Bench.open(sandbox, realm, uuid.uuid4().hex[:8], folder) as bench:
        yield bench


@pytest.fixture
def bench(ready_bench: Bench, tmp_path: Path) -> Bench:
    """The ready bench with a folder of its own."""
    return replace(ready_bench, folder=tmp_path)


def examined(bench: Bench, *arguments: str) -> tuple[int, list[dict[str, Any]]]:
    """Return the exit code and what doctor found; no secret may stand in it."""
    done = bench.run_command("doctor", "--format", "json", *arguments)
    assert bench.realm.client_secret not in done.stdout + done.stderr
    findings: list[dict[str, Any]] = json.loads(done.stdout)["findings"]
    return done.returncode, findings


def lights(findings: list[dict[str, Any]]) -> dict[str, set[str]]:
    """Return every light of each probe."""
    found: dict[str, set[str]] = {}
    for one in findings:
        found.setdefault(one["probe"], set()).add(one["light"])
    return found


def test_the_shipped_realm_is_well(bench: Bench) -> None:
    """Nothing is red, every probe looked, and the text says the same."""
    code, findings = examined(bench)
    text = bench.run_command("doctor")

    assert WELL == lights(findings)
    assert (0, 0) == (code, text.returncode)
    assert f"realm {bench.realm.name}" in text.stdout
    assert ", 0 red, " in text.stdout


def change_profile(change: Callable[[dict[str, Any]], None]) -> Callable[[Bench], Bench]:
    """Return how to spoil the user profile."""

    def spoil(bench: Bench) -> Bench:
        profile = bench.admin("GET", "/users/profile")
        change(profile)
        bench.admin("PUT", "/users/profile", json=profile)
        return bench

    return spoil


def drop(profile: dict[str, Any]) -> None:
    """Take the tenant out."""
    profile["attributes"] = [a for a in profile["attributes"] if a["name"] != "tenantId"]


def shorten(profile: dict[str, Any]) -> None:
    """Allow less than the schema does."""
    next(a for a in profile["attributes"] if a["name"] == "department")["validations"] = {
        "length": {"max": 20}
    }


def demand(profile: dict[str, Any]) -> None:
    """Require what the mapping does not write."""
    permissions = {"edit": ["admin"], "view": ["admin"]}
    profile["attributes"].append(
        {"name": "costCentre", "permissions": permissions, "required": {"roles": ["admin"]}}
    )


def lose_view_events(bench: Bench) -> Bench:
    """Switch admin events off."""
    bench.admin("PUT", "", json={"adminEventsEnabled": False})
    return bench


@pytest.mark.parametrize(
    ("spoil", "probe", "light", "told"),
    [
        (change_profile(drop), "keycloak.profile", "red", "tenantId"),
        (change_profile(shorten), "keycloak.profile", "yellow", "department"),
        (change_profile(demand), "keycloak.profile", "red", "costCentre"),
        (lose_view_events, "keycloak.admin-events", "yellow", "admin events"),
        (
            lambda bench: bench.but(TOPICS_RESULTS="nobody-made-it"),
            "kafka.topics",
            "red",
            "nobody-made-it",
        ),
        (
            lambda bench: bench.but(KEYCLOAK_CLIENT_SECRET="wrong-secret"),
            "keycloak.token",
            "red",
            "client credentials",
        ),
        (
            lambda bench: bench.but(KEYCLOAK_REALM="nowhere"),
            "keycloak.connection",
            "red",
            "realm",
        ),
        (
            lambda bench: bench.but(KAFKA_BOOTSTRAP_SERVERS="127.0.0.1:1"),
            "kafka.connection",
            "red",
            "Kafka",
        ),
        (
            lambda bench: bench.but(MAPPING_FILE="missing.toml"),
            "settings",
            "red",
            "missing.toml",
        ),
    ],
)
def test_what_is_wrong_is_found(
    sandbox: Sandbox,
    bench: Bench,
    spoil: Callable[[Bench], Bench],
    probe: str,
    light: str,
    told: str,
) -> None:
    """The one probe tells it with a remedy, and the exit code is 1 for red only; the rest is still looked at."""
    with temporary_realm(sandbox) as own:
        spoilt = spoil(replace(bench, realm=own))
        code, findings = examined(spoilt)
    wrong = [one for one in findings if one["probe"] == probe and one["light"] == light]

    assert (1 if light == "red" else 0) == code
    assert any(told in one["message"] and one["remedy"] for one in wrong), findings
    assert "wrong-secret" not in json.dumps(findings)
    assert {"red"} & set(lights(findings)[probe]) == ({"red"} if light == "red" else set())
    assert set(WELL) == set(lights(findings))


def test_a_test_mail_goes_out_and_leaves_nothing(bench: Bench) -> None:
    """Keycloak mails the address, and the user that it took is gone."""
    address = f"doctor-{uuid.uuid4().hex[:8]}@acme.example"
    code, findings = examined(bench, "--send-test-mail", address)

    assert (0, {"green"}) == (code, lights(findings)["keycloak.test-mail"])
    assert 1 == len(bench.mails_to(address))
    assert [] == [user for user in bench.users() if user.get("email") == address]
    assert address not in json.dumps(findings)
