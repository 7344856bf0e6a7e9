"""Look again at a user that was written while its invitation may have been marked by another process.

Keycloak replaces a user whole, and offers no way to say "unless it changed meanwhile". The invite stage of another
process may have read the user before the write and put its mark, with everything it had read, after it.
"""

import threading
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from keycloak_bridge.delivery.bounded import BoundedDict
from keycloak_bridge.domain.errors import HoldError
from keycloak_bridge.domain.events import Invitation, Result, UserEvent
from keycloak_bridge.domain.ports import Acknowledgement, Clock
from keycloak_bridge.domain.users import DesiredUser, OutOfScope
from keycloak_bridge.provisioning.executor import Invite
from keycloak_bridge.provisioning.provisioner import Provisioned

_MARKED_BY_THEN_S = 2.0
"""Far longer than the milliseconds between reading a user and writing its mark."""

_LOOKS = 5
"""How often an event looks at its user before it counts as done all the same.

No mark wins that often. Something else takes back what the event writes, such as a user profile that does not keep it.
"""


class Provisions(Protocol):
    """What brings one user to the desired state."""

    def provision(
        self,
        event: UserEvent,
        desired: DesiredUser | OutOfScope,
        *,
        pinned: bool = True,
        mapping: str | None = None,
        absent: bool = False,
    ) -> Provisioned:
        """Bring Keycloak to the desired state and say what was done; see Provisioner."""
        ...


@dataclass(frozen=True, slots=True)
class _First:
    """What the first look did, and how many looks there were by now."""

    result: Result
    looks: int


class MarkRaceCheck:
    """Provisions; an event that raced with a mark counts as done only when a later look finds its user as desired.

    After a handful of looks it does all the same. Where the write may have taken the mark of a mail back to "begun",
    the invite stage is asked to mark it again if it went out; it mails nobody for that.
    """

    def __init__(self, provisioner: Provisions, invite: Invite, clock: Clock) -> None:
        self._provisioner = provisioner
        self._invite = invite
        self._clock = clock
        self._lock = threading.Lock()
        self._first: BoundedDict[tuple[str, str], _First] = BoundedDict()

    def provision(
        self,
        event: UserEvent,
        desired: DesiredUser | OutOfScope,
        *,
        pinned: bool = True,
        mapping: str | None = None,
        absent: bool = False,
    ) -> Provisioned:
        """Bring Keycloak to the desired state and say what was done; raises HoldError (`second-look`)."""
        provisioned = self._provisioner.provision(
            event, desired, pinned=pinned, mapping=mapping, absent=absent
        )
        first = self._remember(event, provisioned)
        if provisioned.raced and (first is None or first.looks < _LOOKS):
            raise HoldError(
                "the user is looked at again, since its invitation is being marked",
                wait_s=_MARKED_BY_THEN_S,
                code="second-look",
            )
        if first is None:
            return provisioned
        return Provisioned(
            first.result, (*provisioned.acknowledgements, *self._ask(desired, provisioned))
        )

    def _remember(self, event: UserEvent, provisioned: Provisioned) -> _First | None:
        """Return what the first look did, None for the first itself; keep it for the next one where there must be one."""
        key = (event.source, event.id)
        with self._lock:
            first = self._first.pop(key)
            if first is not None:
                first = _First(first.result, first.looks + 1)
            if provisioned.raced and (first is None or first.looks < _LOOKS):
                self._first.put(key, first or _First(provisioned.result, looks=1))
        return first

    def _ask(
        self, desired: DesiredUser | OutOfScope, provisioned: Provisioned
    ) -> Sequence[Acknowledgement]:
        result, begun = provisioned.result, provisioned.mailing
        if isinstance(desired, OutOfScope) or desired.invitation is None:
            return ()
        if begun is None or result.keycloak_id is None:
            return ()
        invitation = Invitation(
            id=f"{begun}/invitation/mark",
            event_id=begun,
            user_id=desired.external_id.value,
            keycloak_id=result.keycloak_id,
            terms=desired.invitation,
            time=self._clock.now(),
            confirm_only=True,
        )
        return self._invite(invitation)
