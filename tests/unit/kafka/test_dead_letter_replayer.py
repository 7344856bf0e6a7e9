import threading
from typing import Any

import pytest
from kafka import errors as kafka_errors

from keycloak_bridge.domain.errors import BridgeError, BrokerAccessError, BrokerUnavailableError
from keycloak_bridge.domain.events import Message
from keycloak_bridge.kafka import dead_letter_topic as kafka_replayer
from keycloak_bridge.kafka.dead_letter_topic import FENCED, DeadLetterReplayer, Outgoing
from keycloak_bridge.settings.model import KafkaSettings

BATCH = [
    Outgoing(Message("user-events", b"u-1", b"{}", (("a", b"1"), ("b", None))), 3),
    Outgoing(Message("dead-letters", None, None), None),
]


class StubFuture:
    """A record on its way."""

    def __init__(self, error: Exception | None) -> None:
        self.exception = error
        self.is_done = True

    def failed(self) -> bool:
        return self.exception is not None

    def get(self, timeout: float) -> None:
        if self.exception is not None:
            raise self.exception


class StubProducer:
    """Remembers what was called; fails where the test says so."""

    def __init__(self, **_: Any) -> None:
        self.calls: list[str] = []
        self.failures = dict(StubProducer.planned)
        self.record_errors: list[Exception | None] = []
        StubProducer.last = self

    planned: dict[str, Exception]
    last: "StubProducer"

    def _call(self, name: str) -> None:
        self.calls.append(name)
        if name in self.failures:
            raise self.failures[name]

    def init_transactions(self) -> None:
        self._call("init")

    def begin_transaction(self) -> None:
        self._call("begin")

    def commit_transaction(self) -> None:
        self._call("commit")

    def abort_transaction(self) -> None:
        self._call("abort")

    def send(self, topic: str, **_: Any) -> StubFuture:
        self._call("send")
        return StubFuture(self.record_errors.pop(0) if self.record_errors else None)

    def close(self, timeout: float) -> None:
        self._call("close")


@pytest.fixture
def replayer(monkeypatch: pytest.MonkeyPatch) -> DeadLetterReplayer:
    """A replayer over a stub producer."""
    StubProducer.planned = {}
    monkeypatch.setattr(kafka_replayer, "KafkaProducer", StubProducer)
    return DeadLetterReplayer(KafkaSettings(), "bridge-replay")


@pytest.mark.parametrize(
    ("error", "expected", "code"),
    [
        (kafka_errors.MessageSizeTooLargeError(), BrokerAccessError, "record-too-large"),
        (kafka_errors.RecordListTooLargeError(), BrokerAccessError, "record-too-large"),
        (kafka_errors.ProducerFencedError(), BridgeError, FENCED),
        (kafka_errors.InvalidProducerEpochError(), BridgeError, FENCED),
        (kafka_errors.TopicAuthorizationFailedError({"user-events"}), BrokerAccessError, "kafka-access"),
        (kafka_errors.KafkaTimeoutError(), BrokerUnavailableError, "kafka-unavailable"),
    ],
)  # fmt: skip
def test_a_record_that_fails_undoes_its_batch(
    replayer: DeadLetterReplayer, error: Exception, expected: type[BridgeError], code: str
) -> None:
    """The one that was first says why; those behind it fail only because of it."""
    StubProducer.last.record_errors = [kafka_errors.TransactionAbortedError(), error]

    with pytest.raises(expected) as caught:
        replayer.publish(BATCH)

    if code != "kafka-unavailable":
        assert code == caught.value.code
    assert ["abort"] == StubProducer.last.calls[-1:]


def test_a_commit_without_an_answer_ends(
    replayer: DeadLetterReplayer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """kafka-python waits for ever."""
    monkeypatch.setattr(kafka_replayer, "_END_TIMEOUT_S", 0.01)
    released = threading.Event()
    monkeypatch.setattr(StubProducer.last, "commit_transaction", released.wait)

    with pytest.raises(BrokerUnavailableError):
        replayer.publish(BATCH)
    released.set()


def test_a_forbidden_id_names_the_acl(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing stays open."""
    StubProducer.planned = {"init": kafka_errors.TransactionalIdAuthorizationFailedError()}
    monkeypatch.setattr(kafka_replayer, "KafkaProducer", StubProducer)

    with pytest.raises(BrokerAccessError) as caught:
        DeadLetterReplayer(KafkaSettings(), "bridge-replay")

    assert "TransactionalId bridge-replay" in str(caught.value.remedy)
    assert ["init", "close"] == StubProducer.last.calls


@pytest.mark.parametrize(
    "failures",
    [
        {"send": kafka_errors.KafkaError("failed before", kafka_errors.ProducerFencedError())},
        {"commit": kafka_errors.ProducerFencedError()},
        {
            "send": kafka_errors.ProducerFencedError(),
            "abort": kafka_errors.KafkaError("invalid"),
        },
    ],
    ids=["wrapped by kafka-python", "at the commit", "the abort fails too"],
)
def test_a_replay_that_is_fenced_says_so(
    replayer: DeadLetterReplayer, failures: dict[str, Exception]
) -> None:
    """Another operator began meanwhile; nothing of this batch is published."""
    StubProducer.last.failures = failures

    with pytest.raises(BridgeError, match="another replay") as caught:
        replayer.publish(BATCH)

    assert FENCED == caught.value.code
