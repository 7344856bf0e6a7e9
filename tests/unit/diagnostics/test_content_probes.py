"""Settings, schemas, envelope and mapping without a network."""

from pathlib import Path

import pytest

from keycloak_bridge.app.interpretation import Interpretation
from keycloak_bridge.diagnostics.doctor import content_probes
from keycloak_bridge.diagnostics.probe import Light, examine
from keycloak_bridge.settings import read_settings


def lights(*overrides: str) -> dict[str, list[Light]]:
    """Return the lights of each probe under these settings."""
    loaded = read_settings(None, environ={}, overrides=overrides)
    found: dict[str, list[Light]] = {}
    for verdict in examine(content_probes(loaded, Interpretation(loaded.settings))):
        found.setdefault(verdict.probe, []).append(verdict.sighting.light)
    return found


@pytest.fixture(autouse=True)
def _own_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def test_the_defaults_are_well() -> None:
    """Four probes, all green."""
    assert {
        one: [Light.GREEN] for one in ("settings", "schemas", "envelope", "mapping")
    } == lights()


def test_wrong_settings() -> None:
    """Each is told, and the rest is looked at with the defaults."""
    found = lights("kafka.group=x", "delivery.workers=0")

    assert ([Light.RED, Light.RED], [Light.GREEN]) == (found["settings"], found["mapping"])


def test_broken_schemas() -> None:
    """The mapping cannot be looked at without them."""
    Path("own/x").mkdir(parents=True)
    Path("own/x/1.0.json").write_text("{")
    found = lights("schemas.folders=own")

    assert ([Light.RED], [Light.GRAY]) == (found["schemas"], found["mapping"])


def test_a_mapping_for_every_group() -> None:
    """In order, with a risk."""
    Path("m.toml").write_text(
        'matching = ["attributes.userId"]\n[user]\nusername = "data.userId"\n'
        '[user.attributes]\nuserId = "data.userId"\n[user.groups]\nfrom = "data.groups"\n'
    )

    assert [Light.GREEN, Light.YELLOW] == lights("mapping.file=m.toml")["mapping"]


def test_a_mapping_that_makes_administrators() -> None:
    """In order, with a risk."""
    Path("m.toml").write_text(
        'matching = ["attributes.userId"]\n[user]\nusername = "data.userId"\n'
        '[user.attributes]\nuserId = "data.userId"\n'
        '[user.clientRoles.realm-management]\nfrom = "data.roles"\nallow = ["realm-admin"]\n'
    )

    assert [Light.GREEN, Light.YELLOW] == lights("mapping.file=m.toml")["mapping"]
