"""Every setting of the bridge: the one place that knows default, form and meaning.

Lengths of time are seconds here. The JSON Schema, the names in the environment, the table in the documentation and the
sample file are all made from these classes.

The settings that decide what an event means: its envelope, its schema, the mapping and what it does to a user.

The settings that guard the realm: what is read back, and how much harm may be done before somebody looks.

The settings of Kafka: how to reach it, and the topics.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from keycloak_bridge.domain.limits import Limit
from keycloak_bridge.settings import fields as kinds
from keycloak_bridge.settings.fields import Secret, section, setting

_EXPRESSION = kinds.text("a JMESPath expression")


@dataclass(frozen=True, slots=True)
class EventsSettings:
    """What an event may look like before its schema is asked."""

    max_bytes: int = setting(
        kinds.integer(1024, 104_857_600), 1_048_576, "Largest record value in bytes."
    )
    max_depth: int = setting(kinds.integer(4, 200), 32, "Deepest nesting of the JSON.")
    match_key: bool = setting(
        kinds.boolean(), True, "Refuse an event whose record key is not the user's id."
    )
    match_subject: bool = setting(
        kinds.boolean(), True, "Refuse an event whose `subject` is not the user's id."
    )
    tombstones: Literal["ignore", "delete", "dead-letter"] = setting(
        kinds.choice(("ignore", "delete", "dead-letter")),
        "ignore",
        "What to do with records without value; `delete` is a `user.deleted` of the key's user.",
    )
    ignore_types: tuple[str, ...] = setting(
        kinds.texts("a list of event types"), [], "Event types to skip instead of refusing."
    )
    after_dead_letter: Literal["park", "continue", "stop"] = setting(
        kinds.choice(("park", "continue", "stop")),
        "park",
        "What to do with later events of a user one of whose events became a dead letter.",
    )


@dataclass(frozen=True, slots=True)
class EnvelopeSettings:
    """A producer's own envelope: JMESPath expressions that see `key`, `headers` and `body`; all absent: CloudEvents."""

    id: str | None = setting(_EXPRESSION, None, "Expression for the event's id.")
    type: str | None = setting(_EXPRESSION, None, "Expression for the event's type.")
    subject: str | None = setting(_EXPRESSION, None, "Expression for the user's id.")
    time: str | None = setting(_EXPRESSION, None, "Expression for the time of the event.")
    dataschema: str | None = setting(_EXPRESSION, None, "Expression for the id of the schema.")
    source: str | None = setting(_EXPRESSION, None, "Expression for who published the event.")
    data: str | None = setting(
        _EXPRESSION, None, "Expression for the data that the schema describes."
    )
    types: Mapping[str, str] = setting(
        kinds.table('a table such as { UserCreated = "user.created" }'),
        {},
        "The producer's names of event types, and ours.",
    )


@dataclass(frozen=True, slots=True)
class SchemasSettings:
    """Schemas besides the shipped ones."""

    folders: tuple[Path, ...] = setting(
        kinds.folders(), [], "Folders with schemas of your own, as `<type>/<major>.<minor>.json`."
    )


@dataclass(frozen=True, slots=True)
class MappingSettings:
    """How an event becomes a user."""

    file: Path | None = setting(
        kinds.path(), None, "Mapping of your own; without it the shipped one is used."
    )
    files: Mapping[str, Path] = setting(
        kinds.files(
            'a table such as { "user.updated" = "update.toml", "user.created/2" = "two.toml" }'
        ),
        {},
        "Mappings for single event types, or for one major version of a type's schema; `file` serves all others.",
    )


@dataclass(frozen=True, slots=True)
class LifecycleSettings:
    """What the events after `user.created` do to a user."""

    unknown_user: Literal["create", "dead-letter", "wait"] = setting(
        kinds.choice(("create", "dead-letter", "wait")),
        "dead-letter",
        "What becomes of an event about a user that Keycloak does not have; only a complete `user.updated` can create it.",
    )
    unknown_user_wait: float = setting(
        kinds.duration(at_least="1 s"),
        "10 minutes",
        "How long `wait` waits for the user to appear before the event becomes a dead letter.",
    )
    deleted: Literal["disable", "delete", "anonymise"] = setting(
        kinds.choice(("disable", "delete", "anonymise")),
        "disable",
        "What `user.deleted` does: switch the user off, remove it, or switch it off and erase all that names a person.",
    )
    end_sessions: bool = setting(
        kinds.boolean(), True, "Log a user out everywhere who is switched off."
    )
    email_change: Literal["trusted", "verify"] = setting(
        kinds.choice(("trusted", "verify")),
        "trusted",
        "Whether a changed e-mail address counts as it is, or must be verified by a mail.",
    )
    resend: Literal["always", "when-expired"] = setting(
        kinds.choice(("always", "when-expired")),
        "when-expired",
        "Whether `user.invitation.requested` sends a mail although the link of the last one still works.",
    )


@dataclass(frozen=True, slots=True)
class VerifySettings:
    """Whether users are read back after a write: Keycloak drops what it does not know and says nothing."""

    mode: Literal["sampled", "always", "off"] = setting(
        kinds.choice(("sampled", "always", "off")), "sampled", "Which written users are read back."
    )
    share: int = setting(
        kinds.integer(0, 100), 1, "Percent of the events that `sampled` reads back."
    )
    first: int = setting(
        kinds.integer(0, 1_000_000),
        100,
        "How many in a row must agree after the start before `sampled` goes down to its share.",
    )


@dataclass(frozen=True, slots=True)
class LimitsSettings:
    """How much each process may do within a time; more engages the brake until somebody has looked."""

    disables: Limit | None = setting(kinds.limit(), "500/1 h", "Users that are disabled.")
    deletes: Limit | None = setting(
        kinds.limit(), "500/1 h", "Users that are deleted or anonymised."
    )
    email_changes: Limit | None = setting(
        kinds.limit(), "1000/1 h", "E-mail addresses of existing users that are changed."
    )
    mails: Limit | None = setting(kinds.limit(), "none", "Mails that are sent.")


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
