"""Fixtures that every level of tests shares: one sandbox a session, a fresh realm and fresh topics a test."""

import os
import signal
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest
from bridge_harness import Bench
from hypothesis import HealthCheck, settings
from postgres_sandbox import chosen_sandbox
from process_state import logging_restored

from keycloak_bridge.domain.ports import UserDirectory
from keycloak_bridge.keycloak.users import KeycloakUserDirectory
from keycloak_bridge.ops.clock import SystemClock
from keycloak_bridge.sandbox import Sandbox
from keycloak_bridge.testing.realm_tools import (
    AdminRealmTools,
    FreshRealm,
    RealmAdministrator,
    bridge_admin,
    temporary_realm,
)

for _profile, _examples in (("ci", 40), ("full", 100)):
    # no deadline: a slow machine is no failure
    settings.register_profile(
        _profile,
        max_examples=_examples,
        deadline=None,
        suppress_health_check=[HealthCheck.too_slow],
    )
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "full"))


@pytest.fixture(scope="session")
def sandbox() -> Iterator[Sandbox]:
    """A real Kafka, Keycloak and mail catcher; what does not come up fails the tests."""
    with chosen_sandbox() as running:
        yield running


@pytest.fixture(autouse=True)
def _logging_as_before() -> Iterator[None]:
    """Leave the process' logging as it was found: a command that runs in this process sets its own."""
    with logging_restored():
        yield


@pytest.fixture
def interruptible() -> Iterator[None]:
    """Let children hear SIGINT even where this run was put into the background, which ignores it."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.fixture
def fresh_realm(sandbox: Sandbox) -> Iterator[FreshRealm]:
    """A realm like the shipped one that nobody else uses."""
    with temporary_realm(sandbox) as realm:
        yield realm


@pytest.fixture
def bench(sandbox: Sandbox, fresh_realm: FreshRealm, tmp_path: Path) -> Bench:
    """Everything to run the bridge against a fresh realm and fresh topics."""
    return Bench.open(sandbox, fresh_realm, tmp_path)


@pytest.fixture(scope="module")
def module_realm(sandbox: Sandbox) -> Iterator[FreshRealm]:
    """A realm that the tests of one module share; each has its own users."""
    with temporary_realm(sandbox) as realm:
        yield realm


@pytest.fixture(scope="module")
def module_bench(
    sandbox: Sandbox, module_realm: FreshRealm, tmp_path_factory: pytest.TempPathFactory
) -> Bench:
    """A realm and topics that the tests of one module share; each has its own users."""
    return Bench.open(sandbox, module_realm, tmp_path_factory.mktemp("bench"))


@pytest.fixture
def user_id() -> str:
    """A user that no other test knows."""
    return f"user-{uuid.uuid4().hex[:10]}"


@pytest.fixture(scope="session")
def contract_realm(sandbox: Sandbox) -> Iterator[FreshRealm]:
    """One realm for the whole contract suite, whose names are unique."""
    with temporary_realm(sandbox) as realm:
        yield realm


@pytest.fixture(scope="session")
def real_directory(
    sandbox: Sandbox, contract_realm: FreshRealm, real_realm_tools: AdminRealmTools
) -> Iterator[UserDirectory]:
    """The real Keycloak behind the port, seen by an account that may do all that a mapping can ask for."""
    real_realm_tools.grant_all_memberships(contract_realm.client_id)
    with bridge_admin(sandbox, contract_realm) as admin:
        yield KeycloakUserDirectory(admin, SystemClock())


@pytest.fixture(scope="session")
def real_realm_tools(sandbox: Sandbox, contract_realm: FreshRealm) -> AdminRealmTools:
    """The administrator's hands in that realm."""
    return AdminRealmTools(RealmAdministrator.of(sandbox), contract_realm.name)
