"""Whether the events are done that stood in their topic when its reading began; until then no mail goes out.

After a long stand-still, or once the group's offsets were reset, the topic still holds the creation of users that were
deleted since. They are created and deleted again, and a mail in between would be one to somebody who left long ago.
"""

import logging
import threading
from collections.abc import Mapping

from keycloak_bridge.delivery.group_position import group_positions
from keycloak_bridge.domain.events import TopicPartition
from keycloak_bridge.domain.ports import Clock, RecordConsumer
from keycloak_bridge.ops.logs import log_event

logger = logging.getLogger(__name__)

_STAGE = "invite"
_LOOK_EVERY_S = 1.0

_FEW = 5
"""So few events may be left, each of which fails alone: nobody else waits for them."""

_PATIENCE_S = 30.0
"""Far longer than an event takes that does not fail."""


class CatchUp:
    """Follows the events' group to the end that the topic had at the start. Safe to share between threads.

    One thread, which reads the events, looks; any thread may ask. The whole group counts: another member may have the
    later events of a user whose mail this one has in hand.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._ends: dict[TopicPartition, int] | None = None
        self._held = False
        self._look_at_s = 0.0
        self._few_since_s: float | None = None
        self._done = threading.Event()

    @property
    def done(self) -> bool:
        """Whether mails may go out; it stays so unless the topic begins anew."""
        return self._done.is_set()

    def finish(self) -> None:
        """Note that the events are done as far as this process reads them."""
        if self._held and not self.done:
            log_event(logger, "mails-released", stage=_STAGE)
        self._done.set()

    def restart(self) -> None:
        """Hold the mails again: the topic is read from its beginning."""
        self._ends = self._few_since_s = None
        self._look_at_s = 0.0
        self._held = False
        self._done.clear()

    def look(self, source: RecordConsumer, *, braked: bool) -> None:
        """See how far the group is, at most once a second; `source` has joined it. Raises BrokerError.

        While `braked`, nothing is done of what is left, so it is waited for however few it is.
        """
        now_s = self._clock.monotonic()
        if self.done or now_s < self._look_at_s:
            return
        self._look_at_s = now_s + _LOOK_EVERY_S
        ends = source.end_offsets()
        begins = self._ends is None
        # a topic that was made anew may never reach its old end
        targets = {at: min(end, ends.get(at, 0)) for at, end in (self._ends or ends).items()}
        left = self._left(source, targets)
        self._ends = {at: targets[at] for at in left}
        if begins and left:
            self._held = True
            log_event(
                logger,
                "mails-held",
                message=f"{sum(left.values())} events stand in the topic; mails wait until they are done",
                stage=_STAGE,
            )
        if not left or (not braked and self._waited_for_few(sum(left.values()), now_s)):
            self.finish()

    def _left(
        self, source: RecordConsumer, targets: Mapping[TopicPartition, int]
    ) -> dict[TopicPartition, int]:
        """Return how many offsets of each partition are not done yet, the partitions that are done left out."""
        left = {}
        for at, position in group_positions(source, targets).items():
            done = sum(
                len(range(max(one.start, position.offset), min(one.stop, targets[at])))
                for one in position.finished
            )
            if (count := targets[at] - position.offset - done) > 0:
                left[at] = count
        return left

    def _waited_for_few(self, left: int, now_s: float) -> bool:
        if left > _FEW:
            self._few_since_s = None
            return False
        if self._few_since_s is None:
            self._few_since_s = now_s
        return now_s - self._few_since_s >= _PATIENCE_S
