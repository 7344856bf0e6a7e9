"""What can be done to one user, and a plan of it."""

from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, NamedTuple

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
