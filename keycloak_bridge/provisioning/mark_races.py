"""Look again at a user that was written while another process may have marked its invitation.

Keycloak replaces a user whole, and cannot be asked to write only "if it did not change meanwhile". The invite stage of
another process may have read the user before the write, and written its mark with everything it had read after it.
"""

import threading
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime

from keycloak_bridge.domain.errors import HoldError
from keycloak_bridge.domain.events import Invitation, Result, UserEvent
from keycloak_bridge.domain.ports import Acknowledgement, Clock
from keycloak_bridge.domain.users import DesiredUser, OutOfScope
from keycloak_bridge.provisioning.executor import Invite
from keycloak_bridge.provisioning.provisioner import Provisioned, Provisioner
from keycloak_bridge.threads.bounded_dict import BoundedDict

_MARKED_BY_THEN_S = 2.0
"""Far longer than the milliseconds between reading a user and writing its mark."""

_LOOKS = 5
"""After so many looks an event counts as done in any case.

No mark overwrites a user that often. Something else reverts what the event writes, such as a user profile that drops it.
"""


@dataclass(frozen=True, slots=True)
class _First:
    """What the first look did, when it began, and how many looks there were so far."""

    result: Result
    began: datetime
    looks: int = 1


class MarkRaceCheck:
    """Provisions; an event that raced with a mark is only done when a later look finds its user as desired.

    Where the write may have reset the mark of a mail that went out, the invite stage is asked to mark it again if it did;
    that sends no mail.
    """

    def __init__(self, provisioner: Provisioner, invite: Invite, clock: Clock) -> None:
        self._provisioner = provisioner
        self._invite = invite
        self._clock = clock
        self._lock = threading.Lock()
        self._first: BoundedDict[str, _First] = BoundedDict()

    def provision(
        self,
        event: UserEvent,
        desired: DesiredUser | OutOfScope,
        *,
        one_partition: bool = True,
        known_absent: bool = False,
    ) -> Provisioned:
        """Do as `Provisioner.provision`; raises HoldError (`second-look`) too."""
        began = self._clock.now()
        provisioned = self._provisioner.provision(
            event, desired, one_partition=one_partition, known_absent=known_absent
        )
        first = self._remember(event, provisioned, began)
        if provisioned.raced and (first is None or first.looks < _LOOKS):
            raise HoldError(
                "the user is checked again, since its invitation is being marked",
                wait_s=_MARKED_BY_THEN_S,
                code="second-look",
            )
        if first is None:
            return provisioned
        return Provisioned(
            first.result,
            (*provisioned.acknowledgements, *self._confirm(event, desired, provisioned, first)),
        )

    def _remember(
        self, event: UserEvent, provisioned: Provisioned, began: datetime
    ) -> _First | None:
        """Return what the first look did, None for the first itself; keep it where another look must follow."""
        key = event.identity
        with self._lock:
            first = self._first.pop(key)
            if first is not None:
                first = replace(first, looks=first.looks + 1)
            if provisioned.raced and (first is None or first.looks < _LOOKS):
                self._first.put(key, first or _First(provisioned.result, began))
        return first

    def _confirm(
        self,
        event: UserEvent,
        desired: DesiredUser | OutOfScope,
        provisioned: Provisioned,
        first: _First,
    ) -> Sequence[Acknowledgement]:
        """Ask the invite stage to mark the mail of an earlier event that the user waits for, if it went out since the first look."""
        result, awaited = provisioned.result, provisioned.mailing
        if isinstance(desired, OutOfScope) or desired.invitation is None:
            return ()
        if awaited in (None, event.identity) or result.keycloak_id is None:
            return ()
        invitation = Invitation(
            id=f"{awaited}/invitation/mark",
            event_id=awaited,
            user_id=desired.external_id.value,
            keycloak_id=result.keycloak_id,
            terms=desired.invitation,
            time=first.began,
            confirm_only=True,
        )
        return self._invite(invitation)
