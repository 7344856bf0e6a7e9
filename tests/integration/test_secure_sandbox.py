"""`sandbox up --secure`: with each settings file that it writes an event comes through, and Keycloak over TLS says what is wrong."""

import json
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import trustme
from bridge_harness import STRUCTURED, an_event, wait_until
from click.testing import CliRunner, Result
from cryptography.hazmat.primitives.asymmetric import rsa
from kafka import KafkaProducer
from kafka.errors import TopicAuthorizationFailedError
from keycloak_access import outcome
from process_state import process_state_restored
from tls_server import PAST, pem_of

from keycloak_bridge.cli.main import app
from keycloak_bridge.sandbox import Sandbox, SandboxOptions
from keycloak_bridge.sandbox.processes import accepts_connections
from keycloak_bridge.sandbox.rights import BRIDGE, PRODUCER
from keycloak_bridge.sandbox.secure import SecureParts
from keycloak_bridge.sandbox.security import authority_file, certificate_file, key_pem
from keycloak_bridge.settings.fields import Secret
from keycloak_bridge.settings.loading import read_settings
from keycloak_bridge.settings.model import KeycloakSettings

pytestmark = [pytest.mark.integration, pytest.mark.full]

WAYS = {
    "bridge": ("SASL_SSL, OAUTHBEARER", "private_key_jwt"),
    "bridge-scram": ("SASL_SSL, SCRAM-SHA-512", "client_secret"),
    "bridge-plain": ("SASL_SSL, PLAIN", "client_assertion"),
    "bridge-mutual-tls": ("SSL", "tls_client_auth"),
    "bridge-tls": ("SSL", "private_key_jwt"),
}


@pytest.fixture(scope="module")
def secure(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sandbox]:
    """The secure sandbox."""
    options = SandboxOptions(secure=True, run_dir=tmp_path_factory.mktemp("secure") / "run")
    with Sandbox(options) as running:
        yield running


@pytest.fixture
def producer(secure: Sandbox) -> Iterator[Any]:
    """What may publish events, and no more."""
    parts = parts_of(secure)
    producer: Any = KafkaProducer(
        bootstrap_servers=secure.bootstrap_servers,
        security_protocol="SASL_SSL",
        sasl_mechanism="SCRAM-SHA-512",
        ssl_cafile=str(parts.ca_file),
        sasl_plain_username=PRODUCER,
        sasl_plain_password=parts.passwords[PRODUCER],
        acks="all",
        enable_idempotence=False,
    )
    try:
        yield producer
    finally:
        producer.close()


def parts_of(sandbox: Sandbox) -> SecureParts:
    """Return its certificates, keys and passwords."""
    assert sandbox._secure is not None
    return sandbox._secure


def run(settings: Path, *arguments: str) -> Result:
    """Run a command of the bridge."""
    with process_state_restored():
        return CliRunner().invoke(app, ["--config", str(settings), *arguments])


@pytest.mark.parametrize("way", WAYS)
def test_an_event_comes_through(secure: Sandbox, producer: Any, user_id: str, way: str) -> None:
    """Published by a producer that may do no more, brought by the bridge, and seen by an operator."""
    folder, event = parts_of(secure).folder, an_event(user_id)
    value, headers = json.dumps(event).encode(), list(STRUCTURED)
    producer.send("user-events", key=user_id.encode(), value=value, headers=headers).get(30)
    doctor = run(folder / f"{way}.toml", "doctor")
    brought = run(folder / f"{way}.toml", "run", "--until-caught-up")
    log = run(folder / "operator.toml", "log", "--user", user_id)

    assert [0, 0, 0] == [one.exit_code for one in (doctor, brought, log)], (doctor.output, brought.output, log.output)  # fmt: skip
    assert all(f"({how})" in doctor.stdout for how in WAYS[way]), doctor.stdout
    assert user_id in log.stdout
    assert 1 == len(secure.mail.sent_to(event["data"]["email"]))


def test_a_producer_may_do_no_more(producer: Any) -> None:
    """Access control lists hold."""
    with pytest.raises(TopicAuthorizationFailedError):
        producer.send("user-results", b"{}").get(30)


def test_what_is_wrong_at_keycloak_has_a_sentence(secure: Sandbox, tmp_path: Path) -> None:
    """Of its certificate, of the bridge's, and of how the client authenticates."""
    parts, stranger = parts_of(secure), trustme.CA()
    issue = partial(parts.authority.issue_cert, "bridge")
    by_key, by_secret, by_certificate, by_assertion = (
        read_settings(parts.folder / f"{name}.toml", environ={}).settings.keycloak
        for name in ("bridge", "bridge-scram", "bridge-mutual-tls", "bridge-plain")
    )
    other_ca = authority_file(stranger, tmp_path / "ca.pem")
    foreign = pem_of(stranger.issue_cert("bridge", common_name=BRIDGE), tmp_path / "foreign.pem")
    old = pem_of(issue(common_name=BRIDGE, not_after=PAST), tmp_path / "old.pem")
    another = pem_of(issue(common_name="another"), tmp_path / "another.pem")
    other_key = tmp_path / "key.pem"
    key = rsa.generate_private_key(65537, 2048)
    other_key.write_bytes(key_pem(key))
    assert parts.accounts is not None
    expired = parts.accounts.token(f"{secure.keycloak_public_url}/realms/{secure.realm}", -60)
    of_bridge = "it refuses the bridge's certificate"
    refused = "Keycloak refuses the client credentials"
    wrong: dict[str, tuple[KeycloakSettings, str, str]] = {
        "authority": (replace(by_key, ca_file=other_ca), "keycloak-tls", "no authority that the bridge trusts has signed its certificate"),
        "host name": (replace(by_key, url=by_key.url.replace("localhost", "127.0.0.1")), "keycloak-tls", "its certificate is for another host name than that of [keycloak] url"),
        "foreign certificate": (replace(by_certificate, tls_cert_file=foreign), "keycloak-tls", of_bridge),
        "old certificate": (replace(by_certificate, tls_cert_file=old), "keycloak-tls", of_bridge),
        "certificate of another": (replace(by_certificate, tls_cert_file=another), "keycloak-credentials", refused),
        "no certificate": (replace(by_secret, client_id=by_certificate.client_id), "keycloak-credentials", refused),
        "secret": (replace(by_secret, client_secret=Secret("wrong-hush")), "keycloak-credentials", refused),
        "key": (replace(by_key, client_key=Secret(path=other_key)), "keycloak-credentials", refused),
        "old assertion": (replace(by_assertion, client_assertion=Secret(expired)), "keycloak-credentials", refused),
    }  # fmt: skip

    found = {what: outcome(settings) for what, (settings, _, _) in wrong.items()}

    for what, (_, code, words) in wrong.items():
        assert found[what].startswith(f"{code}: "), (what, found[what])
        assert words in found[what], (what, found[what])


def test_a_certificate_of_keycloak_that_has_expired(secure: Sandbox) -> None:
    """It is named, and the bridge goes on with the one that takes its place."""
    parts, keycloak = parts_of(secure), secure.keycloak
    settings = read_settings(parts.folder / "bridge.toml", environ={}).settings.keycloak
    certificate = parts.keycloak.certificate
    keycloak.stop()
    certificate_file(parts.authority.issue_cert("localhost", not_after=PAST), certificate)
    keycloak._launch()  # `start` waits until it is trusted
    wait_until(lambda: accepts_connections(keycloak.port))
    expired = outcome(settings)
    keycloak.stop()
    certificate_file(parts.authority.issue_cert("localhost"), certificate)
    keycloak.start()

    assert expired.startswith("keycloak-tls: ")
    assert "its certificate has expired" in expired
    assert outcome(settings) == "ok"
