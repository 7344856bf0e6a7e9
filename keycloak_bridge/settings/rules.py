"""What settings must be together, beyond each being right on its own."""

from collections.abc import Iterator

from keycloak_bridge.settings.model import Settings
from keycloak_bridge.settings.model_kafka import KafkaSettings, TopicsSettings
from keycloak_bridge.settings.schema import Problem


def clashes(settings: Settings) -> Iterator[Problem]:
    """Yield every pair of settings that cannot stand together."""
    yield from _kafka(settings.kafka)
    yield from _topics(settings.topics)
    if settings.invite.redirect_uri and not settings.invite.client_id:
        yield "invite.redirect_uri", "needs `invite.client_id`: Keycloak checks the page with it"
    if settings.retry.initial > settings.retry.max:
        yield "retry.initial", "must not be longer than `retry.max`"


def _kafka(kafka: KafkaSettings) -> Iterator[Problem]:
    if kafka.security_protocol.startswith("SASL_"):
        for key in ("sasl_mechanism", "sasl_username", "sasl_password"):
            if not getattr(kafka, key):
                yield (
                    f"kafka.{key}",
                    f'is needed by security_protocol = "{kafka.security_protocol}"',
                )
    if kafka.ssl_keyfile and not kafka.ssl_certfile:
        yield "kafka.ssl_keyfile", "needs `kafka.ssl_certfile`"
    if kafka.heartbeat_interval * 3 > kafka.session_timeout:
        yield "kafka.heartbeat_interval", "must be at most a third of `kafka.session_timeout`"
    if kafka.max_poll_interval < kafka.session_timeout:
        yield "kafka.max_poll_interval", "must not be shorter than `kafka.session_timeout`"


def _topics(topics: TopicsSettings) -> Iterator[Problem]:
    if topics.replication_factor == 0:
        yield "topics.replication_factor", "must be -1 (the brokers' default) or at least 1"
    seen: dict[str, str] = {}
    for key in ("events", "invitations", "results", "dead_letters"):
        name = getattr(topics, key)
        if name in seen:
            yield f"topics.{key}", f"must be another topic than `topics.{seen[name]}`"
        seen.setdefault(name, key)
