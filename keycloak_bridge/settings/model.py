"""Every setting of the bridge with its default, its form and its meaning, one dataclass per section.

The JSON Schema, the environment variables, docs/settings.md and the sample file are generated from these classes.
Durations are seconds in Python.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from keycloak_bridge.domain.times import Limit
from keycloak_bridge.settings.fields import (
    AGE,
    LIMIT,
    PACE,
    URL,
    Secret,
    brokers,
    duration,
    files,
    host_name,
    integer,
    setting,
    table,
    text,
    texts,
)

_TOPIC = text("the name of a topic", pattern="^[A-Za-z0-9._-]{1,249}$")
_RETENTION = duration(at_least="1 s", at_most="36500 days")
_EXPRESSION = text("a JMESPath expression")


@dataclass(frozen=True, slots=True)
class KafkaSettings:
    """How to reach the brokers, and how a member of the consumer group behaves."""

    bootstrap_servers: tuple[str, ...] = setting(
        ["localhost:9092"],
        "Brokers to start from.",
        brokers(),
    )
    group_id: str = setting(
        "keycloak-bridge",
        "Consumer group of the events; the invitations' group adds `-invite`, the one that watches the invited `-activation`.",
    )
    client_id: str = setting("keycloak-bridge", "Name of this client in the brokers' logs.")
    security_protocol: Literal["PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"] = setting(
        "PLAINTEXT", "Protocol to talk to the brokers."
    )
    sasl_mechanism: Literal["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512", "OAUTHBEARER"] | None = (
        setting(
            None,
            "How to authenticate; needed by the two `SASL_` protocols. OAUTHBEARER takes tokens that the realm in `[keycloak]` issues "
            "to the bridge's own client.",
        )
    )
    sasl_username: str | None = setting(None, "User name for PLAIN and SCRAM.")
    sasl_password: Secret | None = setting(None, "Password for PLAIN and SCRAM.")
    sasl_oauth_scope: str | None = setting(
        None,
        "Scopes to ask for in the token of OAUTHBEARER, for example one that names Kafka as its audience.",
    )
    ssl_cafile: Path | None = setting(
        None, "CA certificates (PEM) to trust instead of the system's."
    )
    ssl_certfile: Path | None = setting(None, "Client certificate (PEM) for mutual TLS.")
    ssl_keyfile: Path | None = setting(None, "Key (PEM) of the client certificate.")
    ssl_password: Secret | None = setting(None, "Passphrase of the client certificate's key.")
    session_timeout: float = setting(
        "6 s",
        "How long the group waits for a silent member before it reassigns its partitions; a heartbeat is sent every "
        "quarter of it, at least every 3 s.",
        duration(at_least="1 s"),
    )
    max_poll_interval: float = setting(
        "5 minutes",
        "How long a member may take between two polls before it counts as failed.",
        duration(at_least="1 s"),
    )

    lost_records: Literal["warn", "brake"] = setting(
        "warn",
        "What to do where Kafka deleted records before they were read, or their topic was made anew: "
        "warn only, or also engage the brake.",
    )

    token_client: "KeycloakSettings | None" = None
    """No setting of its own: `[keycloak]`, whose client gets the tokens of OAUTHBEARER."""

    @property
    def invite_group_id(self) -> str:
        """The group of the invite stage: one of its own, so that its lag is the backlog of mails."""
        return f"{self.group_id}-invite"

    @property
    def activation_group_id(self) -> str:
        """The group that watches the invited; its lag is how many invitations may be open."""
        return f"{self.group_id}-activation"

    @property
    def heartbeat_interval(self) -> float:
        """Seconds between two heartbeats, which also tell a member of a rebalance; 3 s is Kafka's own default."""
        return min(self.session_timeout / 4, 3.0)


@dataclass(frozen=True, slots=True)
class TopicsSettings:
    """The four topics, and how the bridge creates them."""

    events: str = setting("user-events", "Where user management publishes its events.", _TOPIC)
    invitations: str = setting(
        "user-invitations", "Invitations that are due; only the bridge uses it.", _TOPIC
    )
    results: str = setting(
        "user-results", "The result of each event, for user management to read.", _TOPIC
    )
    dead_letters: str = setting(
        "user-events-dead-letters", "Records that can never succeed, with the reason.", _TOPIC
    )
    create: bool = setting(False, "Create missing topics at start instead of stopping.")
    partitions: int = setting(8, "Partitions of a created topic.", integer(1, 10_000))
    replication_factor: int = setting(
        -1, "Replicas of a created topic; -1 is the brokers' default.", integer(-1, 100)
    )
    retention: float = setting("7 days", "How long a created topic keeps its records.", _RETENTION)
    dead_letter_retention: float = setting(
        "30 days", "The same for the dead-letter topic.", _RETENTION
    )


@dataclass(frozen=True, slots=True)
class KeycloakSettings:
    """Which realm to write to, and with which client."""

    url: str = setting(
        "http://localhost:8080", "Keycloak as the bridge reaches it, without `/realms`.", URL
    )
    realm: str | None = setting(
        None,
        "Realm of the users. Needed by every command that talks to Keycloak.",
        text("the name of a realm", pattern="^[^\\s/?#]+$"),
    )
    known_as: str | None = setting(
        None,
        "Name by which the bridges of one consumer group, and the journals of a backfill, recognise the realm; the realm's URL "
        "if it is not set. Where several URLs lead to one realm, give each bridge the same name; where the URL changes, the old "
        "one.",
        text("up to 200 printable ASCII characters without blanks", pattern="^[!-~]{1,200}$"),
    )
    client_id: str = setting("keycloak-bridge", "Confidential client with a service account.")
    client_secret: Secret | None = setting(
        None,
        "Secret of that client. Every command that talks to Keycloak needs this, or one of the other ways to authenticate.",
    )
    client_key: Secret | None = setting(
        None,
        "Private key (PEM, without passphrase) with which the client signs its assertions (`private_key_jwt`), in place of a "
        "secret; needs the extra `jwt`.",
    )
    client_key_id: str | None = setting(
        None, "Id of that key (`kid`), where the client's key set has several."
    )
    client_assertion: Secret | None = setting(
        None,
        "Assertion (JWT) in place of a secret; as a file, it may be one that somebody else renews, such as the token of a "
        "Kubernetes service account.",
    )
    connect_timeout: float = setting("5 s", "How long connecting may take.", duration())
    read_timeout: float = setting(
        "30 s",
        "How long a call may take once connected: from the first byte of the request to the last of the answer.",
        duration(),
    )
    pool_size: int = setting(24, "Most connections to keep open.", integer(1, 512))
    ca_file: Path | None = setting(
        None, "CA certificates (PEM) to trust instead of the usual ones."
    )
    tls_cert_file: Path | None = setting(
        None,
        "Client certificate (PEM) for mutual TLS; without another way to authenticate, the client's own (`tls_client_auth`).",
    )
    tls_key_file: Path | None = setting(
        None, "Key (PEM, without passphrase) of that certificate, where its file has none."
    )

    @property
    def authenticates(self) -> bool:
        """Whether anything says how the client authenticates."""
        return self.authentication is not None

    @property
    def authentication(self) -> str | None:
        """How the client authenticates, in OAuth's words; None where nothing says so."""
        ways = {
            "client_secret": self.client_secret,
            "private_key_jwt": self.client_key,
            "client_assertion": self.client_assertion,
            "tls_client_auth": self.tls_cert_file,
        }
        return next((name for name, given in ways.items() if given is not None), None)


@dataclass(frozen=True, slots=True)
class EventsSettings:
    """What an event may look like before it is validated."""

    max_bytes: int = setting(
        1_048_576, "Largest record value in bytes.", integer(1024, 104_857_600)
    )
    max_depth: int = setting(32, "Deepest nesting of the JSON.", integer(4, 200))
    max_ahead: float = setting(
        "5 minutes",
        "How far the `time` of an event may be ahead of its record's timestamp and of the clock.",
        duration(),
    )
    ahead: Literal["dead-letter", "clamp"] = setting(
        "dead-letter",
        "What to do with an event that is further ahead; `clamp` takes the record's timestamp as its time.",
    )
    match_key: bool = setting(
        True,
        "Refuse an event whose record key is not the user's id: the `subject`, or without one what the mapping finds.",
    )
    match_subject: bool = setting(True, "Refuse an event whose `subject` is not the user's id.")
    tombstones: Literal["ignore", "delete", "dead-letter"] = setting(
        "ignore",
        "What to do with records without a value; `delete` is a `user.deleted` of the key's user.",
    )
    nulls: Literal["value", "absent"] = setting(
        "value",
        "What a null in the data means: a `value`, which clears; or that the property is `absent`, for producers whose "
        "serializer writes null for what is not there.",
    )
    ignore_types: tuple[str, ...] = setting(
        [],
        "Event types to skip before anything else of a record is judged.",
        texts("a list of event types"),
    )
    after_dead_letter: Literal["park", "continue", "stop"] = setting(
        "park",
        "What to do with later events of a user after one of its events became a dead letter.",
    )


@dataclass(frozen=True, slots=True)
class EnvelopeSettings:
    """A producer's own envelope: JMESPath expressions over `key`, `headers` and `body`; without any but `key`: CloudEvents."""

    id: str | None = setting(None, "Expression for the event's id.", _EXPRESSION)
    type: str | None = setting(None, "Expression for the event's type.", _EXPRESSION)
    subject: str | None = setting(None, "Expression for the user's id.", _EXPRESSION)
    time: str | None = setting(None, "Expression for the time of the event.", _EXPRESSION)
    dataschema: str | None = setting(None, "Expression for the id of the schema.", _EXPRESSION)
    source: str | None = setting(None, "Expression for the publisher of the event.", _EXPRESSION)
    data: str | None = setting(
        None, "Expression for the data that the schema describes.", _EXPRESSION
    )
    key: str | None = setting(
        None,
        "Expression over `key` for the user's id in a record key, for CloudEvents too; without it, the key is the id.",
        _EXPRESSION,
    )
    cleared: str | None = setting(
        None,
        "Expression for a list of names of properties of the data that are null although the data do not say so.",
        _EXPRESSION,
    )
    types: Mapping[str, str] = setting(
        {},
        "The producer's names of event types, and the bridge's.",
        table('a table such as { UserCreated = "user.created" }'),
    )


@dataclass(frozen=True, slots=True)
class SchemasSettings:
    """Schemas besides the shipped ones."""

    folders: tuple[Path, ...] = setting(
        [], "Folders with schemas of your own, as `<type>/<major>.<minor>.json`."
    )
    unknown_formats: Literal["note", "error"] = setting(
        "note",
        "Whether a `format` that JSON Schema does not define, such as `int64` or `phone`, is a note at start or an error. It is "
        "never checked.",
    )


@dataclass(frozen=True, slots=True)
class RegistrySettings:
    """A schema registry: events that name a schema of it by its id, in a frame or a header, are checked against that one."""

    url: str | None = setting(
        None,
        "Confluent-compatible API of the registry, such as `http://registry:8081` or `https://apicurio/apis/ccompat/v7`. "
        "Without it the ids of schemas are not looked up.",
        URL,
    )
    username: str | None = setting(
        None, "User for basic authentication.", text("a name without colon", pattern="^[^:]+$")
    )
    password: Secret | None = setting(None, "Password of that user.")
    token: Secret | None = setting(None, "Bearer token, in place of a user and a password.")
    ca_file: Path | None = setting(
        None, "CA certificates (PEM) to trust instead of the usual ones."
    )
    timeout: float = setting(
        "10 s",
        "How long connecting may take, and then an answer: from the first byte of the request to the last of the answer.",
        duration(),
    )
    frame_ids: Literal["content", "global"] = setting(
        "content",
        "What the ids in frames are: those of the Confluent-compatible API, or `global` ids of Apicurio Registry, as its "
        "serializers of version 2 write them.",
    )


@dataclass(frozen=True, slots=True)
class MappingSettings:
    """How an event becomes a user."""

    file: Path | None = setting(None, "Mapping of your own; without it the shipped one is used.")
    files: Mapping[str, Path] = setting(
        {},
        "Mappings for single event types, or for one major version of a type's schema; `file` serves all others.",
        files('a table such as { "user.updated" = "update.toml", "user.created/2" = "two.toml" }'),
    )


@dataclass(frozen=True, slots=True)
class LifecycleSettings:
    """What the events after `user.created` do to a user."""

    unknown_user: Literal["create", "dead-letter", "wait"] = setting(
        "dead-letter",
        "What to do with an event about a user that Keycloak does not have; only a complete `user.updated` can create it.",
    )
    unknown_user_wait: float = setting(
        "10 minutes",
        "How long `wait` waits for the user to appear before the event becomes a dead letter.",
        duration(at_least="1 s"),
    )
    deleted: Literal["disable", "delete", "anonymise"] = setting(
        "disable",
        "What `user.deleted` does: disable the user, delete it, or disable it and erase all personal data.",
    )
    end_sessions: bool = setting(True, "Log out a user who is disabled, everywhere.")
    email_change: Literal["trusted", "verify"] = setting(
        "trusted",
        "Whether a changed e-mail address counts as verified, or must be verified by a mail.",
    )
    resend: Literal["always", "when-expired"] = setting(
        "when-expired",
        "Whether `user.invitation.requested` sends a mail although the link of the last one is still valid.",
    )


@dataclass(frozen=True, slots=True)
class VerifySettings:
    """Whether users are read back after a write: Keycloak silently drops attributes that it does not know."""

    mode: Literal["sampled", "always", "off"] = setting(
        "sampled", "Which written users are read back."
    )
    share: int = setting(1, "Percent of the events that `sampled` reads back.", integer(0, 100))


@dataclass(frozen=True, slots=True)
class LimitsSettings:
    """How much each process may do within a time; exceeding it engages the brake until an operator releases it."""

    disables: Limit | None = setting("500/1 h", "Users that are disabled.", LIMIT)
    enables: Limit | None = setting(
        "500/1 h", "Disabled users that are enabled, by whatever event.", LIMIT
    )
    deletes: Limit | None = setting("500/1 h", "Users that are deleted or anonymised.", LIMIT)
    email_changes: Limit | None = setting(
        "1000/1 h", "E-mail addresses of existing users that are changed.", LIMIT
    )
    mails: Limit | None = setting("none", "Mails that are sent.", LIMIT)


@dataclass(frozen=True, slots=True)
class InviteSettings:
    """The mail with the link; `[invite]` in a mapping overrides these."""

    mode: Literal["mail", "none"] = setting("mail", "`none` where Keycloak invites by itself.")
    actions: tuple[str, ...] = setting(
        ["UPDATE_PASSWORD", "VERIFY_EMAIL"],
        "Required actions of the link; add `CONFIGURE_TOTP` for a second factor. From Keycloak 26.8 on, the address counts as "
        "verified only with `VERIFY_EMAIL`.",
        texts("a list of required actions", minimum=1),
    )
    lifespan: float = setting(
        "3 days",
        "How long the link is valid.",
        duration(at_least="1 s", at_most="24000 days"),  # seconds in 32 bits
    )
    client_id: str | None = setting(None, "Client that the link leads back to in the end.")
    redirect_uri: str | None = setting(None, "Page that the link leads back to; needs `client_id`.")
    workers: int = setting(4, "Mails that are sent at the same time.", integer(1, 256))
    pace: float | None = setting(
        None, "Most mails to send in a time, by each process of the bridge.", PACE
    )
    delivery: Literal["at-least-once", "at-most-once"] = setting(
        "at-least-once",
        "Whether a mail that may have been sent is sent again, where Keycloak's admin events cannot tell.",
    )
    max_age: float | None = setting(
        "365 days",
        "Greatest age of an invitation, by the time of its event, its request or its record, whichever is oldest; an older one is "
        "not mailed.",
        AGE,
    )
    remind_before: float | None = setting(
        None,
        "How long before the end of an invitation it is mailed once more if the first link was not used. The first link ends then, "
        "so that there are never two: with a lifespan of 3 days and `1 day` it lives for two days, and the reminder's for one.",
        duration(at_least="1 s", at_most="24000 days"),
    )
    resend_expired: int = setting(
        0,
        "How often an invitation that expired is mailed again by itself.",
        integer(0, 10),
    )
    settle: float = setting(
        "15 s",
        "How long a mail without a response may still be on its way.",
        duration(at_most="1 hour"),
    )


@dataclass(frozen=True, slots=True)
class ActivationSettings:
    """Whether and how the bridge finds out who of the invited has set a password, and whose link ended unused."""

    enabled: bool = setting(
        True,
        "Publish the results `activated` and `invitation-expired`. `run --until-caught-up` never does.",
    )
    interval: float = setting(
        "10 s",
        "How often Keycloak is asked who set a password; needs the role `view-events` and user events in the realm.",
        duration(at_least="1 s", at_most="1 day"),
    )
    pace: float = setting(
        "20/s",
        "Most users of whom each process looks at the credentials: those whose link has ended, and, where Keycloak's events "
        "cannot be read, all others in turn.",
        PACE,
    )
    grace: float = setting(
        "5 minutes",
        "How long after the end of the link the user may still set the password: the realm's *Login action timeout*.",
        duration(at_most="1 day"),
    )


@dataclass(frozen=True, slots=True)
class DeliverySettings:
    """How much is processed at once; events of one user are processed one after the other."""

    workers: int = setting(16, "Events that are written at the same time.", integer(1, 256))
    max_records: int = setting(
        1000, "Most records in memory; fetching pauses beyond.", integer(1, 100_000)
    )
    max_bytes: int = setting(
        33_554_432, "Most bytes in memory; fetching pauses beyond.", integer(1024)
    )
    max_attempts: int = setting(
        8,
        "Failures after which a record becomes a dead letter; they count while other records succeed, or if it fails alone.",
        integer(1, 1000),
    )
    stuck_after: float = setting(
        "2 minutes",
        "How long every worker may be busy with one record before the bridge is not ready.",
        duration(at_least="1 s"),
    )
    drain: float = setting(
        "20 s",
        "How long SIGTERM waits for writes in progress.",
        duration(at_most="1 hour"),
    )


@dataclass(frozen=True, slots=True)
class BurstSettings:
    """How a backlog of new users is written: in batches, where the service account has `manage-realm`."""

    mode: Literal["auto", "off"] = setting(
        "auto",
        "`auto` writes in batches while there is a backlog; `off` writes each user by itself.",
    )
    backlog: int = setting(
        200, "Events in memory from which on there is a backlog.", integer(1, 100_000)
    )
    list_limit: int = setting(
        1_000_000,
        "Largest realm whose users may be listed for a backlog; in a larger one each new user is searched for.",
        integer(0),
    )


@dataclass(frozen=True, slots=True)
class BrakeSettings:
    """When too many records become dead letters, processing stops until an operator releases the brake."""

    in_a_row: int = setting(
        20, "Dead letters without a good record in between; 0 is no limit.", integer(0)
    )
    share: int = setting(
        50, "Percent of dead letters among the last 200 records; 0 is no limit.", integer(0, 100)
    )


@dataclass(frozen=True, slots=True)
class RetrySettings:
    """How long to wait between attempts while Keycloak, SMTP or Kafka is down; there is no last attempt."""

    initial: float = setting("0.2 s", "Pause after the first failure.", duration())
    max: float = setting(
        "5 s", "Longest pause; after an outage the bridge continues within it.", duration()
    )


@dataclass(frozen=True, slots=True)
class HealthSettings:
    """Liveness, readiness and metrics over HTTP."""

    enabled: bool = setting(True, "Serve `/live`, `/ready` and `/metrics`.")
    host: str = setting("127.0.0.1", "Address to listen on.", host_name())
    port: int = setting(9090, "Port to listen on; 0 is any free one.", integer(0, 65535))


@dataclass(frozen=True, slots=True)
class UiSettings:
    """A page to look at in a browser: state, outcomes and dead letters, with ids and codes only."""

    enabled: bool = setting(False, "Serve the page at `/` of the health server.")
    token: Secret | None = setting(
        None,
        "Password that a browser asks for, under any user name, and a script sends as bearer token. Without it the page is for "
        "callers on this machine only, so `health.host` must be a loopback address.",
    )


@dataclass(frozen=True, slots=True)
class LogSettings:
    """Logs, on standard error. `run` writes lines below WARNING up to 50 ms late, several at once."""

    level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = setting(
        "INFO", "Lowest level that is written."
    )
    format: Literal["auto", "json", "text"] = setting(
        "auto", "`auto` is text on a terminal, else JSON."
    )


@dataclass(frozen=True, slots=True)
class TracingSettings:
    """Traces by OpenTelemetry, whose environment variables (`OTEL_…`) say where they go and how many are kept."""

    enabled: bool = setting(
        False, "Export a span for each record, call and message; needs the extra `otel`."
    )
    producer: Literal["link", "parent"] = setting(
        "link",
        "What the trace that an event names is to that of its handling: a `link`, or the `parent`, so that both are one.",
    )


@dataclass(frozen=True, slots=True)
class Settings:
    """All settings, by section."""

    kafka: KafkaSettings = KafkaSettings()
    topics: TopicsSettings = TopicsSettings()
    keycloak: KeycloakSettings = KeycloakSettings()
    events: EventsSettings = EventsSettings()
    envelope: EnvelopeSettings = EnvelopeSettings()
    schemas: SchemasSettings = SchemasSettings()
    registry: RegistrySettings = RegistrySettings()
    mapping: MappingSettings = MappingSettings()
    lifecycle: LifecycleSettings = LifecycleSettings()
    verify: VerifySettings = VerifySettings()
    limits: LimitsSettings = LimitsSettings()
    invite: InviteSettings = InviteSettings()
    activation: ActivationSettings = ActivationSettings()
    delivery: DeliverySettings = DeliverySettings()
    burst: BurstSettings = BurstSettings()
    brake: BrakeSettings = BrakeSettings()
    retry: RetrySettings = RetrySettings()
    health: HealthSettings = HealthSettings()
    ui: UiSettings = UiSettings()
    log: LogSettings = LogSettings()
    tracing: TracingSettings = TracingSettings()

    def __post_init__(self) -> None:
        """Let Kafka's clients know whose tokens they log in with."""
        if self.kafka.sasl_mechanism == "OAUTHBEARER":
            # the usual way to set what follows from other fields of a frozen dataclass
            object.__setattr__(self, "kafka", replace(self.kafka, token_client=self.keycloak))


GONE: Mapping[str, str] = {
    "kafka.heartbeat_interval": "a heartbeat is sent every quarter of kafka.session_timeout, at least every 3 s; set that instead",
    "verify.first": 'the first 100 users are read back after each start; verify.mode = "always" reads back all',
    "burst.batch": "the bridge chooses the size of a batch by Keycloak's response times; leave it out",
    "burst.in_flight": "the bridge chooses the number of batches by Keycloak's response times; leave it out",
    "brake.window": "brake.share is always taken of the last 200 records; set that instead",
}
"""Settings of earlier versions, and what to do instead."""
