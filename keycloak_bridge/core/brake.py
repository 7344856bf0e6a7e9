"""When dead letters stop being exceptions: a wrong schema or mapping would turn the whole topic into them."""

import threading
from collections import deque

_CALM_WITHOUT_ROW = 20


class Brake:
    """Stops the flow when too much becomes a dead letter. Safe to share between threads.

    It engages when `in_a_row` dead letters came in a row, or when they are `share_percent` of the last `window`
    records; 0 means no such limit. While records are on their way in batches, a dead letter that would engage it is only
    held: those before it may have ended well, and just not been heard of.
    """

    def __init__(self, in_a_row: int, share_percent: int, window: int) -> None:
        self._in_a_row = in_a_row
        self._share_percent = share_percent
        self._lock = threading.Lock()
        self._ends: deque[bool] = deque(maxlen=window)  # True: a dead letter
        self._letters = 0
        self._row = 0
        self._reason: str | None = None
        self._in_batches = 0
        self._calm_left = 0  # good records in a row until the limits hold again

    @property
    def reason(self) -> str | None:
        """Why it is engaged, with the numbers; None when it is not."""
        with self._lock:
            return self._reason

    def admits(self) -> bool:
        """Say whether one more dead letter may be written, and count it; False: the record is to be held instead."""
        with self._lock:
            if self._reason is not None:
                return False
            if self._calm_left:
                self._calm_left = self._calm_needed()
                return True
            reached = self._reached()
            if reached is not None:
                self._reason = None if self._in_batches else reached
                return False
            self._count(letter=True)
            return True

    def good(self) -> None:
        """Count a record that ended well."""
        with self._lock:
            if self._reason is not None:
                return
            if self._calm_left:
                self._calm_left -= 1
                return
            self._count(letter=False)

    def begin_batched(self) -> None:
        """Note that a record is on its way in a batch."""
        with self._lock:
            self._in_batches += 1

    def end_batched(self) -> None:
        """Note that it arrived, after `good` or `admits` heard how."""
        with self._lock:
            self._in_batches -= 1

    def engage(self, reason: str) -> None:
        """Stop the flow for a reason of the caller's, a sentence without a capital."""
        with self._lock:
            self._reason = self._reason or reason

    def release(self) -> None:
        """Let dead letters through again; nothing happens when it is not engaged.

        The limits rest until as many good records as `in_a_row` (20 without that limit) came in a row: whoever
        releases it wants the storm to pass, not to be stopped again after the next few.
        """
        with self._lock:
            if self._reason is None:
                return
            self._reason = None
            self._ends.clear()
            self._letters = self._row = 0
            self._calm_left = self._calm_needed()

    def _calm_needed(self) -> int:
        return self._in_a_row or _CALM_WITHOUT_ROW

    def _reached(self) -> str | None:
        if self._in_a_row and self._row >= self._in_a_row:
            return f"{self._row} dead letters in a row"
        window = len(self._ends)
        full = window == self._ends.maxlen
        if self._share_percent and full and self._letters * 100 >= self._share_percent * window:
            return f"{self._letters} of the last {window} records became dead letters"
        return None

    def _count(self, *, letter: bool) -> None:
        if len(self._ends) == self._ends.maxlen:
            self._letters -= self._ends[0]
        self._ends.append(letter)
        self._letters += letter
        self._row = self._row + 1 if letter else 0
