"""`doctor` tells a healthy bridge from a sick one, by real services."""

import copy
import json
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from bridge_harness import Bench

from keycloak_bridge.testing.realm_tools import AdminRealmTools, RealmAdministrator

pytestmark = pytest.mark.integration

WELL = {
    "settings": {"green"},
    "schemas": {"green"},
    "envelope": {"green"},
    "mapping": {"green"},
    # the client's secret comes from the environment
    "secrets": {"yellow"},
    "encryption": {"green"},
    "guards": {"green"},
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
    # only administrators of the server see it
    "keycloak.version": {"gray"},
    "keycloak.federation": {"green"},
    "keycloak.mail-server": {"green"},
    "keycloak.passwords": {"green"},
    "keycloak.roles": {"green", "gray"},
    "keycloak.profile": {"green"},
    "keycloak.languages": {"green"},
    "keycloak.admin-events": {"green"},
    "keycloak.user-events": {"green"},
    "keycloak.lookups": {"measured"},
}


@pytest.fixture
def bench(module_bench: Bench, tmp_path: Path) -> Bench:
    """The ready bench with a folder of its own."""
    return replace(module_bench, folder=tmp_path)


def examined(bench: Bench, *arguments: str) -> tuple[int, list[dict[str, Any]]]:
    """Return the exit code and what doctor found; no secret may stand in it."""
    done = bench.run_command("doctor", "--format", "json", *arguments)
    assert bench.realm.client_secret not in done.stdout + done.stderr
    findings: list[dict[str, Any]] = json.loads(done.stdout)["findings"]
    assert done.returncode == any(one["light"] == "red" for one in findings)
    for one in findings:
        # how quick the machine is shows in this light, and no test depends on it
        if one["probe"] == "keycloak.lookups" and one["light"] != "gray":
            one["light"] = "measured"
    return int(any(one["light"] == "red" for one in findings)), findings


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
    assert 0 == code
    assert f"realm {bench.realm.name}" in text.stdout
    assert f", {text.returncode} red, " in text.stdout  # at most that of the slow search


def test_without_the_role_view_realm(bench: Bench) -> None:
    """Three lights are gray and name the role; nothing else changes."""
    tools = AdminRealmTools(RealmAdministrator.of(bench.sandbox), bench.realm.name)
    tools.take_away(bench.realm.client_id, "view-realm")
    try:
        code, findings = examined(bench)
    finally:
        tools.grant(bench.realm.client_id, "view-realm")
    unknown = {one["probe"] for one in findings if "view-realm" in one["message"]}

    assert {"keycloak.federation", "keycloak.mail-server", "keycloak.passwords"} == unknown
    assert WELL | {probe: {"gray"} for probe in unknown} == lights(findings)
    assert 0 == code


Fault = dict[str, str] | Callable[[dict[str, Any], dict[str, Any]], None]


@contextmanager
def spoilt(bench: Bench, fault: Fault) -> Iterator[Bench]:
    """Spoil the settings, the realm's user profile or the realm meanwhile."""
    if isinstance(fault, dict):
        yield bench.but(**fault)
        return
    profile = bench.admin("GET", "/users/profile")
    realm = {"adminEventsEnabled": True}
    changed = copy.deepcopy((profile, realm))
    fault(*changed)
    bench.admin("PUT", "/users/profile", json=changed[0])
    bench.admin("PUT", "", json=changed[1])
    try:
        yield bench
    finally:
        bench.admin("PUT", "/users/profile", json=profile)
        bench.admin("PUT", "", json=realm)


def drop(profile: dict[str, Any], _: object) -> None:
    """Take the tenant out."""
    profile["attributes"] = [a for a in profile["attributes"] if a["name"] != "tenantId"]


def shorten(profile: dict[str, Any], _: object) -> None:
    """Allow less than the schema does."""
    next(a for a in profile["attributes"] if a["name"] == "department")["validations"] = {
        "length": {"max": 20}
    }


def demand(profile: dict[str, Any], _: object) -> None:
    """Require what the mapping does not write."""
    permissions = {"edit": ["admin"], "view": ["admin"]}
    profile["attributes"].append(
        {"name": "costCentre", "permissions": permissions, "required": {"roles": ["admin"]}}
    )


def lose_admin_events(_: object, realm: dict[str, Any]) -> None:
    """Switch admin events off."""
    realm["adminEventsEnabled"] = False


@pytest.mark.parametrize(
    ("fault", "probe", "light", "named"),
    [
        (drop, "keycloak.profile", "red", "tenantId"),
        (shorten, "keycloak.profile", "yellow", "department"),
        (demand, "keycloak.profile", "red", "costCentre"),
        (lose_admin_events, "keycloak.admin-events", "yellow", "admin events"),
        ({"TOPICS_RESULTS": "missing-topic"}, "kafka.topics", "red", "missing-topic"),
        (
            {"KEYCLOAK_CLIENT_SECRET": "wrong-secret"},
            "keycloak.token",
            "red",
            "client credentials",
        ),
        ({"KEYCLOAK_REALM": "nowhere"}, "keycloak.connection", "red", "realm"),
        ({"KAFKA_BOOTSTRAP_SERVERS": "127.0.0.1:1"}, "kafka.connection", "red", "Kafka"),
        ({"MAPPING_FILE": "missing.toml"}, "settings", "red", "missing.toml"),
    ],
)
def test_what_is_wrong_is_found(
    bench: Bench, fault: Fault, probe: str, light: str, named: str
) -> None:
    """Its probe reports it with a remedy, and the exit code is 1 for red only; every other probe still looks."""
    with spoilt(bench, fault) as at_fault:
        code, findings = examined(at_fault)
    wrong = [one for one in findings if one["probe"] == probe and one["light"] == light]

    assert (1 if light == "red" else 0) == code
    assert any(named in one["message"] and one["remedy"] for one in wrong), findings
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
