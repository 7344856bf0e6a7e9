"""Bring one user to the desired state through ports: find, plan, apply.

One writer a user: both stages read a user, change it and write it back whole.

Since when something has been seen again and again.
"""

import threading
import zlib
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field, replace

from keycloak_bridge.delivery.bounded import BoundedDict
from keycloak_bridge.delivery.guards import Limits, limited_actions
from keycloak_bridge.domain.errors import (
    ConflictError,
    HoldError,
    KeycloakConflictError,
    KeycloakNotFoundError,
    UnknownUserError,
)
from keycloak_bridge.domain.events import Result, UserEvent
from keycloak_bridge.domain.operations import CreateUser, Plan, UpdateUser
from keycloak_bridge.domain.ports import Acknowledgement, Clock, UserDirectory
from keycloak_bridge.domain.users import (
    DesiredUser,
    FoundUser,
    Intent,
    LinkPolicy,
    MatchCriterion,
    OutOfScope,
    UnknownUser,
    UserRepresentation,
)
from keycloak_bridge.messages.results import result_of, skipped
from keycloak_bridge.planning.bookkeeping import is_being_invited, mail_begun
from keycloak_bridge.planning.plan import plan_user
from keycloak_bridge.provisioning.duplicates import DuplicateResolver
from keycloak_bridge.provisioning.executor import (
    Invite,
    OperationExecutor,
    PlanExecutor,
    Trace,
    ignore,
)
from keycloak_bridge.provisioning.verification import Verification, VerificationPolicy

_STRIPES = 256


class UserLocks:
    """Locks by external id, shared by the stages of one process; a few users share one, which only costs a wait.

    They are reentrant: `apply` mails from inside the provisioning of a user.
    """

    def __init__(self) -> None:
        self._locks = tuple(threading.RLock() for _ in range(_STRIPES))

    def of(self, user_id: str) -> threading.RLock:
        """Return the lock to hold between reading and writing the user with this external id."""
        return self._locks[zlib.crc32(user_id.encode("utf-8", "surrogatepass")) % _STRIPES]


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


@dataclass(frozen=True, slots=True)
class Draft:
    """A user that nobody created yet, ready to be: its plan begins with CreateUser."""

    event: UserEvent
    desired: DesiredUser
    plan: Plan
    mapping: str | None

    @property
    def representation(self) -> UserRepresentation:
        """What POST /users would send."""
        return next(
            one.representation for one in self.plan.operations if isinstance(one, CreateUser)
        )


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
        self._clock = clock
        self._policy = policy
        self._limits = limits
        self._locks = locks or UserLocks()
        self._trace = trace
        self._operation_executor = OperationExecutor(directory)
        self._duplicates = DuplicateResolver(directory)
        self._execution = PlanExecutor(
            directory,
            self._operation_executor,
            Verification(directory, policy.verification),
            self._duplicates,
            invite,
            clock,
            trace,
        )
        self._waiting_since_s: BoundedDict[tuple[str, str], float] = BoundedDict()

    def provision(
        self,
        event: UserEvent,
        desired: DesiredUser | OutOfScope,
        *,
        pinned: bool = True,
        mapping: str | None = None,
        absent: bool = False,
    ) -> Provisioned:
        """Bring Keycloak to the desired state and say what was done.

        A conflict or a vanished user is planned anew once with the whole search, since another writer may have been
        faster; what fails then is the event's own fault. `pinned` says that all events of the user come by one partition,
        `absent` that nobody carries its external id, so that nobody is searched by it; `mapping` is the fingerprint that
        the result tells. Raises BridgeError.
        """
        if isinstance(desired, OutOfScope):
            return Provisioned(replace(skipped(event, "out-of-scope"), mapping=mapping))
        with self._locks.of(desired.external_id.value):
            try:
                provisioned = self._bring(event, desired, pinned, absent)
            except UnknownUserError:
                self._wait_for_user(event, desired)
                raise
        self._waiting_since_s.pop(_key(event))
        self._duplicates.forget(event)
        return replace(provisioned, result=replace(provisioned.result, mapping=mapping))

    def plan(self, event: UserEvent, desired: DesiredUser) -> tuple[FoundUser | None, Plan]:
        """Return the user that `provision` would find, and what it would do; writes nothing.

        Raises BridgeError as `provision` does before its first write, or where the create call would find the username or
        the e-mail taken.
        """
        criteria = _first_search(desired, absent=False)
        found = self._directory.find(criteria, desired.lookup)
        plan = plan_user(event, desired, found, reserved=self._policy.reserved)
        self._operation_executor.refuse_impossible(desired, plan)
        others = [one for one in desired.matching if one not in criteria]
        if found is None and plan.operations and others:
            found = self._directory.find(others, desired.lookup)
            if found is not None:
                plan = plan_user(event, desired, found, reserved=self._policy.reserved)
                self._operation_executor.refuse_impossible(desired, plan)
        return found, plan

    def draft(
        self, event: UserEvent, desired: DesiredUser, *, mapping: str | None = None
    ) -> Draft | None:
        """Return what creates a user whose external id nobody carries; None where that takes a look at Keycloak first.

        Creates the groups that may be created. Raises BridgeError.
        """
        creates = desired.intent is Intent.PROVISION and desired.unknown is UnknownUser.CREATE
        if not creates or desired.link is not LinkPolicy.NEVER:
            return None
        plan = plan_user(event, desired, None, reserved=self._policy.reserved)
        self._operation_executor.create_groups(
            self._operation_executor.refuse_impossible(desired, plan)
        )
        return Draft(event, desired, plan, mapping)

    def complete(self, draft: Draft, user_id: str) -> Provisioned:
        """Do what is left once the user of `draft` is created as `user_id`, and say what was done.

        Raises BridgeError: KeycloakConflictError where another process had created the user before.
        """
        event, desired = draft.event, draft.desired
        with self._locks.of(desired.external_id.value):
            _, acknowledgements = self._execution.carry_out(
                event, desired, draft.plan, created=user_id
            )
        result = replace(
            result_of(event, draft.plan, user_id),
            user_id=desired.external_id.value,
            mapping=draft.mapping,
        )
        return Provisioned(result, acknowledgements)

    def _wait_for_user(self, event: UserEvent, desired: DesiredUser) -> None:
        """Raise HoldError while the user may still appear."""
        if desired.unknown is not UnknownUser.WAIT:
            return
        now_s = self._clock.monotonic()
        if (
            now_s - self._waiting_since_s.setdefault(_key(event), now_s)
            < self._policy.unknown_user_wait_s
        ):
            raise HoldError("the user is not there yet", wait_s=_LOOK_AGAIN_S, code="unknown-user")
        self._waiting_since_s.pop(_key(event))

    def _bring(
        self, event: UserEvent, desired: DesiredUser, pinned: bool, absent: bool
    ) -> Provisioned:
        try:
            return self._attempt(event, desired, _first_search(desired, absent), pinned)
        except (KeycloakConflictError, KeycloakNotFoundError):
            pass
        except ConflictError as error:
            ambiguous = error.code == "ambiguous"
            if not ambiguous or not self._duplicates.make_way(event, desired.external_id):
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
        groups = self._operation_executor.refuse_impossible(desired, plan)
        if self._limits is not None:
            deeds = limited_actions(plan, desired.intent)
            self._limits.admit(deeds, f"{event.source} {event.id}", self._clock.monotonic())
        self._operation_executor.create_groups(groups)
        user_id, acknowledgements = self._execution.carry_out(event, desired, plan, pinned=pinned)
        result = replace(result_of(event, plan, user_id), user_id=desired.external_id.value)
        return Provisioned(result, acknowledgements, _raced(plan, found), _mailing(found))


def _key(event: UserEvent) -> tuple[str, str]:
    return event.source, event.id


def _first_search(desired: DesiredUser, absent: bool) -> tuple[MatchCriterion, ...]:
    """Leave out username and e-mail where the create call finds them taken just as well.

    A link policy takes the whole search: a realm that allows duplicate e-mails would create a second user. Where nobody
    carries the external id (`absent`), it is left out too.
    """
    criteria = desired.matching[1:] if absent else desired.matching
    if desired.link is not LinkPolicy.NEVER:
        return criteria
    return tuple(one for one in criteria if one.target not in ("username", "email"))


def _raced(plan: Plan, found: FoundUser | None) -> bool:
    updated = any(isinstance(operation, UpdateUser) for operation in plan.operations)
    return updated and found is not None and is_being_invited(found.representation)


def _mailing(found: FoundUser | None) -> str | None:
    return None if found is None else mail_begun(found.representation)
