"""Bring one user to the desired state through ports: find, plan, execute.

A user has one writer at a time in this process: both stages read a user, change it and write it back whole, under the
lock of its external id.
"""

import contextlib
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, field

from keycloak_bridge.delivery.guards import Limits, limited_actions
from keycloak_bridge.domain.errors import (
    BridgeError,
    ConflictError,
    DroppedError,
    HoldError,
    KeycloakConflictError,
    KeycloakNotFoundError,
    UnknownUserError,
)
from keycloak_bridge.domain.events import Result, UserEvent
from keycloak_bridge.domain.operations import CreateUser, Plan, UpdateUser
from keycloak_bridge.domain.ports import Acknowledgement, Clock, Trace, UserDirectory, no_trace
from keycloak_bridge.domain.users import (
    DesiredUser,
    FoundUser,
    Intent,
    LinkPolicy,
    Lookup,
    MatchCriterion,
    OutOfScope,
    UnknownUser,
    UserRepresentation,
    external_ids,
    may_be,
)
from keycloak_bridge.messages.results import result_of, skipped, with_effect
from keycloak_bridge.planning.bookkeeping import has_applied, mail_awaited
from keycloak_bridge.planning.ownership import refuse_foreign_user
from keycloak_bridge.planning.plan import plan_user
from keycloak_bridge.provisioning.duplicates import DuplicateResolver
from keycloak_bridge.provisioning.executor import Executed, Invite, PlanExecutor
from keycloak_bridge.provisioning.verification import Verification, VerificationPolicy
from keycloak_bridge.threads.bounded_dict import BoundedDict
from keycloak_bridge.threads.named_locks import NamedLocks, UserLocks

_LOOK_AGAIN_S = 2.0
"""How often an event that waits for its user looks for it."""

_NAMES = ("username", "email")


@dataclass(frozen=True, slots=True)
class Provisioned:
    """What became of one event, and what must reach Kafka before it counts as done.

    `raced` says that a user was written whose invitation another process may be marking at the same moment; `mailing`
    is the event whose mail, by the user's mark, is due or being sent. `overruled` says that the event would have disabled or
    deleted the user, had not a newer one let it in.
    """

    result: Result
    acknowledgements: tuple[Acknowledgement, ...] = ()
    raced: bool = False
    mailing: str | None = None
    overruled: bool = False


@dataclass(frozen=True, slots=True)
class Draft:
    """A user that does not exist yet and can be created at once: its plan begins with CreateUser."""

    event: UserEvent
    desired: DesiredUser
    plan: Plan

    @property
    def representation(self) -> UserRepresentation:
        """What POST /users would send."""
        return next(
            one.representation for one in self.plan.operations if isinstance(one, CreateUser)
        )


@dataclass(frozen=True, slots=True)
class Seen:
    """The user that a search by external id has just found, with `lookup`; None where it found none."""

    user: FoundUser | None
    lookup: Lookup


@dataclass(frozen=True, slots=True)
class ProvisionPolicy:
    """How a provisioner guards the realm; an event waits for its user for at most `unknown_user_wait_s` seconds.

    `expects_new` creates the first user without a look whether it exists, where Keycloak keeps the external id unique.
    """

    reserved: Collection[str] = frozenset()
    verification: VerificationPolicy = field(default_factory=VerificationPolicy)
    unknown_user_wait_s: float = 600.0
    expects_new: bool = True


class Provisioner:
    """Applies desired users to a directory; the same one again writes nothing. Safe to share between threads."""

    def __init__(
        self,
        directory: UserDirectory,
        invite: Invite,
        clock: Clock,
        *,
        policy: ProvisionPolicy,
        limits: Limits | None = None,
        locks: UserLocks | None = None,
        trace: Trace = no_trace,
    ) -> None:
        self._directory = directory
        self._clock = clock
        self._policy = policy
        self.reserved = policy.reserved
        """Usernames and e-mail addresses that no event may give or take."""

        self._limits = limits
        self._locks = locks or UserLocks()
        self._link_locks = NamedLocks()  # by Keycloak id; taken inside the others only
        self._trace = trace
        self._duplicates = DuplicateResolver(directory)
        self._executor = PlanExecutor(
            directory,
            self._duplicates,
            Verification(directory, policy.verification),
            invite,
            clock,
            trace,
        )
        self._expects_new = policy.expects_new
        self._waiting_since_s: BoundedDict[str, float] = BoundedDict()

    def provision(
        self,
        event: UserEvent,
        desired: DesiredUser | OutOfScope,
        *,
        one_partition: bool = True,
        known_absent: bool = False,
    ) -> Provisioned:
        """Bring Keycloak to the desired state and return what was done.

        After a conflict, or when the user vanished, the event is planned again once with all searches, since another
        writer may have been faster; a second failure is the event's own fault. `one_partition` says that all events of
        the user come through one partition, `known_absent` that no user has its external id, so that this search is
        skipped. Raises BridgeError.
        """
        if isinstance(desired, OutOfScope):
            return Provisioned(skipped(event, "out-of-scope"))
        with self._locks.of(desired.external_id.value):
            try:
                provisioned = self._provision(event, desired, one_partition, known_absent)
            except UnknownUserError:
                self._wait_for_user(event, desired)
                raise
        self._waiting_since_s.pop(event.identity)
        self._duplicates.forget(event)
        return provisioned

    def plan(
        self,
        event: UserEvent,
        desired: DesiredUser,
        *,
        foresees: bool = True,
        seen: Seen | None = None,
    ) -> tuple[FoundUser | None, Plan]:
        """Return the user that `provision` would find, and what it would do; writes nothing.

        `seen` is what a search by the external id has just found, so that it is not made again.
        Raises BridgeError as `provision` does before its first write, and where it `foresees` that the create call would find
        the username or the e-mail address taken. Whether users may share an address is unknown, unless some do.
        """
        absent = seen is not None and seen.user is None
        criteria = _first_search(desired, known_absent=absent)
        found = None if seen is None else seen.user
        if criteria and (found is None or seen is None or not seen.lookup.covers(desired.lookup)):
            found = self._directory.find(criteria, desired.lookup, owner=desired.external_id)
        plan = plan_user(event, desired, found, reserved=self._policy.reserved)
        self._executor.check(desired, plan)
        if found is None and plan.operations and foresees:
            self._refuse_taken_names(desired)
        return found, plan

    def draft(self, event: UserEvent, desired: DesiredUser) -> Draft | None:
        """Return what creates a user whose external id no user has; None if it must be written by itself.

        That is where Keycloak must be searched first, and where groups are to be created, which comes after the user.
        Raises BridgeError, which says nothing of a user that exists all the same.
        """
        if not _creates(desired):
            return None
        plan = plan_user(event, desired, None, reserved=self._policy.reserved)
        if self._executor.check(desired, plan):
            return None
        return Draft(event, desired, plan)

    def complete(self, draft: Draft, user_id: str) -> Provisioned:
        """Do what is left once the user of `draft` is created as `user_id`, and return what was done.

        Raises BridgeError: KeycloakConflictError where another process had created the user before.
        """
        event, desired, plan = draft.event, draft.desired, draft.plan
        with self._locks.of(desired.external_id.value):
            done = self._executor.execute(event, desired, plan, created=user_id)
        return Provisioned(_result(event, desired, plan, done), done.acknowledgements)

    def _provision(
        self, event: UserEvent, desired: DesiredUser, one_partition: bool, known_absent: bool
    ) -> Provisioned:
        by_username = desired.external_id.is_username
        # Keycloak keeps usernames unique, so the create call says that the user exists; where the last one did, ask before
        creates_first = by_username and self._expects_new and _creates(desired)
        first_search = _first_search(desired, creates_first if by_username else known_absent)
        try:
            return self._attempt(event, desired, first_search, one_partition)
        except (KeycloakConflictError, KeycloakNotFoundError):
            pass
        except ConflictError as error:
            ambiguous = error.code == "ambiguous"
            makes_way = ambiguous and self._duplicates.make_way(event, desired.external_id)
            if not makes_way and not creates_first:
                raise
        except BridgeError as error:
            # what is refused of a new user may not be of one that exists
            if not creates_first or not error.is_final or isinstance(error, DroppedError):
                raise
        try:
            return self._attempt(event, desired, desired.matching, one_partition)
        except KeycloakConflictError as error:
            self._refuse_taken_names(desired)
            raise ConflictError(
                "another user of the realm has the username or the e-mail address",
                remedy="free the username or e-mail in Keycloak, or correct it in user management; "
                "then replay the event",
                violations=error.violations,
            ) from error

    def _attempt(
        self,
        event: UserEvent,
        desired: DesiredUser,
        criteria: Sequence[MatchCriterion],
        one_partition: bool,
    ) -> Provisioned:
        found = self._directory.find(criteria, desired.lookup, owner=desired.external_id)
        if criteria and desired.external_id.is_username and _creates(desired):
            self._expects_new = found is None
        self._trace("found", found)
        plan = plan_user(event, desired, found, reserved=self._policy.reserved)
        self._trace("planned", plan)
        missing_groups = self._executor.check(desired, plan)
        if self._limits is not None:
            actions = limited_actions(plan, desired.intent)
            self._limits.admit(actions, event.identity, self._clock.monotonic())
        with self._linking(desired, found):
            done = self._executor.execute(
                event, desired, plan, missing_groups=missing_groups, one_partition=one_partition
            )
        if found is not None and has_applied(event, found.representation):
            self._executor.settle_accounts(found, desired)
        result = _result(event, desired, plan, done)
        if found is None:
            return Provisioned(result, done.acknowledgements)
        updated = any(isinstance(operation, UpdateUser) for operation in plan.operations)
        mailing = mail_awaited(found.representation)
        raced = updated and mailing is not None
        return Provisioned(result, done.acknowledgements, raced, mailing, plan.overruled)

    @contextlib.contextmanager
    def _linking(self, desired: DesiredUser, found: FoundUser | None) -> Iterator[None]:
        """Let one event at a time link a user that has no external id yet.

        Raises KeycloakConflictError where another one was faster: two people may have one address.
        """
        if found is None or external_ids(found.representation, desired.external_id):
            yield
            return
        with self._link_locks.of(found.user_id):
            latest = self._directory.get(found.user_id)
            if latest is None or not may_be(latest, desired.external_id):
                raise KeycloakConflictError("another event has linked the user")
            yield

    def _refuse_taken_names(self, desired: DesiredUser) -> None:
        """Raise ConflictError where a user that the event may not write to has its username or its e-mail address."""
        for name in desired.matching:
            if name.target not in _NAMES:
                continue
            try:
                found = self._directory.find([name], desired.lookup)
            except ConflictError:
                continue  # several users share the address, so it is not unique in this realm
            if found is not None:
                refuse_foreign_user(desired, found, self._policy.reserved)

    def _wait_for_user(self, event: UserEvent, desired: DesiredUser) -> None:
        """Raise HoldError while the user may still appear."""
        if desired.unknown is not UnknownUser.WAIT:
            return
        now_s = self._clock.monotonic()
        waited_s = now_s - self._waiting_since_s.setdefault(event.identity, now_s)
        if waited_s < self._policy.unknown_user_wait_s:
            raise HoldError("the user is not there yet", wait_s=_LOOK_AGAIN_S, code="unknown-user")
        self._waiting_since_s.pop(event.identity)


def _result(event: UserEvent, desired: DesiredUser, plan: Plan, done: Executed) -> Result:
    result = result_of(event, plan, desired.external_id.value, done.user_id)
    return (
        result if done.effect is None else with_effect(result, done.effect, unmailed=done.unmailed)
    )


def _creates(desired: DesiredUser) -> bool:
    """Say whether the event creates its user, and may take on no other."""
    creates = desired.intent is Intent.PROVISION and desired.unknown is UnknownUser.CREATE
    return creates and desired.link is LinkPolicy.NEVER


def _first_search(desired: DesiredUser, known_absent: bool) -> tuple[MatchCriterion, ...]:
    """Leave out username and e-mail: the create call finds out as well whether they are taken.

    A link policy needs all searches: a realm that allows duplicate e-mails would create a second user.
    """
    criteria = desired.matching[1:] if known_absent else desired.matching
    if desired.link is not LinkPolicy.NEVER:
        return criteria
    return tuple(one for one in criteria if one.target not in _NAMES)
