"""The mails that Keycloak really sent, as its admin events hold them."""

import threading
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

from keycloak_bridge.core.errors import KeycloakAuthError, KeycloakError
from keycloak_bridge.core.ports import Clock
from keycloak_bridge.keycloak_admin import KeycloakAdmin

USABLE_TTL_S = 60.0
"""How long it is believed that the ledger can or cannot be used: the role may be given while the bridge runs."""

_SLACK = timedelta(days=1)
_CLOCKS_DIFFER = timedelta(seconds=60)
_FEW = 20


class MailLedger:
    """Looks links up that were mailed. Safe to share between threads."""

    def __init__(self, admin: KeycloakAdmin, clock: Clock) -> None:
        self._admin = admin
        self._clock = clock
        self._lock = threading.Lock()
        self._known: tuple[float, bool] | None = None

    def usable(self) -> bool:
        """Say whether admin events are recorded and may be read; see the port."""
        with self._lock:
            known = self._known
        if known is not None and self._clock.monotonic() - known[0] < USABLE_TTL_S:
            return known[1]
        usable = can_look_up_mails(self._admin)
        self._believe(usable)
        return usable

    def recorded(self, user_id: str, since: datetime | None) -> bool:
        """Say whether a link mailed to the user is on record; see the port.

        `since` may be the bridge's time while the record is in Keycloak's: what is up to a minute older counts as well.
        Rather an earlier mail is taken for this one than this one for none.

        Keycloak has no index for paths and reads all admin events of the time asked for, hence `since`.
        """
        path = f"users/{user_id}/execute-actions-email"
        asked: dict[str, str | int] = {
            "operationTypes": "ACTION",
            "resourceTypes": "USER",
            "resourcePath": path,
            "max": _FEW,
        }
        if since is not None:
            # Keycloak takes the day in its own time zone, and its nodes' clocks may differ
            asked["dateFrom"] = (since.astimezone(UTC) - _SLACK).date().isoformat()
        try:
            events = self._admin.admin_events(asked)
        except KeycloakAuthError as error:
            if error.status == 403:
                self._believe(False)
            raise
        # Keycloak's comparison knows wildcards
        return any(event.get("resourcePath") == path and _counts(event, since) for event in events)

    def _believe(self, usable: bool) -> None:
        with self._lock:
            self._known = (self._clock.monotonic(), usable)


def _counts(event: Mapping[str, Any], since: datetime | None) -> bool:
    time_ms = event.get("time")
    if since is None or not isinstance(time_ms, int):
        return True
    return time_ms >= (since - _CLOCKS_DIFFER).timestamp() * 1000


def can_look_up_mails(admin: KeycloakAdmin) -> bool:
    """Say whether the realm records the mails that it sends, and lets the service account read that; asks now."""
    try:
        return admin.events_config().get("adminEventsEnabled") is True
    except KeycloakError as error:
        # 404: a gateway may let the calls about users pass only
        if error.status in (403, 404):
            return False
        raise
