"""How long a poll may wait for records: each turn costs CPU, and a record ends a poll at once, however long it may be."""

BUSY_POLL_S = 0.1
"""With records in hand: what gets done meanwhile is to be committed soon."""

_IDLE_POLL_S = 0.5
_RESTING_POLL_S = 1.0
_RESTING_AFTER_S = 10.0


class Rest:
    """Tells a stage that has just nothing to do from one that has been at rest for a while."""

    def __init__(self, now_s: float) -> None:
        self._busy_at_s = now_s

    def poll_s(self, in_hand: int, finished: int, now_s: float) -> float:
        """Return the time for the next poll, with that many records in hand and finished since the last commit."""
        if in_hand or finished:
            self._busy_at_s = now_s
        if in_hand:
            return BUSY_POLL_S
        resting = now_s - self._busy_at_s >= _RESTING_AFTER_S
        return _RESTING_POLL_S if resting else _IDLE_POLL_S
