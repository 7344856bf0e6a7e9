"""When dead letters stop being exceptions: a wrong schema or mapping would turn the whole topic into them.

How much harm may be done within a time before somebody has to look.

A wrong export or a wrong filter in user management disables or deletes by the thousand, each event of it sound.
"""

import threading
from collections import OrderedDict, deque
from collections.abc import Collection, Mapping
from enum import StrEnum

from keycloak_bridge.domain.errors import HoldError
from keycloak_bridge.domain.limits import Limit
from keycloak_bridge.domain.operations import DeleteUser, Operation, Plan, UpdateUser
from keycloak_bridge.domain.times import format_duration
from keycloak_bridge.domain.users import Intent

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


_BRAKED_S = 0.1


class LimitedAction(StrEnum):
    """What is counted; the names of the settings in `[limits]`."""

    DISABLE = "disables"
    DELETE = "deletes"
    EMAIL_CHANGE = "email_changes"
    MAIL = "mails"


_DONE = {
    LimitedAction.DISABLE: "users were disabled",
    LimitedAction.DELETE: "users were deleted or anonymised",
    LimitedAction.EMAIL_CHANGE: "e-mail addresses were changed",
    LimitedAction.MAIL: "mails were sent",
}


class Limits:
    """Engages the brake before more is done than the limits allow. Safe to share between threads.

    What is done for the same key again, because an attempt failed, counts once. Whoever releases the brake wants the flow
    to go on: the window of the limit that engaged it starts anew then.
    """

    def __init__(self, brake: Brake, limits: Mapping[LimitedAction, Limit | None]) -> None:
        self._brake = brake
        self._windows = {
            deed: _Window(limit) for deed, limit in limits.items() if limit is not None
        }
        self._lock = threading.Lock()

    def admit(self, deeds: Collection[LimitedAction], key: str, now_s: float) -> None:
        """Count `deeds` for `key`, or raise HoldError (`brake`) and count none of them."""
        with self._lock:
            counted = {deed: self._windows[deed] for deed in deeds if deed in self._windows}
            if not counted:
                return
            if self._brake.reason is None:
                for deed, window in counted.items():
                    if not window.has_room(key, now_s):
                        self._engage(deed, window)
            if self._brake.reason is not None:
                raise HoldError(
                    "nothing more is done before the release", wait_s=_BRAKED_S, code="brake"
                )
            for window in counted.values():
                window.count(key, now_s)

    def take_back(self, deed: LimitedAction, key: str) -> None:
        """Forget that `deed` was admitted for `key`, since it was not done; harmless when it was not admitted."""
        with self._lock:
            window = self._windows.get(deed)
            if window is not None:
                window.forget(key)

    def _engage(self, deed: LimitedAction, window: "_Window") -> None:
        limit = window.limit
        self._brake.engage(
            f"{limit.count} {_DONE[deed]} within {format_duration(limit.window_s)} ([limits] {deed})"
        )
        # nothing is admitted before the release
        window.clear()


def deeds_of(plan: Plan, intent: Intent) -> frozenset[LimitedAction]:
    """Return what of `plan` is counted."""
    return frozenset(deed for operation in plan.operations for deed in _deeds_of(operation, intent))


def _deeds_of(operation: Operation, intent: Intent) -> Collection[LimitedAction]:
    if isinstance(operation, DeleteUser):
        return (LimitedAction.DELETE,)
    if not isinstance(operation, UpdateUser):
        return ()
    if intent is Intent.ANONYMISE:
        return (LimitedAction.DELETE,)
    deeds = []
    for change in operation.changes:
        if change.target == "enabled" and change.before and not change.after:
            deeds.append(LimitedAction.DISABLE)
        if change.target == "email" and change.before:
            deeds.append(LimitedAction.EMAIL_CHANGE)
    return deeds


class _Window:
    """When what was counted, the oldest first."""

    def __init__(self, limit: Limit) -> None:
        self.limit = limit
        self._at_s: OrderedDict[str, float] = OrderedDict()

    def has_room(self, key: str, now_s: float) -> bool:
        """Say whether one more may be counted, or `key` is counted already."""
        while self._at_s and next(iter(self._at_s.values())) <= now_s - self.limit.window_s:
            self._at_s.popitem(last=False)
        return key in self._at_s or len(self._at_s) < self.limit.count

    def count(self, key: str, now_s: float) -> None:
        """Count `key` unless it is counted."""
        self._at_s.setdefault(key, now_s)

    def forget(self, key: str) -> None:
        """Count `key` no longer."""
        self._at_s.pop(key, None)

    def clear(self) -> None:
        """Begin anew."""
        self._at_s.clear()
