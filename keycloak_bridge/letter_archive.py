"""Look up whether a record is among the dead letters already."""

import logging
import threading

from keycloak_bridge.core.contracts import dead_letter_headers
from keycloak_bridge.core.errors import BrokerAccessError
from keycloak_bridge.core.model import Record
from keycloak_bridge.kafka_letters import LetterReader
from keycloak_bridge.logs import log_event
from keycloak_bridge.settings import KafkaSettings

logger = logging.getLogger(__name__)

_CLOCKS_DIFFER_MS = 3_600_000
"""How far the clocks of a producer and of the bridge may be apart."""


class KafkaLetterArchive:
    """The dead-letter topic as an index by original position. Safe to share between threads.

    A letter is younger than its record, so it is read from the record's time on, once, and further at each question.
    """

    def __init__(self, settings: KafkaSettings, topic: str) -> None:
        self._settings = settings
        self._topic = topic
        self._lock = threading.Lock()
        self._reader: LetterReader | None = None
        self._since_ms = 0
        self._known: set[tuple[str, str, str]] = set()
        self._told = False

    def holds(self, record: Record) -> bool:
        """Say whether a dead letter of `record` stands in the topic; raises BrokerUnavailableError.

        Where Kafka does not let the bridge read it, the answer is no: perhaps twice is better than not at all.
        """
        with self._lock:
            try:
                self._read_from(record.timestamp_ms - _CLOCKS_DIFFER_MS)
            except BrokerAccessError as error:
                self._tell(error)
                return False
            return (record.topic, str(record.partition), str(record.offset)) in self._known

    def close(self) -> None:
        """Close the connection, if there is one."""
        with self._lock:
            if self._reader is not None:
                self._reader.close()
                self._reader = None

    def _tell(self, error: BrokerAccessError) -> None:
        if self._told:
            return
        self._told = True
        log_event(
            logger,
            "dead-letters-unreadable",
            level=logging.WARNING,
            message="the bridge may not read the dead letters, so one may be written twice after a crash",
            topic=self._topic,
            reason=error.code,
        )

    def _read_from(self, since_ms: int) -> None:
        if self._reader is None:
            self._reader = LetterReader(self._settings, self._topic)
            self._reader.begin_at(since_ms)
            self._since_ms = since_ms
        elif since_ms < self._since_ms:
            self._reader.begin_at(since_ms)
            self._since_ms = since_ms
        for letter in self._reader.read():
            told = dead_letter_headers(letter)
            names = ("kb-dlq-topic", "kb-dlq-partition", "kb-dlq-offset")
            if all(name in told for name in names):
                topic, partition, offset = (told[name] for name in names)
                self._known.add((topic, partition, offset))
