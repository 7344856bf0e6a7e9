"""Bring one user to the desired state through ports: find, plan, apply."""

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, replace

from keycloak_bridge.core.bookkeeping import is_being_invited, mail_begun, with_mark_of
from keycloak_bridge.core.errors import (
    BridgeError,
    ConflictError,
    Disposition,
    KeycloakConflictError,
    KeycloakNotFoundError,
    MappingError,
    Violation,
)
from keycloak_bridge.core.model import (
    CreateUser,
    DesiredUser,
    FoundUser,
    GrantRealmRoles,
    Invitation,
    JoinGroups,
    LinkPolicy,
    MatchCriterion,
    Operation,
    Outcome,
    OutOfScope,
    Plan,
    RequestInvitation,
    Result,
    UpdateUser,
    UserEvent,
    UserRepresentation,
)
from keycloak_bridge.core.plan import plan_user
from keycloak_bridge.core.ports import Acknowledgement, Clock, UserDirectory
from keycloak_bridge.core.user_locks import UserLocks

Invite = Callable[[Invitation], Sequence[Acknowledgement]]
"""Hands an invitation that is due to the invite stage."""

Trace = Callable[[str, object], None]
"""Hears of each step (`found`, `planned`, `done`) and what it brought; for `apply` and tests."""


@dataclass(frozen=True, slots=True)
class Provisioned:
    """What became of one event, and what must reach Kafka before it counts as done.

    `raced` says that a user was written whose invitation another process may be marking at the same moment; `mailing`
    is the event whose mail the user's mark called begun and not sent.
    """

    result: Result
    acknowledgements: tuple[Acknowledgement, ...] = ()
    raced: bool = False
    mailing: str | None = None


def ignore(step: str, detail: object) -> None:
    """Trace nothing."""


class Provisioner:
    """Applies desired users to a directory, the same one again without a write."""

    def __init__(
        self,
        directory: UserDirectory,
        invite: Invite,
        clock: Clock,
        *,
        reserved: Collection[str],
        locks: UserLocks | None = None,
        trace: Trace = ignore,
    ) -> None:
        self._directory = directory
        self._invite = invite
        self._clock = clock
        self._reserved = reserved
        self._locks = locks or UserLocks()
        self._trace = trace

    def provision(self, event: UserEvent, desired: DesiredUser | OutOfScope) -> Provisioned:
        """Bring Keycloak to the desired state and say what was done.

        A conflict or a vanished user is planned anew once with the whole search, since another writer may have been
        faster; what fails then is the event's own fault. Raises BridgeError.
        """
        if isinstance(desired, OutOfScope):
            return Provisioned(_result(event, Outcome.SKIPPED, reason="out-of-scope"))
        with self._locks.of(desired.matching[0].value):
            return self._bring(event, desired)

    def _bring(self, event: UserEvent, desired: DesiredUser) -> Provisioned:
        try:
            return self._attempt(event, desired, _first_search(desired))
        except (KeycloakConflictError, KeycloakNotFoundError):
            pass
        try:
            return self._attempt(event, desired, desired.matching)
        except KeycloakConflictError as error:
            raise ConflictError(
                "another user of the realm holds the username or the e-mail address",
                remedy="free the username or e-mail in Keycloak, or correct it in user management; "
                "then replay the event",
                violations=error.violations,
            ) from error

    def plan(self, event: UserEvent, desired: DesiredUser) -> tuple[FoundUser | None, Plan]:
        """Return the user that was found with the whole search, and what would be done; writes nothing."""
        found = self._find(desired, desired.matching)
        plan = plan_user(event, desired, found, reserved=self._reserved)
        self._refuse_missing_groups(desired, plan)
        return found, plan

    def _attempt(
        self, event: UserEvent, desired: DesiredUser, criteria: Sequence[MatchCriterion]
    ) -> Provisioned:
        found = self._find(desired, criteria)
        self._trace("found", found)
        plan = plan_user(event, desired, found, reserved=self._reserved)
        self._trace("planned", plan)
        self._refuse_missing_groups(desired, plan)
        user_id = plan.user_id
        acknowledgements: list[Acknowledgement] = []
        for operation in plan.operations:
            if isinstance(operation, CreateUser):
                user_id = self._directory.create(operation.representation)
            elif user_id is None:
                raise AssertionError("a plan without a user must begin with CreateUser")
            elif isinstance(operation, RequestInvitation):
                acknowledgements += self._invite(
                    self._invitation(event, desired, user_id, operation)
                )
            else:
                self._write(user_id, operation)
            self._trace("done", operation)
        result = replace(_outcome(event, plan, user_id), user_id=desired.matching[0].value)
        return Provisioned(result, tuple(acknowledgements), _raced(plan, found), _mailing(found))

    def _find(self, desired: DesiredUser, criteria: Sequence[MatchCriterion]) -> FoundUser | None:
        return self._directory.find(
            criteria, groups=bool(desired.groups), realm_roles=bool(desired.realm_roles)
        )

    def _write(self, user_id: str, operation: Operation) -> None:
        if isinstance(operation, UpdateUser):
            self._directory.update(user_id, self._with_latest_mark(user_id, operation))
        elif isinstance(operation, JoinGroups):
            for path in operation.paths:
                self._directory.join_group(user_id, path)
        elif isinstance(operation, GrantRealmRoles):
            self._directory.grant_realm_roles(user_id, operation.names)

    def _with_latest_mark(self, user_id: str, update: UpdateUser) -> UserRepresentation:
        """Take over what the invite stage has marked since the user was found, as late as can be."""
        if not is_being_invited(update.representation):
            return update.representation
        latest = self._directory.get(user_id)
        return update.representation if latest is None else with_mark_of(update, latest)

    def _refuse_missing_groups(self, desired: DesiredUser, plan: Plan) -> None:
        """Keycloak answers a create with an unknown group by a bare 500, so groups are looked up before."""
        paths: list[str] = []
        for operation in plan.operations:
            if isinstance(operation, CreateUser):
                paths += operation.representation.get("groups", [])
            elif isinstance(operation, JoinGroups):
                paths += operation.paths
        missing = self._directory.missing_groups(paths) if paths else ()
        if missing:
            # a path comes from the event, so that only its place may be told
            raise MappingError(
                f"the realm does not have {len(missing)} of the user's groups",
                code="group-missing",
                remedy="create the group in Keycloak or correct the event; then replay it",
                violations=[
                    Violation(f"/user/groups/{at}", "exists", "the realm has no such group")
                    for at, path in enumerate(desired.groups)
                    if path in missing
                ],
            )

    def _invitation(
        self, event: UserEvent, desired: DesiredUser, user_id: str, operation: RequestInvitation
    ) -> Invitation:
        return Invitation(
            id=f"{event.id}/invitation",
            event_id=event.id,
            user_id=desired.matching[0].value,
            keycloak_id=user_id,
            terms=operation.terms,
            time=self._clock.now(),
        )


def _first_search(desired: DesiredUser) -> tuple[MatchCriterion, ...]:
    """Leave out username and e-mail where the create call finds them taken just as well.

    A link policy takes the whole search: a realm that allows duplicate e-mails would create a second user.
    """
    if desired.link is not LinkPolicy.NEVER:
        return desired.matching
    return tuple(one for one in desired.matching if one.target not in ("username", "email"))


def _raced(plan: Plan, found: FoundUser | None) -> bool:
    updated = any(isinstance(operation, UpdateUser) for operation in plan.operations)
    return updated and found is not None and is_being_invited(found.representation)


def _mailing(found: FoundUser | None) -> str | None:
    return None if found is None else mail_begun(found.representation)


def is_final(error: BridgeError) -> bool:
    """Say whether the record that raised `error` goes to the dead letters."""
    return error.disposition in (Disposition.DEAD_LETTER, Disposition.REPLAN)


def _outcome(event: UserEvent, plan: Plan, user_id: str | None) -> Result:
    if plan.skipped:
        return _result(event, Outcome.SKIPPED, reason=plan.skipped, keycloak_id=user_id)
    writes = [op for op in plan.operations if not isinstance(op, RequestInvitation)]
    if not writes:
        action = "unchanged"
    else:
        action = "created" if isinstance(writes[0], CreateUser) else "updated"
    return _result(event, Outcome.PROVISIONED, action=action, keycloak_id=user_id)


def _result(
    event: UserEvent,
    outcome: Outcome,
    *,
    action: str | None = None,
    reason: str | None = None,
    keycloak_id: str | None = None,
) -> Result:
    return Result(
        outcome,
        action=action,
        reason=reason,
        event_id=event.id,
        event_type=event.type,
        user_id=event.subject,
        keycloak_id=keycloak_id,
        schema_id=event.schema_id,
    )
