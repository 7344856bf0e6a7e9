"""How long Keycloak takes to find what it is asked for, by what it is asked by; says once where that grows with the realm.

Whoever needs many users can search for each, or list the realm once: what both cost Keycloak stands here.
"""

import logging
import threading
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from enum import StrEnum
from statistics import median

from keycloak_bridge.domain.ports import Clock
from keycloak_bridge.ops.logs import log_event
from keycloak_bridge.ops.metrics import Metrics

logger = logging.getLogger(__name__)

SLOW_S = 0.02
"""A search by an indexed column takes a few milliseconds, whatever the number of users."""

TOO_SLOW_S = 0.2
"""A search takes so long where Keycloak's database reads every row of the attribute in a large realm."""

LISTED_S, NAMED_S = 0.0009, 0.000125
"""What it takes Keycloak on two cores to list one user with its attributes, and without them."""

SEARCHED_S, NAME_SEARCHED_S = 0.001, 0.0007
"""What it takes to search for a user whose external id is in an index, and for a name or an address that nobody has.

All four were measured with a million users on PostgreSQL.
"""

_LAST = 50
"""So many searches are looked at: a single slow one may be a cold cache."""

_ENOUGH = 5
"""From so many searches on, the quickest of them tells what one costs a Keycloak that is busy with others."""


class LookupKind(StrEnum):
    """What a user, or what is known of one, is looked up by."""

    ATTRIBUTE = "attribute"
    USERNAME = "username"
    EMAIL = "email"
    ID = "id"
    IDENTITY = "identity"
    MAIL = "mail"


class LookupTimes:
    """Counts look-ups by kind, and warns once where searches by attribute are slow. Safe to share between threads."""

    def __init__(self, clock: Clock, metrics: Metrics | None = None) -> None:
        """Without `metrics` nothing is exposed, and nobody is warned: a command looks at few users."""
        self._clock = clock
        self._metrics = metrics
        self._lock = threading.Lock()
        self._last_s: deque[float] = deque(maxlen=_LAST)
        self._warned = False

    @contextmanager
    def timed(self, kind: LookupKind) -> Iterator[None]:
        """Note how long the block takes; one that fails tells nothing."""
        begun_s = self._clock.monotonic()
        yield
        took_s = self._clock.monotonic() - begun_s
        if self._metrics is not None:
            self._metrics.looked_up(kind, took_s)
        if kind is LookupKind.ATTRIBUTE:
            self._judge(took_s)

    def search_s(self) -> float:
        """Return what a search by attribute costs Keycloak, in seconds.

        The quickest of the last ones, since others wait for their turn; where that is quick, most of it is the way there
        and back.
        """
        with self._lock:
            if len(self._last_s) < _ENOUGH:
                return SEARCHED_S
            return search_cost_s(min(self._last_s))

    def _judge(self, took_s: float) -> None:
        with self._lock:
            self._last_s.append(took_s)
            if self._metrics is None or self._warned or len(self._last_s) < _LAST:
                return
            middle_s = median(self._last_s)
            if middle_s < TOO_SLOW_S:
                return
            self._warned = True
        log_event(
            logger,
            "lookups-slow",
            level=logging.WARNING,
            message=f"half of the last {_LAST} searches by attribute took longer than {middle_s * 1000:.0f} ms: "
            "Keycloak's database reads every user for them. Create the index, or make the external id the username "
            "(docs/keycloak.md, Large realms); `keycloak-bridge doctor` measures a search",
            count=_LAST,
            duration_ms=round(middle_s * 1000, 1),
        )


def search_cost_s(took_s: float) -> float:
    """Return what a search by attribute costs Keycloak that took so long: one by an index takes the same in any realm."""
    return took_s if took_s > SLOW_S else SEARCHED_S
