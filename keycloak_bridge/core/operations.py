"""What can be done to one user, and a plan of it."""

from dataclasses import dataclass
from typing import Any

from keycloak_bridge.core.desired import IdentityLink, InvitationTerms, UserRepresentation
from keycloak_bridge.core.model import Purpose


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
    """Remove the user from Keycloak for good."""


@dataclass(frozen=True, slots=True)
class RequestInvitation:
    """Put an invitation on the invitations topic; the invite stage decides about the mail."""

    terms: InvitationTerms
    purpose: Purpose = Purpose.INVITE


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
    although the user may differ (`stale`, `unknown-user`).
    """

    user_id: str | None
    operations: tuple[Operation, ...] = ()
    skipped: str | None = None
