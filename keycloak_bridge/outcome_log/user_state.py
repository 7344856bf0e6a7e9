"""What a user in Keycloak says about its events: which was applied last, how its invitation is, which event set what."""

import contextlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from keycloak_bridge.domain.events import (
    BOOKKEEPING_ATTRIBUTES,
    EVENT_ID_ATTRIBUTE,
    INVITATION_ATTRIBUTE,
    event_id_in,
)
from keycloak_bridge.domain.users import UserRepresentation
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
    attributes = user.get("attributes") or {}
    event, mark = (only(attributes, name) for name in (EVENT_ID_ATTRIBUTE, INVITATION_ATTRIBUTE))
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


def only(attributes: Mapping[str, Sequence[str]], name: str) -> str | None:
    """Return the first value of an attribute, None without one."""
    values = attributes.get(name) or []
    return values[0] if values else None


def _invitation(text: str) -> LastInvitation:
    mark = parse_mark(text)
    if mark is None:
        return LastInvitation("unreadable")
    ends = None
    if mark.until_s is not None:
        with contextlib.suppress(ValueError, OverflowError, OSError):  # a time of no calendar
            ends = datetime.fromtimestamp(mark.until_s, UTC)
    return LastInvitation(mark.state.value, event_id_in(mark.event_id), ends)
