"""Fixtures that every level of tests shares: one sandbox a session, a fresh realm and fresh topics a test."""

import signal
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest
from bridge_harness import Bench

from keycloak_bridge.app.connections import SystemClock
from keycloak_bridge.domain.ports import UserDirectory
from keycloak_bridge.keycloak.admin import KeycloakAdmin
from keycloak_bridge.keycloak.http import KeycloakConnection, KeycloakHttp
from keycloak_bridge.keycloak.token import TokenSource
from keycloak_bridge.keycloak.users import KeycloakUserDirectory
from keycloak_bridge.sandbox import Sandbox
from keycloak_bridge.testing.fresh_realms import FreshRealm, RealmAdministrator, temporary_realm
from keycloak_bridge.testing.realm_tools import AdminRealmTools


@pytest.fixture(scope="session")
def sandbox() -> Iterator[Sandbox]:
    """A real Kafka, Keycloak and mail catcher; what does not come up fails the tests."""
    with Sandbox() as running:
        yield running


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
def bench(sandbox: Sandbox, fresh_realm: FreshRealm, tmp_path: Path) -> Iterator[Bench]:
    """Everything to run the bridge against a fresh realm and fresh topics."""
    with Bench.open(sandbox, fresh_realm, uuid.uuid4().hex[:8], tmp_path) as opened:
        yield opened


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
    real_realm_tools.grant(contract_realm.client_id, "view-clients", "manage-organizations")
    clock = SystemClock()
    http = KeycloakHttp(KeycloakConnection(url=sandbox.keycloak_url, realm=contract_realm.name))
    secret = contract_realm.client_secret
    admin = KeycloakAdmin(http, TokenSource(http, contract_realm.client_id, lambda: secret, clock))
    yield KeycloakUserDirectory(admin, clock)
    admin.close()


@pytest.fixture(scope="session")
def real_realm_tools(sandbox: Sandbox, contract_realm: FreshRealm) -> AdminRealmTools:
    """The administrator's hands in that realm."""
    return AdminRealmTools(RealmAdministrator.of(sandbox), contract_realm.name)
