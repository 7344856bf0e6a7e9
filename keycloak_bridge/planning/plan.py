"""Decide which Admin REST calls bring one user to the desired state."""

from collections.abc import Collection
from dataclasses import replace
from typing import cast

from keycloak_bridge.domain.errors import UnknownUserError
from keycloak_bridge.domain.events import (
    BOOKKEEPING_ATTRIBUTES,
    INVITATION_ATTRIBUTE,
    UserEvent,
)
from keycloak_bridge.domain.operations import (
    Change,
    CreateUser,
    DeleteUser,
    EndSessions,
    Join,
    Leave,
    LinkIdentity,
    Operation,
    Plan,
    UnlinkIdentity,
    UpdateUser,
)
from keycloak_bridge.domain.representation import after_changes, differences, with_changes
from keycloak_bridge.domain.users import (
    ATTRIBUTE_PREFIX,
    GROUPS,
    DesiredUser,
    EmailChange,
    FoundUser,
    IdentityLink,
    Intent,
    UnknownUser,
    UserRepresentation,
)
from keycloak_bridge.mapping.reserved_names import anonymous_username, refuse_reserved_name
from keycloak_bridge.mapping.rules import DEFAULT_RESERVED
from keycloak_bridge.planning.bookkeeping import due_after, format_mark, is_last, stamp
from keycloak_bridge.planning.mail_due import (
    mark_to_write,
    must_verify,
    requests,
)
from keycloak_bridge.planning.order import Applied, Verdict, applied_to, judge
from keycloak_bridge.planning.ownership import (
    refuse_foreign_user,
    refuse_protected_groups,
)

STALE = "stale"
UNKNOWN_USER = "unknown-user"
VERIFIED = frozenset(("emailVerified",))
"""What an administrator or the user may change after an event was applied; its redelivery leaves it alone. Of `enabled` the order of
events says so (order.py)."""

_PERSONAL_FIELDS = frozenset(("email", "firstName", "lastName"))
_BOOKKEEPING = frozenset(BOOKKEEPING_ATTRIBUTES)


def plan_user(
    event: UserEvent,
    desired: DesiredUser,
    found: FoundUser | None,
    *,
    reserved: Collection[str] = DEFAULT_RESERVED,
) -> Plan:
    """Return the fewest operations that bring the user to the state that `event` describes.

    Planning again against the result returns no operation, except the request for a mail while it is due. Raises
    ConflictError (`conflict`, `reserved-user`, `protected-user`) when the user is not the event's own, and
    UnknownUserError where Keycloak has none and `desired.unknown` neither creates nor skips it.
    """
    refuse_protected_groups(desired)
    refuse_reserved_name(desired.representation, reserved)
    if found is None:
        return _plan_unknown(event, desired)
    refuse_foreign_user(desired, found, reserved)
    user = found.representation
    verdict = judge(event, desired, applied_to(user), again=is_last(event, user))
    deletes = desired.intent is Intent.DELETE
    if verdict.is_stale or (deletes and not verdict.access):
        due = requests(event, desired, user, user)
        return Plan(found.user_id, due, STALE, verdict.overruled)
    if deletes:
        federated = bool(found.representation.get("federationLink"))
        return Plan(found.user_id, (DeleteUser(federated),))
    return _plan_existing(event, effective(desired, verdict), found, verdict)


def _plan_unknown(event: UserEvent, desired: DesiredUser) -> Plan:
    if desired.intent.describes_user and desired.unknown is UnknownUser.CREATE:
        return _plan_new(event, desired)
    if desired.unknown is UnknownUser.SKIP:
        return Plan(None, skipped=UNKNOWN_USER)
    raise UnknownUserError(
        f"Keycloak has no user with the event's {desired.external_id.target}",
        remedy="publish the event that creates the user, then replay this one",
    )


def _plan_new(event: UserEvent, desired: DesiredUser) -> Plan:
    """Return the plan for a new user; one call writes everything but roles, identities and mail."""
    wanted = desired.representation
    verdict = judge(event, desired, Applied(), new=True)
    if verdict.enabled is not None:
        wanted = {**wanted, "enabled": verdict.enabled}
    attributes = {**wanted.get("attributes", {}), **stamp(event, verdict)}
    if desired.invitation is not None:
        # also of a user that cannot be mailed yet: users that existed before have no mark, and are never invited
        attributes[INVITATION_ATTRIBUTE] = [format_mark(due_after(None, event.identity))]
    user: UserRepresentation = {**wanted, "attributes": attributes}
    groups = [name for one in desired.memberships if one.kind == GROUPS for name in one.names]
    created: UserRepresentation = {**user, "groups": groups} if groups else user
    operations: list[Operation] = [CreateUser(created)]
    operations += [
        Join(one.kind, one.names) for one in desired.memberships if one.kind != GROUPS and one.names
    ]
    operations += [LinkIdentity(link) for link in desired.identities if link.user_id is not None]
    operations += requests(event, desired, None, user)
    return Plan(None, tuple(operations))


def effective(desired: DesiredUser, verdict: Verdict) -> DesiredUser:
    """Return what of `desired` takes effect on a user that exists, besides its switch."""
    if desired.intent is Intent.ANONYMISE and not verdict.erases:
        desired = replace(desired, intent=Intent.DISABLE)
    if verdict.enabled is None and "enabled" not in desired.create_only:
        left = {key: value for key, value in desired.representation.items() if key != "enabled"}
        desired = replace(desired, representation=cast("UserRepresentation", left))
    if verdict.describes or not desired.intent.describes_user:
        return desired
    name = desired.external_id.target.removeprefix(ATTRIBUTE_PREFIX)
    lets_in = bool(verdict.enabled)
    return replace(
        desired,
        representation=UserRepresentation(attributes={name: [desired.external_id.value]}),
        create_only=frozenset(),
        cleared=frozenset(),
        memberships=(),
        identities=(),
        invitation=desired.invitation if lets_in else None,
        intent=Intent.ENABLE if lets_in else Intent.DISABLE,
    )


def _plan_existing(
    event: UserEvent, desired: DesiredUser, found: FoundUser, verdict: Verdict
) -> Plan:
    operations: list[Operation] = []
    changes = _changes(event, desired, found, verdict)
    after = after_changes(found.representation, changes)
    mark = mark_to_write(event, desired, found.representation, after)
    if mark is not None:
        before = (found.representation.get("attributes") or {}).get(INVITATION_ATTRIBUTE)
        marking = Change(ATTRIBUTE_PREFIX + INVITATION_ATTRIBUTE, before, [format_mark(mark)])
        changes = (*changes, marking)
        after = after_changes(found.representation, changes)
    if changes:
        operations.append(UpdateUser(with_changes(found.representation, changes), changes))
    operations += _membership_operations(desired, found)
    operations += _identity_operations(desired, found)
    if desired.ends_sessions and found.sessions > 0 and after.get("enabled") is False:
        operations.append(EndSessions())
    operations += requests(event, desired, found.representation, after)
    return Plan(found.user_id, tuple(operations), overruled=verdict.overruled)


def _changes(
    event: UserEvent, desired: DesiredUser, found: FoundUser, verdict: Verdict
) -> tuple[Change, ...]:
    user = found.representation
    stored = user.get("attributes") or {}
    create_only, cleared = desired.create_only, desired.cleared
    if is_last(event, user):
        create_only |= VERIFIED
    wanted = cast("UserRepresentation", {**desired.representation})
    if desired.intent is Intent.ANONYMISE:
        # what `wanted` itself has was set after all personal data was erased
        # where the id is the username, it stays as the attribute of the id does: later events must find the user
        by_id = desired.external_id.is_username
        erased = {} if by_id else {"username": anonymous_username(found.user_id)}
        wanted = cast("UserRepresentation", {**erased, **wanted})
        attributes = {ATTRIBUTE_PREFIX + name for name in stored if name not in _BOOKKEEPING}
        cleared |= _PERSONAL_FIELDS | attributes
    if desired.email_change is EmailChange.VERIFY:
        wanted.pop("emailVerified", None)  # only a mail verifies
    wanted.pop("enabled", None)
    if verdict.enabled is not None:
        wanted["enabled"] = verdict.enabled
        create_only -= {"enabled"}
    wanted["attributes"] = {**wanted.get("attributes", {}), **stamp(event, verdict, user)}
    changes = differences(user, wanted, create_only, cleared)
    verified = bool(user.get("emailVerified"))
    if verified and must_verify(desired, user, after_changes(user, changes)):
        changes = (*changes, Change("emailVerified", True, False))
    return changes


def _membership_operations(desired: DesiredUser, found: FoundUser) -> list[Operation]:
    joins: list[Operation] = []
    leaves: list[Operation] = []
    for one in desired.memberships:
        held = found.memberships.get(one.kind, frozenset())
        missing = tuple(name for name in one.names if name not in held)
        if missing:
            joins.append(Join(one.kind, missing))
        surplus = (one.owned & held) - set(one.names)
        if surplus:
            leaves.append(Leave(one.kind, tuple(sorted(surplus))))
    return [*joins, *leaves]


def _identity_operations(desired: DesiredUser, found: FoundUser) -> list[Operation]:
    """Return what to link and unlink; an anonymised user keeps no identity that would name the person."""
    held: dict[str, IdentityLink] = {one.alias: one for one in found.identities}
    wanted = {one.alias: one for one in desired.identities}
    if desired.intent is Intent.ANONYMISE:
        wanted = {alias: IdentityLink(alias, None) for alias in held} | wanted
    operations: list[Operation] = []
    for alias, link in wanted.items():
        before = held.get(alias)
        if link.user_id is None:
            operations += [] if before is None else [UnlinkIdentity(before)]
        elif before is None or before.user_id != link.user_id:
            operations.append(LinkIdentity(link, before))
    return operations
