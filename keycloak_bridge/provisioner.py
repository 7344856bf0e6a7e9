"""Bring one user to the desired state through ports: find, plan, apply."""

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field, replace

from keycloak_bridge.applier import Applier
from keycloak_bridge.core.bookkeeping import is_being_invited, mail_begun
from keycloak_bridge.core.desired import (
    DesiredUser,
    FoundUser,
    LinkPolicy,
    MatchCriterion,
    OutOfScope,
    UnknownUser,
)
from keycloak_bridge.core.errors import (
    BridgeError,
    ConflictError,
    Disposition,
    HoldError,
    KeycloakConflictError,
    KeycloakNotFoundError,
    MappingError,
    UnknownUserError,
)
from keycloak_bridge.core.first_seen import FirstSeen
from keycloak_bridge.core.limits import Limits, deeds_of
from keycloak_bridge.core.model import Invitation, Purpose, Result, UserEvent
from keycloak_bridge.core.operations import CreateUser, Plan, RequestInvitation, UpdateUser
from keycloak_bridge.core.outcomes import result_of, skipped
from keycloak_bridge.core.plan import plan_user
from keycloak_bridge.core.ports import Acknowledgement, Clock, UserDirectory
from keycloak_bridge.core.user_locks import UserLocks
from keycloak_bridge.uniqueness import Uniqueness
from keycloak_bridge.verification import Verification, VerificationPolicy

Invite = Callable[[Invitation], Sequence[Acknowledgement]]
"""Hands an invitation that is due to the invite stage."""

Trace = Callable[[str, object], None]
"""Hears of each step (`found`, `planned`, `done`) and what it brought; for `apply` and tests."""

_LOOK_AGAIN_S = 2.0
"""How often an event that waits for its user looks for it."""


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


@dataclass(frozen=True, slots=True)
class ProvisionPolicy:
    """How a provisioner guards the realm; `unknown_user_wait_s` is how long an event waits for its user at most."""

    reserved: Collection[str] = frozenset()
    verification: VerificationPolicy = field(default_factory=VerificationPolicy)
    unknown_user_wait_s: float = 600.0


class Provisioner:
    """Applies desired users to a directory, the same one again without a write. Safe to share between threads."""

    def __init__(
        self,
        directory: UserDirectory,
        invite: Invite,
        clock: Clock,
        *,
        policy: ProvisionPolicy,
        limits: Limits | None = None,
        locks: UserLocks | None = None,
        trace: Trace = ignore,
    ) -> None:
        self._directory = directory
        self._invite = invite
        self._clock = clock
        self._policy = policy
        self._limits = limits
        self._locks = locks or UserLocks()
        self._trace = trace
        self._applier = Applier(directory)
        self._verification = Verification(directory, policy.verification)
        self._uniqueness = Uniqueness(directory)
        self._waiting = FirstSeen()

    def provision(
        self,
        event: UserEvent,
        desired: DesiredUser | OutOfScope,
        *,
        pinned: bool = True,
        mapping: str | None = None,
    ) -> Provisioned:
        """Bring Keycloak to the desired state and say what was done.

        A conflict or a vanished user is planned anew once with the whole search, since another writer may have been
        faster; what fails then is the event's own fault. `pinned` says that all events of the user come by one partition;
        `mapping` is the fingerprint that the result tells. Raises BridgeError.
        """
        if isinstance(desired, OutOfScope):
            return Provisioned(replace(skipped(event, "out-of-scope"), mapping=mapping))
        with self._locks.of(desired.external_id.value):
            try:
                provisioned = self._bring(event, desired, pinned)
            except UnknownUserError:
                self._wait_for_user(event, desired)
                raise
        self._waiting.forget(_key(event))
        self._uniqueness.forget(event)
        return replace(provisioned, result=replace(provisioned.result, mapping=mapping))

    def plan(self, event: UserEvent, desired: DesiredUser) -> tuple[FoundUser | None, Plan]:
        """Return the user that was found with the whole search, and what would be done; writes nothing."""
        found = self._directory.find(desired.matching, desired.lookup)
        plan = plan_user(event, desired, found, reserved=self._policy.reserved)
        self._applier.refuse_impossible(desired, plan)
        return found, plan

    def _wait_for_user(self, event: UserEvent, desired: DesiredUser) -> None:
        """Raise HoldError while the user may still appear."""
        if desired.unknown is not UnknownUser.WAIT:
            return
        now_s = self._clock.monotonic()
        if now_s - self._waiting.since(_key(event), now_s) < self._policy.unknown_user_wait_s:
            raise HoldError("the user is not there yet", wait_s=_LOOK_AGAIN_S, code="unknown-user")
        self._waiting.forget(_key(event))

    def _bring(self, event: UserEvent, desired: DesiredUser, pinned: bool) -> Provisioned:
        try:
            return self._attempt(event, desired, _first_search(desired), pinned)
        except (KeycloakConflictError, KeycloakNotFoundError):
            pass
        except ConflictError as error:
            ambiguous = error.code == "ambiguous"
            if not ambiguous or not self._uniqueness.make_way(event, desired.external_id):
                raise
        try:
            return self._attempt(event, desired, desired.matching, pinned)
        except KeycloakConflictError as error:
            raise ConflictError(
                "another user of the realm holds the username or the e-mail address",
                remedy="free the username or e-mail in Keycloak, or correct it in user management; "
                "then replay the event",
                violations=error.violations,
            ) from error

    def _attempt(
        self,
        event: UserEvent,
        desired: DesiredUser,
        criteria: Sequence[MatchCriterion],
        pinned: bool,
    ) -> Provisioned:
        found = self._directory.find(criteria, desired.lookup)
        self._trace("found", found)
        plan = plan_user(event, desired, found, reserved=self._policy.reserved)
        self._trace("planned", plan)
        groups = self._applier.refuse_impossible(desired, plan)
        if self._limits is not None:
            deeds = deeds_of(plan, desired.intent)
            self._limits.admit(deeds, f"{event.source} {event.id}", self._clock.monotonic())
        self._applier.create_groups(groups)
        user_id, acknowledgements = self._apply(event, desired, plan, pinned)
        result = replace(result_of(event, plan, user_id), user_id=desired.external_id.value)
        return Provisioned(result, acknowledgements, _raced(plan, found), _mailing(found))

    def _apply(
        self, event: UserEvent, desired: DesiredUser, plan: Plan, pinned: bool
    ) -> tuple[str | None, tuple[Acknowledgement, ...]]:
        user_id = plan.user_id
        acknowledgements: list[Acknowledgement] = []
        left: MappingError | None = None
        for operation in plan.operations:
            if isinstance(operation, CreateUser):
                user_id = self._directory.create(operation.representation)
                self._look_at_new(event, user_id, operation, desired.external_id, pinned)
            elif user_id is None:
                raise AssertionError("a plan without a user must begin with CreateUser")
            elif isinstance(operation, RequestInvitation):
                invitation = self._invitation(event, desired, user_id, operation)
                acknowledgements += self._invite(invitation)
            else:
                try:
                    self._applier.write(user_id, operation)
                except MappingError as error:
                    left = error  # told once all the rest is done
            if isinstance(operation, UpdateUser) and left is None:
                self._verify(event, str(user_id), operation)
            self._trace("done", operation)
        if left is not None:
            raise left
        return user_id, tuple(acknowledgements)

    def _verify(self, event: UserEvent, user_id: str, operation: UpdateUser) -> None:
        if is_being_invited(operation.representation):
            return  # its mark may be written at this moment, with all that was read before: see SecondLook
        if self._verification.wants(event.id):
            self._verification.updated(user_id, operation)

    def _look_at_new(
        self,
        event: UserEvent,
        user_id: str,
        operation: CreateUser,
        external_id: MatchCriterion,
        pinned: bool,
    ) -> None:
        """Read a new user back: is it all stored, and is it the only one?

        Two processes can create a user at the same moment only where its events come by several partitions.
        """
        verified = self._verification.wants(event.id)
        if not verified and pinned:
            return
        carriers = self._directory.having(external_id)
        self._uniqueness.settle(event, user_id, carriers)
        if verified:
            self._verification.created(user_id, operation, carriers)

    def _invitation(
        self, event: UserEvent, desired: DesiredUser, user_id: str, operation: RequestInvitation
    ) -> Invitation:
        about = "verification" if operation.purpose is Purpose.VERIFY_EMAIL else "invitation"
        return Invitation(
            id=f"{event.id}/{about}",
            event_id=event.id,
            user_id=desired.external_id.value,
            keycloak_id=user_id,
            terms=operation.terms,
            time=self._clock.now(),
            purpose=operation.purpose,
        )


def _key(event: UserEvent) -> tuple[str, str]:
    return event.source, event.id


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
