"""What belongs to one stage and is shared by its consumer loop, its workers, its writers and its results."""

import sys
from dataclasses import dataclass, field

from keycloak_bridge.delivery.dead_letters import DeadLetteredUsers, SentDeadLetters
from keycloak_bridge.delivery.fencing import Fence
from keycloak_bridge.delivery.guards import Brake
from keycloak_bridge.domain.events import TopicPartition
from keycloak_bridge.domain.ports import Clock
from keycloak_bridge.ops.health import Status
from keycloak_bridge.ops.metrics import Metrics

_GONE_SHARE = 4
"""A large backlog has gone below this part of the threshold."""


class Backlog:
    """Says whether so many records wait in a stage that writing them in batches pays.

    Safe to read from any thread; written by the stage's poll thread.
    """

    def __init__(self, threshold: int = sys.maxsize) -> None:
        self._threshold = threshold
        self._since_s: dict[TopicPartition, float] = {}
        self.is_large = False

    def note(self, records: int) -> None:
        """Take how many records are in hand; a large backlog counts as such until most of it is done."""
        least = self._threshold / _GONE_SHARE if self.is_large else self._threshold
        self.is_large = records >= least

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
