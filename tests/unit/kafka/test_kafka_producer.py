import logging
from typing import Any

import pytest
from kafka import errors as kafka_errors
from kafka.future import Future
from stage_harness import settled

from keycloak_bridge.domain.errors import (
    BridgeError,
    BrokerAccessError,
    BrokerError,
    BrokerUnavailableError,
)
from keycloak_bridge.domain.events import Message
from keycloak_bridge.kafka import producer as kafka_sink
from keycloak_bridge.kafka.producer import KafkaMessageProducer
from keycloak_bridge.settings.model import KafkaSettings


class StubProducer:
    """Remembers what was sent; its futures end as the test says, or stay open."""

    def __init__(self, **options: Any) -> None:
        self.options = options
        self.sent: list[dict[str, Any]] = []
        self.send_error: Exception | None = None
        self.future_error: Exception | None = None
        self.futures: list[Future] = []
        self.closed_with: float | None = None
        self.close_errors: list[Exception] = []
        self.given_up = False
        self._sender = self

    def send(self, topic: str, **what: Any) -> Future:
        if self.send_error is not None:
            raise self.send_error
        self.sent.append({"topic": topic, **what})
        future = Future()
        if self.future_error is not None:
            future.failure(self.future_error)
        self.futures.append(future)
        return future

    def close(self, timeout: float) -> None:
        if self.close_errors:
            raise self.close_errors.pop()
        self.closed_with = timeout

    def force_close(self) -> None:
        self.given_up = True

    def join(self, timeout: float) -> None:
        assert self.given_up


@pytest.fixture
def sink(monkeypatch: pytest.MonkeyPatch) -> KafkaMessageProducer:
    """A sink over the stub."""
    monkeypatch.setattr(kafka_sink, "KafkaProducer", StubProducer)
    return KafkaMessageProducer(KafkaSettings())


@pytest.fixture
def stub(sink: KafkaMessageProducer) -> StubProducer:
    """The stub behind the sink."""
    producer: StubProducer = sink._producer
    return producer


def test_every_replica_must_have_it(stub: StubProducer) -> None:
    """Acknowledged means written everywhere; one request at a time keeps the order; bytes go as they are."""
    assert ("all", 1) == (
        stub.options["acks"],
        stub.options["max_in_flight_requests_per_connection"],
    )
    assert [] == [name for name in stub.options if "serializer" in name]


def test_an_acknowledgement_reports_once_that_the_record_is_lost(
    sink: KafkaMessageProducer, stub: StubProducer
) -> None:
    """kafka-python may fail a batch that it has given up already once more; that is not reported again."""
    reported: list[BridgeError | None] = []
    sink.publish(Message("t", b"k", b"v")).then(reported.append)

    stub.futures[0].failure(kafka_errors.KafkaTimeoutError())
    stub.futures[0].failure(kafka_errors.IllegalStateError())

    assert ["Kafka does not answer while publishing to t: KafkaTimeoutError"] == [
        error and error.message for error in reported
    ]


@pytest.mark.parametrize("moment", ["later", "at once"])
@pytest.mark.parametrize("failed", [True, False])
def test_what_follows_an_acknowledgement_may_fail(
    sink: KafkaMessageProducer,
    stub: StubProducer,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    moment: str,
    failed: bool,
) -> None:
    """Nothing gets into kafka-python's thread, even where it lets errors of callbacks out."""
    monkeypatch.setattr(Future, "error_on_callbacks", True)

    def done(_: BridgeError | None) -> None:
        raise RuntimeError

    def end() -> None:
        (future,) = stub.futures
        future.failure(kafka_errors.KafkaTimeoutError()) if failed else future.success(None)

    acknowledgement = sink.publish(Message("t", b"k", b"v"))
    for step in (end, lambda: acknowledgement.then(done))[:: 1 if moment == "at once" else -1]:
        step()

    assert [(logging.ERROR, RuntimeError)] == [
        (line.levelno, line.exc_info[0] if line.exc_info else None) for line in caplog.records
    ]


@pytest.mark.parametrize("where", ["send_error", "future_error"])
@pytest.mark.parametrize(
    ("raw", "expected", "remedy"),
    [
        (kafka_errors.KafkaTimeoutError(), BrokerUnavailableError, ""),
        (kafka_errors.NotEnoughReplicasError(), BrokerUnavailableError, ""),
        (kafka_errors.TopicAuthorizationFailedError(), BrokerAccessError, ""),
        (ValueError(), BrokerUnavailableError, ""),
        (kafka_errors.MessageSizeTooLargeError(), BrokerAccessError, "max.message.bytes of topic"),
        (kafka_errors.RecordListTooLargeError(), BrokerAccessError, "max.message.bytes of topic"),
    ],
)
def test_failures_are_ours(
    sink: KafkaMessageProducer,
    stub: StubProducer,
    where: str,
    raw: Exception,
    expected: type[BrokerError],
    remedy: str,
) -> None:
    """What can pass is waited for, what cannot stops; the sentence names the topic."""
    setattr(stub, where, raw)

    with pytest.raises(expected) as caught:
        settled(sink.publish(Message("user-results", b"k", b"v")))

    assert "user-results" in f"{caught.value.message}{caught.value.remedy}"
    assert remedy in str(caught.value.remedy)


def test_a_close_during_an_outage_gives_up_what_is_buffered(
    sink: KafkaMessageProducer, stub: StubProducer
) -> None:
    """kafka-python would stay open, and complain again when it is collected."""
    stub.close_errors = [kafka_errors.KafkaTimeoutError()]

    with pytest.raises(BrokerUnavailableError):
        sink.close()

    assert stub.given_up
    assert stub.closed_with is not None
