"""Tell an outage from a bad record: what a failure means for its record and for all others."""

from keycloak_bridge.core.attempts import Tally
from keycloak_bridge.core.breaker import Breaker, BreakerState
from keycloak_bridge.core.errors import (
    BridgeError,
    Disposition,
    HoldError,
    InternalError,
    KeycloakAuthError,
    KeycloakError,
)
from keycloak_bridge.core.lanes import Task
from keycloak_bridge.core.proof import Proof, needed_proof
from keycloak_bridge.core.retry import RetryPolicy, delay_s

_AGAIN_S = 0.5
"""Pause before a record is tried again that could not be written for want of a lease."""


class Trouble:
    """The breaker and the count of attempts of one stage."""

    def __init__(self, retry: RetryPolicy, max_attempts: int) -> None:
        self._retry = retry
        self._max_attempts = max_attempts
        self._breaker = Breaker(retry)
        self._tally = Tally()
        self._last: BridgeError | None = None

    @property
    def state(self) -> BreakerState:
        """Whether records flow, wait, or are tried one by one."""
        return self._breaker.state

    @property
    def problem(self) -> BridgeError | None:
        """What opened the breaker; None while it is closed."""
        return None if self._breaker.state is BreakerState.CLOSED else self._last

    @property
    def probe_at_s(self) -> float | None:
        """When the next single record may be tried, while the breaker is open."""
        return self._breaker.probe_at_s

    def admits(self, now_s: float) -> bool:
        """Say whether one more record may be begun; the answer yes counts."""
        return self._breaker.admits(now_s)

    def worked(self, proof: Proof) -> None:
        """Note a record that was done, and what that proves."""
        self._tally.succeeded(proof)
        if proof:
            self._breaker.succeeded(proof)
        else:
            self._breaker.neutral()

    def gives_up(self, task: Task, error: BridgeError) -> bool:
        """Count this failure where others succeed meanwhile, and say whether the record has reached its limit.

        A fault of the bridge itself always counts: no outage explains it. What is no failure (the record must wait, is
        another member's, the flow must stop) never gives a record up, however often it failed before.
        """
        if error.disposition is not Disposition.RETRY:
            return False
        if isinstance(error, InternalError) or self._tally.counts(task.seen, needed_proof(error)):
            task.attempts += 1
        return task.attempts >= self._max_attempts

    def failed(self, task: Task, error: BridgeError, now_s: float, jitter: float) -> float | None:
        """Note why the record was not done; return the second to take it up again, None where the flow must stop."""
        if error.disposition is Disposition.RETRY:
            return self._failed(task, error, now_s, jitter)
        self._breaker.abandon()
        if isinstance(error, HoldError):
            return now_s + error.wait_s
        return now_s + _AGAIN_S if error.disposition is Disposition.ABANDON else None

    def _failed(self, task: Task, error: BridgeError, now_s: float, jitter: float) -> float:
        needs = needed_proof(error)
        retry_after_s = error.retry_after_s if isinstance(error, KeycloakError) else None
        if not task.failures:
            # a record that fails again and again tells nothing new of all others
            self._tally.failed(needs)
        task.seen = self._tally.snapshot()
        task.failures += 1
        if needs and not task.attempts:
            self._last = error
            self._breaker.failed(
                needs,
                now_s,
                jitter,
                at_once=isinstance(error, KeycloakAuthError),
                retry_after_s=retry_after_s,
            )
        else:
            # a fault of the bridge, or a record that fails alone, tells nothing of an outage
            self._breaker.neutral()
        return now_s + delay_s(self._retry, task.failures, jitter, retry_after_s)
