"""Whether the realm's SMTP server takes connections at all, which no answer of Keycloak to a failed mail tells.

Keycloak's own test (`testSMTPConnection`) mails to the account that asks, and a service account has no address. So the
bridge looks for the server's greeting itself. It needs no password for that, sends nothing, and reads a few bytes.
"""

import contextlib
import socket
import ssl
import threading
import time
from collections.abc import Mapping
from typing import Any

from keycloak_bridge.domain.errors import KeycloakError
from keycloak_bridge.domain.ports import Clock
from keycloak_bridge.keycloak.admin import KeycloakAdmin

_ASK_EVERY_S = 10.0
_TIMEOUT_S = 5.0
_GREETING = b"220"
_PORT, _TLS_PORT = 25, 465


class MailServer:
    """The realm's SMTP server, asked every ten seconds at most. Safe to share between threads."""

    def __init__(self, admin: KeycloakAdmin, clock: Clock) -> None:
        self._admin = admin
        self._clock = clock
        self._lock = threading.Lock()
        self._asked_at_s: float | None = None
        self._greets: bool | None = None

    def greets(self) -> bool | None:
        """Say whether the server takes connections, and greets; None where the account may not read who it is."""
        with self._lock:
            now_s = self._clock.monotonic()
            if self._asked_at_s is None or now_s - self._asked_at_s >= _ASK_EVERY_S:
                self._greets = self._ask()
                self._asked_at_s = self._clock.monotonic()
            return self._greets

    def _ask(self) -> bool | None:
        try:
            settings = self._admin.realm().get("smtpServer")
        except KeycloakError:
            return None
        if not isinstance(settings, Mapping) or not isinstance(settings.get("host"), str):
            return None
        return greets(settings["host"], settings) if settings["host"] else None


def greets(host: str, settings: Mapping[str, Any]) -> bool:
    """Say whether an SMTP server greets at `host`, with the port and encryption of a realm's `settings`."""
    encrypted = str(settings.get("ssl")).lower() == "true"
    given = str(settings.get("port") or "")
    port = int(given) if given.isdecimal() and len(given) < 6 else _TLS_PORT if encrypted else _PORT
    deadline_s = time.monotonic() + _TIMEOUT_S
    try:
        with contextlib.ExitStack() as stack:
            connection = stack.enter_context(socket.create_connection((host, port), _TIMEOUT_S))
            if encrypted:
                # nothing is said to the server, and what it says is no secret
                context = ssl._create_unverified_context()  # noqa: S323, SLF001
                connection = stack.enter_context(
                    context.wrap_socket(connection, server_hostname=host)
                )
            return _read(connection, len(_GREETING), deadline_s) == _GREETING
    except (OSError, ValueError, OverflowError):
        return False


def _read(connection: socket.socket, size: int, deadline_s: float) -> bytes:
    read = b""
    while len(read) < size:
        connection.settimeout(max(0.001, deadline_s - time.monotonic()))
        part = connection.recv(size - len(read))
        if not part:
            break
        read += part
    return read
