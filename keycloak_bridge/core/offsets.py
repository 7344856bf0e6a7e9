"""How far a partition is done, although its records are finished in any order.

Offsets have gaps: compaction removes records, and transactions leave markers that nobody is shown. So nothing is
computed from one offset to the next; only what was delivered counts, in the order in which it was.
"""

from collections import deque
from collections.abc import Iterable, Iterator

from keycloak_bridge.core.offset_ranges import tidy


class _Unfinished:
    """A delivered offset in a ring of them, and the finished ones between it and the next, as first and last.

    Only what is unfinished costs memory: one record may be tried for hours while all others pass it.
    """

    __slots__ = ("after", "before", "first", "last", "offset")

    def __init__(self, offset: int) -> None:
        self.offset = offset
        self.before = self.after = self
        self.first: int | None = None
        self.last = offset

    def insert_before(self, other: "_Unfinished") -> None:
        self.before, self.after = other.before, other
        self.before.after = other.before = self

    def followed_by_finished(self, first: int, last: int) -> None:
        if self.first is None:
            self.first = first
        self.last = last

    def remove(self) -> None:
        self.before.followed_by_finished(self.offset, self.last)
        self.before.after, self.after.before = self.after, self.before


class OffsetTracker:
    """Which offsets of one partition were delivered and which are finished; says what may be committed.

    `start` is the committed offset that reading begins at, `finished` what an earlier owner has finished from there on.
    """

    def __init__(self, start: int | None = None, finished: Iterable[range] = ()) -> None:
        self._start = start
        self._finished_earlier = deque(tidy(finished, start))
        self._last_delivered: int | None = None
        self._nodes: dict[int, _Unfinished] = {}
        self._ring = _Unfinished(-1)  # belongs to no offset: its neighbours are first and last

    @property
    def unfinished(self) -> int:
        """How many delivered offsets are not finished."""
        return len(self._nodes)

    @property
    def last_delivered(self) -> int | None:
        """The offset that was delivered last."""
        return self._last_delivered

    def deliver(self, offset: int) -> bool:
        """Note that `offset` was read, and say whether it is to be worked on.

        It is not when an earlier owner has finished it, which is remembered, or when it was delivered before.
        """
        if self._last_delivered is not None and offset <= self._last_delivered:
            return False

        if self._last_delivered is None and self._start is not None and offset < self._start:
            # reading was set back, so the records that were finished need not be those that come now
            self._finished_earlier.clear()
        self._last_delivered = offset
        if self._was_finished_earlier(offset):
            self._ring.before.followed_by_finished(offset, offset)
            return False

        node = self._nodes[offset] = _Unfinished(offset)
        node.insert_before(self._ring)
        return True

    def finish(self, offset: int) -> None:
        """Note that nothing is left to do for `offset`; harmless twice and for one that was not delivered."""
        node = self._nodes.pop(offset, None)
        if node is not None:
            node.remove()

    def next_to_commit(self, position: int | None = None) -> int | None:
        """Return the first unfinished offset; where all are finished, the next to read, as far as it is known.

        `position` is the consumer's: it has passed the transaction markers behind the last record.
        """
        if self._nodes:
            return self._ring.after.offset
        if self._last_delivered is None:
            return self._start if position is None else position
        following = self._last_delivered + 1
        return following if position is None else max(following, position)

    def finished_above(self) -> tuple[range, ...]:
        """Return what need not be done again from `next_to_commit()` on, as ascending ranges.

        A range spans the gaps between finished offsets, since nothing can appear in them any more. What an earlier
        owner has finished is in it even where it was not delivered again yet.
        """
        return tidy([*self._finished_since_first_unfinished(), *self._not_yet_reached()])

    def _was_finished_earlier(self, offset: int) -> bool:
        while self._finished_earlier and self._finished_earlier[0].stop <= offset:
            self._finished_earlier.popleft()
        return bool(self._finished_earlier) and offset in self._finished_earlier[0]

    def _finished_since_first_unfinished(self) -> Iterator[range]:
        node = self._ring.after
        while node is not self._ring:
            if node.first is not None:
                yield range(node.first, node.last + 1)
            node = node.after

    def _not_yet_reached(self) -> tuple[range, ...]:
        low = None if self._last_delivered is None else self._last_delivered + 1
        return tidy(self._finished_earlier, low)
