"""Choose the way by which an event is brought to Keycloak: with others in a batch, without a search, or with one."""

from dataclasses import dataclass

from keycloak_bridge.burst import Burst, Conclude
from keycloak_bridge.core.desired import DesiredUser, Intent, OutOfScope
from keycloak_bridge.core.handled import Handled
from keycloak_bridge.core.model import Record, Result, UserEvent
from keycloak_bridge.core.proof import Proof
from keycloak_bridge.provisioner import Provisioned
from keycloak_bridge.roll import Roll
from keycloak_bridge.second_look import Provisions


@dataclass(frozen=True, slots=True)
class Taken:
    """An event on its way to Keycloak, begun at `since_s`; `known` is what its news will say in any case."""

    record: Record
    event: UserEvent
    desired: DesiredUser | OutOfScope
    known: Result
    since_s: float


class Bringing:
    """Brings events to Keycloak; all ways have the same outcome. Safe to share between threads.

    Without a roll each user is searched for; without a burst each is written by itself.
    """

    def __init__(
        self, provisions: Provisions, roll: Roll | None = None, burst: Burst | None = None
    ) -> None:
        self._provisions = provisions
        self._roll = roll
        self._burst = burst

    def bring(self, taken: Taken, conclude: Conclude) -> Handled:
        """Return what `conclude` makes of the event's provisioning, now or once its batch is written.

        Raises BridgeError.
        """
        desired = taken.desired
        if self._roll is None or not isinstance(desired, DesiredUser):
            return conclude(lambda: self._provision(taken, absent=False))
        absent = _is_pinned(taken) and desired.intent is Intent.PROVISION
        absent = absent and self._roll.excludes(taken.record.topic_partition, desired)
        if absent and self._burst is not None:
            pending = self._burst.offer(
                taken.record, taken.event, desired, taken.known.mapping, conclude
            )
            if pending is not None:
                return Handled((pending,), Proof.KEYCLOAK)
        with self._roll.creating(desired) as first:
            return conclude(lambda: self._provision(taken, absent=absent and first))

    def _provision(self, taken: Taken, *, absent: bool) -> Provisioned:
        provisioned = self._provisions.provision(
            taken.event,
            taken.desired,
            pinned=_is_pinned(taken),
            mapping=taken.known.mapping,
            absent=absent,
        )
        written = provisioned.result.action in ("created", "updated")
        if self._burst is not None and written and isinstance(taken.desired, DesiredUser):
            self._burst.proved(taken.desired)
        return provisioned


def _is_pinned(taken: Taken) -> bool:
    """Say whether all events of the user come by one partition, because its external id is their key."""
    record, desired = taken.record, taken.desired
    if isinstance(desired, OutOfScope) or not record.key:
        return False
    return record.key == desired.external_id.value.encode("utf-8", "surrogatepass")
