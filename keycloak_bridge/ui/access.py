"""Who may see the page: whoever has the token; without one, callers on this machine only.

The token is the password of HTTP Basic authentication, under any user name, so that a browser asks for it and neither a
cookie nor an address holds it; scripts may send it as a bearer token.
"""

import base64
import binascii
import hmac
import ipaddress
import json
import logging
from collections.abc import Callable
from email.message import Message
from http import HTTPStatus
from urllib.parse import urlsplit

from keycloak_bridge.domain.errors import ConfigError
from keycloak_bridge.ops.http_server import PROXY_HEADERS, Answer
from keycloak_bridge.ops.logs import log_event

logger = logging.getLogger(__name__)

SHORTEST_TOKEN = 16
"""Characters; a shorter token could be guessed."""

_CHALLENGE = {"WWW-Authenticate": 'Basic realm="keycloak-bridge", charset="UTF-8"'}


class PageAccess:
    """Says whether a request may see the page; `token` returns the token, None where there is none."""

    def __init__(self, token: Callable[[], str] | None) -> None:
        """Raises ConfigError where the token cannot be read or is too short."""
        if token is not None and len(token()) < SHORTEST_TOKEN:
            raise ConfigError(
                f"ui.token is shorter than {SHORTEST_TOKEN} characters",
                code="settings",
                remedy="Write a longer one into the file of ui.token_file: openssl rand -base64 32",
            )
        self._token = token

    def refusal(self, headers: Message) -> Answer | None:
        """Return what to answer instead of the page; None where it may be seen."""
        if self._token is None:
            return self._local_refusal(headers)
        try:
            token = self._token()
        except ConfigError as error:
            log_event(
                logger,
                "ui-token-unreadable",
                level=logging.WARNING,
                message=error.message,
                reason=error.code,
            )
            return _refused(
                HTTPStatus.SERVICE_UNAVAILABLE,
                "the bridge cannot read its token; its log says why",
            )
        given = _given_token(str(headers.get("Authorization", "")))
        if given is None or not hmac.compare_digest(given, token.encode()):
            return _refused(
                HTTPStatus.UNAUTHORIZED, "the token is needed, as the password", _CHALLENGE
            )
        return None

    def _local_refusal(self, headers: Message) -> Answer | None:
        """Refuse what acts for another machine: a proxy, or a page of the web whose name was made to lead here."""
        if any(name in headers for name in PROXY_HEADERS):
            return _refused(
                HTTPStatus.FORBIDDEN, "a proxy may show this page only with ui.token_file set"
            )
        if not _is_local_name(str(headers.get("Host", ""))):
            return _refused(
                HTTPStatus.FORBIDDEN,
                "without ui.token_file this page is at localhost or a loopback address only",
            )
        return None


def _given_token(authorization: str) -> bytes | None:
    scheme, _, credentials = authorization.strip().partition(" ")
    if scheme.lower() == "bearer":
        return credentials.strip().encode("latin-1", "replace")  # as the header was read
    if scheme.lower() != "basic":
        return None
    try:
        _, separator, password = base64.b64decode(credentials, validate=True).partition(b":")
    except (binascii.Error, ValueError):
        return None
    return password if separator else None


def _is_local_name(host: str) -> bool:
    try:
        name = urlsplit(f"//{host}").hostname or ""
        return name == "localhost" or ipaddress.ip_address(name).is_loopback
    except ValueError:
        return False


def _refused(status: HTTPStatus, why: str, headers: dict[str, str] | None = None) -> Answer:
    body = json.dumps({"error": why}).encode() + b"\n"
    return Answer(status, "application/json", body, headers or {})
