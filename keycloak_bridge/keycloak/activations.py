"""The port Activations on Keycloak's Admin REST API: its events of users, and their credentials."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TypeGuard

from keycloak_bridge.domain.errors import KeycloakAuthError, KeycloakError, KeycloakRejectedError
from keycloak_bridge.domain.ports import Clock, CredentialChange, CredentialChanges
from keycloak_bridge.keycloak.admin import Json, KeycloakAdmin
from keycloak_bridge.keycloak.memberships import Cache

CREDENTIAL_EVENTS = ("UPDATE_PASSWORD", "UPDATE_CREDENTIAL")
"""Keycloak 26 records both for one password; the first is deprecated."""

_PAGE, _LARGEST_PAGE = 500, 16_000
_MOST_PAGES = 200
"""What is kept in memory, and how long a gateway that repeats itself is believed."""

_CONFIG = "events config"
_DAY = timedelta(days=1)
_LATEST_MS, _LONGEST_S = 10**14, 10**9


@dataclass(frozen=True, slots=True)
class RecordedEvents:
    """Which of these events the realm records, and for how long it keeps them."""

    types: tuple[str, ...]
    kept: timedelta | None


class KeycloakActivations:
    """Asks for all users at once by their events, and for one by its credentials. Safe to share between threads."""

    def __init__(self, admin: KeycloakAdmin, clock: Clock) -> None:
        self._admin = admin
        self._clock = clock
        self._recorded = Cache[RecordedEvents](clock)
        self._by_days = False

    def activated_at(self, user_id: str) -> datetime | None:
        """Return when the user set the password, or else its first credential; see the port.

        Keycloak shows a password, made at no time, of each user of an LDAP directory, whether or not it has one.
        """
        credentials = self._admin.credentials(user_id)
        passwords = _created(one for one in credentials if one.get("type") == "password")
        created = passwords or _created(credentials)
        return datetime.fromtimestamp(min(created) / 1000, UTC) if created else None

    def changes_since(self, since: datetime) -> CredentialChanges | None:
        """Return which users set a credential; see the port.

        Keycloak orders events by time alone, so a page is never asked for by its number: the next one begins at the
        time of the last event, and repeats what is of the same time.
        """
        recorded = self._what_is_recorded()
        if not recorded.types:
            return None
        kept = recorded.kept is None or since >= self._clock.now() - recorded.kept
        try:
            if not self._by_days:
                try:
                    return self._by_time(recorded.types, since, kept)
                except KeycloakRejectedError:
                    self._by_days = True  # Keycloak before 26.2 knows days only
            return self._by_day(recorded.types, since, kept)
        except KeycloakRejectedError:
            self._by_days = False
            return None
        except KeycloakAuthError as error:
            if error.status == 403:
                self._recorded.forget(_CONFIG)
                return None
            raise

    def _by_time(self, types: Sequence[str], since: datetime, complete: bool) -> CredentialChanges:
        from_ms, size = _milliseconds(since), _PAGE
        found: dict[str, CredentialChange] = {}
        for _ in range(_MOST_PAGES):
            events = self._admin.user_events(
                {"type": types, "dateFrom": from_ms, "direction": "asc", "max": size}
            )
            found.update(_changes(events))
            if len(events) < size:
                return CredentialChanges(tuple(found.values()), complete)
            last_ms = max(event["time"] for event in events)
            if last_ms > from_ms:
                from_ms, size = last_ms, _PAGE
            elif size < _LARGEST_PAGE:
                size *= 2  # a whole page of one millisecond
            else:
                from_ms, complete = from_ms + 1, False
        return CredentialChanges(tuple(found.values()), complete=False)

    def _by_day(self, types: Sequence[str], since: datetime, complete: bool) -> CredentialChanges:
        """Ask for whole days, the newest first; Keycloak takes the day in its own time zone."""
        day = (since.astimezone(UTC) - _DAY).date().isoformat()
        size, since_ms = _PAGE, _milliseconds(since)
        while True:
            events = self._admin.user_events({"type": types, "dateFrom": day, "max": size})
            all_of_it = len(events) < size or min(event["time"] for event in events) < since_ms
            if all_of_it or size >= _LARGEST_PAGE:
                newer = [event for event in events if event["time"] >= since_ms]
                return CredentialChanges(tuple(_changes(newer).values()), complete and all_of_it)
            size *= 2

    def _what_is_recorded(self) -> RecordedEvents:
        """Return which events are recorded and may be read, as far as was seen within the last minute."""
        known = self._recorded.get(_CONFIG)
        if known is None:
            known = recorded_events(self._admin)
            self._recorded.put(_CONFIG, known)
        return known


def recorded_events(admin: KeycloakAdmin) -> RecordedEvents:
    """Return which events of CREDENTIAL_EVENTS the realm saves, and for how long; none where that may not be read."""
    try:
        config = admin.events_config()
    except KeycloakError as error:
        # 404: a gateway may let only the calls about users pass
        if error.status in (403, 404):
            return RecordedEvents((), None)
        raise
    if config.get("eventsEnabled") is not True:
        return RecordedEvents((), None)
    chosen = config.get("enabledEventTypes")
    types = CREDENTIAL_EVENTS if not isinstance(chosen, list) or not chosen else chosen
    expires_s = config.get("eventsExpiration")
    kept = timedelta(seconds=min(expires_s, _LONGEST_S)) if _is_number(expires_s) else None
    return RecordedEvents(tuple(one for one in CREDENTIAL_EVENTS if one in types), kept)


def _is_number(value: object) -> TypeGuard[int]:
    """Say whether it is a time or a length of time; a pseudo password was set at -1."""
    return isinstance(value, int) and not isinstance(value, bool) and 0 < value < _LATEST_MS


def _created(credentials: Iterable[Json]) -> list[int]:
    """Return when these were set, in milliseconds."""
    return [one["createdDate"] for one in credentials if _is_number(one.get("createdDate"))]


def _changes(events: Sequence[Json]) -> dict[str, CredentialChange]:
    """Return the events by their ids; one without (Keycloak 26.1) is known by its user, type and time."""
    changes = {}
    for event in events:
        user_id = event.get("userId")
        if not user_id or not _is_number(event["time"]):
            continue
        event_id = event.get("id") or f"{user_id} {event.get('type')} {event['time']}"
        at = datetime.fromtimestamp(event["time"] / 1000, UTC)
        changes[event_id] = CredentialChange(event_id, user_id, at)
    return changes


def _milliseconds(moment: datetime) -> int:
    return int(moment.timestamp() * 1000)
