"""What the doctor says of certificates that end."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

import trustme
from tls_server import pem_of

from keycloak_bridge.diagnostics.certificates import certificate_probe
from keycloak_bridge.diagnostics.probes import Light, ProbeResult, examine
from keycloak_bridge.sandbox.security import authority_file
from keycloak_bridge.settings.model import KafkaSettings, KeycloakSettings, Settings

NOW = datetime.now(UTC)
AUTHORITY = trustme.CA()


def said(settings: Settings, now: datetime = NOW) -> list[ProbeResult]:
    """Return the results of the probe."""
    return list(examine(certificate_probe(settings, lambda: now)))


def test_nothing_is_said_where_there_are_no_files() -> None:
    """The system's authorities are the system's matter."""
    assert said(Settings()) == []


def test_a_client_certificate_that_ends_soon_is_a_warning(tmp_path: Path) -> None:
    """Green until thirty days before, then yellow, and red when it has expired; of Kafka and of Keycloak."""
    end = NOW.replace(microsecond=0) + timedelta(days=90)
    own = pem_of(AUTHORITY.issue_cert("bridge", not_after=end), tmp_path / "own.pem")
    for settings, name in (
        (Settings(kafka=KafkaSettings(ssl_certfile=own)), "[kafka] ssl_certfile"),
        (Settings(keycloak=KeycloakSettings(tls_cert_file=own)), "[keycloak] tls_cert_file"),
    ):
        days = (1, 59, 61, 91)
        found = [one for day in days for one in said(settings, NOW + timedelta(days=day))]
        lights = [Light.GREEN, Light.GREEN, Light.YELLOW, Light.RED]
        assert [one.light for one in found] == lights
        assert found[2].message == f"{name}: expires on {end:%Y-%m-%d}"
        assert name in str(found[3].remedy)


def test_authorities(tmp_path: Path) -> None:
    """The one that ends first decides; a file without any cannot be used."""
    ca_file = authority_file(AUTHORITY, tmp_path / "ca.pem")
    ca_file.write_bytes(ca_file.read_bytes() + trustme.CA().cert_pem.bytes())
    empty = tmp_path / "empty.pem"
    empty.write_text("")
    (good,) = said(Settings(kafka=KafkaSettings(ssl_cafile=ca_file)))
    (bad,) = said(Settings(keycloak=KeycloakSettings(ca_file=empty)))
    assert (good.light, bad.light) == (Light.GREEN, Light.RED)
    assert "[kafka] ssl_cafile: the first of 2 expires on " in good.message
    assert bad.message == "[keycloak] ca_file has no certificate that can be read"
