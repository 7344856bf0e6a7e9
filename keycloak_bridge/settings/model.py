"""Every setting of the bridge: the one place that knows default, form and meaning.

Lengths of time are seconds here. The JSON Schema, the names in the environment, the table in the documentation and the
sample file are all made from these classes.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from keycloak_bridge.settings import kinds
from keycloak_bridge.settings.fields import section, setting
from keycloak_bridge.settings.model_events import (
    EnvelopeSettings,
    EventsSettings,
    LifecycleSettings,
    MappingSettings,
    SchemasSettings,
)
from keycloak_bridge.settings.model_guards import LimitsSettings, VerifySettings
from keycloak_bridge.settings.model_kafka import KafkaSettings, TopicsSettings
from keycloak_bridge.settings.secret import Secret

_LIFESPAN = kinds.duration(at_least="1 minute", at_most="24000 days")  # seconds in 32 bits


@dataclass(frozen=True, slots=True)
class KeycloakSettings:
    """Which realm to write to, and as whom."""

    url: str = setting(
        kinds.url(),
        "http://localhost:8080",
        "Keycloak as the bridge reaches it, without `/realms`.",
    )
    realm: str | None = setting(
        kinds.text("the name of a realm", pattern="^[^\\s/?#]+$"),
        None,
        "Realm of the users. Needed by every command that talks to Keycloak.",
    )
    client_id: str = setting(
        kinds.text("text"), "keycloak-bridge", "Confidential client with a service account."
    )
    client_secret: Secret | None = setting(
        kinds.secret(),
        None,
        "Secret of that client. Needed by every command that talks to Keycloak.",
    )
    connect_timeout: float = setting(kinds.duration(), "5 s", "How long connecting may take.")
    read_timeout: float = setting(kinds.duration(), "30 s", "How long an answer may take.")
    pool_size: int = setting(kinds.integer(1, 512), 24, "Connections to hold open at most.")
    ca_file: Path | None = setting(
        kinds.path(), None, "CA certificates (PEM) to trust instead of the usual ones."
    )


@dataclass(frozen=True, slots=True)
class InviteSettings:
    """The mail with the link; a mapping's own `[invite]` goes before these."""

    mode: Literal["mail", "none"] = setting(
        kinds.choice(("mail", "none")), "mail", "`none` where Keycloak invites by itself."
    )
    actions: tuple[str, ...] = setting(
        kinds.texts("a list of required actions", minimum=1),
        ["UPDATE_PASSWORD"],
        "What the link asks for; add `CONFIGURE_TOTP` for a second factor.",
    )
    lifespan: float = setting(_LIFESPAN, "3 days", "How long the link lives.")
    client_id: str | None = setting(
        kinds.text("text"), None, "Client that the link leads back to in the end."
    )
    redirect_uri: str | None = setting(
        kinds.text("text"), None, "Page that the link leads back to; needs `client_id`."
    )
    workers: int = setting(kinds.integer(1, 256), 4, "Mails that are sent at the same time.")
    pace: float | None = setting(
        kinds.pace(), None, "Mails to send at most, by each process of the bridge."
    )
    delivery: Literal["at-least-once", "at-most-once"] = setting(
        kinds.choice(("at-least-once", "at-most-once")),
        "at-least-once",
        "What becomes of a mail that may have gone out, where Keycloak's admin events cannot tell.",
    )
    settle: float = setting(
        kinds.duration(at_most="1 hour"),
        "15 s",
        "How long a mail that got no answer may still be on its way.",
    )


@dataclass(frozen=True, slots=True)
class DeliverySettings:
    """How much is worked on at once; the events of one user stay one after the other."""

    workers: int = setting(kinds.integer(1, 256), 16, "Events that are written at the same time.")
    max_records: int = setting(
        kinds.integer(1, 100_000), 1000, "Records in hand at most; fetching pauses beyond."
    )
    max_bytes: int = setting(
        kinds.integer(1024), 33_554_432, "Bytes in hand at most; fetching pauses beyond."
    )
    max_attempts: int = setting(
        kinds.integer(1, 1000),
        8,
        "Failures after which a record becomes a dead letter; only those count while others succeed.",
    )
    drain: float = setting(
        kinds.duration(at_most="1 hour"),
        "20 s",
        "How long SIGTERM waits for what is being written.",
    )


@dataclass(frozen=True, slots=True)
class BurstSettings:
    """How a backlog of new users is written: in batches, where the service account holds `manage-realm`."""

    mode: Literal["auto", "off"] = setting(
        kinds.choice(("auto", "off")),
        "auto",
        "`auto` writes in batches while a backlog stands; `off` writes each user by itself.",
    )
    backlog: int = setting(
        kinds.integer(1, 100_000), 200, "Events in hand from which on a backlog stands."
    )
    batch: int = setting(
        kinds.integer(2, 200), 50, "Users in a batch at most; fewer where Keycloak is slow."
    )
    in_flight: int = setting(
        kinds.integer(1, 64), 8, "Batches at the same time at most; fewer where Keycloak is slow."
    )
    list_limit: int = setting(
        kinds.integer(0),
        1_000_000,
        "Users up to which the realm is listed; in a larger one each new user is searched for.",
    )


@dataclass(frozen=True, slots=True)
class BrakeSettings:
    """When too much becomes a dead letter, the flow stops until somebody has looked."""

    in_a_row: int = setting(
        kinds.integer(0), 20, "Dead letters without a good record in between; 0 is no limit."
    )
    share: int = setting(
        kinds.integer(0, 100), 50, "Percent of dead letters among the last records; 0 is no limit."
    )
    window: int = setting(
        kinds.integer(10, 100_000), 200, "How many records the share is taken of."
    )


@dataclass(frozen=True, slots=True)
class RetrySettings:
    """How long to wait for Keycloak, SMTP and Kafka to come back; there is no last attempt."""

    initial: float = setting(kinds.duration(), "0.2 s", "Pause after the first failure.")
    max: float = setting(
        kinds.duration(), "5 s", "Longest pause; after an outage the bridge goes on within it."
    )


@dataclass(frozen=True, slots=True)
class HealthSettings:
    """Live, ready and metrics over HTTP."""

    enabled: bool = setting(kinds.boolean(), True, "Serve `/live`, `/ready` and `/metrics`.")
    host: str = setting(kinds.text("text"), "127.0.0.1", "Address to listen on.")
    port: int = setting(kinds.integer(0, 65535), 9090, "Port to listen on; 0 is any free one.")


@dataclass(frozen=True, slots=True)
class LogSettings:
    """Logs, on standard error."""

    level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = setting(
        kinds.choice(("DEBUG", "INFO", "WARNING", "ERROR")), "INFO", "Least level that is written."
    )
    format: Literal["auto", "json", "text"] = setting(
        kinds.choice(("auto", "json", "text")), "auto", "`auto` is text on a terminal, else JSON."
    )


@dataclass(frozen=True, slots=True)
class Settings:
    """All settings, by section."""

    kafka: KafkaSettings = section(KafkaSettings)
    topics: TopicsSettings = section(TopicsSettings)
    keycloak: KeycloakSettings = section(KeycloakSettings)
    events: EventsSettings = section(EventsSettings)
    envelope: EnvelopeSettings = section(EnvelopeSettings)
    schemas: SchemasSettings = section(SchemasSettings)
    mapping: MappingSettings = section(MappingSettings)
    lifecycle: LifecycleSettings = section(LifecycleSettings)
    verify: VerifySettings = section(VerifySettings)
    limits: LimitsSettings = section(LimitsSettings)
    invite: InviteSettings = section(InviteSettings)
    delivery: DeliverySettings = section(DeliverySettings)
    burst: BurstSettings = section(BurstSettings)
    brake: BrakeSettings = section(BrakeSettings)
    retry: RetrySettings = section(RetrySettings)
    health: HealthSettings = section(HealthSettings)
    log: LogSettings = section(LogSettings)
