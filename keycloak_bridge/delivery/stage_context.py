"""What one stage remembers, shared by its consumer loop, its workers, its writers and its results.

A user with a dead letter misses something, so a later event that builds on it must wait. And a record must not become
a dead letter twice, although an earlier owner of its partition may have written one without committing past it.
"""

import sys
from collections.abc import Sequence
from dataclasses import dataclass, field

from keycloak_bridge.delivery.fencing import Fence
from keycloak_bridge.delivery.group_stamp import GroupStamp
from keycloak_bridge.delivery.guards import Brake, Limits
from keycloak_bridge.delivery.tracing import NO_TRACES, StageTracer
from keycloak_bridge.domain.events import Record, TopicPartition
from keycloak_bridge.domain.fingerprint import fingerprint
from keycloak_bridge.domain.ports import Clock
from keycloak_bridge.messages.bridge_headers import record_digest
from keycloak_bridge.ops.metrics import Metrics
from keycloak_bridge.ops.status import Status
from keycloak_bridge.threads.bounded_dict import BoundedDict
from keycloak_bridge.threads.brief_lock import BriefLock


class DeadLetteredUsers:
    """Which users have an event among the dead letters, per partition the last `limit`. Safe to share between threads.

    Users are known by their fingerprint, so a user that shares one counts as well; among `limit` that is as good as
    never.
    """

    def __init__(self, limit: int = 100) -> None:
        self._limit = limit
        self._users: dict[TopicPartition, list[int]] = {}
        self._lock = BriefLock()

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
        self._sent: BoundedDict[bytes, bool] = BoundedDict()  # False: only counted by the brake

    def begin(self, partition: TopicPartition, committed: int) -> None:
        """Note that a partition is read from its commit on, perhaps after another owner."""
        self._until[partition] = committed + self._reach

    def note(self, record: Record) -> None:
        """Note that a dead letter of `record` was handed over; whether it arrived may stay unknown."""
        self._sent.put(record_digest(record), True)

    def sent(self, record: Record) -> bool:
        """Say whether this process sent a dead letter of `record` before, as far as it remembers."""
        return self._sent.get(record_digest(record)) is True

    def note_counted(self, record: Record) -> None:
        """Note that the brake has counted a dead letter of `record`, which may not be handed over yet."""
        self._sent.put(record_digest(record), False)

    def counted(self, record: Record) -> bool:
        """Say whether the brake has counted a dead letter of `record`, or one was sent, as far as this process remembers."""
        return record_digest(record) in self._sent

    def covers(self, record: Record) -> bool:
        """Say whether the dead letters must be searched before one is written of `record`."""
        return record.offset < self._until.get(record.topic_partition, 0) or self.sent(record)


_GONE_SHARE = 4
"""A large backlog has gone below this part of the threshold."""


class Backlog:
    """Says whether so many records wait in a stage that writing them in batches pays, and how many there are.

    `records` counts those in hand and, as of the last look at Kafka, those still there. Safe to read from any thread;
    written by the stage's poll thread.
    """

    def __init__(self, threshold: int = sys.maxsize) -> None:
        self._threshold = threshold
        self._since_s: dict[TopicPartition, float] = {}
        self.is_large = False
        self.records = 0

    def note(self, in_hand: int, lag: int = 0) -> None:
        """Take how many records are in hand, and how many were not done when Kafka was asked last.

        A large backlog counts as such until most of what is in hand is done.
        """
        least = self._threshold / _GONE_SHARE if self.is_large else self._threshold
        self.is_large = in_hand >= least
        self.records = max(in_hand, lag)

    def begin(self, partition: TopicPartition, now_s: float) -> None:
        """Note that the work on `partition` begins, perhaps after another member's."""
        self._since_s[partition] = now_s

    def since_s(self, partition: TopicPartition) -> float | None:
        """Return when the work on `partition` began last; None when it never did."""
        return self._since_s.get(partition)


@dataclass(frozen=True, slots=True)
class StageContext:
    """Everything that the parts of one stage share. Safe to share between threads."""

    name: str
    clock: Clock
    status: Status
    metrics: Metrics
    brake: Brake
    fence: Fence = field(default_factory=Fence)
    dead_lettered_users: DeadLetteredUsers = field(default_factory=DeadLetteredUsers)
    sent_dead_letters: SentDeadLetters = field(default_factory=SentDeadLetters)
    backlog: Backlog = field(default_factory=Backlog)
    stamp: GroupStamp | None = None
    limits: Limits | None = None
    tracer: StageTracer = NO_TRACES
