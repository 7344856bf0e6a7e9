"""The sandbox with TLS, log-ins and access control lists, as beside a production Keycloak (`sandbox up --secure`).

Kafka takes SCRAM-SHA-512, and tokens that the realm issues to the bridge's client; that client authenticates by
`private_key_jwt`. Certificates, keys and passwords are made at each start, and go with the run folder.
"""

import json
import secrets
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import jwt
import trustme
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from kafka.admin import (
    ACL,
    ACLOperation,
    ACLPermissionType,
    KafkaAdminClient,
    ResourcePattern,
    ResourceType,
    ScramMechanism,
    UserScramCredentialUpsertion,
)
from kafka.errors import KafkaError

from keycloak_bridge.ops.private_files import replace_file
from keycloak_bridge.sandbox import security
from keycloak_bridge.sandbox.distribution import ServerTls
from keycloak_bridge.sandbox.options import SandboxError
from keycloak_bridge.sandbox.processes import LOOPBACK
from keycloak_bridge.sandbox.services import BrokerSecurity, KafkaBroker, Listener

BRIDGE, PRODUCER, OPERATOR = "keycloak-bridge", "user-management", "bridge-operator"
AUDIENCE = "kafka"
SESSION_S = 300.0
_ADMINISTRATOR, _BROKER = "sandbox-admin", "kafka"
_KEY_ID = "sandbox"
_TOPICS = ("user-events", "user-invitations", "user-results", "user-events-dead-letters")


class Right(NamedTuple):
    """What a user may do with one resource of Kafka."""

    user: str
    operation: str
    kind: str
    name: str


RIGHTS = (
    Right(PRODUCER, "Write", "topic", "user-events"),
    Right(PRODUCER, "Read", "topic", "user-results"),
    Right(PRODUCER, "Read", "group", PRODUCER),
    Right(BRIDGE, "Read", "topic", "user-events"),
    Right(BRIDGE, "Read", "topic", "user-invitations"),
    Right(BRIDGE, "Write", "topic", "user-invitations"),
    Right(BRIDGE, "Write", "topic", "user-results"),
    Right(BRIDGE, "Read", "topic", "user-events-dead-letters"),
    Right(BRIDGE, "Write", "topic", "user-events-dead-letters"),
    Right(BRIDGE, "Read", "group", BRIDGE),
    Right(BRIDGE, "Read", "group", f"{BRIDGE}-invite"),
    Right(BRIDGE, "Read", "group", f"{BRIDGE}-activation"),
    Right(OPERATOR, "Read", "topic", "user-results"),
    Right(OPERATOR, "Read", "topic", "user-events"),
    Right(OPERATOR, "Write", "topic", "user-events"),
    Right(OPERATOR, "Read", "topic", "user-invitations"),
    Right(OPERATOR, "Write", "topic", "user-invitations"),
    Right(OPERATOR, "Read", "topic", "user-events-dead-letters"),
    Right(OPERATOR, "Write", "topic", "user-events-dead-letters"),
    Right(OPERATOR, "Write", "transactional-id", f"{BRIDGE}-replay"),
    Right(OPERATOR, "Describe", "transactional-id", f"{BRIDGE}-replay"),
)
"""Those of docs/security.md; a test compares them."""


@dataclass(frozen=True, slots=True)
class SecureParts:
    """Certificates, keys and passwords of one run, in a folder that only its owner can read."""

    folder: Path
    key: rsa.RSAPrivateKey
    passwords: dict[str, str]

    @classmethod
    def made_in(cls, folder: Path) -> "SecureParts":
        """Make them all."""
        folder.mkdir(mode=0o700)
        authority = trustme.CA()
        security.authority_file(authority, folder / "ca.pem")
        for name in (_BROKER, _ADMINISTRATOR, "keycloak"):
            leaf = authority.issue_cert("localhost", LOOPBACK, common_name=name)
            security.certificate_file(leaf, folder / f"{name}.pem")
        key = rsa.generate_private_key(65537, 2048)
        pem = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
        replace_file(folder / "bridge-key.pem", pem)
        passwords = {name: secrets.token_urlsafe(18) for name in (BRIDGE, PRODUCER, OPERATOR)}
        for name, password in passwords.items():
            replace_file(folder / f"{name}.password", password.encode())
        return cls(folder, key, passwords)

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
        """Let the bridge's client of an export authenticate by its key, and its tokens be for Kafka too."""
        client = next((one for one in realm["clients"] if one.get("clientId") == BRIDGE), None)
        if client is None:
            raise SandboxError(f"The realm export has no client {BRIDGE}, which --secure needs.")
        client.pop("secret", None)
        client["clientAuthenticatorType"] = "client-jwt"
        client["attributes"] = client.get("attributes", {}) | {
            "use.jwks.string": "true",
            "jwks.string": json.dumps({"keys": [self._public_key()]}),
        }
        client.setdefault("protocolMappers", []).append(
            {
                "name": "kafka",
                "protocol": "openid-connect",
                "protocolMapper": "oidc-audience-mapper",
                "config": {"included.custom.audience": AUDIENCE, "access.token.claim": "true"},
            }
        )

    def _public_key(self) -> dict[str, Any]:
        public = json.loads(jwt.algorithms.RSAAlgorithm.to_jwk(self.key.public_key()))
        return {**public, "kid": _KEY_ID, "use": "sig", "alg": "RS256"}

    def kafka(self, keycloak_url: str, public_url: str, realm: str) -> BrokerSecurity:
        """Return what secures the broker; Keycloak must be up when it starts, since it fetches the realm's keys."""
        tls = security.tls(self.folder / f"{_BROKER}.pem")
        mutual = security.tls(self.folder / f"{_BROKER}.pem", self.ca_file)
        keys_url = f"{keycloak_url}/realms/{realm}/protocol/openid-connect/certs"
        clients = {
            **tls,
            **security.logins(["SCRAM-SHA-512", "OAUTHBEARER"]),
            **security.scram(),
            **security.oauth(
                f"{public_url}/realms/{realm}",
                audience=AUDIENCE,
                keys_url=keys_url,
                authority=self.ca_file,
                session_s=SESSION_S,
            ),
        }
        return BrokerSecurity(
            Listener("CLIENTS", "SASL_SSL", clients),
            (Listener("ADMIN", "SSL", mutual),),
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
        """Make the users of SCRAM, the topics, and the rights."""
        try:
            admin: Any = KafkaAdminClient(**kafka.administrator())
        except KafkaError as error:
            raise SandboxError(f"Kafka does not let its administrator in: {error}") from error
        try:
            admin.alter_user_scram_credentials(
                [
                    UserScramCredentialUpsertion(name, ScramMechanism.SCRAM_SHA_512, password)
                    for name, password in self.passwords.items()
                ]
            )
            topics = {name: {"num_partitions": 4, "replication_factor": 1} for name in _TOPICS}
            admin.create_topics(topics, wait_for_metadata=True)
            refused = admin.create_acls([_acl(one) for one in RIGHTS])["failed"]
        except KafkaError as error:
            raise SandboxError(f"Kafka's users and rights cannot be made: {error}") from error
        finally:
            admin.close()
        if refused:
            raise SandboxError(f"Kafka refuses {len(refused)} of its access control lists.")

    def settings(self, kafka: str, keycloak_url: str, realm: str) -> dict[str, str]:
        """Return the bridge's settings that lead here, by their full keys."""
        return {
            "kafka.bootstrap_servers": kafka,
            "kafka.security_protocol": "SASL_SSL",
            "kafka.sasl_mechanism": "OAUTHBEARER",
            "kafka.ssl_cafile": str(self.ca_file),
            "keycloak.url": keycloak_url,
            "keycloak.realm": realm,
            "keycloak.client_id": BRIDGE,
            "keycloak.client_key_file": str(self.folder / "bridge-key.pem"),
            "keycloak.client_key_id": _KEY_ID,
            "keycloak.ca_file": str(self.ca_file),
        }

    def write_settings(self, kafka: str, keycloak_url: str, realm: str) -> None:
        """Write a settings file for the bridge and one for an operator, and what Kafka's own tools need of a producer."""
        settings = self.settings(kafka, keycloak_url, realm)
        of_bridge = "The bridge logs in to Kafka with tokens of its own client."
        _write_toml(self.folder / "bridge.toml", of_bridge, settings)
        operator = settings | {
            "kafka.sasl_mechanism": "SCRAM-SHA-512",
            "kafka.sasl_username": OPERATOR,
            "kafka.sasl_password_file": str(self.folder / f"{OPERATOR}.password"),
        }
        of_operator = (
            "An operator logs in to Kafka with a password, and may read results and replay."
        )
        _write_toml(self.folder / "operator.toml", of_operator, operator)
        module = "org.apache.kafka.common.security.scram.ScramLoginModule"
        login = f'username="{PRODUCER}" password="{self.passwords[PRODUCER]}"'
        client = {
            "bootstrap.servers": kafka,
            "security.protocol": "SASL_SSL",
            "sasl.mechanism": "SCRAM-SHA-512",
            "sasl.jaas.config": f"{module} required {login};",
            **security.trusting(self.ca_file),
        }
        lines = "".join(f"{name}={value}\n" for name, value in client.items())
        replace_file(self.folder / "client.properties", lines.encode())


def _write_toml(path: Path, comment: str, settings: dict[str, str]) -> None:
    lines, section = [f"# {comment}"], ""
    for name, value in sorted(settings.items(), key=lambda one: one[0].partition(".")[0]):
        into, _, key = name.partition(".")
        if into != section:
            section = into
            lines += ["", f"[{section}]"]
        given = json.dumps([value] if key == "bootstrap_servers" else value)
        lines.append(f"{key} = {given}")
    replace_file(path, ("\n".join(lines) + "\n").encode())


def _acl(right: Right) -> ACL:
    kind = ResourceType[right.kind.upper().replace("-", "_")]
    return ACL(
        f"User:{right.user}",
        "*",
        ACLOperation[right.operation.upper()],
        ACLPermissionType.ALLOW,
        ResourcePattern(kind, right.name),
    )
