"""One HTTP exchange with Keycloak: pooled, with timeouts, and every failure to be answered translated."""

import ssl
from collections.abc import Mapping
from dataclasses import dataclass
from http.cookiejar import DefaultCookiePolicy
from pathlib import Path
from urllib.parse import quote

import requests
from requests import exceptions as requests_errors
from requests.adapters import BaseAdapter, HTTPAdapter
from urllib3 import exceptions as urllib3_errors

from keycloak_bridge import __version__
from keycloak_bridge.core.errors import (
    BridgeError,
    ConfigError,
    KeycloakRejectedError,
    KeycloakUnavailableError,
)
from keycloak_bridge.keycloak_rejections import Call, where

KINDS: dict[type[Exception], str] = {
    requests_errors.RequestException: "lost",
    requests_errors.ConnectionError: "lost",
    requests_errors.Timeout: "lost",
    requests_errors.ReadTimeout: "lost",
    requests_errors.ChunkedEncodingError: "lost",
    requests_errors.ContentDecodingError: "lost",
    requests_errors.StreamConsumedError: "lost",
    requests_errors.UnrewindableBodyError: "lost",
    requests_errors.RetryError: "lost",
    requests_errors.HTTPError: "lost",
    requests_errors.JSONDecodeError: "lost",
    requests_errors.TooManyRedirects: "lost",
    requests_errors.ConnectTimeout: "unreachable",
    requests_errors.ProxyError: "unreachable",
    requests_errors.SSLError: "tls",
    requests_errors.InvalidJSONError: "unsendable",
    requests_errors.InvalidHeader: "settings",
    requests_errors.InvalidURL: "settings",
    requests_errors.InvalidProxyURL: "settings",
    requests_errors.InvalidSchema: "settings",
    requests_errors.MissingSchema: "settings",
    requests_errors.URLRequired: "settings",
}
"""What each of `requests`' errors means; a test fails when one is not here."""

_TRANSPORT = {
    "unreachable": (
        "keycloak-unreachable",
        "Keycloak cannot be reached",
        "check [keycloak] url and that Keycloak is up",
    ),
    "lost": (
        "keycloak-no-answer",
        "Keycloak did not answer; the call may have taken effect",
        "look at Keycloak's log and load; raise [keycloak] read_timeout if it is merely slow",
    ),
    "tls": (
        "keycloak-tls",
        "the TLS connection to Keycloak failed",
        "check the certificate of [keycloak] url, and set [keycloak] ca_file for a private CA",
    ),
}


@dataclass(frozen=True, slots=True)
class KeycloakConnection:
    """Where Keycloak is and how patiently it is asked; `url` may end in a path such as `/auth`."""

    url: str
    realm: str
    connect_timeout_s: float = 5.0
    read_timeout_s: float = 30.0
    pool_size: int = 8
    ca_file: Path | None = None


class KeycloakHttp:
    """Sends requests to one Keycloak. Safe to share between threads.

    No redirect is followed, nothing is tried again, no cookie is kept, and neither proxies nor credentials are taken
    from the environment: the settings alone say whom the bridge talks to.
    """

    def __init__(self, connection: KeycloakConnection, adapter: BaseAdapter | None = None) -> None:
        self._timeout = (connection.connect_timeout_s, connection.read_timeout_s)
        base = connection.url.rstrip("/")
        realm = quote(connection.realm, safe="")
        self.realm_url = f"{base}/realms/{realm}"
        self.admin_url = f"{base}/admin/realms/{realm}"
        self._session = _open_session(connection, adapter)

    def send(
        self,
        call: Call,
        url: str,
        *,
        token: str | None = None,
        params: Mapping[str, str | int] | None = None,
        form: Mapping[str, str] | None = None,
        json: object = None,
        host: str | None = None,
    ) -> requests.Response:
        """Return the answer, whatever its status, with its whole body read.

        `host` is another name to call Keycloak by than that of `url`. Raises KeycloakUnavailableError, or ConfigError
        for a url that cannot be called.
        """
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        if host is not None:
            headers["Host"] = host
        try:
            return self._session.request(
                call.method,
                url,
                params=params,
                data=form,
                json=json,
                headers=headers,
                timeout=self._timeout,
                allow_redirects=False,
            )
        except requests.RequestException as error:
            raise translate(call, error) from error

    def close(self) -> None:
        """Close the pooled connections."""
        self._session.close()


def _open_session(connection: KeycloakConnection, adapter: BaseAdapter | None) -> requests.Session:
    session = requests.Session()
    session.trust_env = False
    session.cookies.set_policy(DefaultCookiePolicy(allowed_domains=()))
    session.headers.update(
        {"User-Agent": f"keycloak-bridge/{__version__}", "Accept": "application/json"}
    )
    if connection.ca_file is not None:
        _refuse_unusable(connection.ca_file)
        session.verify = str(connection.ca_file)
    adapter = adapter or HTTPAdapter(
        pool_connections=1, pool_maxsize=connection.pool_size, max_retries=0, pool_block=True
    )
    session.mount("http://", adapter)
    session.mount("https://", adapter)
    return session


def _refuse_unusable(ca_file: Path) -> None:
    """Read the file once now: a wrong one would look like an outage at every call."""
    try:
        ssl.create_default_context(cafile=str(ca_file))
    except (OSError, ssl.SSLError) as error:
        raise ConfigError(
            "[keycloak] ca_file cannot be read as certificates",
            code="keycloak-ca-file",
            remedy="point it at a PEM file that the bridge may read",
        ) from error


def translate(call: Call, error: requests.RequestException) -> BridgeError:
    """Return the bridge's error for one that `requests` raised."""
    kind = KINDS[next(known for known in type(error).__mro__ if known in KINDS)]
    if kind == "lost" and _never_sent(error):
        kind = "unreachable"
    if kind == "settings":
        return ConfigError(
            "[keycloak] url is not an address that can be called",
            code="keycloak-url",
            remedy="write it as https://host or https://host:port, with Keycloak's path if it has one",
        )
    if kind == "unsendable":
        return KeycloakRejectedError(
            f"the user cannot be written as JSON for {call}", **where(call, None)
        )
    code, message, remedy = _TRANSPORT[kind]
    return KeycloakUnavailableError(
        f"{message} ({call})", code=code, remedy=remedy, **where(call, None)
    )


def _never_sent(error: requests.RequestException) -> bool:
    """Say whether the connection was never made, so that the call cannot have taken effect."""
    cause = error.args[0] if error.args else None
    reason = getattr(cause, "reason", cause)
    return isinstance(reason, urllib3_errors.NewConnectionError)
