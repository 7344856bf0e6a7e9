"""The producer side: results, invitations and dead letters, each acknowledged by all replicas."""

import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from kafka import KafkaProducer
from kafka import errors as kafka_errors

from keycloak_bridge.domain.errors import BridgeError, BrokerAccessError, BrokerError
from keycloak_bridge.domain.events import Message
from keycloak_bridge.kafka.client import (
    TOO_LARGE,
    close_producer,
    connect,
    record_too_large,
    sending,
    translate,
    translated,
)
from keycloak_bridge.ops.logs import log_event
from keycloak_bridge.settings.model import KafkaSettings

_log = logging.getLogger(__name__)

_LINGER_MS = 50
"""Each request costs the client some tenths of a millisecond, however much is in it.

No worker waits for it; only the next event of the same user does, and the commit.
"""

_DELIVERY_TIMEOUT_MS = 15_000
_MAX_BLOCK_MS = 10_000
_MAX_REQUEST_BYTES = 64 * 1024 * 1024
"""The limit of the client; that of a topic is its `max.message.bytes`."""


class KafkaMessageProducer:
    """A producer that may repeat a record after an outage; see the port `MessageProducer` for the promises."""

    def __init__(self, settings: KafkaSettings, *, repeats: bool = True) -> None:
        """Connect; raises BrokerUnavailableError while no broker answers.

        Without `repeats`, a record that got no answer is left to the caller.
        """
        options: dict[str, Any] = {} if repeats else {"retries": 0}
        self._producer: Any = connect(
            KafkaProducer,
            settings,
            acks="all",
            # kafka-python's idempotent producer never sends again once a batch has expired in an outage; every
            # reader tolerates a repetition, and one request at a time keeps the order
            enable_idempotence=False,
            max_in_flight_requests_per_connection=1,
            # what fitted into the events topic compressed must fit into the dead letters as well
            compression_type="gzip",
            linger_ms=_LINGER_MS,
            delivery_timeout_ms=_DELIVERY_TIMEOUT_MS,
            # a broker that is just starting takes requests that it never answers
            request_timeout_ms=_DELIVERY_TIMEOUT_MS // 3,
            max_block_ms=_MAX_BLOCK_MS,
            max_request_size=_MAX_REQUEST_BYTES,
            metrics_enabled=False,
            **options,
        )

    def publish(self, message: Message) -> "_Acknowledgement":
        """Hand over `message`; nothing is certain before its acknowledgement."""
        try:
            future = self._producer.send(**sending(message), timestamp_ms=message.timestamp_ms)
        except (kafka_errors.KafkaError, OSError, ValueError) as error:
            raise _failure(error, message.topic) from error
        return _Acknowledgement(future, message.topic)

    def close(self) -> None:
        """Send what is buffered and stop."""
        with translated("closing the producer"):
            close_producer(self._producer)


@dataclass(frozen=True, slots=True)
class _Acknowledgement:
    future: Any
    topic: str

    def then(self, done: Callable[[BridgeError | None], None]) -> None:
        """Have `done` called once: at once if all is decided already, else from kafka-python's thread.

        That is after the delivery time-out at the latest, or with the end of `close`.
        """
        self.future.add_callback(lambda _: self._call(done, None))
        self.future.add_errback(lambda error: self._call(done, _failure(error, self.topic)))

    def _call(
        self, done: Callable[[BridgeError | None], None], failure: BrokerError | None
    ) -> None:
        try:
            done(failure)
        except Exception as error:  # noqa: BLE001 # nothing may get into kafka-python's thread
            log_event(
                _log,
                "acknowledgement-failed",
                level=logging.ERROR,
                message="what follows an acknowledgement failed",
                error=error,
                topic=self.topic,
            )


def _failure(error: Exception, topic: str) -> BrokerError:
    """Translate `error`; what the topic never accepts says so, whether the client or the broker reports it."""
    failure: BrokerError
    if isinstance(error, TOO_LARGE):
        failure = record_too_large(f"topic {topic}")
    elif isinstance(error, kafka_errors.InvalidRecordError):
        failure = BrokerAccessError(
            f"topic {topic} refuses a record",
            remedy=f"take compact out of cleanup.policy of topic {topic}: not every record has a key",
        )
    else:
        failure = translate(error, f"publishing to {topic}")
    failure.__cause__ = error
    return failure
