"""What the bridge asks of its own dead-letter topic: was this record written there before, is that one really a replay."""

import logging
import threading
import time
from collections.abc import Callable

from keycloak_bridge.domain.errors import BrokerAccessError
from keycloak_bridge.domain.events import Record
from keycloak_bridge.kafka.dead_letter_topic import DeadLetterReader
from keycloak_bridge.kafka.topics import KafkaAdmin
from keycloak_bridge.messages.bridge_headers import record_digest
from keycloak_bridge.messages.dead_letters import (
    claimed_replay,
    dead_letter_group,
    dead_lettered_record,
    marked_replay,
    may_lack_body,
    record_without_body,
)
from keycloak_bridge.ops.logs import log_event
from keycloak_bridge.settings.model import KafkaSettings

logger = logging.getLogger(__name__)

_CLOCKS_DIFFER_MS = 3_600_000
"""How far the clocks of a producer and of the bridge may be apart."""

_MOST = 100_000
"""Dead letters, and replays, that are remembered; of one that was forgotten a second dead letter may be written."""

_DIGEST_BYTES = 16
_TOPIC_ID_S = 10.0
"""How long the id of a topic is believed."""


class KafkaDeadLetterArchive:
    """The dead-letter topic as an index by what its dead letters hold. Safe to share between threads.

    A dead letter is younger than its record, and a replay as old as its mark, so the topic is read from the record's time
    on, once, and on at each call. Open and aborted transactions are read too: the mark of a replay is in its transaction,
    and may still be open in this topic where the replay is through in its own.
    """

    def __init__(
        self,
        settings: KafkaSettings,
        topic: str,
        now_s: Callable[[], float] = time.time,
        monotonic_s: Callable[[], float] = time.monotonic,
    ) -> None:
        self._settings = settings
        self._topic = topic
        # another realm may read the same events: that they failed there says nothing about this one
        self._groups = (settings.group_id, settings.invite_group_id)
        self._now_s = now_s
        self._monotonic_s = monotonic_s
        self._lock = threading.Lock()
        self._reader: DeadLetterReader | None = None
        self._admin: KafkaAdmin | None = None
        self._since_ms: int | None = None
        self._letters = _Digests()
        self._without_body = _Digests()
        self._replays = _Digests()
        self._topic_ids: dict[str, tuple[float, str | None]] = {}
        self._reported = False

    def holds(self, record: Record) -> bool:
        """Say whether the topic has a dead letter of this very `record`; raises BrokerUnavailableError.

        Where the bridge may not read the topic, the answer is no: twice is better than not at all.
        """
        with self._lock:
            if not self._could_read(record):
                return False
            # where Kafka gives no ids of topics, dead letters have none
            digests = [
                record_digest(record),
                record_digest(record, topic_id=self._topic_id(record.topic)),
            ]
            known = [self._letters, self._without_body][: 1 + may_lack_body(record)]
            return any(digest in letters for letters in known for digest in digests)

    def replayed(self, record: Record) -> bool:
        """Say whether the topic has the mark of the replay that `record` says it is; raises BrokerUnavailableError.

        Where the bridge may not read the topic, the answer is no.
        """
        digest = claimed_replay(record)
        if digest is None:
            return False
        with self._lock:
            return digest in self._replays or (self._could_read(record) and digest in self._replays)

    def topic_id(self, topic: str) -> str | None:
        """Return Kafka's id of `topic`, None where it gives none; raises BrokerUnavailableError."""
        with self._lock:
            return self._topic_id(topic)

    def close(self) -> None:
        """Close the connections, if there are any."""
        with self._lock:
            for connection in (self._reader, self._admin):
                if connection is not None:
                    connection.close()
            self._reader = self._admin = self._since_ms = None

    def _could_read(self, record: Record) -> bool:
        """Read what may be about `record`; say no, once with a warning, where that is not allowed."""
        timestamp_ms = record.timestamp_ms
        # a producer may write any time; one that has not come yet says nothing of when its dead letter was written
        since_ms = timestamp_ms if timestamp_ms <= self._now_s() * 1000 else 0
        try:
            self._read_from(max(since_ms - _CLOCKS_DIFFER_MS, 0))
        except BrokerAccessError as error:
            self._report(error)
            return False
        return True

    def _report(self, error: BrokerAccessError) -> None:
        if self._reported:
            return
        self._reported = True
        log_event(
            logger,
            "dead-letters-unreadable",
            level=logging.WARNING,
            message="the bridge may not read the dead letters, so one may be written twice after a crash, "
            "and replays count as new records",
            topic=self._topic,
            reason=error.code,
        )

    def _read_from(self, since_ms: int) -> None:
        self._reader = reader = self._reader or DeadLetterReader(
            self._settings, self._topic, committed_only=False
        )
        if self._since_ms is None or since_ms < self._since_ms:
            # the second time all of it: producers could name older and older times, and have it read each time
            begin_ms = since_ms if self._since_ms is None else 0
            reader.begin_at(begin_ms)
            # only now: where Kafka does not answer, nothing was read from there on
            self._since_ms = begin_ms
        for record in reader.read():
            self._note(record)

    def _note(self, record: Record) -> None:
        self._replays.add(marked_replay(record))
        if dead_letter_group(record) in (None, *self._groups):
            self._letters.add(dead_lettered_record(record))
            self._without_body.add(record_without_body(record))

    def _topic_id(self, topic: str) -> str | None:
        now_s = self._monotonic_s()
        known = self._topic_ids.get(topic)
        if known is not None and now_s - known[0] < _TOPIC_ID_S:
            return known[1]
        try:
            self._admin = self._admin or KafkaAdmin(self._settings)
            found = self._admin.topic_id(topic)
        except BrokerAccessError:
            found = None
        self._topic_ids[topic] = (now_s, found)
        return found


class _Digests:
    """The last digests that were added, shortened."""

    def __init__(self) -> None:
        self._known: dict[bytes, None] = {}

    def __contains__(self, digest: bytes) -> bool:
        return digest[:_DIGEST_BYTES] in self._known

    def add(self, digest: bytes | None) -> None:
        if digest is None:
            return
        self._known[digest[:_DIGEST_BYTES]] = None
        if len(self._known) > _MOST:
            del self._known[next(iter(self._known))]
