"""The settings of Kafka: how to reach it, and the topics."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from keycloak_bridge.settings import kinds
from keycloak_bridge.settings.fields import setting
from keycloak_bridge.settings.secret import Secret

_TOPIC = kinds.text("the name of a topic", pattern="^[A-Za-z0-9._-]{1,249}$")
_RETENTION = kinds.duration(at_least="1 s", at_most="36500 days")


@dataclass(frozen=True, slots=True)
class KafkaSettings:
    """How to reach the brokers, and how a member of the group behaves."""

    bootstrap_servers: tuple[str, ...] = setting(
        kinds.texts('a list of "host:port"', minimum=1, items={"pattern": "^[^\\s,]+:[0-9]{1,5}$"}),
        ["localhost:9092"],
        "Brokers to start from.",
    )
    group_id: str = setting(
        kinds.text("text"),
        "keycloak-bridge",
        "Consumer group of the events; the invitations' group adds `-invite`.",
    )
    client_id: str = setting(
        kinds.text("text"), "keycloak-bridge", "Name of this client in the brokers' logs."
    )
    security_protocol: Literal["PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"] = setting(
        kinds.choice(("PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL")),
        "PLAINTEXT",
        "How to talk to the brokers.",
    )
    sasl_mechanism: Literal["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"] | None = setting(
        kinds.choice(("PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512")),
        None,
        "How to authenticate; needed by the two `SASL_` protocols.",
    )
    sasl_username: str | None = setting(kinds.text("text"), None, "User name for SASL.")
    sasl_password: Secret | None = setting(kinds.secret(), None, "Password for SASL.")
    ssl_cafile: Path | None = setting(
        kinds.path(), None, "CA certificates (PEM) to trust instead of the system's."
    )
    ssl_certfile: Path | None = setting(
        kinds.path(), None, "Client certificate (PEM) for mutual TLS."
    )
    ssl_keyfile: Path | None = setting(kinds.path(), None, "Key (PEM) of the client certificate.")
    ssl_password: Secret | None = setting(
        kinds.secret(), None, "Passphrase of the client certificate's key."
    )
    session_timeout: float = setting(
        kinds.duration(at_least="1 s"),
        "6 s",
        "How long the group waits for a member that fell silent before others take over.",
    )
    heartbeat_interval: float = setting(
        kinds.duration(),
        "1.5 s",
        "How often a member shows that it lives; below a third of `session_timeout`.",
    )
    max_poll_interval: float = setting(
        kinds.duration(at_least="1 s"),
        "5 minutes",
        "How long a member may take between two polls before it counts as stuck.",
    )


@dataclass(frozen=True, slots=True)
class TopicsSettings:
    """The four topics, and what they look like when the bridge creates them."""

    events: str = setting(_TOPIC, "user-events", "Where user management publishes its events.")
    invitations: str = setting(
        _TOPIC, "user-invitations", "Invitations that are due; only the bridge uses it."
    )
    results: str = setting(
        _TOPIC, "user-results", "What became of each event, for user management to read."
    )
    dead_letters: str = setting(
        _TOPIC, "user-events-dead-letters", "Records that can never succeed, with the reason."
    )
    create: bool = setting(
        kinds.boolean(), False, "Create missing topics at start instead of stopping."
    )
    partitions: int = setting(kinds.integer(1, 10_000), 8, "Partitions of a created topic.")
    replication_factor: int = setting(
        kinds.integer(-1, 100), -1, "Replicas of a created topic; -1 is the brokers' default."
    )
    retention: float = setting(_RETENTION, "7 days", "How long a created topic keeps its records.")
    dead_letter_retention: float = setting(_RETENTION, "30 days", "The same for the dead letters.")
