"""What the failure of a record means for it and for all others."""

from collections import Counter
from collections.abc import Mapping
from http import HTTPStatus
from weakref import WeakKeyDictionary, WeakSet

from keycloak_bridge.delivery.breaker import Breaker, BreakerState, RetryPolicy, Tally, delay_s
from keycloak_bridge.delivery.key_queues import Task
from keycloak_bridge.domain.errors import (
    BridgeError,
    Dependency,
    Disposition,
    HoldError,
    InternalError,
    KeycloakAuthError,
    KeycloakError,
    MailDeliveryError,
    RegistryAccessError,
)

_AGAIN_S = 0.5
"""Pause before a record is tried again that could not be written because the lease had expired."""

_FEW = 5
"""Fewer failing records than these may each be a bad one; so many are an outage. As many in a row open the breaker."""

_LONGEST_PAUSE_S = 3600.0
"""The longest pause of a record that fails alone."""


class FailurePolicy:
    """Decides what a failure means for its record and for all others of the stage: attempts, back-off and breaker.

    A record fails alone where it was answered by a service that works for others, and where hardly any other record
    fails. It is tried in pauses that double from the longest of the retry policy on, so that it is given up even where
    no other record comes to prove that the service works, but not within a short outage.
    """

    def __init__(self, retry: RetryPolicy, max_attempts: int) -> None:
        self._retry = retry
        self._max_attempts = max_attempts
        self.breaker = Breaker(retry)
        self._tally = Tally()
        self._last: BridgeError | None = None
        # a record that was dropped, since its partition went to another member, disappears from both; an error that was
        # raised would keep it, by the frames of its traceback
        self._failing: WeakKeyDictionary[Task, Dependency] = WeakKeyDictionary()
        self._alone: WeakKeyDictionary[Task, BridgeError] = WeakKeyDictionary()
        self._schemaless: WeakKeyDictionary[Task, BridgeError] = WeakKeyDictionary()
        self._held: WeakKeyDictionary[Task, str] = WeakKeyDictionary()
        self.undecided: WeakSet[Task] = WeakSet()
        """Mails that failed as often as a record may, and as slowly, without a sign whether they are refused or SMTP is away."""

    @property
    def problem(self) -> BridgeError | None:
        """What opened the breaker; while it is closed, why a record fails alone since nothing else was done, or waits for its schema."""
        if self.breaker.state is not BreakerState.CLOSED:
            return self._last
        return next(iter([*self._alone.values(), *self._schemaless.values()]), None)

    @property
    def failing(self) -> int:
        """How many records failed and were not done yet."""
        return len(self._failing)

    @property
    def held(self) -> Mapping[str, int]:
        """How many records wait although nothing failed, by the code of what they wait for."""
        return Counter(self._held.values())

    def worked(self, dependency: Dependency, task: Task | None = None) -> None:
        """Note a record that was done, and what that proves."""
        if task is not None:
            self._held.pop(task, None)
            self._failing.pop(task, None)
            self._alone.pop(task, None)
            self._schemaless.pop(task, None)
            self.undecided.discard(task)
        if Dependency.MAIL in dependency:
            self.undecided.clear()  # their next failures count
        for one in list(self._alone):
            if self._failing[one] in dependency:
                del self._alone[one]
        self._tally.succeeded(dependency)
        if dependency:
            self.breaker.succeeded(dependency)
        else:
            self.breaker.neutral()

    def count_failure(self, task: Task, error: BridgeError) -> bool:
        """Count this failure where others succeed or the record fails alone, and say whether it has reached its limit.

        A fault of the bridge itself always counts: no outage explains it. What is no failure (the record must wait, is
        another member's, the flow must stop) never gives a record up, however often it failed before.
        """
        if error.disposition is not Disposition.RETRY:
            return False
        proven = isinstance(error, InternalError) or self._tally.counts(task.seen, error.dependency)
        task.alone = not proven and self._fails_alone(task, error)
        task.blamed = proven or task.alone
        task.attempts += task.blamed
        return task.attempts >= self._max_attempts

    def _fails_alone(self, task: Task, error: BridgeError) -> bool:
        """Say whether a service that works, as others or it itself have shown, refuses this record and hardly any other."""
        if isinstance(error, MailDeliveryError):
            works = task.attempts > 0 or error.server_greets is True
            works = works and error.server_greets is not False
        else:
            answered = (
                isinstance(error, KeycloakError)
                and error.status == HTTPStatus.INTERNAL_SERVER_ERROR
            )
            works = answered and task.attempts > 0
        return works and self._failing_but(task, error.dependency) + 1 < _FEW

    def _failing_but(self, task: Task, needs: Dependency) -> int:
        return sum(one is not task and other == needs for one, other in list(self._failing.items()))

    def failed(self, task: Task, error: BridgeError, now_s: float, jitter: float) -> float | None:
        """Note why the record was not done; return the second to take it up again, None where the flow must stop."""
        self._held.pop(task, None)
        if error.disposition is Disposition.RETRY:
            return self._failed(task, error, now_s, jitter)
        self.breaker.neutral()
        if isinstance(error, HoldError):
            self._held[task] = error.code
            return now_s + error.wait_s
        return now_s + _AGAIN_S if error.disposition is Disposition.ABANDON else None

    def _failed(self, task: Task, error: BridgeError, now_s: float, jitter: float) -> float:
        needs = error.dependency
        retry_after_s = error.retry_after_s if isinstance(error, KeycloakError) else None
        if not task.failures:
            # a record that fails again and again says nothing new about all others
            self._tally.failed(needs)
        self._failing[task] = needs
        task.seen = self._tally.snapshot()
        task.failures += 1
        blamed, task.blamed = task.blamed, False
        if not blamed and self._is_undecided(task, error):
            self.undecided.add(task)
        else:
            self.undecided.discard(task)
        self._schemaless.pop(task, None)
        if Dependency.REGISTRY in needs:
            # only records whose schema is not known wait for it
            self.breaker.neutral()
            if task.failures >= _FEW or isinstance(error, RegistryAccessError):
                self._schemaless[task] = BridgeError(error.message, code=error.code)
        elif needs and not blamed:
            self._last = error
            self.breaker.failed(
                needs,
                now_s,
                jitter,
                at_once=isinstance(error, KeycloakAuthError),
                retry_after_s=retry_after_s,
            )
        else:
            # a fault of the bridge, or a record that fails alone, says nothing about an outage
            self.breaker.neutral()
        if not (blamed and task.alone):
            return now_s + delay_s(self._retry, task.failures, jitter, retry_after_s)
        self._alone[task] = BridgeError(error.message, code=error.code)
        return now_s + min(self._retry.max_s * 2.0 ** min(task.attempts - 1, 32), _LONGEST_PAUSE_S)

    def _is_undecided(self, task: Task, error: BridgeError) -> bool:
        slowest = delay_s(self._retry, task.failures, 1.0) >= self._retry.max_s
        often = task.failures >= self._max_attempts
        return (
            isinstance(error, MailDeliveryError)
            and error.server_greets is not False
            and slowest
            and often
        )
