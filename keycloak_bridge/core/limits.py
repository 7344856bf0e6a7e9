"""How much harm may be done within a time before somebody has to look.

A wrong export or a wrong filter in user management disables or deletes by the thousand, each event of it sound.
"""

import re
import threading
from collections import OrderedDict
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from enum import StrEnum

from keycloak_bridge.core.brake import Brake
from keycloak_bridge.core.desired import Intent
from keycloak_bridge.core.durations import format_duration, parse_duration
from keycloak_bridge.core.errors import HoldError
from keycloak_bridge.core.operations import DeleteUser, Operation, Plan, UpdateUser

_BRAKED_S = 0.1
_LIMIT = re.compile(r"([0-9]{1,9})\s*/\s*([0-9Pp].*)", re.ASCII)


class Deed(StrEnum):
    """What is counted; the names of the settings in `[limits]`."""

    DISABLE = "disables"
    DELETE = "deletes"
    EMAIL_CHANGE = "email_changes"
    MAIL = "mails"


_DONE = {
    Deed.DISABLE: "users were disabled",
    Deed.DELETE: "users were deleted or anonymised",
    Deed.EMAIL_CHANGE: "e-mail addresses were changed",
    Deed.MAIL: "mails were sent",
}


@dataclass(frozen=True, slots=True)
class Limit:
    """At most `count` within any `window_s` seconds."""

    count: int
    window_s: float


def parse_limit(text: str) -> Limit | None:
    """Return the limit in `text`, such as "500/1 h"; None for "none".

    Raises ValueError with a sentence that says what to write instead.
    """
    stripped = text.strip()
    if stripped.lower() == "none":
        return None
    limit = _LIMIT.fullmatch(stripped)
    if limit is None or not int(limit[1]):
        raise ValueError('write for example "500/1 h", "50/10 minutes" or "none"')
    window_s = parse_duration(limit[2])
    if not window_s:
        raise ValueError("the duration must be longer than nothing")
    return Limit(int(limit[1]), window_s)


class Limits:
    """Engages the brake before more is done than the limits allow. Safe to share between threads.

    What is done for the same key again, because an attempt failed, counts once. Whoever releases the brake wants the flow
    to go on: the window of the limit that engaged it starts anew then.
    """

    def __init__(self, brake: Brake, limits: Mapping[Deed, Limit | None]) -> None:
        self._brake = brake
        self._windows = {
            deed: _Window(limit) for deed, limit in limits.items() if limit is not None
        }
        self._lock = threading.Lock()

    def admit(self, deeds: Collection[Deed], key: str, now_s: float) -> None:
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

    def take_back(self, deed: Deed, key: str) -> None:
        """Forget that `deed` was admitted for `key`, since it was not done; harmless when it was not admitted."""
        with self._lock:
            window = self._windows.get(deed)
            if window is not None:
                window.forget(key)

    def _engage(self, deed: Deed, window: "_Window") -> None:
        limit = window.limit
        self._brake.engage(
            f"{limit.count} {_DONE[deed]} within {format_duration(limit.window_s)} ([limits] {deed})"
        )
        # nothing is admitted before the release
        window.clear()


def deeds_of(plan: Plan, intent: Intent) -> frozenset[Deed]:
    """Return what of `plan` is counted."""
    return frozenset(deed for operation in plan.operations for deed in _deeds_of(operation, intent))


def _deeds_of(operation: Operation, intent: Intent) -> Collection[Deed]:
    if isinstance(operation, DeleteUser):
        return (Deed.DELETE,)
    if not isinstance(operation, UpdateUser):
        return ()
    if intent is Intent.ANONYMISE:
        return (Deed.DELETE,)
    deeds = []
    for change in operation.changes:
        if change.target == "enabled" and change.before and not change.after:
            deeds.append(Deed.DISABLE)
        if change.target == "email" and change.before:
            deeds.append(Deed.EMAIL_CHANGE)
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
