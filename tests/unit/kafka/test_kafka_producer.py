import logging
from typing import Any

import pytest
from kafka import KafkaProducer
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


def test_kafka_python_knows_every_option_of_the_sink(stub: StubProducer) -> None:
    """A misspelt option would be refused only in front of a real broker."""
    assert set() == set(stub.options) - set(KafkaProducer.DEFAULT_CONFIG)


def test_a_message_goes_as_it_is(sink: KafkaMessageProducer, stub: StubProducer) -> None:
    """Key, value, headers in order and timestamp."""
    headers = (("b", b"\xff"), ("a", b"1"), ("b", b"2"))

    sink.publish(Message("t", b"k", b"\x00v", headers, timestamp_ms=42))

    assert [
        {
            "topic": "t",
            "key": b"k",
            "value": b"\x00v",
            "headers": [("b", b"\xff"), ("a", b"1"), ("b", b"2")],
            "timestamp_ms": 42,
        }
    ] == stub.sent


def test_an_acknowledgement_reports_once_when_the_record_has_arrived(
    sink: KafkaMessageProducer, stub: StubProducer
) -> None:
    """Not before, and to every callback; one that is added later is called at once."""
    reported: list[tuple[str, BridgeError | None]] = []
    acknowledgement = sink.publish(Message("t", b"k", b"v"))

    acknowledgement.then(lambda error: reported.append(("first", error)))
    acknowledgement.then(lambda error: reported.append(("second", error)))
    before = list(reported)
    stub.futures[0].success("metadata")
    acknowledgement.then(lambda error: reported.append(("later", error)))

    assert [] == before
    assert [("first", None), ("second", None), ("later", None)] == reported


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

    assert [(logging.WARNING, RuntimeError)] == [
        (line.levelno, line.exc_info[0] if line.exc_info else None) for line in caplog.records
    ]


def test_a_null_header_becomes_an_empty_one(sink: KafkaMessageProducer, stub: StubProducer) -> None:
    """kafka-python refuses null headers; a dead letter must go out all the same."""
    sink.publish(Message("t", b"k", b"v", (("trace", None),)))

    assert [("trace", b"")] == stub.sent[0]["headers"]


@pytest.mark.parametrize(
    ("key", "value", "expected"),
    [
        (None, None, (None, b"")),
        (b"k", None, (b"k", None)),
        (None, b"v", (None, b"v")),
    ],
)
def test_a_record_without_key_and_value_is_sent(
    sink: KafkaMessageProducer,
    stub: StubProducer,
    key: bytes | None,
    value: bytes | None,
    expected: tuple[bytes | None, bytes | None],
) -> None:
    """kafka-python refuses a record that has neither, so it gets an empty value; tombstones stay."""
    sink.publish(Message("t", key, value))

    assert expected == (stub.sent[0]["key"], stub.sent[0]["value"])


@pytest.mark.parametrize("where", ["send_error", "future_error"])
@pytest.mark.parametrize(
    "kind", [kafka_errors.MessageSizeTooLargeError, kafka_errors.RecordListTooLargeError]
)
def test_a_record_that_is_too_large_stops(
    sink: KafkaMessageProducer, stub: StubProducer, where: str, kind: type[Exception]
) -> None:
    """Waiting does not shrink it, whether the client or the broker says so; the remedy names the topic."""
    setattr(stub, where, kind())

    with pytest.raises(BrokerAccessError) as caught:
        settled(sink.publish(Message("letters", b"k", b"v")))

    assert "max.message.bytes of topic letters" in str(caught.value.remedy)


def test_a_compacted_topic_is_named(sink: KafkaMessageProducer, stub: StubProducer) -> None:
    """Such a topic refuses records without a key for good."""
    stub.future_error = kafka_errors.InvalidRecordError()

    with pytest.raises(BrokerAccessError) as caught:
        settled(sink.publish(Message("letters", None, b"v")))

    assert "cleanup.policy of topic letters" in str(caught.value.remedy)


@pytest.mark.parametrize("where", ["send_error", "future_error"])
@pytest.mark.parametrize(
    ("raw", "expected"),
    [
        (kafka_errors.KafkaTimeoutError(), BrokerUnavailableError),
        (kafka_errors.NotEnoughReplicasError(), BrokerUnavailableError),
        (kafka_errors.TopicAuthorizationFailedError(), BrokerAccessError),
        (ValueError(), BrokerUnavailableError),
    ],
)
def test_failures_are_ours(
    sink: KafkaMessageProducer,
    stub: StubProducer,
    where: str,
    raw: Exception,
    expected: type[BrokerError],
) -> None:
    """What can pass is waited for, what cannot stops; the sentence names the topic."""
    setattr(stub, where, raw)

    with pytest.raises(expected) as caught:
        settled(sink.publish(Message("user-results", b"k", b"v")))

    assert "user-results" in caught.value.message


def test_close_sends_what_is_buffered(sink: KafkaMessageProducer, stub: StubProducer) -> None:
    """Within bounds."""
    sink.close()

    assert stub.closed_with is not None


def test_a_close_during_an_outage_gives_up_what_is_buffered(
    sink: KafkaMessageProducer, stub: StubProducer
) -> None:
    """kafka-python would stay open, and complain again when it is collected."""
    stub.close_errors = [kafka_errors.KafkaTimeoutError()]

    with pytest.raises(BrokerUnavailableError):
        sink.close()

    assert stub.given_up
    assert stub.closed_with is not None
