"""A real Kafka with one listener for each way to be secured, right or wrong, and certificates of the test's own authority."""

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import trustme
from kafka import KafkaAdminClient, KafkaProducer
from kafka.admin import ScramMechanism, UserScramCredentialUpsertion
from tls_server import PAST

from keycloak_bridge.sandbox import Sandbox
from keycloak_bridge.sandbox import security as secured
from keycloak_bridge.sandbox.processes import LOOPBACK
from keycloak_bridge.sandbox.services import BrokerSecurity, KafkaBroker, Listener

USER, PASSWORD = "keycloak-bridge", "kafka-hush"
MECHANISMS = ("SCRAM-SHA-512", "PLAIN", "OAUTHBEARER")
AUDIENCE = "kafka"


@dataclass(frozen=True)
class SecureBroker:
    """The broker, its authority and the files of certificates."""

    kafka: KafkaBroker
    authority: trustme.CA
    other: trustme.CA
    folder: Path

    def servers(self, listener: str) -> str:
        """Return the address of a listener."""
        return f"localhost:{self.kafka.ports[listener]}"

    def protocol(self, listener: str) -> str:
        """Return the protocol of a listener."""
        security = self.kafka.security
        return next(
            one.protocol for one in (security.main, *security.listeners) if one.name == listener
        )

    @property
    def ca_file(self) -> Path:
        """Return the file of the authority that signed the broker's certificates."""
        return self.folder / "ca.pem"

    def set_password(self, password: str) -> None:
        """Give the user of SCRAM another password."""
        with self.administrator() as admin:
            upsertion = UserScramCredentialUpsertion(USER, ScramMechanism.SCRAM_SHA_512, password)
            assert admin.alter_user_scram_credentials([upsertion]) == {USER: None}

    @contextlib.contextmanager
    def administrator(self) -> Iterator[Any]:
        """Yield Kafka's Admin API, which may do everything."""
        admin: Any = KafkaAdminClient(**self.kafka.administrator())
        try:
            yield admin
        finally:
            admin.close()

    @contextlib.contextmanager
    def producer(self) -> Iterator[Any]:
        """Yield a producer that may write to every topic."""
        producer: Any = KafkaProducer(**self.kafka.administrator(), acks="all")
        try:
            yield producer
        finally:
            producer.close()


@contextlib.contextmanager
def secure_broker(
    sandbox: Sandbox, folder: Path, *, issuer: str, keys_url: str, session_s: float = 30
) -> Iterator[SecureBroker]:
    """Start it; `OAUTHBEARER` takes tokens of `issuer` for Kafka, and a session with one ends after `session_s`."""
    folder.mkdir(exist_ok=True)
    authority, other = trustme.CA(), trustme.CA()
    ca_file = secured.authority_file(authority, folder / "ca.pem")
    secured.authority_file(other, folder / "other-ca.pem")

    def server(name: str, *hosts: str, **options: Any) -> Path:
        leaf = authority.issue_cert(*(hosts or ("localhost", LOOPBACK)), **options)
        return secured.certificate_file(leaf, folder / f"{name}.pem")

    usual = server("server")
    login = {
        **secured.tls(usual),
        **secured.logins(MECHANISMS),
        **secured.scram(),
        **secured.plain({USER: PASSWORD}),
        **secured.oauth(issuer, audience=AUDIENCE, keys_url=keys_url, session_s=session_s),
    }
    security = BrokerSecurity(
        Listener("LOGIN", "SASL_SSL", login),
        (
            Listener("TLS", "SSL", secured.tls(usual)),
            Listener("MUTUAL", "SSL", {**secured.tls(usual, ca_file), **secured.PRINCIPAL_OF_CERTIFICATE}),
            Listener("EXPIRED", "SSL", secured.tls(server("expired", not_after=PAST))),
            Listener("OTHERHOST", "SSL", secured.tls(server("otherhost", "other.example"))),
            Listener("SCRAMONLY", "SASL_SSL", {**secured.tls(usual), **secured.logins(["SCRAM-SHA-512"]), **secured.scram()}),
            Listener("PLAINTEXT"),
        ),
        properties={
            "authorizer.class.name": "org.apache.kafka.metadata.authorizer.StandardAuthorizer",
            "super.users": "User:ANONYMOUS",
            "allow.everyone.if.no.acl.found": "true",
        },
        java_options=(f"-D{secured.ALLOWED_URLS}={keys_url}",),
    )  # fmt: skip
    distribution = sandbox._distribution  # the downloads of the sandbox
    kafka = KafkaBroker(distribution.java, distribution.kafka_jars(), folder / "kafka", security=security)  # fmt: skip
    kafka.start()
    try:
        yield SecureBroker(kafka, authority, other, folder)
    finally:
        kafka.kill()
