"""What all Kafka clients of the bridge share: connection settings, and one translation of errors and of records."""

import contextlib
from collections.abc import Callable, Iterator
from typing import Any, TypeVar

from kafka import errors as kafka_errors

from keycloak_bridge.domain.errors import (
    BrokerAccessError,
    BrokerError,
    BrokerUnavailableError,
    PartitionRevokedError,
)
from keycloak_bridge.domain.events import Message, Record
from keycloak_bridge.settings.model import KafkaSettings

Client = TypeVar("Client")

_ACCESS = (
    kafka_errors.AuthorizationError,
    kafka_errors.SaslAuthenticationFailedError,
    kafka_errors.UnsupportedSaslMechanismError,
    kafka_errors.IllegalSaslStateError,
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
"""Waiting does not fix these: an operator has to change credentials, ACLs or settings."""

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


@contextlib.contextmanager
def translated(doing: str) -> Iterator[None]:
    """Turn errors of kafka-python inside the block into the bridge's own."""
    try:
        yield
    except (kafka_errors.KafkaError, OSError, ValueError) as error:
        raise translate(error, doing) from error


def connection_options(settings: KafkaSettings) -> dict[str, Any]:
    """Return kafka-python's keyword arguments for reaching the brokers."""
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
    if settings.ssl_password:
        options["ssl_password"] = settings.ssl_password.reveal()
    if settings.sasl_password:
        options["sasl_plain_password"] = settings.sasl_password.reveal()
    return options


def connect(factory: Callable[..., Client], settings: KafkaSettings, **options: Any) -> Client:
    """Build one of kafka-python's clients; raises BrokerUnavailableError while no broker answers."""
    with translated("connecting"):
        return factory(**connection_options(settings), **options)


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
