"""Look again at a user that was written while its invitation may have been marked by another process.

Keycloak replaces a user whole, and offers no way to say "unless it changed meanwhile". The invite stage of another
process may have read the user before the write and put its mark, with everything it had read, after it.
"""

import threading
from collections import OrderedDict
from typing import Protocol

from keycloak_bridge.core.errors import HoldError
from keycloak_bridge.core.model import DesiredUser, OutOfScope, Result, UserEvent
from keycloak_bridge.provisioner import Provisioned

_MARKED_BY_THEN_S = 2.0
"""Far longer than the milliseconds between reading a user and writing its mark."""

_REMEMBERED = 10_000


class Provisions(Protocol):
    """What brings one user to the desired state."""

    def provision(self, event: UserEvent, desired: DesiredUser | OutOfScope) -> Provisioned:
        """Bring Keycloak to the desired state and say what was done."""
        ...


class SecondLook:
    """Provisions; an event that raced with a mark counts as done only when a later look finds its user as desired."""

    def __init__(self, provisioner: Provisions) -> None:
        self._provisioner = provisioner
        self._lock = threading.Lock()
        self._first: OrderedDict[tuple[str, str], Result] = OrderedDict()

    def provision(self, event: UserEvent, desired: DesiredUser | OutOfScope) -> Provisioned:
        """Bring Keycloak to the desired state and say what was done; raises HoldError (`second-look`)."""
        provisioned = self._provisioner.provision(event, desired)
        key = (event.source, event.id)
        with self._lock:
            first = self._first.pop(key, None)
            if provisioned.raced:
                self._first[key] = first or provisioned.result
                if len(self._first) > _REMEMBERED:
                    self._first.popitem(last=False)
        if provisioned.raced:
            raise HoldError(
                "the user is looked at again, since its invitation is being marked",
                wait_s=_MARKED_BY_THEN_S,
                code="second-look",
            )
        if first is None:
            return provisioned
        return Provisioned(first, provisioned.acknowledgements)
