"""The guards that stop the flow until an operator has looked: the safety brake, and limits on what may be changed.

A wrong schema or mapping would turn the whole topic into dead letters. And a wrong export or filter in user management
disables or deletes thousands of users, although each event of it is valid.
"""

from collections import OrderedDict, deque
from collections.abc import Collection, Mapping
from enum import StrEnum

from keycloak_bridge.domain.errors import HoldError
from keycloak_bridge.domain.operations import DeleteUser, Operation, Plan, UpdateUser
from keycloak_bridge.domain.times import Limit, format_duration
from keycloak_bridge.domain.users import Intent
from keycloak_bridge.threads.brief_lock import BriefLock

_CALM_WITHOUT_ROW = 20


class Brake:
    """Stops the flow when too much becomes a dead letter. Safe to share between threads.

    It engages when `in_a_row` dead letters came in a row, or when they are `share_percent` of the last `window`
    records; 0 means no such limit. While records are on their way in batches, a dead letter that would engage it is only
    held: records before it may have ended well without being reported yet.
    """

    def __init__(self, in_a_row: int, share_percent: int, window: int) -> None:
        self._in_a_row = in_a_row
        self._share_percent = share_percent
        self._lock = BriefLock()
        self._ends: deque[bool] = deque(maxlen=window)  # True: a dead letter
        self._dead_letters = 0
        self._row = 0
        self._reason: str | None = None
        self._in_batches = 0
        self._calm_left = 0  # good records in a row until the limits apply again

    @property
    def reason(self) -> str | None:
        """Why it is engaged, with the numbers; None when it is not."""
        with self._lock:
            return self._reason

    def admits(self) -> bool:
        """Say whether one more dead letter may be written, and count it; False: the record must be held instead."""
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
            self._count(dead_letter=True)
            return True

    def good(self) -> None:
        """Count a record that ended well."""
        with self._lock:
            if self._reason is not None:
                return
            if self._calm_left:
                self._calm_left -= 1
                return
            self._count(dead_letter=False)

    def begin_batched(self) -> None:
        """Note that a record is on its way in a batch."""
        with self._lock:
            self._in_batches += 1

    def end_batched(self) -> None:
        """Note that its batch has ended; `good` or `admits` was called before."""
        with self._lock:
            self._in_batches -= 1

    def engage(self, reason: str) -> None:
        """Stop the flow for `reason`, a sentence without a capital."""
        with self._lock:
            self._reason = self._reason or reason

    def release(self) -> None:
        """Let dead letters through again; nothing happens when it is not engaged.

        The limits do not apply until as many good records as `in_a_row` (20 without that limit) came in a row: the
        operator who releases it wants the rest of the bad records to pass, not to be stopped again after a few.
        """
        with self._lock:
            if self._reason is None:
                return
            self._reason = None
            self._ends.clear()
            self._dead_letters = self._row = 0
            self._calm_left = self._calm_needed()

    def _calm_needed(self) -> int:
        return self._in_a_row or _CALM_WITHOUT_ROW

    def _reached(self) -> str | None:
        if self._in_a_row and self._row >= self._in_a_row:
            return f"{self._row} dead letters in a row"
        window = len(self._ends)
        full = window == self._ends.maxlen
        if (
            self._share_percent
            and full
            and self._dead_letters * 100 >= self._share_percent * window
        ):
            return f"{self._dead_letters} of the last {window} records became dead letters"
        return None

    def _count(self, *, dead_letter: bool) -> None:
        if len(self._ends) == self._ends.maxlen:
            self._dead_letters -= self._ends[0]
        self._ends.append(dead_letter)
        self._dead_letters += dead_letter
        self._row = self._row + 1 if dead_letter else 0


BRAKED_S = 0.1
"""The brake itself holds the flow; this only keeps a held record from being the very first to go on."""


class LimitedAction(StrEnum):
    """What is counted; the names of the settings in `[limits]`."""

    DISABLE = "disables"
    ENABLE = "enables"
    DELETE = "deletes"
    EMAIL_CHANGE = "email_changes"
    MAIL = "mails"


_DONE = {
    LimitedAction.DISABLE: "users were disabled",
    LimitedAction.ENABLE: "users were enabled",
    LimitedAction.DELETE: "users were deleted or anonymised",
    LimitedAction.EMAIL_CHANGE: "e-mail addresses were changed",
    LimitedAction.MAIL: "mails were sent",
}


class Limits:
    """Engages the brake before more is done than the limits allow. Safe to share between threads.

    What is done for the same key again, because an attempt failed, counts once. The window of the limit that engaged
    the brake is empty after the release, so that the flow goes on.
    """

    def __init__(self, brake: Brake, limits: Mapping[LimitedAction, Limit | None]) -> None:
        self._brake = brake
        self._windows = {
            action: _Window(limit) for action, limit in limits.items() if limit is not None
        }
        self._lock = BriefLock()

    def admit(self, actions: Collection[LimitedAction], key: str, now_s: float) -> bool:
        """Count `actions` for `key`, or raise HoldError (`brake`) and count none of them.

        Return whether one of them was not counted for `key` before.
        """
        with self._lock:
            counted = {
                action: self._windows[action] for action in actions if action in self._windows
            }
            if not counted:
                return False
            if self._brake.reason is None:
                for action, window in counted.items():
                    if not window.admits(key, now_s):
                        self._engage(action, window)
            if self._brake.reason is not None:
                raise HoldError(
                    "nothing more is done before the release", wait_s=BRAKED_S, code="brake"
                )
            new = any(key not in window.at_s for window in counted.values())
            for window in counted.values():
                window.at_s.setdefault(key, now_s)
            return new

    def allowed(self) -> Mapping[LimitedAction, Limit]:
        """Return the limit of each action that has one."""
        return {action: window.limit for action, window in self._windows.items()}

    def used(self, action: LimitedAction, now_s: float) -> int:
        """Return how much of a limit is used; raises KeyError for an action without one."""
        with self._lock:
            return self._windows[action].used(now_s)

    def take_back(self, action: LimitedAction, key: str) -> None:
        """Forget that `action` was admitted for `key`, since it was not done; harmless when it was not admitted."""
        with self._lock:
            if action in self._windows:
                self._windows[action].at_s.pop(key, None)

    def _engage(self, action: LimitedAction, window: "_Window") -> None:
        limit = window.limit
        self._brake.engage(
            f"{limit.count} {_DONE[action]} within {format_duration(limit.window_s)} ([limits] {action})"
        )
        # nothing is admitted before the release
        window.at_s.clear()


def limited_actions(plan: Plan, intent: Intent) -> frozenset[LimitedAction]:
    """Return what of `plan` is counted."""
    return frozenset(
        action for operation in plan.operations for action in _actions_of(operation, intent)
    )


def _actions_of(operation: Operation, intent: Intent) -> Collection[LimitedAction]:
    if isinstance(operation, DeleteUser):
        return (LimitedAction.DELETE,)
    if not isinstance(operation, UpdateUser):
        return ()
    if intent is Intent.ANONYMISE:
        return (LimitedAction.DELETE,)
    actions = []
    for change in operation.changes:
        if change.target == "enabled" and change.before and not change.after:
            actions.append(LimitedAction.DISABLE)
        if change.target == "enabled" and change.after and not change.before:
            actions.append(LimitedAction.ENABLE)
        if change.target == "email" and change.before:
            actions.append(LimitedAction.EMAIL_CHANGE)
    return actions


class _Window:
    """When what was counted, the oldest first."""

    def __init__(self, limit: Limit) -> None:
        self.limit = limit
        self.at_s: OrderedDict[str, float] = OrderedDict()

    def admits(self, key: str, now_s: float) -> bool:
        return self.used(now_s) < self.limit.count or key in self.at_s

    def used(self, now_s: float) -> int:
        while self.at_s and next(iter(self.at_s.values())) <= now_s - self.limit.window_s:
            self.at_s.popitem(last=False)
        return len(self.at_s)
