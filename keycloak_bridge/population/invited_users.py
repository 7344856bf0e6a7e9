"""The invited users of a realm: how far the invitation of each is, and the request for another mail.

The mark on the user says whether a mail is due or out, and when its link ends; the user's credentials say whether it was of use.
"""

from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from keycloak_bridge.domain.errors import KeycloakNotFoundError
from keycloak_bridge.domain.events import (
    INVITATION_REQUESTED,
    UserEvent,
    event_id_in,
    event_occurrence,
)
from keycloak_bridge.domain.ports import UserDirectory
from keycloak_bridge.domain.users import (
    ATTRIBUTE_PREFIX,
    DesiredUser,
    Intent,
    MatchCriterion,
    UnknownUser,
    UserRepresentation,
)
from keycloak_bridge.mapping.lifecycle import Mappings
from keycloak_bridge.planning.bookkeeping import InvitationMark, MarkState, mark_of
from keycloak_bridge.planning.mail_due import mail_obstacle
from keycloak_bridge.population.reconciliation import bridged_users
from keycloak_bridge.population.side_by_side import side_by_side

_SOURCE = "/keycloak-bridge/invitations"
_RESEND = "resend-"


class InvitationState(StrEnum):
    """How far an invitation is: the mail is due or under way, it is out, its link ended unused, or the user has credentials."""

    DUE = "due"
    SENT = "sent"
    EXPIRED = "expired"
    ACTIVATED = "activated"


@dataclass(frozen=True, slots=True)
class InvitedUser:
    """A user that has an invitation mark; `link_ends` is None where no link is known.

    `obstacle` is the code of what keeps Keycloak from mailing the user at all: `user-disabled` or `no-email`.
    """

    state: InvitationState
    user_id: str
    keycloak_id: str
    event_id: str
    link_ends: datetime | None
    obstacle: str | None


def invited_users(
    users: Iterable[UserRepresentation],
    external_id: str,
    directory: UserDirectory,
    now: datetime,
    *,
    wanted: Collection[InvitationState] = tuple(InvitationState),
    grace_s: float = 0.0,
    workers: int = 1,
) -> Iterator[InvitedUser]:
    """Yield those of `users` that the bridge has to do with and that are in a `wanted` state, in their order.

    `grace_s` is how long after the end of the link who has clicked it may still set the password. The credentials of a
    user are asked for only where they decide. Raises KeycloakError.
    """

    def look(user: UserRepresentation) -> InvitedUser | None:
        named = next(bridged_users([user], external_id), None)
        mark = mark_of(user)
        if named is None or mark is None:
            return None
        state = _state_by(mark, now.timestamp() - grace_s)
        if state in wanted or InvitationState.ACTIVATED in wanted:
            try:
                if directory.has_credentials(user["id"]):
                    state = InvitationState.ACTIVATED
            except KeycloakNotFoundError:  # deleted meanwhile
                return None
        if state not in wanted:
            return None
        return InvitedUser(
            state, *named, event_id_in(mark.event_id), mark.link_ends, mail_obstacle(user)
        )

    for one in side_by_side(look, users, workers):
        if one is not None:
            yield one


def another_mail(
    one: InvitedUser, mappings: Mappings, schema_id: str
) -> tuple[UserEvent, DesiredUser]:
    """Return what a `user.invitation.requested` of this user asks for; it is the same event until its mail is out.

    It has no time, so that a later event of the user still counts.
    """
    event_id = one.event_id
    if one.state is not InvitationState.DUE or not event_id.startswith(_RESEND):
        event_id = _RESEND + event_occurrence(f"{one.user_id} {event_id}", one.link_ends)
    event = UserEvent(event_id, _SOURCE, INVITATION_REQUESTED, one.user_id, None, schema_id, {})
    name = mappings.external_id
    return event, DesiredUser(
        UserRepresentation(attributes={name: [one.user_id]}),
        (MatchCriterion(ATTRIBUTE_PREFIX + name, one.user_id),),
        invitation=mappings.serving(event).invitation,
        intent=Intent.INVITE,
        unknown=UnknownUser.SKIP,
        protected_groups=mappings.protected_groups,
    )


def _state_by(mark: InvitationMark, now_s: float) -> InvitationState:
    if mark.state is not MarkState.SENT:
        return InvitationState.DUE
    ended = mark.until_s is not None and mark.until_s <= now_s
    return InvitationState.EXPIRED if ended else InvitationState.SENT
