"""Publish replayed records and their marks in transactions, for one operator at a time."""

import contextlib
import threading
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

from kafka import KafkaProducer
from kafka import errors as kafka_errors

from keycloak_bridge.core.errors import BrokerAccessError, BrokerError
from keycloak_bridge.core.model import Message
from keycloak_bridge.kafka_client import connect, sending, translate
from keycloak_bridge.settings import KafkaSettings

TOO_LARGE = "record-too-large"
FENCED = "replay-fenced"

_MAX_BLOCK_MS = 10_000
_DELIVERY_TIMEOUT_MS = 15_000
_END_TIMEOUT_S = 20.0
_TRANSACTION_TIMEOUT_MS = 40_000
"""Longer than a batch can take; after a crash the topics' readers wait this long for the end of what was left open."""
_CLOSE_TIMEOUT_S = 5.0
_MAX_REQUEST_BYTES = 64 * 1024 * 1024

_FENCING = (
    kafka_errors.ProducerFencedError,
    kafka_errors.InvalidProducerEpochError,
    kafka_errors.InvalidTxnStateError,
    kafka_errors.InvalidProducerIdMappingError,
)
_SIZE = (kafka_errors.MessageSizeTooLargeError, kafka_errors.RecordListTooLargeError)


class Outgoing(NamedTuple):
    """A message and the partition it must go to; None leaves that to its key."""

    message: Message
    partition: int | None


class LetterReplayer:
    """Publishes batches, each as a whole or not at all. Only the newest with the same transactional id can."""

    def __init__(self, settings: KafkaSettings, transactional_id: str) -> None:
        """Connect, and end what an earlier one with this id left open; raises BrokerError."""
        self._id = transactional_id
        self._producer: Any = connect(
            KafkaProducer,
            settings,
            transactional_id=transactional_id,
            transaction_timeout_ms=_TRANSACTION_TIMEOUT_MS,
            acks="all",
            compression_type="gzip",
            delivery_timeout_ms=_DELIVERY_TIMEOUT_MS,
            request_timeout_ms=_DELIVERY_TIMEOUT_MS // 2,
            max_block_ms=_MAX_BLOCK_MS,
            max_request_size=_MAX_REQUEST_BYTES,
            allow_auto_create_topics=False,
            metrics_enabled=False,
        )
        try:
            with self._replaying([]):
                self._producer.init_transactions()
        except BaseException:
            self.close()
            raise

    def publish(self, batch: Sequence[Outgoing]) -> None:
        """Publish `batch` in one transaction: when this returns, all of it stands in Kafka.

        Raises BrokerAccessError with the code `record-too-large` (nothing of the batch was published; the next batch
        may), BrokerError with the code `replay-fenced` (another operator replays now), or another BrokerError.
        """
        futures: list[Any] = []
        with self._replaying(futures):
            self._producer.begin_transaction()
            try:
                for message, partition in batch:
                    sent = self._producer.send(**sending(message), partition=partition)
                    futures.append(sent)
                for future in futures:
                    future.get(timeout=_DELIVERY_TIMEOUT_MS / 1000)
            except BaseException:
                # readers of the topics wait for the end of what is left open
                with contextlib.suppress(kafka_errors.KafkaError):
                    _within(_END_TIMEOUT_S, self._producer.abort_transaction)
                raise
            _within(_END_TIMEOUT_S, self._producer.commit_transaction)

    def close(self) -> None:
        """Stop; what is not committed will never be seen."""
        with contextlib.suppress(kafka_errors.KafkaError):
            self._producer.close(timeout=_CLOSE_TIMEOUT_S)
            return
        # records that cannot go out keep it open, and its finalizer would complain once more
        self._producer._sender.force_close()  # noqa: SLF001 # the only way to give up
        self._producer._sender.join(_CLOSE_TIMEOUT_S)  # noqa: SLF001
        with contextlib.suppress(kafka_errors.KafkaError):
            self._producer.close(timeout=_CLOSE_TIMEOUT_S)

    @contextlib.contextmanager
    def _replaying(self, futures: list[Any]) -> Iterator[None]:
        """Translate the error that was first; those behind it only say that something was."""
        try:
            yield
        except (kafka_errors.KafkaError, OSError, ValueError) as error:
            raise self._told(_cause(error, futures)) from error

    def _told(self, error: Exception) -> BrokerError:
        if isinstance(error, _FENCING):
            return BrokerError(
                "another replay has begun meanwhile, or this one took too long; what it had not finished is undone",
                code=FENCED,
                remedy="let the other one end, then run the command again: what was replayed is left alone",
            )
        if isinstance(error, _SIZE):
            return BrokerAccessError(
                "the topic does not take a record of this size",
                code=TOO_LARGE,
                remedy="raise max.message.bytes of the topic",
            )
        if isinstance(error, kafka_errors.TransactionalIdAuthorizationFailedError):
            return BrokerAccessError(
                f"Kafka does not allow the transactional id {self._id}",
                remedy=f"allow Write and Describe on the TransactionalId {self._id} by an ACL",
            )
        return translate(error, "replaying")


def _cause(error: Exception, futures: Sequence[Any]) -> Exception:
    """Return the error of the first record that says what happened, `error` where none does."""
    told = [future.exception for future in futures if future.is_done and future.failed()]
    telling = (*_FENCING, *_SIZE, kafka_errors.AuthorizationError)
    for one in (*told, error, *error.args):
        if isinstance(one, telling):
            return one
    return error


def _within(timeout_s: float, call: Callable[[], None]) -> None:
    """Return once `call` has; raises its error, or KafkaTimeoutError.

    kafka-python waits without end for the end of a transaction.
    """
    errors: list[Exception] = []

    def run() -> None:
        try:
            call()
        except Exception as error:  # noqa: BLE001 # raised again by the caller's thread
            errors.append(error)

    thread = threading.Thread(target=run, name="end-transaction", daemon=True)
    thread.start()
    thread.join(timeout_s)
    if errors:
        raise errors[0]
    if thread.is_alive():
        raise kafka_errors.KafkaTimeoutError("the transaction did not end in time")
