"""One HTTP exchange with Keycloak: pooled, with timeouts, and every failure to be answered translated."""

import re
import ssl
from collections.abc import Mapping
from dataclasses import dataclass
from http.cookiejar import DefaultCookiePolicy
from json import JSONEncoder
from pathlib import Path
from urllib.parse import quote, urlencode

import requests
from requests import exceptions as requests_errors
from requests.adapters import BaseAdapter
from urllib3 import exceptions as urllib3_errors

from keycloak_bridge import __version__
from keycloak_bridge.core.errors import (
    BridgeError,
    ConfigError,
    KeycloakRejectedError,
    KeycloakUnavailableError,
)
from keycloak_bridge.keycloak_rejections import Call, where
from keycloak_bridge.keycloak_wire import FixedHeaders, WireAdapter

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

_PLAIN_PATH = re.compile(r"[A-Za-z0-9._~/-]*(?:%[0-9A-F]{2}[A-Za-z0-9._~/-]*)*")
"""What `requests` would send as it is."""

_JSON = JSONEncoder(separators=(",", ":"), allow_nan=False)


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
        self._own_headers: dict[bool, tuple[str | None, FixedHeaders]] = {}
        self._prepared_admin_url: str | None = None

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
            request = None
            if form is None and host is None and url.startswith(self.admin_url):
                request = self._admin_request(call, url, token, params, json)
            if request is None:
                request = self._prepare(call, url, headers, params, form, json)
            response = self._session.get_adapter(request.url or "").send(
                request, timeout=self._timeout, verify=self._session.verify or True
            )
            response.content  # noqa: B018 # has it read by an adapter that has not done so
        except requests.RequestException as error:
            raise translate(call, error) from error
        return response

    def _prepare(
        self,
        call: Call,
        url: str,
        headers: Mapping[str, str],
        params: Mapping[str, str | int] | None = None,
        form: Mapping[str, str] | None = None,
        json: object = None,
    ) -> requests.PreparedRequest:
        """Have `requests` look at all of it."""
        request = requests.Request(
            call.method, url, headers=dict(headers), params=params, data=form, json=json
        )
        return self._session.prepare_request(request)

    def _admin_request(
        self,
        call: Call,
        url: str,
        token: str | None,
        params: Mapping[str, str | int] | None,
        json: object,
    ) -> requests.PreparedRequest | None:
        """Return what `_prepare` would, without what is the same each time; None for a path out of the ordinary.

        To have all of it looked at costs more than the exchange itself.
        """
        path = url[len(self.admin_url) :]
        if _PLAIN_PATH.fullmatch(path) is None:
            return None
        if self._prepared_admin_url is None:
            self._prepared_admin_url = self._prepare(call, self.admin_url, {}).url
        request = requests.PreparedRequest()
        request.method = call.method
        request.url = f"{self._prepared_admin_url}{path}"
        if params:
            request.url += "?" + urlencode(params)
        request.headers = self._headers_for(token, json is not None)
        if json is not None:
            request.body = _json(json)
        return request

    def _headers_for(self, token: str | None, with_json: bool) -> FixedHeaders:
        """Return the headers of calls with this token, made once for many; the transport adds the length of the body."""
        known = self._own_headers.get(with_json)
        if known is not None and known[0] == token:
            return known[1]
        headers = FixedHeaders({name: str(value) for name, value in self._session.headers.items()})
        if token:
            headers["Authorization"] = f"Bearer {token}"
        if with_json:
            headers["Content-Type"] = "application/json"
        self._own_headers[with_json] = (token, headers)
        return headers

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
    adapter = adapter or WireAdapter(connection.pool_size)
    session.mount("http://", adapter)
    session.mount("https://", adapter)
    return session


def _json(value: object) -> bytes:
    try:
        return _JSON.encode(value).encode()
    except ValueError as error:
        raise requests_errors.InvalidJSONError(error) from error


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
