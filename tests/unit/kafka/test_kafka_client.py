import inspect
import ssl
from collections.abc import Iterator
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path

import kafka.consumer.fetcher
import kafka.coordinator.base  # both declare errors of their own
import pytest
from kafka import errors as kafka_errors
from kafka.coordinator.consumer import ConsumerCoordinator
from kafka.net.manager import KafkaConnectionManager
from kafka.net.transport import KafkaTCPTransport

from keycloak_bridge.domain.errors import (
    BrokerAccessError,
    BrokerError,
    BrokerRefusedError,
    BrokerUnavailableError,
    ConfigError,
    PartitionRevokedError,
)
from keycloak_bridge.kafka import client as kafka_client
from keycloak_bridge.kafka.client import connect, connection_options, translate, translated
from keycloak_bridge.kafka.security import Watch
from keycloak_bridge.settings.fields import Secret
from keycloak_bridge.settings.model import KafkaSettings

OUTAGES = frozenset(
    [
        "BrokerIdNotRegisteredError",
        "BrokerNotAvailableError",
        "CorruptRecordError",
        "DuplicateBrokerRegistrationError",
        "DuplicateResourceError",
        "DuplicateSequenceNumberError",
        "DuplicateVoterError",
        "FeatureUpdateFailedError",
        "FencedStateEpochError",
        "GroupIdNotFoundError",
        "GroupSubscribedToTopicError",
        "IllegalArgumentError",
        "IllegalStateError",
        "InconsistentClusterIdError",
        "InconsistentVoterSetError",
        "IneligibleReplicaError",
        "InvalidCommitOffsetSizeError",
        "InvalidFetchRequestError",
        "InvalidPrincipalTypeError",
        "InvalidProducerEpochError",
        "InvalidProducerIdMappingError",
        "InvalidReceiveError",
        "InvalidRecordStateError",
        "InvalidRegistrationError",
        "InvalidRequestError",
        "InvalidTimestampError",
        "InvalidTransactionTimeoutError",
        "InvalidTxnStateError",
        "InvalidUpdateVersionError",
        "InvalidVoterKeyError",
        "KafkaProtocolError",
        "LogDirNotFoundError",
        "LogTruncationError",
        "MemberIdRequiredError",
        "MismatchedEndpointTypeError",
        "NewLeaderElectedError",
        "NoError",
        "NoOffsetForPartitionError",
        "NoReassignmentInProgressError",
        "NonEmptyGroupError",
        "OffsetMetadataTooLargeError",
        "OffsetMovedToTieredStorageError",
        "OffsetOutOfRangeError",
        "OperationNotAttemptedError",
        "OutOfOrderSequenceNumberError",
        "PositionOutOfRangeError",
        "ProducerFencedError",
        "QuotaViolationError",
        "ReassignmentInProgressError",
        "RecordTooLargeError",
        "ResourceNotFoundError",
        "SnapshotNotFoundError",
        "StaleBrokerEpochError",
        "StaleControllerEpochError",
        "TelemetryTooLargeError",
        "TopicAlreadyExistsError",
        "TopicDeletionDisabledError",
        "TransactionAbortableError",
        "TransactionAbortedError",
        "TransactionCoordinatorFencedError",
        "TransactionalIdNotFoundError",
        "UnknownBrokerIdError",
        "UnknownControllerIdError",
        "UnknownError",
        "UnknownProducerIdError",
        "UnknownSubscriptionIdError",
        "UnsupportedEndpointTypeError",
        "VoterNotFoundError",
    ]
)
"""Waited for like all that kafka-python calls retriable; by name, since not every version has them all."""

PRIVATE_PARTS = (
    (kafka.KafkaConsumer, "_coordinator"),
    (kafka.KafkaConsumer, "_fetcher"),
    (kafka.KafkaProducer, "_sender"),
    (ConsumerCoordinator, "_assignors"),
    (kafka.consumer.fetcher.Fetcher, "_next_partition_records"),
    (kafka.consumer.fetcher.Fetcher, "config"),
    (KafkaConnectionManager, "_connect"),
    (KafkaConnectionManager, "_build_transport"),
    (KafkaTCPTransport, "_sock_recv"),
)

BASES = (kafka_errors.KafkaError, kafka_errors.BrokerResponseError)
"""Too general to be decided about; what is only this counts as an outage."""


def subclasses(kind: type[Exception]) -> Iterator[type[Exception]]:
    for one in kind.__subclasses__():
        yield one
        yield from subclasses(one)


KAFKA_ERRORS = sorted(
    {one for one in subclasses(kafka_errors.KafkaError) if one.__module__.startswith("kafka.")}
    - set(BASES),
    key=lambda one: one.__name__,
)


def decisions(kind: type[Exception]) -> list[str]:
    """Return the tables that have a class."""
    tables = {
        "access": issubclass(kind, kafka_client._ACCESS),
        "login": kind in kafka_client._LOGIN,
        "revoked": issubclass(kind, kafka_client._REVOKED),
        "retriable": issubclass(kind, kafka_errors.RetriableError),
        "outage": kind.__name__ in OUTAGES,
    }
    return [name for name, has_it in tables.items() if has_it]


@pytest.mark.parametrize("kind", KAFKA_ERRORS, ids=lambda kind: kind.__name__)
def test_every_error_of_kafka_python_becomes_what_its_table_says(kind: type[Exception]) -> None:
    """A class in no table is new, one in two is a contradiction; its text stays out, the place is named."""
    expected = {
        "access": BrokerAccessError,
        "login": BrokerRefusedError,
        "revoked": PartitionRevokedError,
    }

    (decision,) = decisions(kind)
    actual = translate(kind("planted@acme.example"), "polling")

    assert expected.get(decision, BrokerUnavailableError) is type(actual)
    assert "polling" in actual.message
    assert "planted" not in f"{actual.message}{actual.remedy}{actual.args}"


def test_a_login_that_is_refused_while_the_bridge_runs_is_waited_for() -> None:
    """The consumer may raise it before or after its connection told the watch; a password may be just being replaced."""
    settings = KafkaSettings(
        security_protocol="SASL_SSL", sasl_mechanism="SCRAM-SHA-512", sasl_username="ada"
    )
    watch = Watch(settings)

    said = []
    for told in (False, True):
        if told:
            watch.failed("kafka", 9093, kafka_errors.SaslAuthenticationFailedError(), greeted=True)
        with pytest.raises(BrokerRefusedError) as caught, translated("polling", watch):
            raise kafka_errors.SaslAuthenticationFailedError
        said.append((caught.value.code, caught.value.message))

    assert said == [
        (
            "kafka-credentials",
            "Kafka refuses the login while polling: SaslAuthenticationFailedError",
        ),
        (
            "kafka-credentials",
            "the Kafka broker kafka:9093 refuses user or password (SCRAM-SHA-512)",
        ),
    ]


def test_an_unknown_error_is_waited_for() -> None:
    """It can delay records and never lose one."""

    class BrandNewError(kafka_errors.KafkaError):
        """From a version that does not exist."""

    assert BrokerUnavailableError is type(translate(BrandNewError(), "polling"))


@pytest.mark.parametrize(
    "raw",
    [
        ConnectionRefusedError("refused"),
        TimeoutError("slow"),
        ssl.SSLError("planted"),
        ValueError("planted"),
        UnicodeError("planted"),
    ],
)
def test_raw_errors_of_the_connection_are_outages(raw: Exception) -> None:
    """Sockets, TLS and addresses raise their own classes, which mean the same; the cause is kept."""
    with pytest.raises(BrokerUnavailableError) as caught, translated("connecting"):
        raise raw

    assert raw is caught.value.__cause__
    assert "planted" not in caught.value.message


def test_errors_of_the_bridge_pass_untouched() -> None:
    """A missing secret file stays a matter of configuration."""
    error = ConfigError("the secret file is empty")

    with pytest.raises(ConfigError) as caught, translated("connecting"):
        raise error

    assert error is caught.value


def test_a_refusal_names_what_to_check() -> None:
    """Every translated error but a rebalance comes with a remedy."""
    refused = translate(kafka_errors.TopicAuthorizationFailedError(), "polling")
    outage = translate(kafka_errors.NodeNotReadyError(), "polling")

    assert "ACL" in str(refused.remedy)
    assert "bootstrap_servers" in str(outage.remedy)


def test_tls_and_sasl_options_are_handed_over() -> None:
    """Every setting reaches kafka-python under its own name; secrets are read when they are needed, and settings mask them."""
    settings = KafkaSettings(
        security_protocol="SASL_SSL",
        sasl_mechanism="SCRAM-SHA-512",
        sasl_username="bridge",
        sasl_password=Secret("sasl-hush"),
        ssl_cafile=Path("ca.pem"),
        ssl_certfile=Path("cert.pem"),
        ssl_keyfile=Path("key.pem"),
        ssl_password=Secret("ssl-hush"),
    )

    options = connection_options(settings)

    assert "ssl-hush" == options.pop("ssl_password")()
    without_files = replace(settings, ssl_cafile=None, ssl_certfile=None, ssl_keyfile=None)
    assert {"sasl_plain_password": "sasl-hush"} == Watch(without_files).credentials()
    for client in (kafka.KafkaConsumer, kafka.KafkaProducer, kafka.KafkaAdminClient):
        assert set() == options.keys() - client.DEFAULT_CONFIG.keys()
    assert "hush" not in repr(settings)
    assert {
        "security_protocol": "SASL_SSL",
        "sasl_mechanism": "SCRAM-SHA-512",
        "sasl_plain_username": "bridge",
        "ssl_cafile": "ca.pem",
        "ssl_certfile": "cert.pem",
        "ssl_keyfile": "key.pem",
    } == {
        name: value
        for name, value in options.items()
        if name.startswith(("ssl_", "sasl_", "security_"))
    }


def test_connect_adds_options_and_translates() -> None:
    """The factory gets both kinds of options, of security only that there is none; its failure is ours."""
    given: dict[str, object] = {}

    def factory(**options: object) -> str:
        given.update(options)
        return "client"

    def broken(**_: object) -> str:
        raise kafka_errors.KafkaTimeoutError

    settings = KafkaSettings(bootstrap_servers=("a:1", "b:2"), client_id="me")
    assert "client" == connect(factory, settings, group_id="g")
    expected = {"group_id": "g", "bootstrap_servers": ["a:1", "b:2"], "client_id": "me"}
    assert {**expected, "security_protocol": "PLAINTEXT"}.items() <= given.items()
    assert [] == [name for name in given if name.startswith(("ssl_", "sasl_"))]
    with pytest.raises(BrokerError):
        connect(broken, KafkaSettings())


def test_kafka_python_is_the_version_whose_private_parts_are_used() -> None:
    """The consumer's work-arounds rely on private attributes: check each of them before allowing another version."""
    assert callable(ConsumerCoordinator.request_rejoin)
    assert version("kafka-python").split(".")[:2] == ["3", "0"]
    for owner, name in PRIVATE_PARTS:
        assert f".{name}" in inspect.getsource(owner), name
