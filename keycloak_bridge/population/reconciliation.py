"""Compare a whole population with the realm, user by user, and repair what differs through the one provisioner."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum

from keycloak_bridge.domain.errors import BridgeError, ConflictError
from keycloak_bridge.domain.events import BOOKKEEPING_ATTRIBUTES, USER_DISABLED, UserEvent
from keycloak_bridge.domain.operations import CreateUser, Plan, RequestInvitation, UpdateUser
from keycloak_bridge.domain.ports import UserDirectory
from keycloak_bridge.domain.users import (
    DesiredUser,
    FoundUser,
    Intent,
    MatchCriterion,
    UnknownUser,
    UserRepresentation,
)
from keycloak_bridge.mapping.rules import ATTRIBUTE_PREFIX
from keycloak_bridge.planning.fold import FoldedUser, fold, plan_folded, steps_of
from keycloak_bridge.population.population import Standing
from keycloak_bridge.provisioning.provisioner import Provisioner

_SOURCE = "/keycloak-bridge/reconcile"
_SCHEMA_ID = "urn:keycloak-bridge:schema:user.disabled:1.0"


class Finding(StrEnum):
    """How a user of the population stands in the realm, or one of the realm in the population."""

    AGREES = "agrees"
    MISSING = "missing"
    DIFFERING = "differing"
    ORPHANED = "orphaned"
    SKIPPED = "skip"
    CONFLICT = "conflict"
    REFUSED = "refused"


@dataclass(frozen=True, slots=True)
class Comparison:
    """One user of population or realm; `action` is what was done about it, None where nothing was."""

    user_id: str
    finding: Finding
    keycloak_id: str | None = None
    reason: str | None = None
    plan: Plan | None = None
    error: BridgeError | None = None
    action: str | None = None


class Reconciliation:
    """Compares folded users with the realm, and with `repairs` brings the realm to what they shall be."""

    def __init__(
        self, provisioner: Provisioner, directory: UserDirectory, *, repairs: bool = False
    ) -> None:
        self._provisioner = provisioner
        self._directory = directory
        self._repairs = repairs

    def settle(self, standing: Standing) -> Comparison:
        """Return how the user stands, and repair it where that is wished.

        Raises what keeps every user from being compared, and HoldError where a limit keeps it from being written.
        """
        folded = standing.folded
        try:
            return self._settled(folded)
        except BridgeError as error:
            if not error.is_final:
                raise
            finding = Finding.CONFLICT if isinstance(error, ConflictError) else Finding.REFUSED
            return Comparison(standing.user_id, finding, reason=error.code, error=error)

    def settle_orphan(self, event: UserEvent, desired: DesiredUser) -> Comparison:
        """Return what disabling a user of whom the population does not speak would change or has changed; as `settle`."""
        settled = self.settle(Standing(fold(None, event, desired)))
        if settled.finding is not Finding.DIFFERING:
            return settled
        return replace(settled, finding=Finding.ORPHANED)

    def _settled(self, folded: FoldedUser) -> Comparison:
        found = self._directory.find(folded.desired.matching[:1])
        steps = steps_of(folded, found)
        compared = self._compared(folded, found, steps)
        if not self._repairs:
            return compared
        if compared.finding is Finding.AGREES and _mail_is_due(compared.plan):
            self._provisioner.provision(*steps[0], pinned=False)
        if compared.finding not in _REPAIRABLE:
            return compared
        for event, desired in steps:  # others may write the same user meanwhile: not pinned
            result = self._provisioner.provision(event, desired, pinned=False).result
            compared = replace(
                compared,
                keycloak_id=result.keycloak_id,
                reason=result.reason,
                action=result.action,
            )
        return compared

    def _compared(
        self,
        folded: FoldedUser,
        found: FoundUser | None,
        steps: Sequence[tuple[UserEvent, DesiredUser]],
    ) -> Comparison:
        if steps:  # where there are two, what the first of them finds and refuses
            found, plan = self._provisioner.plan(*steps[0])
        if len(steps) != 1:
            plan = plan_folded(folded, found)
        return Comparison(
            folded.desired.external_id.value,
            finding_of(plan),
            None if found is None else found.user_id,
            reason=plan.skipped,
            plan=plan,
        )


def bridged(users: Iterable[UserRepresentation], external_id: str) -> Iterator[tuple[str, str]]:
    """Yield the id in user management and the Keycloak id of each of `users` that events can have made.

    That is none without exactly one external id, and no service account.
    """
    for user in users:
        values = (user.get("attributes") or {}).get(external_id) or []
        if len(values) == 1 and not user.get("serviceAccountClientId"):
            yield values[0], user["id"]


def finding_of(plan: Plan) -> Finding:
    """Return what a plan says of its user; bookkeeping and mails alone are no difference."""
    if plan.skipped:
        return Finding.SKIPPED
    writes = [one for one in plan.operations if not isinstance(one, RequestInvitation)]
    if any(isinstance(one, CreateUser) for one in writes):
        return Finding.MISSING
    return Finding.DIFFERING if any(map(_is_news, writes)) else Finding.AGREES


def _mail_is_due(plan: Plan | None) -> bool:
    """Say whether a user that is as it shall be still waits for its mail, of an attempt that was stopped."""
    return plan is not None and any(isinstance(one, RequestInvitation) for one in plan.operations)


_REPAIRABLE = frozenset((Finding.MISSING, Finding.DIFFERING))


def _is_news(operation: object) -> bool:
    if not isinstance(operation, UpdateUser):
        return True
    targets = {one.target.removeprefix(ATTRIBUTE_PREFIX) for one in operation.changes}
    return not targets <= set(BOOKKEEPING_ATTRIBUTES)


def switched_off(
    user_id: str,
    external_id: str,
    event_id: str,
    *,
    ends_sessions: bool,
    protected_groups: frozenset[str],
) -> tuple[UserEvent, DesiredUser]:
    """Return the event that nobody sent, and what it wants; without a time, so that later news still counts."""
    event = UserEvent(event_id, _SOURCE, USER_DISABLED, user_id, None, _SCHEMA_ID, {})
    criterion = MatchCriterion(ATTRIBUTE_PREFIX + external_id, user_id)
    representation = UserRepresentation(enabled=False, attributes={external_id: [user_id]})
    return event, DesiredUser(
        representation,
        (criterion,),
        intent=Intent.DISABLE,
        unknown=UnknownUser.SKIP,
        ends_sessions=ends_sessions,
        protected_groups=protected_groups,
    )
