"""Compare a whole population with the realm, user by user, and repair what differs through the one provisioner."""

import uuid
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from enum import StrEnum

from keycloak_bridge.domain.errors import BridgeError, ConfigError, ConflictError
from keycloak_bridge.domain.events import USER_DISABLED, UserEvent
from keycloak_bridge.domain.operations import Plan, RequestInvitation
from keycloak_bridge.domain.ports import UserDirectory
from keycloak_bridge.domain.users import (
    ATTRIBUTE_PREFIX,
    DesiredUser,
    Intent,
    MatchCriterion,
    UnknownUser,
    UserRepresentation,
)
from keycloak_bridge.mapping.lifecycle import Mappings
from keycloak_bridge.pipeline.preview import PreviewOutcome, outcome_of
from keycloak_bridge.planning.fold import FoldedUser, fold, plan_folded, steps_of
from keycloak_bridge.population.population import Population, PopulationUser
from keycloak_bridge.population.side_by_side import side_by_side
from keycloak_bridge.provisioning.provisioner import Provisioner, Seen

_SOURCE = "/keycloak-bridge/reconcile"
_SCHEMA_ID = "urn:keycloak-bridge:schema:user.disabled:1.0"
_FEW = 10
"""So many orphans may outnumber the population; a realm that small can be looked through."""


class Finding(StrEnum):
    """How a user of the population compares with the realm, or one of the realm with the population."""

    AGREES = "agrees"
    MISSING = "missing"
    DIFFERING = "differing"
    ORPHANED = "orphaned"
    SKIPPED = "skip"
    CONFLICT = "conflict"
    REFUSED = "refused"


_FINDINGS = {
    PreviewOutcome.SKIP: Finding.SKIPPED,
    PreviewOutcome.CREATE: Finding.MISSING,
    PreviewOutcome.UPDATE: Finding.DIFFERING,
    PreviewOutcome.UNCHANGED: Finding.AGREES,
}


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
    """Compares folded users with the realm, and with a `repairer` brings the realm to what their events say."""

    def __init__(
        self, planner: Provisioner, directory: UserDirectory, repairer: Provisioner | None = None
    ) -> None:
        """`planner` and `directory` may know the realm as it was a while ago; `repairer` looks again before it writes."""
        self._planner = planner
        self._directory = directory
        self._repairer = repairer

    def compare_all(
        self, population: Iterable[PopulationUser], workers: int
    ) -> Iterator[Comparison]:
        """Yield how each user of the population compares, several at a time.

        After a failure no other user is begun, and those that were are yielded before it is raised: they may have been
        written.
        """
        failures: list[BridgeError] = []

        def compare(user: PopulationUser) -> Comparison | None:
            if failures:
                return None
            try:
                return self.compare(user)
            except BridgeError as error:
                failures.append(error)
                return None

        for compared in side_by_side(compare, population, workers):
            if compared is not None:
                yield compared
        if failures:
            raise failures[0]

    def compare(self, user: PopulationUser) -> Comparison:
        """Return how the user compares, after repairing it where that is asked for.

        Raises what keeps every user from being compared, and HoldError where a limit keeps it from being written.
        """
        try:
            return self._compare(user.folded)
        except BridgeError as error:
            if not error.is_final:
                raise
            finding = Finding.CONFLICT if isinstance(error, ConflictError) else Finding.REFUSED
            return Comparison(user.user_id, finding, reason=error.code, error=error)

    def disable_orphans(
        self,
        orphans: Iterable[tuple[str, str]],
        mappings: Mappings,
        workers: int,
        *,
        ends_sessions: bool,
    ) -> Iterator[Comparison]:
        """Yield what disabling each of `orphans` would change, or has changed, as `compare_all` does."""
        run = uuid.uuid4().hex[:12]

        def disabled(user_id: str) -> PopulationUser:
            event_id = f"reconcile-{run}/{user_id}"
            event, desired = _disabling(user_id, event_id, mappings, ends_sessions=ends_sessions)
            return PopulationUser(fold(None, event, desired))

        for compared in self.compare_all((disabled(one) for one, _ in orphans), workers):
            orphaned = compared.finding is Finding.DIFFERING
            yield replace(compared, finding=Finding.ORPHANED) if orphaned else compared

    def _compare(self, folded: FoldedUser) -> Comparison:
        lookup = folded.desired.lookup
        seen = Seen(self._directory.find(folded.desired.matching[:1], lookup), lookup)
        found = seen.user
        steps = steps_of(folded, found)
        if steps:  # where there are two, this is what the first of them finds and refuses
            # a repair finds out for itself whether a name is taken
            foresees = self._repairer is None
            found, plan = self._planner.plan(*steps[0], foresees=foresees, seen=seen)
        if len(steps) != 1:
            plan = plan_folded(folded, found, reserved=self._planner.reserved)
        writes = [one for one in plan.operations if not isinstance(one, RequestInvitation)]
        compared = Comparison(
            folded.desired.external_id.value,
            _FINDINGS[outcome_of(replace(plan, operations=tuple(writes)))],
            None if found is None else found.user_id,
            reason=plan.skipped,
            plan=plan,
        )
        if self._repairer is None:
            return compared
        if compared.finding is Finding.AGREES and len(writes) < len(plan.operations):
            # it still waits for its mail, after an attempt that was stopped
            self._repairer.provision(*steps[0], one_partition=False)
        if compared.finding not in (Finding.MISSING, Finding.DIFFERING):
            return compared
        for event, desired in steps:  # others may write the same user meanwhile
            result = self._repairer.provision(event, desired, one_partition=False).result
            compared = replace(
                compared,
                keycloak_id=result.keycloak_id,
                reason=result.reason,
                action=result.action,
            )
        return compared


def bridged_users(
    users: Iterable[UserRepresentation], external_id: str
) -> Iterator[tuple[str, str]]:
    """Yield the external id and the Keycloak id of each of `users` that events can have made.

    Left out are users without exactly one external id, and service accounts.
    """
    for user in users:
        values = (user.get("attributes") or {}).get(external_id) or []
        if len(values) == 1 and not user.get("serviceAccountClientId"):
            yield values[0], user["id"]


def orphans_among(
    bridged: Iterable[tuple[str, str]], population: Population, *, to_disable: bool
) -> list[tuple[str, str]]:
    """Return those of `bridged` that no event of the population mentions.

    Raises ConfigError where the population cannot be the whole one, or, for orphans `to_disable`, where they outnumber it:
    then it is the population of another realm, or of one department.
    """
    if not len(population) or population.refused:
        why = "could not be read whole" if population.refused else "is empty"
        raise ConfigError(
            f"orphans cannot be determined: the population {why}",
            remedy="fix what was refused, or leave out --orphans",
        )
    orphans = [one for one in bridged if not population.mentions(one[0])]
    if to_disable and len(orphans) > max(len(population), _FEW):
        raise ConfigError(
            f"{len(orphans)} users of the realm would be orphans of a population of {len(population)}: "
            "it is not the population of this realm",
            remedy="look at them with --orphans report; give the whole population, or disable them by events",
        )
    return orphans


def _disabling(
    user_id: str, event_id: str, mappings: Mappings, *, ends_sessions: bool
) -> tuple[UserEvent, DesiredUser]:
    """Return an event that disables a user; it has no time, so that a later event of the user still counts."""
    event = UserEvent(event_id, _SOURCE, USER_DISABLED, user_id, None, _SCHEMA_ID, {})
    name = mappings.external_id
    return event, DesiredUser(
        UserRepresentation(enabled=False, attributes={name: [user_id]}),
        (MatchCriterion(ATTRIBUTE_PREFIX + name, user_id),),
        intent=Intent.DISABLE,
        unknown=UnknownUser.SKIP,
        ends_sessions=ends_sessions,
        protected_groups=mappings.protected_groups,
    )
