"""The sandbox with TLS, log-ins and access control lists, as beside a production Keycloak (`sandbox up --secure`).

Kafka has a listener for TLS, one for mutual TLS, and one for log-ins (SCRAM-SHA-512, PLAIN, and tokens of the realm). The realm has
a client of the bridge for each way to authenticate. Certificates, keys and passwords are made at each start, and go with the run folder.
"""

import json
import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import trustme
from cryptography.hazmat.primitives.asymmetric import rsa
from kafka.admin import KafkaAdminClient, ScramMechanism, UserScramCredentialUpsertion
from kafka.errors import KafkaError

from keycloak_bridge.kafka.topics import wanted_topics
from keycloak_bridge.ops.private_files import replace_file
from keycloak_bridge.sandbox import security
from keycloak_bridge.sandbox.distribution import ServerTls
from keycloak_bridge.sandbox.options import SandboxError
from keycloak_bridge.sandbox.processes import LOOPBACK
from keycloak_bridge.sandbox.realm_clients import add_copy, audience_mapper, key_attributes
from keycloak_bridge.sandbox.rights import BRIDGE, OPERATOR, PRODUCER, RIGHTS, Right
from keycloak_bridge.sandbox.service_accounts import CLIENT_ATTRIBUTES, ServiceAccounts
from keycloak_bridge.sandbox.services import BrokerSecurity, KafkaBroker, Listener
from keycloak_bridge.settings.model import TopicsSettings

BY_SECRET, BY_CERTIFICATE, BY_ASSERTION = (
    f"{BRIDGE}-{way}" for way in ("secret", "certificate", "assertion")
)
"""The realm's clients beside `keycloak-bridge`, which authenticates by its key."""

FEDERATED_SINCE = (26, 6)
"""The first version of Keycloak that takes assertions of a Kubernetes cluster."""

AUDIENCE = "kafka"
SESSION_S = 300.0
_ADMINISTRATOR, _BROKER = "sandbox-admin", "kafka"
_KEY_ID = "sandbox"
_LOGIN, _TLS, _MUTUAL = "CLIENTS", "TLS", "MUTUAL"
_BRIDGES = (BRIDGE, BY_SECRET, BY_CERTIFICATE, BY_ASSERTION, "ANONYMOUS")
"""Whom Kafka may take the bridge for; without a log-in or a certificate nobody has a name."""

_TOPICS = wanted_topics(TopicsSettings(replication_factor=1), invitations=True)


@dataclass(frozen=True, slots=True)
class SecureParts:
    """Certificates, keys and passwords of one run, in a folder that only its owner can read."""

    folder: Path
    authority: trustme.CA
    key: rsa.RSAPrivateKey
    passwords: dict[str, str]
    accounts: ServiceAccounts | None
    """The cluster whose assertions Keycloak takes; None with a Keycloak that takes none."""

    @classmethod
    def made_in(cls, folder: Path, *, federated: bool = True) -> "SecureParts":
        """Make them all, without a cluster where Keycloak is not `federated`; end with `stop`."""
        folder.mkdir(mode=0o700)
        authority = trustme.CA()
        security.authority_file(authority, folder / "ca.pem")
        for name in (_BROKER, _ADMINISTRATOR):
            leaf = authority.issue_cert("localhost", LOOPBACK, common_name=name)
            security.certificate_file(leaf, folder / f"{name}.pem")
        security.certificate_file(authority.issue_cert("localhost"), folder / "keycloak.pem")
        own = authority.issue_cert("localhost", common_name=BRIDGE)
        security.certificate_file(own, folder / "bridge.pem")
        key = rsa.generate_private_key(65537, 2048)
        replace_file(folder / "bridge-key.pem", security.key_pem(key))
        users = (BRIDGE, PRODUCER, OPERATOR, BY_SECRET)
        passwords = {name: secrets.token_urlsafe(18) for name in users}
        for name, password in passwords.items():
            replace_file(folder / f"{name}.password", password.encode())
        return cls(folder, authority, key, passwords, ServiceAccounts() if federated else None)

    def stop(self) -> None:
        """End what runs in this process."""
        if self.accounts is not None:
            self.accounts.stop()

    @property
    def ca_file(self) -> Path:
        """The authority that signed all certificates."""
        return self.folder / "ca.pem"

    @property
    def keycloak(self) -> ServerTls:
        """The certificate of Keycloak; key and chain are in one file."""
        certificate = self.folder / "keycloak.pem"
        return ServerTls(certificate, certificate, self.ca_file)

    def change_realm(self, realm: dict[str, Any]) -> None:
        """Give an export a client of the bridge for each way to authenticate, and let the tokens of all be for Kafka too."""
        client = next((one for one in realm["clients"] if one.get("clientId") == BRIDGE), None)
        if client is None:
            raise SandboxError(f"The realm export has no client {BRIDGE}, which --secure needs.")
        client.setdefault("protocolMappers", []).append(audience_mapper(AUDIENCE))
        client.pop("secret", None)
        add_copy(realm, client, BY_SECRET, "client-secret", secret=self.passwords[BY_SECRET])
        subject = {
            "x509.subjectdn": f".*CN={BRIDGE}.*",
            "x509.allow.regex.pattern.comparison": "true",
        }
        add_copy(realm, client, BY_CERTIFICATE, "client-x509", subject)
        if self.accounts is not None:
            add_copy(realm, client, BY_ASSERTION, "federated-jwt", CLIENT_ATTRIBUTES)
            realm.setdefault("identityProviders", []).append(self.accounts.provider())
        own = key_attributes(self.key, _KEY_ID)
        client["clientAuthenticatorType"] = "client-jwt"
        client["attributes"] = client.get("attributes", {}) | own

    def kafka(self, keycloak_url: str, public_url: str, realm: str) -> BrokerSecurity:
        """Return what secures the broker; Keycloak must be up when it starts, since it fetches the realm's keys."""
        tls = security.tls(self.folder / f"{_BROKER}.pem")
        mutual = security.tls(self.folder / f"{_BROKER}.pem", self.ca_file)
        keys_url = f"{keycloak_url}/realms/{realm}/protocol/openid-connect/certs"
        clients = {
            **tls,
            **security.logins(["SCRAM-SHA-512", "PLAIN", "OAUTHBEARER"]),
            **security.scram(),
            **security.plain(self._users),
            **security.oauth(
                f"{public_url}/realms/{realm}",
                audience=AUDIENCE,
                keys_url=keys_url,
                authority=self.ca_file,
                session_s=SESSION_S,
            ),
        }
        return BrokerSecurity(
            Listener(_LOGIN, "SASL_SSL", clients),
            (Listener(_TLS, "SSL", tls), Listener(_MUTUAL, "SSL", mutual)),
            Listener("CONTROLLER", "SSL", mutual),
            properties={
                "authorizer.class.name": "org.apache.kafka.metadata.authorizer.StandardAuthorizer",
                "super.users": f"User:{_BROKER};User:{_ADMINISTRATOR}",
                **security.PRINCIPAL_OF_CERTIFICATE,
            },
            java_options=(f"-D{security.ALLOWED_URLS}={keys_url}",),
            login={
                "security_protocol": "SSL",
                "ssl_cafile": str(self.ca_file),
                "ssl_certfile": str(self.folder / f"{_ADMINISTRATOR}.pem"),
            },
        )

    def set_up(self, kafka: KafkaBroker) -> None:
        """Make the users of SCRAM, the rights and the topics; returns once they hold."""
        try:
            admin: Any = KafkaAdminClient(**kafka.administrator())
        except KafkaError as error:
            raise SandboxError(f"Kafka does not let its administrator in: {error}") from error
        try:
            admin.alter_user_scram_credentials(
                [
                    UserScramCredentialUpsertion(name, ScramMechanism.SCRAM_SHA_512, password)
                    for name, password in self._users.items()
                ]
            )
            rights = [one.acl() for right in RIGHTS for one in _of_each_bridge(right)]
            refused = admin.create_acls(rights)["failed"]
            topics = {spec.name: spec.definition for spec in _TOPICS}
            admin.create_topics(topics, wait_for_metadata=True)
        except KafkaError as error:
            raise SandboxError(f"Kafka's users and rights cannot be made: {error}") from error
        finally:
            admin.close()
        if refused:
            raise SandboxError(f"Kafka refuses {len(refused)} of its access control lists.")
        login = {
            "bootstrap_servers": kafka.bootstrap_servers,
            "security_protocol": "SASL_SSL",
            "ssl_cafile": str(self.ca_file),
            "sasl_mechanism": "SCRAM-SHA-512",
            "sasl_plain_username": OPERATOR,
            "sasl_plain_password": self.passwords[OPERATOR],
        }
        kafka.wait_for(login, [spec.name for spec in _TOPICS])

    @property
    def _users(self) -> dict[str, str]:
        """The passwords of Kafka's users."""
        return {name: self.passwords[name] for name in (BRIDGE, PRODUCER, OPERATOR)}

    def settings(self, kafka: Mapping[str, str], keycloak_url: str, realm: str) -> dict[str, str]:
        """Return the bridge's settings that lead here, by their full keys; `kafka` has the addresses of its listeners."""
        return self._addresses(kafka, keycloak_url, realm) | _login("OAUTHBEARER") | self._by_key()

    def write_settings(
        self, kafka: Mapping[str, str], keycloak_url: str, public_url: str, realm: str
    ) -> None:
        """Write settings for each way of the bridge, and for an operator, and what Kafka's own tools need of a producer."""
        common = self._addresses(kafka, keycloak_url, realm)
        own_certificate = str(self.folder / "bridge.pem")
        mutual = _tls(kafka[_MUTUAL]) | {"kafka.ssl_certfile": own_certificate}
        by_secret = {
            "keycloak.client_id": BY_SECRET,
            "keycloak.client_secret_file": str(self.folder / f"{BY_SECRET}.password"),
        }
        by_certificate = {
            "keycloak.client_id": BY_CERTIFICATE,
            "keycloak.tls_cert_file": own_certificate,
        }
        key, plain = self._by_key(), self._login_as(BRIDGE, "PLAIN")
        scram = self._login_as(BRIDGE, "SCRAM-SHA-512")
        self._write(
            "bridge", ("OAUTHBEARER", "private_key_jwt"), common | _login("OAUTHBEARER") | key
        )
        self._write("bridge-scram", ("SCRAM-SHA-512", "client secret"), common | scram | by_secret)
        self._write(
            "bridge-mutual-tls", ("mutual TLS", "tls_client_auth"), common | mutual | by_certificate
        )
        self._write("bridge-tls", ("TLS", "private_key_jwt"), common | _tls(kafka[_TLS]) | key)
        if self.accounts is None:
            self._write("bridge-plain", ("PLAIN", "private_key_jwt"), common | plain | key)
        else:
            token = self.folder / "service-account-token"
            self.accounts.project(f"{public_url}/realms/{realm}", token)
            by_assertion = {
                "keycloak.client_id": BY_ASSERTION,
                "keycloak.client_assertion_file": str(token),
            }
            self._write(
                "bridge-plain", ("PLAIN", "client_assertion_file"), common | plain | by_assertion
            )
        operator = self._login_as(OPERATOR, "SCRAM-SHA-512")
        self._write("operator", ("SCRAM-SHA-512", "private_key_jwt"), common | operator | key)
        self._write_client(kafka[_LOGIN])

    def _addresses(self, kafka: Mapping[str, str], keycloak_url: str, realm: str) -> dict[str, str]:
        return {
            "kafka.bootstrap_servers": kafka[_LOGIN],
            "kafka.ssl_cafile": str(self.ca_file),
            "keycloak.url": keycloak_url,
            "keycloak.realm": realm,
            "keycloak.ca_file": str(self.ca_file),
        }

    def _by_key(self) -> dict[str, str]:
        return {
            "keycloak.client_id": BRIDGE,
            "keycloak.client_key_file": str(self.folder / "bridge-key.pem"),
            "keycloak.client_key_id": _KEY_ID,
        }

    def _login_as(self, user: str, mechanism: str) -> dict[str, str]:
        return _login(mechanism) | {
            "kafka.sasl_username": user,
            "kafka.sasl_password_file": str(self.folder / f"{user}.password"),
        }

    def _write(self, name: str, ways: tuple[str, str], settings: dict[str, str]) -> None:
        comment = f"# Kafka: {ways[0]}; Keycloak: {ways[1]}"
        _write_toml(self.folder / f"{name}.toml", comment, settings)

    def _write_client(self, bootstrap_servers: str) -> None:
        module = "org.apache.kafka.common.security.scram.ScramLoginModule"
        login = f'username="{PRODUCER}" password="{self.passwords[PRODUCER]}"'
        client = {
            "bootstrap.servers": bootstrap_servers,
            "security.protocol": "SASL_SSL",
            "sasl.mechanism": "SCRAM-SHA-512",
            "sasl.jaas.config": f"{module} required {login};",
            **security.trusting(self.ca_file),
        }
        lines = "".join(f"{name}={value}\n" for name, value in client.items())
        replace_file(self.folder / "client.properties", lines.encode())


def _login(mechanism: str) -> dict[str, str]:
    return {"kafka.security_protocol": "SASL_SSL", "kafka.sasl_mechanism": mechanism}


def _tls(address: str) -> dict[str, str]:
    return {"kafka.security_protocol": "SSL", "kafka.bootstrap_servers": address}


def _write_toml(path: Path, comment: str, settings: dict[str, str]) -> None:
    lines, section = [comment], ""
    for name, value in sorted(settings.items(), key=lambda one: one[0].partition(".")[0]):
        into, _, key = name.partition(".")
        if into != section:
            section = into
            lines += ["", f"[{section}]"]
        given = json.dumps([value] if key == "bootstrap_servers" else value)
        lines.append(f"{key} = {given}")
    replace_file(path, ("\n".join(lines) + "\n").encode())


def _of_each_bridge(right: Right) -> list[Right]:
    users = _BRIDGES if right.principal == f"User:{BRIDGE}" else ()
    return [right._replace(principal=f"User:{user}") for user in users] or [right]
