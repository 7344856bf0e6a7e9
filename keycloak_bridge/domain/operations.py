"""What can be done to one user, and a plan of it.

Compare and merge user representations, as Keycloak's PUT needs it.

A PUT with `attributes` erases every attribute it lacks and the e-mail and names too, so its body is everything found
plus the changes; what shall be erased is absent. Left out are the fields that the user's own doing changes (a finished
required action, a verified e-mail): absent, Keycloak leaves them alone, while writing back what was read a moment ago
could undo it.
"""

import copy
from collections.abc import Iterable
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, NamedTuple, cast

from keycloak_bridge.domain.events import BOOKKEEPING_ATTRIBUTES, Purpose
from keycloak_bridge.domain.users import (
    ATTRIBUTE_PREFIX,
    GROUPS,
    ORGANIZATIONS,
    IdentityLink,
    InvitationTerms,
    UserRepresentation,
    targets_of,
)


@dataclass(frozen=True, slots=True)
class Change:
    """One target that an update changes; `before` is None where nothing was stored, `after` where it is erased."""

    target: str
    before: Any
    after: Any


@dataclass(frozen=True, slots=True)
class CreateUser:
    """POST this representation, group paths included."""

    representation: UserRepresentation


@dataclass(frozen=True, slots=True)
class UpdateUser:
    """PUT this whole representation; it holds everything found that the mapping does not own."""

    representation: UserRepresentation
    changes: tuple[Change, ...]


@dataclass(frozen=True, slots=True)
class Join:
    """Add the user to these groups (paths), roles or organizations; `kind` as in Membership."""

    kind: str
    names: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Leave:
    """Take the user out of these groups (paths), roles or organizations; `kind` as in Membership."""

    kind: str
    names: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class LinkIdentity:
    """Link the user to its account at an identity provider; `before` is the link that it takes the place of."""

    link: IdentityLink
    before: IdentityLink | None = None


@dataclass(frozen=True, slots=True)
class UnlinkIdentity:
    """Take away the link to an identity provider."""

    before: IdentityLink


@dataclass(frozen=True, slots=True)
class EndSessions:
    """Log the user out everywhere."""


@dataclass(frozen=True, slots=True)
class DeleteUser:
    """Remove the user from Keycloak for good; a `federated` one may come back from its directory (LDAP)."""

    federated: bool = False


@dataclass(frozen=True, slots=True)
class RequestInvitation:
    """Put an invitation on the invitations topic; the invite stage decides about the mail.

    `event` is the text by which the user's mark names the event, where an earlier version of the bridge wrote it.
    """

    terms: InvitationTerms
    purpose: Purpose = Purpose.INVITE
    event: str | None = None


Operation = (
    CreateUser
    | UpdateUser
    | Join
    | Leave
    | LinkIdentity
    | UnlinkIdentity
    | EndSessions
    | DeleteUser
    | RequestInvitation
)


@dataclass(frozen=True, slots=True)
class Plan:
    """The fewest operations that bring the user to the desired state, in the order to do them.

    `user_id` is the found user's; None means that the first operation creates it. `skipped` says why nothing is written
    although the user may differ (`stale`, `unknown-user`). `overruled` says that the event would have disabled or deleted the
    user, had not a newer one let it in.
    """

    user_id: str | None
    operations: tuple[Operation, ...] = ()
    skipped: str | None = None
    overruled: bool = field(default=False, compare=False)


class Effect(StrEnum):
    """Why less was done than a plan says, although the event is done.

    `SWITCHED`: Keycloak takes no more of the user than its switches, so that the user does not carry the event.
    `RETURNED`: the deleted user came back from its directory (LDAP), and was disabled instead.
    """

    SWITCHED = "only-switched"
    RETURNED = "deleted-user-returned"


class Row(NamedTuple):
    """One line of a described plan: what is done to which target, and its value before and after."""

    verb: str
    target: str
    before: Any
    after: Any


def describe(operation: Operation) -> list[Row]:
    """Return what `operation` does, a row for each target; a user's fields come before its attributes."""
    match operation:
        case CreateUser(representation):
            named = targets_of(representation).items()
            return [Row("create", name, None, value) for name, value in named]
        case UpdateUser(_, changes):
            return [Row("update", one.target, one.before, one.after) for one in changes]
        case Join(kind, names):
            verb = "join" if kind in _JOINED else "grant"
            return [Row(verb, kind, None, name) for name in names]
        case Leave(kind, names):
            verb = "leave" if kind in _JOINED else "revoke"
            return [Row(verb, kind, name, None) for name in names]
        case LinkIdentity(link, before):
            linked = None if before is None else before.user_id
            return [Row("link", f"identities.{link.alias}", linked, link.user_id)]
        case UnlinkIdentity(before):
            return [Row("unlink", f"identities.{before.alias}", before.user_id, None)]
        case EndSessions():
            return [Row("end", "sessions", None, None)]
        case DeleteUser():
            return [Row("delete", "user", None, None)]
        case RequestInvitation(terms, purpose, _):
            return [Row(purpose.value, "actions", None, list(terms.actions))]


def visible_changes(plan: Plan) -> list[Row]:
    """Return what `plan` does, a row for each target, without the bridge's own bookkeeping attributes."""
    rows = [row for operation in plan.operations for row in describe(operation)]
    return [row for row in rows if row.target not in _BOOKKEEPING]


_JOINED = (GROUPS, ORGANIZATIONS)
_BOOKKEEPING = frozenset(ATTRIBUTE_PREFIX + name for name in BOOKKEEPING_ATTRIBUTES)
_VOLATILE = ("enabled", "emailVerified", "requiredActions")
_ERASABLE = ("email", "firstName", "lastName", "requiredActions")
_NOT_COMPARED = ("id", "attributes", "groups")


def normalised(representation: UserRepresentation) -> UserRepresentation:
    """Return the user as Keycloak stores it: lower-case username and e-mail, nothing blank, no value twice."""
    normal: dict[str, Any] = {}
    for name, value in without_blanks(representation).items():
        if name == "attributes":
            normal[name] = _attributes(cast("dict[str, list[str]]", value))
        elif name in ("username", "email") and isinstance(value, str):
            normal[name] = value.lower()
        else:
            normal[name] = value
    return cast("UserRepresentation", normal)


def without_blanks(representation: UserRepresentation) -> UserRepresentation:
    """Return the user without fields and values that say nothing: none, empty, or white space alone.

    `POST /users` drops some and refuses others, and an import would store them.
    """
    told = {name: value for name, value in representation.items() if not is_blank(value)}
    if "attributes" in told:
        attributes = cast("dict[str, list[str]]", told["attributes"])
        kept = {
            name: [value for value in values if not is_blank(value)]
            for name, values in attributes.items()
        }
        told["attributes"] = {name: values for name, values in kept.items() if values}
    return cast("UserRepresentation", told)


def is_blank(value: object) -> bool:
    """Say whether a value says nothing; an empty list says that there is none."""
    return value is None or (isinstance(value, str) and not value.strip())


def differences(
    found: UserRepresentation,
    desired: UserRepresentation,
    create_only: AbstractSet[str] = frozenset(),
    cleared: AbstractSet[str] = frozenset(),
) -> tuple[Change, ...]:
    """Return what must change in `found` so that it holds all that `desired` holds and nothing of what is `cleared`.

    Targets in `create_only` never change, an e-mail that was verified stays verified, and the order of an attribute's
    values does not count: Keycloak does not keep it. A target that `desired` holds is not cleared, and neither are
    username and switches, without which there is no user.
    """
    stored, wanted = cast("dict[str, Any]", found), cast("dict[str, Any]", desired)
    changes = [
        Change(name, stored.get(name), value)
        for name, value in wanted.items()
        if name not in create_only and _field_differs(name, stored.get(name), value)
    ]
    attributes = found.get("attributes") or {}
    wanted_attributes = desired.get("attributes", {})
    for name, values in wanted_attributes.items():
        before = attributes.get(name)
        if ATTRIBUTE_PREFIX + name not in create_only and sorted(before or []) != sorted(values):
            changes.append(Change(ATTRIBUTE_PREFIX + name, before, values))
    held = {*wanted, *(ATTRIBUTE_PREFIX + name for name in wanted_attributes)}
    return (*changes, *_erasures(found, cleared - create_only - held))


def is_erasable(target: str) -> bool:
    """Say whether a user can be without `target`: without username and switches there is none."""
    return target.startswith(ATTRIBUTE_PREFIX) or target in _ERASABLE


def with_changes(found: UserRepresentation, changes: Iterable[Change]) -> UserRepresentation:
    """Return the whole body of a PUT that makes `changes` to `found` and nothing else."""
    whole = cast("dict[str, Any]", copy.deepcopy(found))
    for name in (*_VOLATILE, "groups"):
        whole.pop(name, None)
    return _changed(whole, changes)


def after_changes(found: UserRepresentation, changes: Iterable[Change]) -> UserRepresentation:
    """Return what Keycloak holds of the user once the PUT for `changes` is done."""
    return _changed(cast("dict[str, Any]", copy.deepcopy(found)), changes)


def _changed(whole: dict[str, Any], changes: Iterable[Change]) -> UserRepresentation:
    attributes = dict(whole.get("attributes") or {})
    for change in changes:
        if change.target.startswith(ATTRIBUTE_PREFIX):
            where, name = attributes, change.target.removeprefix(ATTRIBUTE_PREFIX)
        else:
            where, name = whole, change.target
        if change.after is None:
            where.pop(name, None)
        else:
            where[name] = list(change.after) if where is attributes else change.after
    whole["attributes"] = attributes
    return cast("UserRepresentation", whole)


def _erasures(found: UserRepresentation, targets: AbstractSet[str]) -> Iterable[Change]:
    """Return the changes that leave nothing of `targets`; absent actions would stay, so that they become none."""
    stored = cast("dict[str, Any]", found)
    attributes = stored.get("attributes") or {}
    for target in sorted(targets):
        if target.startswith(ATTRIBUTE_PREFIX):
            before = attributes.get(target.removeprefix(ATTRIBUTE_PREFIX))
        else:
            before = stored.get(target) if target in _ERASABLE else None
        if before:
            yield Change(target, before, [] if target == "requiredActions" else None)


def _attributes(attributes: dict[str, list[str]]) -> dict[str, list[str]]:
    return {name: list(dict.fromkeys(values)) for name, values in attributes.items()}


def _field_differs(name: str, before: Any, after: Any) -> bool:
    if name in _NOT_COMPARED:
        return False
    if name == "emailVerified":
        return bool(after) and not before
    if name == "requiredActions":
        return set(before or []) != set(after)
    return bool(before != after)
