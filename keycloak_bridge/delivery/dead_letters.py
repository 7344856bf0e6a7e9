"""What a stage remembers of dead letters: which users have one, and which records may have become one already.

A user with a dead letter misses something, so a later event that builds on it must wait. And a record must not become
a dead letter twice, although an earlier owner of its partition may have written one without committing past it.
"""

import hashlib
import threading
from collections.abc import Sequence

from keycloak_bridge.delivery.bounded import BoundedDict
from keycloak_bridge.domain.events import Record, TopicPartition


def fingerprint(key: bytes) -> int:
    """Return 64 bits that stand for the user with this record key, today and in any later process."""
    return int.from_bytes(hashlib.blake2b(key, digest_size=8).digest(), "big")


class DeadLetteredUsers:
    """Which users have an event among the dead letters, per partition the last `limit`. Safe to share between threads.

    Users are known by their fingerprint, so a user that shares one counts as well; among `limit` that is as good as
    never.
    """

    def __init__(self, limit: int = 100) -> None:
        self._limit = limit
        self._users: dict[TopicPartition, list[int]] = {}
        self._lock = threading.Lock()

    def note(self, partition: TopicPartition, key: bytes) -> None:
        """Remember the user as the newest of `partition`; the oldest beyond the limit is forgotten."""
        with self._lock:
            self._keep(partition, [*self._users.get(partition, ()), fingerprint(key)])

    def forget(self, partition: TopicPartition, key: bytes) -> None:
        """Count the user as complete again; harmless when it is not remembered."""
        user = fingerprint(key)
        with self._lock:
            users = self._users.get(partition, [])
            if user in users:
                users.remove(user)

    def knows(self, partition: TopicPartition, key: bytes) -> bool:
        """Say whether an event of the user is among the dead letters, as far as it is remembered."""
        return fingerprint(key) in self.of(partition)

    def of(self, partition: TopicPartition) -> tuple[int, ...]:
        """Return the fingerprints of the users of `partition`, the newest last."""
        with self._lock:
            return tuple(self._users.get(partition, ()))

    def take_over(self, partition: TopicPartition, fingerprints: Sequence[int]) -> None:
        """Replace what is known of `partition` by what its earlier owner left, the newest last."""
        with self._lock:
            self._keep(partition, fingerprints)

    def drop(self, partition: TopicPartition) -> None:
        """Forget `partition`; its next owner knows better."""
        with self._lock:
            self._users.pop(partition, None)

    def _keep(self, partition: TopicPartition, users: Sequence[int]) -> None:
        newest_first = list(dict.fromkeys(reversed(users)))[: self._limit]
        self._users[partition] = newest_first[::-1]


class SentDeadLetters:
    """Which records may have become a dead letter already. Safe to share between threads.

    An earlier owner had at most `reach` records in hand above its commit; offsets have gaps, so `reach` is generous.
    """

    def __init__(self, reach: int = 0) -> None:
        self._reach = reach
        self._until: dict[TopicPartition, int] = {}
        self._sent: BoundedDict[tuple[TopicPartition, int], None] = BoundedDict()

    def begin(self, partition: TopicPartition, committed: int) -> None:
        """Note that a partition is read from its commit on, perhaps after another owner."""
        self._until[partition] = committed + self._reach

    def note(self, record: Record) -> None:
        """Note that a dead letter of `record` was handed over; whether it arrived may stay unknown."""
        self._sent.put((record.topic_partition, record.offset), None)

    def sent(self, record: Record) -> bool:
        """Say whether this process sent a dead letter of `record` before, as far as it remembers."""
        return (record.topic_partition, record.offset) in self._sent

    def covers(self, record: Record) -> bool:
        """Say whether the dead letters must be searched before one is written of `record`."""
        return record.offset < self._until.get(record.topic_partition, 0) or self.sent(record)
