"""How much waits in hand, and since when each partition is this member's."""

import threading

from keycloak_bridge.core.model import TopicPartition

_GONE_SHARE = 4
"""A backlog that stood is gone below this part of what it takes to stand."""


class Backlog:
    """Says whether a backlog stands. Safe to share between threads; written by the stage's poll thread."""

    def __init__(self, stands_at: int) -> None:
        self._stands_at = stands_at
        self._stands = False
        self._lock = threading.Lock()
        self._since: dict[TopicPartition, float] = {}

    @property
    def stands(self) -> bool:
        """Whether so many records wait that writing them in batches pays."""
        return self._stands

    def note(self, records: int) -> None:
        """Take how many records are in hand; what stands goes only when most of it is done."""
        least = self._stands_at / _GONE_SHARE if self._stands else self._stands_at
        self._stands = records >= least

    def begin(self, partition: TopicPartition, now_s: float) -> None:
        """Note that the work on `partition` begins, perhaps after another member's."""
        with self._lock:
            self._since[partition] = now_s

    def since_s(self, partition: TopicPartition) -> float | None:
        """Return when the work on `partition` began last; None when it never did."""
        with self._lock:
            return self._since.get(partition)
