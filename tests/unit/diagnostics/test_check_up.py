"""Every probe of one bridge, from its settings."""

from pathlib import Path

import pytest

from keycloak_bridge.app.interpretation import Interpretation
from keycloak_bridge.diagnostics import doctor as module
from keycloak_bridge.diagnostics.doctor import BridgedRealm, check_up
from keycloak_bridge.diagnostics.probe import Light
from keycloak_bridge.domain.errors import BrokerUnavailableError
from keycloak_bridge.keycloak.admin import KeycloakAdmin
from keycloak_bridge.keycloak.http import KeycloakConnection, KeycloakHttp
from keycloak_bridge.keycloak.token import TokenSource
from keycloak_bridge.settings import read_settings
from keycloak_bridge.testing.fake_clock import FakeClock
from keycloak_bridge.testing.stub_adapter import StubAdapter


def realm_of(*overrides: str) -> BridgedRealm:
    """Return the realm of these settings, over a Keycloak that answers nothing."""
    settings = read_settings(None, environ={}, overrides=overrides).settings
    http = KeycloakHttp(KeycloakConnection(settings.keycloak.url, "acme"), StubAdapter())
    admin = KeycloakAdmin(http, TokenSource(http, "bridge", lambda: "x", FakeClock()))
    return BridgedRealm(Interpretation(settings), admin)


@pytest.fixture(autouse=True)
def _own_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def test_without_settings_the_rest_is_still_looked_at(monkeypatch: pytest.MonkeyPatch) -> None:
    """No realm named: that is red with its remedy, and Kafka is asked all the same."""

    def unreachable(_: object) -> object:
        raise BrokerUnavailableError("no broker", remedy="start one")

    monkeypatch.setattr(module, "kafka_survey", unreachable)
    verdicts = list(check_up(read_settings(None, environ={})))
    found = {one.probe: one.sighting for one in verdicts}

    assert Light.GREEN is found["mapping"].light
    assert (Light.RED, "start one") == (
        found["kafka.connection"].light,
        found["kafka.connection"].remedy,
    )
    assert (Light.RED, "keycloak.realm is not set") == (
        found["keycloak.connection"].light,
        found["keycloak.connection"].message,
    )


def test_the_realm_of_the_settings() -> None:
    """What the probes ask for comes from settings and mapping."""
    realm = realm_of("keycloak.realm=acme", "invite.mode=none")

    assert ("acme", False) == (realm.name, realm.invites)
    assert "userId" in realm.attributes
    assert "http" in realm.url


def test_optional_roles_are_of_use_where_the_mapping_needs_them() -> None:
    """Roles of clients need view-clients; the shipped mapping has none."""
    assert {"view-clients": False, "manage-organizations": False} == realm_of().optional_roles
