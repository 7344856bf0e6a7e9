"""What this process knows of mails whose invitation is not settled yet."""

import threading
from collections import OrderedDict
from dataclasses import dataclass
from enum import StrEnum

from keycloak_bridge.core.errors import (
    BridgeError,
    KeycloakUnavailableError,
    MailDeliveryError,
)
from keycloak_bridge.keycloak_rejections import EXECUTE_ACTIONS_EMAIL

MailKey = tuple[str, str]
"""The Keycloak id of a user, and the event that caused the invitation."""

CAPACITY = 10_000

_UNREACHABLE = "keycloak-unreachable"


class Fate(StrEnum):
    """What became of the last attempt to mail.

    Certainly nothing, nobody knows, the mail is out, or another process announced it and nobody knows.
    """

    NOT_SENT = "not-sent"
    IN_DOUBT = "in-doubt"
    SENT = "sent"
    ANNOUNCED = "announced"


DOUBTS = frozenset((Fate.IN_DOUBT, Fate.ANNOUNCED))


@dataclass(frozen=True, slots=True)
class Attempt:
    """The last attempt to mail an invitation, and when it ended, or was first heard of, on the monotonic clock."""

    fate: Fate
    ended_s: float


class MailMemory:
    """Remembers the last attempt of each invitation until it is settled. Safe to share between threads.

    Beyond `capacity` the longest known are forgotten, which is as if the process had been started after them.
    """

    def __init__(self, capacity: int = CAPACITY) -> None:
        self._capacity = capacity
        self._lock = threading.Lock()
        self._attempts: OrderedDict[MailKey, Attempt] = OrderedDict()

    def recall(self, key: MailKey) -> Attempt | None:
        """Return the last attempt; None where this process made none that is not settled."""
        with self._lock:
            return self._attempts.get(key)

    def remember(self, key: MailKey, attempt: Attempt) -> None:
        """Let `attempt` take the place of what was known."""
        with self._lock:
            self._attempts[key] = attempt
            self._attempts.move_to_end(key)
            while len(self._attempts) > self._capacity:
                self._attempts.popitem(last=False)

    def forget(self, key: MailKey) -> None:
        """Forget an invitation that is settled."""
        with self._lock:
            self._attempts.pop(key, None)


def may_have_mailed(error: BridgeError) -> bool:
    """Say whether the mail may be out although the call for it failed.

    Keycloak's own word that it could not hand the mail over counts, and so does every refusal; an answer that got lost or
    that something in front of Keycloak made up says nothing.
    """
    if not isinstance(error, KeycloakUnavailableError) or isinstance(error, MailDeliveryError):
        return False
    if error.path not in (None, EXECUTE_ACTIONS_EMAIL):
        return False  # it was a call for a token, or about a mail that was refused
    if error.status is None:
        return error.code != _UNREACHABLE
    return error.status >= 500 or 200 <= error.status < 300
