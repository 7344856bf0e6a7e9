"""The roles of the shipped realm, taken away one after the other: each is needed, and no call takes more than the table says."""

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import pytest
from admin_calls import Targets, refusals, set_stage
from bridge_harness import Bench

from keycloak_bridge.domain.errors import KeycloakError
from keycloak_bridge.keycloak.calls import ALTERNATIVES, REQUIRED_ROLES, Call
from keycloak_bridge.sandbox import Sandbox
from keycloak_bridge.testing.realm_tools import (
    AdminRealmTools,
    FreshRealm,
    RealmAdministrator,
    bridge_admin,
)

pytestmark = pytest.mark.integration

SHIPPED = frozenset({"manage-users", "view-events", "view-realm"})
FOR_SOME_MAPPINGS = frozenset({"view-clients", "manage-organizations", "manage-realm"})
WITH_ANY_ROLE = {Call("GET", path) for path in ("/", "/users/profile", "/users/profile/metadata")}
"""Keycloak refuses these to an account without any role only; of the realm it shows less without `view-realm`."""


@pytest.fixture(scope="module")
def targets(sandbox: Sandbox, module_realm: FreshRealm) -> Targets:
    """What the calls name, in the realm of this module."""
    return set_stage(sandbox, module_realm)


@contextmanager
def holding(sandbox: Sandbox, realm: FreshRealm, roles: frozenset[str]) -> Iterator[None]:
    """Let the service account have these roles and no others, and the shipped ones afterwards."""
    tools = AdminRealmTools(RealmAdministrator.of(sandbox), realm.name)
    tools.take_away(realm.client_id, *(SHIPPED - roles))
    tools.grant(realm.client_id, *(roles - SHIPPED))
    try:
        yield
    finally:
        tools.take_away(realm.client_id, *(roles - SHIPPED))
        tools.grant(realm.client_id, *(SHIPPED - roles))


def allowed_by(roles: frozenset[str]) -> set[Call]:
    """Return the calls that an account with these roles may make, as the table says."""
    return {
        call
        for call, access in REQUIRED_ROLES.items()
        if not roles.isdisjoint((access.role, *ALTERNATIVES.get(access.role, ())))
    }


def refused(
    sandbox: Sandbox, realm: FreshRealm, targets: Targets, roles: frozenset[str]
) -> Mapping[Call, KeycloakError]:
    """Return the errors of the calls that Keycloak refuses to an account with these roles."""
    with holding(sandbox, realm, roles), bridge_admin(sandbox, realm) as admin:
        errors = refusals(admin, targets).values()
    return {Call(str(error.method), str(error.path)): error for error in errors}


@pytest.mark.parametrize("role", sorted(SHIPPED))
def test_no_shipped_role_is_superfluous(
    sandbox: Sandbox, module_realm: FreshRealm, targets: Targets, role: str
) -> None:
    """Without it, the calls that the table names are refused, or answered with less, and the message names the role."""
    errors = refused(sandbox, module_realm, targets, SHIPPED - {role})
    lost = allowed_by(SHIPPED) - allowed_by(SHIPPED - {role})

    assert lost - WITH_ANY_ROLE == lost & set(errors) != set()
    for call in lost - WITH_ANY_ROLE:
        assert (
            f"takes the role {REQUIRED_ROLES[call].role} of realm-management"
            in errors[call].message
        )


@pytest.mark.parametrize(
    "added", [frozenset(), *(frozenset({role}) for role in sorted(FOR_SOME_MAPPINGS))]
)
def test_no_call_takes_more_than_the_table_says(
    sandbox: Sandbox, module_realm: FreshRealm, targets: Targets, added: frozenset[str]
) -> None:
    """The shipped roles allow what the table says, and so does each that only some mappings need."""
    errors = refused(sandbox, module_realm, targets, SHIPPED | added)

    # Keycloak shows required actions to more than the bridge needs to know
    assert set(REQUIRED_ROLES) - allowed_by(SHIPPED | added) - {
        Call("GET", "/authentication/required-actions")
    } == set(errors)


def test_view_users_stands_for_finding_users(
    sandbox: Sandbox, module_realm: FreshRealm, targets: Targets
) -> None:
    """It is what an account needs that writes by fine-grained permissions; nothing can be written by it."""
    roles = SHIPPED - {"manage-users"} | {"view-users"}
    errors = refused(sandbox, module_realm, targets, roles)

    assert {"view-users"}.isdisjoint(REQUIRED_ROLES[call].role for call in errors)
    assert {
        call for call, access in REQUIRED_ROLES.items() if "manage-users" == access.role
    } <= set(errors)


@pytest.mark.parametrize("role", sorted(SHIPPED))
def test_the_doctor_names_a_role_that_is_missing(module_bench: Bench, role: str) -> None:
    """In one sentence, in a light that is not green."""
    with holding(module_bench.sandbox, module_bench.realm, SHIPPED - {role}):
        done = module_bench.run_command("doctor", "--format", "json")
    naming = [
        one
        for one in json.loads(done.stdout)["findings"]
        if role in f"{one['message']} {one['remedy']}" and one["light"] != "green"
    ]

    assert naming
    assert ("manage-users" == role) == any(one["light"] == "red" for one in naming)


def test_the_doctor_names_a_role_that_is_too_much(module_bench: Bench) -> None:
    """And nothing of what the shipped realm grants."""
    with holding(module_bench.sandbox, module_bench.realm, SHIPPED | {"impersonation"}):
        done = module_bench.run_command("doctor", "--format", "json")
    found = [
        (one["light"], one["message"].partition(" beyond ")[0])
        for one in json.loads(done.stdout)["findings"]
        if "surplus" == one["subject"]
    ]

    assert [("yellow", "has impersonation")] == found
