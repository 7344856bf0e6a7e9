"""Which records may have become a dead letter already, without this process knowing."""

import threading
from collections import OrderedDict

from keycloak_bridge.core.model import Record, TopicPartition

_REMEMBERED = 10_000


class Doubt:
    """Remembers where an earlier owner may have been, and which letters were sent. Safe to share between threads.

    An earlier owner had at most `reach` records in hand above its commit; offsets have gaps, so `reach` is generous.
    """

    def __init__(self, reach: int) -> None:
        self._reach = reach
        self._lock = threading.Lock()
        self._until: dict[TopicPartition, int] = {}
        self._sent: OrderedDict[tuple[TopicPartition, int], None] = OrderedDict()

    def begin(self, partition: TopicPartition, committed: int) -> None:
        """Note that a partition is read from its commit on, perhaps after somebody else."""
        with self._lock:
            self._until[partition] = committed + self._reach

    def note(self, record: Record) -> None:
        """Note that a dead letter of `record` is on its way; what becomes of it may stay unknown."""
        with self._lock:
            self._sent[record.topic_partition, record.offset] = None
            if len(self._sent) > _REMEMBERED:
                self._sent.popitem(last=False)

    def sent(self, record: Record) -> bool:
        """Say whether this process sent a dead letter of `record` before, as far as it remembers."""
        with self._lock:
            return (record.topic_partition, record.offset) in self._sent

    def covers(self, record: Record) -> bool:
        """Say whether the dead letters must be looked through before one is written of `record`."""
        at = record.topic_partition
        with self._lock:
            return record.offset < self._until.get(at, 0) or (at, record.offset) in self._sent
