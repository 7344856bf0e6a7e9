"""Which users miss something, because one of their events became a dead letter."""

import hashlib
import threading
from collections.abc import Sequence

from keycloak_bridge.core.model import TopicPartition


def fingerprint(key: bytes) -> int:
    """Return 64 bits that stand for the user with this record key, today and in any later process."""
    return int.from_bytes(hashlib.blake2b(key, digest_size=8).digest(), "big")


class LostUsers:
    """Which users have an event among the dead letters: per partition the last `limit`; for use from any thread.

    Users are known by their fingerprint, so a user that shares one counts as lost too; among `limit` that is as good
    as never.
    """

    def __init__(self, limit: int = 100) -> None:
        self._limit = limit
        self._lost: dict[TopicPartition, list[int]] = {}
        self._lock = threading.Lock()

    def note(self, partition: TopicPartition, key: bytes) -> None:
        """Remember the user as the newest of `partition`; the oldest beyond the limit is forgotten."""
        user = fingerprint(key)
        with self._lock:
            others = [one for one in self._lost.get(partition, ()) if one != user]
            self._lost[partition] = self._newest([*others, user])

    def forget(self, partition: TopicPartition, key: bytes) -> None:
        """Count the user as whole again; harmless when it was not lost."""
        user = fingerprint(key)
        with self._lock:
            lost = self._lost.get(partition, [])
            if user in lost:
                lost.remove(user)

    def knows(self, partition: TopicPartition, key: bytes) -> bool:
        """Say whether an event of the user is among the dead letters, as far as it is remembered."""
        user = fingerprint(key)
        with self._lock:
            return user in self._lost.get(partition, ())

    def of(self, partition: TopicPartition) -> tuple[int, ...]:
        """Return the fingerprints of the lost users of `partition`, the newest last."""
        with self._lock:
            return tuple(self._lost.get(partition, ()))

    def take_over(self, partition: TopicPartition, fingerprints: Sequence[int]) -> None:
        """Replace what is known of `partition` by what its earlier owner left, the newest last."""
        newest_first = dict.fromkeys(reversed(fingerprints))
        with self._lock:
            self._lost[partition] = self._newest(list(reversed(newest_first)))

    def drop(self, partition: TopicPartition) -> None:
        """Forget `partition`; its next owner knows better."""
        with self._lock:
            self._lost.pop(partition, None)

    def _newest(self, users: list[int]) -> list[int]:
        return users[max(0, len(users) - self._limit) :]
