"""What a user in Keycloak says about its events: which was applied last, how its invitation is, which event set what."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime

from keycloak_bridge.domain.events import (
    BOOKKEEPING_ATTRIBUTES,
    EVENT_ID_ATTRIBUTE,
    INVITATION_ATTRIBUTE,
    event_id_in,
)
from keycloak_bridge.domain.users import UserRepresentation, single_value
from keycloak_bridge.messages.results import PastOutcome, set_last_by
from keycloak_bridge.planning.bookkeeping import parse_mark
from keycloak_bridge.planning.order import applied_to

FIELDS = ("username", "email", "emailVerified", "enabled", "firstName", "lastName")
"""Fields of a user that events set, besides attributes."""

_STATES = {
    "due": "a mail is due",
    "sending": "a mail was begun and may be out",
    "sent": "the mail was handed to Keycloak",
}


@dataclass(frozen=True, slots=True)
class LastInvitation:
    """How the invitation of a user is: `due`, `sending`, `sent` or `unreadable`; which event caused it, and when its link ends."""

    state: str
    event_id: str | None = None
    link_ends: datetime | None = None

    @property
    def words(self) -> str:
        """The state in words."""
        return _STATES.get(self.state, "its mark cannot be read")


@dataclass(frozen=True, slots=True)
class UserState:
    """What the bridge remembers on a user; all of it is None for a user that Keycloak does not have."""

    keycloak_id: str | None = None
    enabled: bool | None = None
    event_id: str | None = None
    event_time: datetime | None = None
    invitation: LastInvitation | None = None


def state_of(user: UserRepresentation) -> UserState:
    """Return the state of a user, of which {} is one that does not exist."""
    event, mark = (single_value(user, one) for one in (EVENT_ID_ATTRIBUTE, INVITATION_ATTRIBUTE))
    return UserState(
        keycloak_id=user.get("id"),
        enabled=user.get("enabled"),
        event_id=None if event is None else event_id_in(event),
        event_time=applied_to(user).time,
        invitation=None if mark is None else _invitation(mark),
    )


def setters_by_target(
    user: UserRepresentation, outcomes: Iterable[PastOutcome]
) -> Mapping[str, PastOutcome | None]:
    """Return what set each target last: of those that the user has, and of others that were ever written.

    `outcomes` are the user's, in order. What the bridge did not set is None.
    """
    setters = set_last_by(outcomes)
    attributes = (
        f"attributes.{name}"
        for name in sorted(user.get("attributes") or {})
        if name not in BOOKKEEPING_ATTRIBUTES
    )
    fields = (name for name in FIELDS if name in user)
    return {name: setters.get(name) for name in dict.fromkeys((*fields, *attributes, *setters))}


def _invitation(text: str) -> LastInvitation:
    mark = parse_mark(text)
    if mark is None:
        return LastInvitation("unreadable")
    return LastInvitation(mark.state.value, event_id_in(mark.event_id), mark.link_ends)
