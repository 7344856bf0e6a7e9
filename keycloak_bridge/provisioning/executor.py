"""Execute the plan of one user: check what the realm lacks, write in order, read new users back, request mails."""

from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple, cast

from keycloak_bridge.domain.errors import (
    ID_REFUSED,
    READ_ONLY,
    BridgeError,
    ConflictError,
    KeycloakRejectedError,
    MappingError,
    Violation,
)
from keycloak_bridge.domain.events import BOOKKEEPING_ATTRIBUTES, Invitation, Purpose, UserEvent
from keycloak_bridge.domain.operations import (
    CreateUser,
    DeleteUser,
    Effect,
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
from keycloak_bridge.domain.ports import Acknowledgement, Clock, Trace, UserDirectory
from keycloak_bridge.domain.users import (
    ATTRIBUTE_PREFIX,
    GROUPS,
    ORGANIZATIONS,
    DesiredUser,
    FoundUser,
    MatchCriterion,
    Membership,
    UserRepresentation,
    can_be_created,
    why_not_created,
)
from keycloak_bridge.mapping.reserved_names import anonymous_username
from keycloak_bridge.planning.bookkeeping import is_being_invited, with_mark_of
from keycloak_bridge.provisioning.duplicates import DuplicateResolver
from keycloak_bridge.provisioning.verification import Verification
from keycloak_bridge.threads.named_locks import NamedLocks

Invite = Callable[[Invitation], Sequence[Acknowledgement]]
"""Passes an invitation that is due to the invite stage."""

_NOUNS = {GROUPS: ("groups", "group"), ORGANIZATIONS: ("organizations", "organization")}
"""What the realm can lack: plural and singular."""

_BOOKKEEPING = frozenset(ATTRIBUTE_PREFIX + name for name in BOOKKEEPING_ATTRIBUTES)
_SWITCHES = ("enabled", "emailVerified")


class Executed(NamedTuple):
    """The user's Keycloak id, what must still reach Kafka, and why less was done than the plan says.

    `unmailed` says that no mail was requested although the plan does, since the user cannot be marked for it.
    """

    user_id: str | None
    acknowledgements: tuple[Acknowledgement, ...] = ()
    effect: Effect | None = None
    unmailed: bool = False


class PlanExecutor:
    """Executes plans; every write is harmless to repeat. Safe to share between threads."""

    def __init__(
        self,
        directory: UserDirectory,
        duplicates: DuplicateResolver,
        verification: Verification,
        invite: Invite,
        clock: Clock,
        trace: Trace,
    ) -> None:
        self._directory = directory
        self._duplicates = duplicates
        self._verification = verification
        self._invite = invite
        self._clock = clock
        self._trace = trace
        self._accounts = NamedLocks()

    def check(self, desired: DesiredUser, plan: Plan) -> tuple[str, ...]:
        """Check that the realm allows for `plan`, and return the groups that `execute` must create; writes nothing.

        Raises MappingError (`group-missing`, `organization-missing`) for what the realm lacks and may not get, and
        ConflictError (`identity-taken`) for an account of an identity provider that is another user's.
        """
        to_create: list[str] = []
        for kind in _NOUNS:
            names = list(dict.fromkeys(_joined(plan, kind)))
            missing = self._directory.missing(kind, names) if names else ()
            memberships = [one for one in desired.memberships if one.kind == kind]
            creates = any(one.create_missing for one in memberships)
            if refused := [name for name in missing if not (creates and can_be_created(name))]:
                raise _missing_error(kind, refused, memberships)
            to_create += missing
        for operation in plan.operations:
            if isinstance(operation, LinkIdentity):
                self._refuse_taken_identity(plan.user_id, operation)
        return tuple(to_create)

    def execute(
        self,
        event: UserEvent,
        desired: DesiredUser,
        plan: Plan,
        *,
        missing_groups: Sequence[str] = (),
        one_partition: bool = True,
        created: str | None = None,
    ) -> Executed:
        """Do what `plan` says.

        `missing_groups` are created and joined last, so that no group is left behind by an event that Keycloak refuses; where
        that is cut short, the redelivered event joins them. `created` is the Keycloak id where the plan's CreateUser was done
        elsewhere; `one_partition` says that all events of the user come through one partition. Raises BridgeError.
        """
        user_id = plan.user_id
        acknowledgements: list[Acknowledgement] = []
        effect: Effect | None = None
        refused: BridgeError | None = None
        unmailed = False
        into_new_groups = Join(GROUPS, tuple(missing_groups))
        for operation in _joining_last(plan.operations, into_new_groups):
            if isinstance(operation, CreateUser):
                user_id = created or self._create(operation, desired.external_id)
                self._check_new_user(event, user_id, operation, desired.external_id, one_partition)
            elif user_id is None:
                raise AssertionError("a plan without a user must begin with CreateUser")
            elif isinstance(operation, RequestInvitation):
                if effect is Effect.SWITCHED:
                    # without its mark, the invite stage refuses the user as another's
                    unmailed = True
                    break
                acknowledgements += self._invite(
                    self._invitation(event, desired, user_id, operation)
                )
            elif isinstance(operation, UpdateUser):
                effect, refused = self._update(user_id, operation)
                if effect is None and refused is None:
                    self._verify_update(event, user_id, operation)
            elif isinstance(operation, DeleteUser):
                user_id, effect = self._delete(user_id, operation, desired)
            elif operation is into_new_groups:
                if refused is not None:
                    break
                self._join_new_groups(user_id, into_new_groups)
            else:
                self._write(user_id, operation)
            self._trace("done", operation)
        if refused is not None:
            raise refused
        return Executed(user_id, tuple(acknowledgements), effect, unmailed)

    def _create(self, operation: CreateUser, external_id: MatchCriterion) -> str:
        """Create the user and return its Keycloak id.

        Raises KeycloakRejectedError (`id-refused`) where Keycloak refuses the username that is the external id.
        """
        try:
            return self._directory.create(operation.representation)
        except KeycloakRejectedError as error:
            refused = {one.pointer for one in error.violations}
            if not external_id.is_username or "/user/username" not in refused:
                raise
            raise KeycloakRejectedError(
                f"the realm refuses the user's id as a username: {error.message}",
                code=ID_REFUSED,
                remedy="correct the id in user management, or let the realm take it (Realm settings > User profile > username); "
                "then replay the event",
                violations=error.violations,
            ) from error

    def _write(self, user_id: str, operation: Operation) -> None:
        directory = self._directory
        match operation:
            case Join(kind, names):
                directory.join(user_id, kind, names)
            case Leave(kind, names):
                directory.leave(user_id, kind, names)
            case LinkIdentity():
                self._link(user_id, operation)
            case UnlinkIdentity(before):
                directory.unlink_identity(user_id, before.alias)
            case EndSessions():
                directory.end_sessions(user_id)
            case _:
                raise AssertionError(f"{type(operation).__name__} is not written to a user")

    def _join_new_groups(self, user_id: str, operation: Join) -> None:
        for path in operation.names:
            self._directory.create_group(path)
        self._directory.join(user_id, operation.kind, operation.names)

    def settle_accounts(self, found: FoundUser, desired: DesiredUser) -> None:
        """Look again whose the accounts are that an earlier attempt linked: it may have ended before it could look.

        Raises ConflictError (`identity-taken`).
        """
        wanted = {(link.alias, link.user_id) for link in desired.identities}
        for link in found.identities:
            if (link.alias, link.user_id) in wanted:
                self._settle_account(found.user_id, LinkIdentity(link))

    def _link(self, user_id: str, operation: LinkIdentity) -> None:
        """Link the account, unless another user has it by now: Keycloak would log in any of them.

        Raises ConflictError (`identity-taken`).
        """
        link = operation.link
        with self._accounts.of(f"{link.alias}\0{link.user_id}"):
            self._directory.link_identity(user_id, link)
            self._settle_account(user_id, operation)

    def _settle_account(self, user_id: str, operation: LinkIdentity) -> None:
        """Take the link back if another user has the account too.

        Whoever looks last sees both links. Of two processes that link at the same moment both may take theirs back.
        """
        link, before = operation.link, operation.before
        try:
            self._refuse_taken_identity(user_id, operation)
        except ConflictError:
            self._directory.unlink_identity(user_id, link.alias)
            if before is not None:
                self._directory.link_identity(user_id, before)
            raise

    def _update(self, user_id: str, update: UpdateUser) -> tuple[Effect | None, BridgeError | None]:
        """Replace the user.

        Return why only switches were written, and an error to raise once all the rest of the plan is done: a person is
        to be erased and the realm does not allow to change usernames, or Keycloak refuses other changes of a user that
        it disables.
        """
        body = self._with_latest_mark(user_id, update)
        try:
            self._directory.update(user_id, body)
        except KeycloakRejectedError as error:
            kept = _username_to_keep(user_id, update, error)
            if kept is None:
                return self._update_switches(user_id, update, error)
            try:
                self._directory.update(user_id, {**body, "username": kept})
            except KeycloakRejectedError as second:
                return self._update_switches(user_id, update, second)
            return None, MappingError(
                "the user is disabled and anonymous except for its username, which the realm does not allow to change",
                code="username-kept",
                remedy='turn on "Edit username" in the realm\'s login settings, then replay the event',
                violations=error.violations,
            )
        return None, None

    def _update_switches(
        self, user_id: str, update: UpdateUser, error: KeycloakRejectedError
    ) -> tuple[Effect | None, BridgeError | None]:
        """Disable a user that Keycloak lets nothing else be written of, or write what it does not need written.

        A federation such as LDAP may be read-only, and a user profile may refuse what was stored before it. Raises
        `error` where the user is to be changed otherwise and not to be disabled.
        """
        wanted = {change.target: change.after for change in update.changes}
        switches = {name: wanted[name] for name in _SWITCHES if name in wanted}
        others = wanted.keys() - _BOOKKEEPING - switches.keys()
        disables = switches.get("enabled") is False
        if not disables and (others or not _is_read_only(update, error)):
            raise error
        if others:
            switches = {"enabled": False}
        if switches:
            self._directory.update(user_id, cast("UserRepresentation", switches))
        return Effect.SWITCHED, error if others else None

    def _delete(
        self, user_id: str, operation: DeleteUser, desired: DesiredUser
    ) -> tuple[str, Effect | None]:
        """Delete the user, and disable it where its directory brings it back at once: under another Keycloak id."""
        self._directory.delete(user_id)
        effect = None
        for user in self._directory.having(desired.external_id) if operation.federated else ():
            user_id, effect = user["id"], Effect.RETURNED
            self._directory.update(user_id, {"enabled": False})
        return user_id, effect

    def _with_latest_mark(self, user_id: str, update: UpdateUser) -> UserRepresentation:
        """Take over what the invite stage has marked since the user was found, as late as possible."""
        if not is_being_invited(update.representation):
            return update.representation
        latest = self._directory.get(user_id)
        return update.representation if latest is None else with_mark_of(update, latest)

    def _verify_update(self, event: UserEvent, user_id: str, operation: UpdateUser) -> None:
        if is_being_invited(operation.representation):
            return  # the invite stage may be writing its mark just now: see MarkRaceCheck
        if self._verification.wants(event.identity):
            self._verification.updated(user_id, operation)

    def _check_new_user(
        self,
        event: UserEvent,
        user_id: str,
        operation: CreateUser,
        external_id: MatchCriterion,
        one_partition: bool,
    ) -> None:
        """Read a new user back: is it stored completely, and is it the only one?

        Two processes can only create the same user at once if its events come through several partitions, and not where the
        external id is the username. That takes a search by attribute, which a large realm answers slowly; to read the user
        alone does not.
        """
        actions = operation.representation.get("requiredActions") or ()
        carriers: Sequence[UserRepresentation] = ()
        if not one_partition and not external_id.is_username:
            carriers = self._directory.having(external_id)
            self._duplicates.settle(event, user_id, carriers)
        if self._verification.wants(event.identity, actions):
            self._verification.created(user_id, operation, carriers)

    def _invitation(
        self, event: UserEvent, desired: DesiredUser, user_id: str, operation: RequestInvitation
    ) -> Invitation:
        about = "verification" if operation.purpose is Purpose.VERIFY_EMAIL else "invitation"
        marked = operation.event or event.identity
        return Invitation(
            id=f"{marked}/{about}",
            event_id=marked,
            user_id=desired.external_id.value,
            keycloak_id=user_id,
            terms=operation.terms,
            time=self._clock.now(),
            purpose=operation.purpose,
            event_type=event.type,
            schema_id=event.schema_id,
            event_time=event.time,
            caused_by=event.id,
            waiting_since=event.waiting_since,
        )

    def _refuse_taken_identity(self, user_id: str | None, operation: LinkIdentity) -> None:
        """Keycloak would link one account to several users and log in any of them."""
        link = operation.link
        owner = None
        if link.user_id is not None:
            owner = self._directory.identity_owner(link.alias, link.user_id)
        if owner not in (None, user_id):
            pointer = f"/user/identities/{link.alias}"
            raise ConflictError(
                f"another user of the realm is linked to the account at {link.alias}",
                code="identity-taken",
                remedy="remove the link from the other user, or correct the event; then replay it",
                violations=[Violation(pointer, "owner", "is linked to another user")],
            )


def _username_to_keep(user_id: str, update: UpdateUser, error: KeycloakRejectedError) -> str | None:
    """Return the username that must stay so that the rest can be erased, None where Keycloak refuses something else."""
    refused = {one.pointer for one in error.violations}
    for change in update.changes:
        if change.target == "username" and change.after == anonymous_username(user_id):
            return str(change.before) if refused == {"/user/username"} else None
    return None


def _is_read_only(update: UpdateUser, error: KeycloakRejectedError) -> bool:
    """Say whether the user comes from a directory that Keycloak may not write to."""
    keywords = {violation.keyword for violation in error.violations}
    return bool(update.representation.get("federationLink")) and keywords == {READ_ONLY}


def _joined(plan: Plan, kind: str) -> Iterator[str]:
    for operation in plan.operations:
        if isinstance(operation, CreateUser) and kind == GROUPS:
            # Keycloak answers a create with an unknown group with a bare 500
            yield from operation.representation.get("groups", [])
        elif isinstance(operation, Join) and operation.kind == kind:
            yield from operation.names


def _joining_last(operations: Sequence[Operation], last: Join) -> Sequence[Operation]:
    """Return the operations with `last` after all others that Keycloak may refuse, and before a mail is requested."""
    if not last.names:
        return operations
    writes: list[Operation] = []
    requests: list[Operation] = []
    for operation in operations:
        match operation:
            case CreateUser(representation):
                groups = [one for one in representation.get("groups", ()) if one not in last.names]
                others = {name: value for name, value in representation.items() if name != "groups"}
                user = {**others, "groups": groups} if groups else others
                writes.append(CreateUser(cast("UserRepresentation", user)))
            case Join(kind, names) if kind == last.kind:
                there = tuple(one for one in names if one not in last.names)
                writes += [Join(kind, there)] if there else []
            case RequestInvitation():
                requests.append(operation)
            case _:
                writes.append(operation)
    return [*writes, last, *requests]


def _missing_error(
    kind: str, missing: Sequence[str], memberships: Sequence[Membership]
) -> MappingError:
    """Report missing names by their position only: a name comes from the event and may be personal data."""
    plural, singular = _NOUNS[kind]
    names = [name for membership in memberships for name in membership.names]
    creates = any(membership.create_missing for membership in memberships)

    def why(name: str) -> str:
        problem = why_not_created(name) if creates else None
        return "" if problem is None else f", and none is created whose path {problem}"

    return MappingError(
        f"the realm does not have {len(missing)} of the user's {plural}",
        code="group-missing" if kind == GROUPS else "organization-missing",
        remedy=f"create the {singular} in Keycloak or correct the event; then replay it",
        violations=[
            Violation(
                f"/user/{plural}/{at}", "exists", f"the realm has no such {singular}{why(name)}"
            )
            for at, name in enumerate(names)
            if name in missing
        ],
    )
