"""Where the links of the mails lead."""

import pytest

from keycloak_bridge.diagnostics.keycloak_probes import host_sighting, is_inside
from keycloak_bridge.diagnostics.probe import Light


@pytest.mark.parametrize(
    ("issuer", "follows", "light", "told"),
    [
        ("https://id.example.com/realms/a", False, Light.GREEN, "https://id.example.com"),
        ("https://id.example.com/realms/a", None, Light.GREEN, "https://id.example.com"),
        ("https://id.example.com/realms/a", True, Light.YELLOW, "by that name"),
        ("http://id.example.com/realms/a", False, Light.YELLOW, "without encryption"),
        ("http://keycloak:8080/realms/a", True, Light.YELLOW, "cannot open"),
        ("http://keycloak:8080/realms/a", False, Light.YELLOW, "cannot open"),
    ],
)
def test_hosts(issuer: str, follows: bool | None, light: Light, told: str) -> None:
    """Whoever reads the mail must be able to open it."""
    sighting = host_sighting(issuer, follows=follows)

    assert (light, True) == (sighting.light, told in sighting.message)
    assert (light is Light.GREEN) is (sighting.remedy is None)


@pytest.mark.parametrize(
    ("host", "expected"),
    [
        ("localhost", True),
        ("keycloak", True),
        ("127.0.0.1", True),
        ("10.1.2.3", True),
        ("8.8.8.8", False),
        ("::1", True),
        ("keycloak.default.svc", True),
        ("id.example.com", False),
        ("", True),
    ],
)
def test_names_of_the_inside(host: str, expected: bool) -> None:
    """Private addresses and names without a public domain."""
    assert expected is is_inside(host)
