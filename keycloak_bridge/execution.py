"""Carry out the plan of one user: each write in its order, new users looked at, mails asked for."""

from collections.abc import Callable, Sequence

from keycloak_bridge.applier import Applier
from keycloak_bridge.core.bookkeeping import is_being_invited
from keycloak_bridge.core.desired import DesiredUser, MatchCriterion
from keycloak_bridge.core.errors import MappingError
from keycloak_bridge.core.model import Invitation, Purpose, UserEvent
from keycloak_bridge.core.operations import CreateUser, Plan, RequestInvitation, UpdateUser
from keycloak_bridge.core.ports import Acknowledgement, Clock, UserDirectory
from keycloak_bridge.uniqueness import Uniqueness
from keycloak_bridge.verification import Verification

Invite = Callable[[Invitation], Sequence[Acknowledgement]]
"""Hands an invitation that is due to the invite stage."""

Trace = Callable[[str, object], None]
"""Hears of each step (`found`, `planned`, `done`) and what it brought; for `apply` and tests."""


def ignore(step: str, detail: object) -> None:
    """Trace nothing."""


class Execution:
    """Carries out plans. Safe to share between threads."""

    def __init__(
        self,
        directory: UserDirectory,
        applier: Applier,
        verification: Verification,
        uniqueness: Uniqueness,
        invite: Invite,
        clock: Clock,
        trace: Trace,
    ) -> None:
        self._directory = directory
        self._applier = applier
        self._verification = verification
        self._uniqueness = uniqueness
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
