"""How much of one stage may be in hand, and how much is."""

from dataclasses import dataclass

from keycloak_bridge.core.breaker import BreakerState
from keycloak_bridge.core.errors import BridgeError
from keycloak_bridge.core.retry import RetryPolicy


@dataclass(frozen=True, slots=True)
class DeliveryPolicy:
    """How much may be in hand, how often a record may fail, how long giving up a partition may take."""

    retry: RetryPolicy
    max_records: int = 1000
    max_bytes: int = 32 * 1024 * 1024
    max_attempts: int = 8
    release_s: float = 2.0


@dataclass(frozen=True, slots=True)
class InHand:
    """A look at the delivery, for the poll thread and for metrics.

    `finished` counts since the last commit; `oldest_s` is how long the most patient record has held up its partition.
    """

    records: int
    size_bytes: int
    running: int
    finished: int
    oldest_s: float
    full: bool
    breaker: BreakerState
    problem: BridgeError | None
