"""What all Kafka clients of the bridge share: connection settings, and one translation of errors and of records."""

import contextlib
from collections.abc import Callable, Iterator
from typing import Any, TypeVar

from kafka import errors as kafka_errors

from keycloak_bridge.domain.errors import (
    RECORD_TOO_LARGE,
    BrokerAccessError,
    BrokerError,
    BrokerRefusedError,
    BrokerUnavailableError,
    PartitionRevokedError,
)
from keycloak_bridge.domain.events import Message, Record
from keycloak_bridge.kafka.security import (
    CREDENTIALS,
    MECHANISM,
    PROTOCOL,
    Watch,
    check_files,
    passphrase,
)
from keycloak_bridge.kafka.tokens import token_provider
from keycloak_bridge.settings.model import KafkaSettings

Client = TypeVar("Client")

_LOGIN: dict[type[Exception], str] = {
    kafka_errors.SaslAuthenticationFailedError: CREDENTIALS,
    kafka_errors.UnsupportedSaslMechanismError: MECHANISM,
    kafka_errors.IllegalSaslStateError: PROTOCOL,
}
"""A new connection could not log in; a running bridge waits, since passwords may be just being replaced."""

_ACCESS = (
    kafka_errors.AuthorizationError,
    kafka_errors.SecurityDisabledError,
    kafka_errors.UnacceptableCredentialError,
    kafka_errors.PrincipalDeserializationFailureError,
    kafka_errors.DelegationTokenAuthDisabledError,
    kafka_errors.DelegationTokenExpiredError,
    kafka_errors.DelegationTokenNotFoundError,
    kafka_errors.DelegationTokenOwnerMismatchError,
    kafka_errors.DelegationTokenRequestNotAllowedError,
    kafka_errors.FencedInstanceIdError,
    kafka_errors.UnreleasedInstanceIdError,
    kafka_errors.InvalidGroupIdError,
    kafka_errors.InvalidSessionTimeoutError,
    kafka_errors.InconsistentGroupProtocolError,
    kafka_errors.InvalidTopicError,
    kafka_errors.UnsupportedVersionError,
    kafka_errors.UnrecognizedBrokerVersion,
    kafka_errors.KafkaConfigurationError,
    kafka_errors.GroupMaxSizeReachedError,
    kafka_errors.InvalidRequiredAcksError,
    kafka_errors.PolicyViolationError,
    kafka_errors.InvalidConfigurationError,
    kafka_errors.InvalidPartitionsError,
    kafka_errors.InvalidReplicationFactorError,
    kafka_errors.InvalidReplicationAssignmentError,
    kafka_errors.UnsupportedAssignorError,
    kafka_errors.UnsupportedCodecError,
    kafka_errors.UnsupportedCompressionTypeError,
    kafka_errors.UnsupportedForMessageFormatError,
    kafka_errors.MessageSizeTooLargeError,
    kafka_errors.RecordListTooLargeError,
    kafka_errors.InvalidRecordError,
)
"""Waiting does not fix these: an operator has to change ACLs or settings."""

_REVOKED = (
    kafka_errors.CommitFailedError,
    kafka_errors.RebalanceInProgressError,
    kafka_errors.IllegalGenerationError,
    kafka_errors.UnknownMemberIdError,
    kafka_errors.FencedMemberEpochError,
    kafka_errors.StaleMemberEpochError,
)
"""The group moved on; kafka-python does not call these retriable, yet the next poll resolves them."""


def translate(error: Exception, doing: str) -> BrokerError:
    """Return the bridge's error for one that came out of kafka-python; everything unknown counts as an outage.

    An outage is waited for, so an unforeseen error can delay records but never lose one. A test asks for a decision
    about each class of kafka-python.
    """
    name = type(error).__name__
    if isinstance(error, kafka_errors.AuthorizationError):
        return BrokerAccessError(
            f"Kafka does not allow {doing}: {name}",
            remedy="check the names in [topics] and [kafka] group_id, and add the ACL that the bridge's user misses "
            "(docs/security.md has all of them)",
        )
    if type(error) in _LOGIN:
        return BrokerRefusedError(
            f"Kafka refuses the login while {doing}: {name}",
            code=_LOGIN[type(error)],
            remedy="check [kafka] security_protocol and sasl_*",
        )
    if isinstance(error, _ACCESS):
        return BrokerAccessError(
            f"Kafka refuses {doing}: {name}",
            remedy="check [kafka] security_protocol, sasl_* and ssl_* and the ACLs of topic and group",
        )
    if isinstance(error, _REVOKED):
        return PartitionRevokedError(f"the consumer group is rebalancing while {doing}: {name}")
    if isinstance(error, OSError | ValueError) and not isinstance(error, kafka_errors.KafkaError):
        # a broken certificate file or an unresolvable address comes up raw
        return BrokerUnavailableError(
            f"Kafka cannot be reached while {doing}: {name}",
            remedy="check [kafka] bootstrap_servers and the ssl_* files",
        )
    return BrokerUnavailableError(
        f"Kafka does not answer while {doing}: {name}",
        remedy="check [kafka] bootstrap_servers and that the brokers are up",
    )


TOO_LARGE = (kafka_errors.MessageSizeTooLargeError, kafka_errors.RecordListTooLargeError)
"""What the client or the broker raises for a record that its topic never accepts."""


def record_too_large(topic: str) -> BrokerAccessError:
    """Return the error for one of TOO_LARGE; `topic` is how a sentence names the topic."""
    return BrokerAccessError(
        f"{topic} does not take a record of this size",
        code=RECORD_TOO_LARGE,
        remedy=f"raise max.message.bytes of {topic}",
    )


@contextlib.contextmanager
def translated(doing: str, watch: Watch | None = None) -> Iterator[None]:
    """Turn errors of kafka-python inside the block into the bridge's own; `watch` may know why no broker answers."""
    try:
        yield
    except (kafka_errors.KafkaError, OSError, ValueError) as error:
        found: BrokerError = translate(error, doing)
        if watch is not None and isinstance(found, BrokerUnavailableError):
            found = watch.problem() or found
        raise found from error


def connection_options(settings: KafkaSettings) -> dict[str, Any]:
    """Return kafka-python's keyword arguments for reaching the brokers; a password is not among them."""
    options: dict[str, Any] = {
        "bootstrap_servers": list(settings.bootstrap_servers),
        "client_id": settings.client_id,
        "security_protocol": settings.security_protocol,
        # a broker that comes back should be seen at once, not after the default's 30 s
        "reconnect_backoff_max_ms": 1000,
        "bootstrap_timeout_ms": 5000,
    }
    optional = {
        "ssl_cafile": settings.ssl_cafile,
        "ssl_certfile": settings.ssl_certfile,
        "ssl_keyfile": settings.ssl_keyfile,
        "sasl_mechanism": settings.sasl_mechanism,
        "sasl_plain_username": settings.sasl_username,
    }
    options.update({key: str(value) for key, value in optional.items() if value})
    if settings.ssl_certfile:
        # OpenSSL asks at each connection; without an answer it would ask at the terminal
        options["ssl_password"] = passphrase(settings)
    if settings.sasl_mechanism == "OAUTHBEARER":
        options["sasl_oauth_token_provider"] = token_provider(settings)
    return options


def connect(
    factory: Callable[..., Client],
    settings: KafkaSettings,
    watch: Watch | None = None,
    **options: Any,
) -> Client:
    """Build one of kafka-python's clients, whose connections `watch` knows.

    Raises BrokerUnavailableError while no broker answers, BrokerRefusedError where TLS or the login fails.
    """
    watch = watch or Watch(settings)
    check_files(settings)
    try:
        with translated("connecting"):
            return factory(**connection_options(settings), kafka_client=watch.client, **options)
    except BrokerUnavailableError as error:
        found = watch.problem(ask=True)
        if found is None:
            raise
        raise found from error


_CLOSE_TIMEOUT_S = 5.0


def close_producer(producer: Any) -> None:
    """Send what is buffered and stop; raises KafkaError after giving up what could not be sent."""
    try:
        producer.close(timeout=_CLOSE_TIMEOUT_S)
    except kafka_errors.KafkaError:
        # it stays open then, and its finalizer would complain once more
        sender = producer._sender  # noqa: SLF001 # the only way to give up
        sender.force_close()
        sender.join(_CLOSE_TIMEOUT_S)
        with contextlib.suppress(kafka_errors.KafkaError):
            producer.close(timeout=_CLOSE_TIMEOUT_S)
        raise


def record_of(raw: Any) -> Record:
    """Return what kafka-python read as a record of the bridge."""
    return Record(
        topic=raw.topic,
        partition=raw.partition,
        offset=raw.offset,
        timestamp_ms=raw.timestamp,
        key=raw.key,
        value=raw.value,
        headers=tuple(raw.headers),
        unreadable=getattr(raw, "unreadable", None),
    )


def sending(message: Message) -> dict[str, Any]:
    """Return the arguments with which kafka-python's `send` takes `message`.

    It takes neither a null header value nor a record without both key and value.
    """
    return {
        "topic": message.topic,
        "key": message.key,
        "value": b"" if message.value is None and message.key is None else message.value,
        "headers": [(name, value or b"") for name, value in message.headers],
    }
