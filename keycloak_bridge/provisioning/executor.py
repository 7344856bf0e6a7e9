"""Carry out the plan of one user: each write in its order, new users looked at, mails asked for.

Do what a plan says through the port, after a look at what Keycloak would refuse too late or not at all.
"""

from collections.abc import Callable, Iterator, Sequence

from keycloak_bridge.domain.errors import (
    ConflictError,
    KeycloakRejectedError,
    MappingError,
    Violation,
)
from keycloak_bridge.domain.events import Invitation, Purpose, UserEvent
from keycloak_bridge.domain.operations import (
    CreateUser,
    DeleteUser,
    EndSessions,
    Join,
    Leave,
    LinkIdentity,
    Operation,
    Plan,
    RequestInvitation,
    UnlinkIdentity,
    UpdateUser,
)
from keycloak_bridge.domain.ports import Acknowledgement, Clock, UserDirectory
from keycloak_bridge.domain.users import (
    GROUPS,
    ORGANIZATIONS,
    DesiredUser,
    MatchCriterion,
    Membership,
    UserRepresentation,
)
from keycloak_bridge.planning.bookkeeping import is_being_invited, with_mark_of
from keycloak_bridge.planning.plan import anonymous_username
from keycloak_bridge.provisioning.duplicates import DuplicateResolver
from keycloak_bridge.provisioning.verification import Verification

_WORDS = {GROUPS: ("groups", "group"), ORGANIZATIONS: ("organizations", "organization")}
"""What the realm can lack, in words for several and for one."""


class OperationExecutor:
    """Writes the operations of a plan, each harmless to repeat."""

    def __init__(self, directory: UserDirectory) -> None:
        self._directory = directory

    def refuse_impossible(self, desired: DesiredUser, plan: Plan) -> tuple[str, ...]:
        """Return the groups that must be created first; writes nothing.

        Raises MappingError (`group-missing`, `organization-missing`) for what the realm lacks and may not get, and
        ConflictError (`identity-taken`) for an account of an identity provider that is another user's.
        """
        to_create: list[str] = []
        for kind in _WORDS:
            names = list(dict.fromkeys(_joined(plan, kind)))
            missing = self._directory.missing(kind, names) if names else ()
            memberships = [one for one in desired.memberships if one.kind == kind]
            if missing and any(one.create_missing for one in memberships):
                to_create += missing
            elif missing:
                raise _missing(kind, missing, memberships)
        for operation in plan.operations:
            if isinstance(operation, LinkIdentity):
                self._refuse_taken(plan.user_id, operation)
        return tuple(to_create)

    def create_groups(self, paths: Sequence[str]) -> None:
        """Create what `refuse_impossible` found missing."""
        for path in paths:
            self._directory.create_group(path)

    def write(self, user_id: str, operation: Operation) -> None:
        """Do one operation to a user that is there.

        Raises MappingError (`username-kept`) where a person is to be erased and the realm lets nobody change a username:
        all the rest is done by then.
        """
        directory = self._directory
        match operation:
            case UpdateUser():
                self._update(user_id, operation)
            case Join(kind, names):
                directory.join(user_id, kind, names)
            case Leave(kind, names):
                directory.leave(user_id, kind, names)
            case LinkIdentity(link):
                directory.link_identity(user_id, link)
            case UnlinkIdentity(before):
                directory.unlink_identity(user_id, before.alias)
            case EndSessions():
                directory.end_sessions(user_id)
            case DeleteUser():
                directory.delete(user_id)
            case _:
                raise AssertionError(f"{type(operation).__name__} is not written to a user")

    def _update(self, user_id: str, update: UpdateUser) -> None:
        body = self._with_latest_mark(user_id, update)
        try:
            self._directory.update(user_id, body)
        except KeycloakRejectedError as error:
            named = _name_that_may_stay(user_id, update, error)
            if named is None:
                raise
            self._directory.update(user_id, {**body, "username": named})
            raise MappingError(
                "the user is disabled and anonymous but for its username, which the realm lets nobody change",
                code="username-kept",
                remedy='turn on "Edit username" in the realm\'s login settings, then replay the event',
                violations=error.violations,
            ) from error

    def _with_latest_mark(self, user_id: str, update: UpdateUser) -> UserRepresentation:
        """Take over what the invite stage has marked since the user was found, as late as can be."""
        if not is_being_invited(update.representation):
            return update.representation
        latest = self._directory.get(user_id)
        return update.representation if latest is None else with_mark_of(update, latest)

    def _refuse_taken(self, user_id: str | None, operation: LinkIdentity) -> None:
        """Keycloak would link one account to several users and log in any of them."""
        link = operation.link
        owner = None
        if link.user_id is not None:
            owner = self._directory.identity_owner(link.alias, link.user_id)
        if owner not in (None, user_id):
            raise ConflictError(
                f"another user of the realm is linked to the account at {link.alias}",
                code="identity-taken",
                remedy="take the link away from the other user, or correct the event; then replay it",
                violations=[
                    Violation(
                        f"/user/identities/{link.alias}", "owner", "is linked to another user"
                    )
                ],
            )


def _name_that_may_stay(
    user_id: str, update: UpdateUser, error: KeycloakRejectedError
) -> str | None:
    """Return the username that must stay for the rest to be erased, None where Keycloak refuses something else."""
    refused = {one.pointer for one in error.violations}
    for change in update.changes:
        if change.target == "username" and change.after == anonymous_username(user_id):
            return str(change.before) if refused == {"/user/username"} else None
    return None


def _joined(plan: Plan, kind: str) -> Iterator[str]:
    for operation in plan.operations:
        if isinstance(operation, CreateUser) and kind == GROUPS:
            # Keycloak answers a create with an unknown group by a bare 500
            yield from operation.representation.get("groups", [])
        elif isinstance(operation, Join) and operation.kind == kind:
            yield from operation.names


def _missing(kind: str, missing: Sequence[str], memberships: Sequence[Membership]) -> MappingError:
    """A name comes from the event, so that only its place may be told."""
    several, one = _WORDS[kind]
    names = [name for membership in memberships for name in membership.names]
    return MappingError(
        f"the realm does not have {len(missing)} of the user's {several}",
        code="group-missing" if kind == GROUPS else "organization-missing",
        remedy=f"create the {one} in Keycloak or correct the event; then replay it",
        violations=[
            Violation(f"/user/{several}/{at}", "exists", f"the realm has no such {one}")
            for at, name in enumerate(names)
            if name in missing
        ],
    )


Invite = Callable[[Invitation], Sequence[Acknowledgement]]
"""Hands an invitation that is due to the invite stage."""

Trace = Callable[[str, object], None]
"""Hears of each step (`found`, `planned`, `done`) and what it brought; for `apply` and tests."""


def ignore(step: str, detail: object) -> None:
    """Trace nothing."""


class PlanExecutor:
    """Carries out plans. Safe to share between threads."""

    def __init__(
        self,
        directory: UserDirectory,
        applier: OperationExecutor,
        verification: Verification,
        uniqueness: DuplicateResolver,
        invite: Invite,
        clock: Clock,
        trace: Trace,
    ) -> None:
        self._directory = directory
        self._operation_executor = applier
        self._verification = verification
        self._duplicates = uniqueness
        self._invite = invite
        self._clock = clock
        self._trace = trace

    def carry_out(
        self,
        event: UserEvent,
        desired: DesiredUser,
        plan: Plan,
        *,
        pinned: bool = True,
        created: str | None = None,
    ) -> tuple[str | None, tuple[Acknowledgement, ...]]:
        """Do what `plan` says and return the user's Keycloak id, with what must still reach Kafka.

        `created` is the user of the plan's CreateUser where that was done elsewhere; `pinned` says that all events of the
        user come by one partition. Raises BridgeError.
        """
        user_id = plan.user_id
        acknowledgements: list[Acknowledgement] = []
        left: MappingError | None = None
        for operation in plan.operations:
            if isinstance(operation, CreateUser):
                user_id = created or self._directory.create(operation.representation)
                self._look_at_new(event, user_id, operation, desired.external_id, pinned)
            elif user_id is None:
                raise AssertionError("a plan without a user must begin with CreateUser")
            elif isinstance(operation, RequestInvitation):
                invitation = self._invitation(event, desired, user_id, operation)
                acknowledgements += self._invite(invitation)
            else:
                try:
                    self._operation_executor.write(user_id, operation)
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
        self._duplicates.settle(event, user_id, carriers)
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
