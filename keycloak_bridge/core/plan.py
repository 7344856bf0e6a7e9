"""Decide which Admin REST calls bring one user to the desired state."""

from collections.abc import Collection
from typing import Any, cast

from keycloak_bridge.core.bookkeeping import (
    invitation_marker_due,
    invitation_marker_sending,
    invitation_marker_sent,
    invitation_state,
    is_stale,
    stamp,
    with_invitation_sending,
    with_invitation_sent,
)
from keycloak_bridge.core.mapping_rules import ATTRIBUTE_PREFIX, DEFAULT_RESERVED
from keycloak_bridge.core.model import (
    EVENT_ID_ATTRIBUTE,
    INVITATION_ATTRIBUTE,
    Change,
    CreateUser,
    DesiredUser,
    FoundUser,
    GrantRealmRoles,
    JoinGroups,
    Operation,
    Plan,
    RequestInvitation,
    UpdateUser,
    UserEvent,
    UserRepresentation,
)
from keycloak_bridge.core.ownership import refuse_foreign_user
from keycloak_bridge.core.representation import differences, with_changes

__all__ = [
    "describe",
    "invitation_marker_due",
    "invitation_marker_sending",
    "invitation_marker_sent",
    "invitation_state",
    "plan_user",
    "with_invitation_sending",
    "with_invitation_sent",
]

_SWITCHES = frozenset(("enabled", "emailVerified"))


def plan_user(
    event: UserEvent,
    desired: DesiredUser,
    found: FoundUser | None,
    *,
    reserved: Collection[str] = DEFAULT_RESERVED,
) -> Plan:
    """Return the fewest operations that make the user what `event` says.

    Planning again against the outcome returns no operation, except the request for an invitation for as long as the mail
    is due. Raises ConflictError (`conflict`, `reserved-user`) when `found` is not the event's own user.
    """
    if found is None:
        return _plan_new(event, desired)
    refuse_foreign_user(desired, found, reserved)
    if is_stale(event, found.representation):
        return Plan(
            found.user_id, _invitation_if_due(event, desired, found.representation), "stale"
        )
    return _plan_existing(event, desired, found)


def describe(plan: Plan) -> tuple[tuple[str, str, Any, Any], ...]:
    """Return the plan as rows of verb, target, value before and value after, for people to read."""
    rows: list[tuple[str, str, Any, Any]] = []
    for operation in plan.operations:
        match operation:
            case CreateUser(representation):
                rows += [("create", name, None, value) for name, value in _flat(representation)]
            case UpdateUser(_, changes):
                rows += [("update", one.target, one.before, one.after) for one in changes]
            case JoinGroups(paths):
                rows += [("join", "groups", None, path) for path in paths]
            case GrantRealmRoles(names):
                rows += [("grant", "realmRoles", None, name) for name in names]
            case _:
                rows.append(("invite", "actions", None, list(operation.terms.actions)))
    return tuple(rows)


def _plan_new(event: UserEvent, desired: DesiredUser) -> Plan:
    """Return the plan for a user that is not there; one call writes all but roles and mail."""
    wanted = desired.representation
    invites = desired.invitation is not None and can_be_invited(wanted)
    attributes = {**wanted.get("attributes", {}), **stamp(event)}
    if invites:
        attributes[INVITATION_ATTRIBUTE] = [invitation_marker_due(event.id)]
    representation: UserRepresentation = {**wanted, "attributes": attributes}
    if desired.groups:
        representation["groups"] = list(desired.groups)
    operations: list[Operation] = [CreateUser(representation)]
    if desired.realm_roles:
        operations.append(GrantRealmRoles(desired.realm_roles))
    if desired.invitation is not None and invites:
        operations.append(RequestInvitation(desired.invitation))
    return Plan(None, tuple(operations))


def _plan_existing(event: UserEvent, desired: DesiredUser, found: FoundUser) -> Plan:
    operations: list[Operation] = []
    changes = _changes(event, desired, found)
    if changes:
        operations.append(UpdateUser(with_changes(found.representation, changes), changes))
    groups = tuple(path for path in desired.groups if path not in found.groups)
    if groups:
        operations.append(JoinGroups(groups))
    roles = tuple(name for name in desired.realm_roles if name not in found.realm_roles)
    if roles:
        operations.append(GrantRealmRoles(roles))
    operations += _invitation_if_due(event, desired, _after(found.representation, changes))
    return Plan(found.user_id, tuple(operations))


def _after(user: UserRepresentation, changes: tuple[Change, ...]) -> UserRepresentation:
    """Return `user` with its changed fields; the attributes that matter here never change."""
    fields = {
        one.target: one.after for one in changes if not one.target.startswith(ATTRIBUTE_PREFIX)
    }
    return cast("UserRepresentation", {**user, **fields})


def _changes(event: UserEvent, desired: DesiredUser, found: FoundUser) -> tuple[Change, ...]:
    stored = found.representation.get("attributes") or {}
    create_only = desired.create_only
    if stored.get(EVENT_ID_ATTRIBUTE) == [event.id]:
        # the event was applied before: a user disabled since then must not come back by redelivery
        create_only |= _SWITCHES
    wanted = desired.representation
    stamped: UserRepresentation = {
        **wanted,
        "attributes": {**wanted.get("attributes", {}), **stamp(event)},
    }
    return differences(found.representation, stamped, create_only)


def _invitation_if_due(
    event: UserEvent, desired: DesiredUser, user: UserRepresentation
) -> tuple[RequestInvitation, ...]:
    """Return the request again until the mail of this very event has certainly gone out; the inviter decides on it."""
    unsettled = (invitation_marker_due(event.id), invitation_marker_sending(event.id))
    due = invitation_state(user) in unsettled
    if desired.invitation is None or not due or not can_be_invited(user):
        return ()
    return (RequestInvitation(desired.invitation),)


def can_be_invited(user: UserRepresentation) -> bool:
    """Say whether Keycloak could mail this user: it refuses disabled users and needs an address."""
    return bool(user.get("enabled")) and bool(user.get("email"))


def _flat(representation: UserRepresentation) -> list[tuple[str, Any]]:
    rows: list[tuple[str, Any]] = []
    for name, value in representation.items():
        if name == "attributes":
            attributes = representation["attributes"]
            rows += [(ATTRIBUTE_PREFIX + key, values) for key, values in attributes.items()]
        else:
            rows.append((name, value))
    return rows
