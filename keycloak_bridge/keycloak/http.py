"""One HTTP exchange with Keycloak: its URLs and headers, and every failure to get an answer translated."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from json import JSONEncoder
from pathlib import Path
from urllib.parse import quote, urlencode

import requests
from requests import exceptions as requests_errors
from requests.adapters import BaseAdapter

from keycloak_bridge.domain.errors import (
    BridgeError,
    ConfigError,
    KeycloakError,
    KeycloakRejectedError,
    KeycloakUnavailableError,
)
from keycloak_bridge.keycloak.calls import Call
from keycloak_bridge.keycloak.errors import error_for, keycloak_error, where
from keycloak_bridge.ops import tracing
from keycloak_bridge.transport.http import (
    ClientCertificate,
    Failure,
    FixedHeaders,
    WireAdapter,
    exchange,
    failure_of,
    json_object,
    open_session,
    retry_after_s,
    unusable_file,
)
from keycloak_bridge.transport.tls import TlsNames, tls_problem

_NAMES = TlsNames.of_section("keycloak")
_JSON = JSONEncoder(separators=(",", ":"), allow_nan=False)


@dataclass(frozen=True, slots=True)
class KeycloakConnection:
    """Where Keycloak is and how long to wait for it; `url` may end in a path such as `/auth`."""

    url: str
    realm: str
    connect_timeout_s: float = 5.0
    read_timeout_s: float = 30.0
    pool_size: int = 8
    ca_file: Path | None = None
    client_certificate: ClientCertificate | None = None


class KeycloakHttp:
    """Sends requests to one Keycloak. Safe to share between threads."""

    def __init__(self, connection: KeycloakConnection, adapter: BaseAdapter | None = None) -> None:
        self._timeout = (connection.connect_timeout_s, connection.read_timeout_s)
        self._files = (connection.ca_file, connection.client_certificate)
        base = connection.url.rstrip("/")
        realm = quote(connection.realm, safe="")
        self.realm_url = f"{base}/realms/{realm}"
        self.admin_url = f"{base}/admin/realms/{realm}"
        self._session = open_session(
            "keycloak",
            adapter or WireAdapter(connection.pool_size, certificate=connection.client_certificate),
            connection.ca_file,
            connection.client_certificate,
        )
        self._own_headers: dict[bool, tuple[str | None, FixedHeaders]] = {}
        self._prepared_admin_url: str | None = None

    def send(
        self,
        call: Call,
        url: str,
        *,
        token: str | None = None,
        params: Mapping[str, str | int | Sequence[str]] | None = None,
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
        to_admin = url.startswith(self.admin_url)
        base = self.admin_url if to_admin else self.realm_url
        with tracing.calling(call.method, f"{base}{call.path}") as span:
            try:
                if form is None and host is None and to_admin:
                    request = self._admin_request(call, url, token, params, json)
                else:
                    request = self._prepare(call, url, headers, params, form, json)
                carrier = span.carrier()
                if carrier:
                    request.headers = FixedHeaders({**request.headers, **carrier})
                answer = exchange(self._session, request, self._timeout)
            except requests.RequestException as error:
                raise self._explained(call, error) from error
            tracing.answered(span, answer.status_code)
            return answer

    def _explained(self, call: Call, error: requests.RequestException) -> BridgeError:
        """Return the bridge's error, which may be for a file that was replaced by one that cannot be used; it is waited for."""
        wrong = unusable_file("keycloak", *self._files)
        if wrong is None:
            return translate(call, error)
        return KeycloakUnavailableError(wrong.message, code=wrong.code, remedy=wrong.remedy)

    def close(self) -> None:
        """Close the pooled connections."""
        self._session.close()

    def _prepare(
        self,
        call: Call,
        url: str,
        headers: Mapping[str, str],
        params: Mapping[str, str | int | Sequence[str]] | None = None,
        form: Mapping[str, str] | None = None,
        json: object = None,
    ) -> requests.PreparedRequest:
        return self._session.prepare_request(
            requests.Request(
                call.method, url, headers=dict(headers), params=params, data=form, json=json
            )
        )

    def _admin_request(
        self,
        call: Call,
        url: str,
        token: str | None,
        params: Mapping[str, str | int | Sequence[str]] | None,
        json: object,
    ) -> requests.PreparedRequest:
        """Return what `_prepare` would, whose repeated work would cost more than the exchange itself.

        The path in `url` must be encoded already.
        """
        path = url[len(self.admin_url) :]
        if self._prepared_admin_url is None:
            self._prepared_admin_url = self._prepare(call, self.admin_url, {}).url
        request = requests.PreparedRequest()
        request.method = call.method
        request.url = f"{self._prepared_admin_url}{path}"
        if params:
            request.url += "?" + urlencode(params, doseq=True)
        request.headers = self._headers_for(token, json is not None)
        if json is not None:
            try:
                request.body = _JSON.encode(json).encode()
            except ValueError as error:
                raise requests_errors.InvalidJSONError(error) from error
        return request

    def _headers_for(self, token: str | None, with_json: bool) -> FixedHeaders:
        """Return the headers of calls with this token; the transport adds the length of the body."""
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


def translate(call: Call, error: requests.RequestException) -> BridgeError:
    """Return the bridge's error for one that `requests` raised."""
    failure = failure_of(error)
    if failure is Failure.URL:
        return ConfigError(
            "[keycloak] url is not an address that can be called",
            code="keycloak-url",
            remedy="write it as https://host or https://host:port, with Keycloak's path if it has one",
        )
    if failure is Failure.NOT_JSON:
        return KeycloakRejectedError(
            f"the user cannot be written as JSON for {call}", **where(call)
        )
    problem = tls_problem(error, _NAMES)
    return keycloak_error(
        code=f"keycloak-{failure}", call=call, problem=problem.text, solution=problem.solution
    )


def from_response(call: Call, response: requests.Response) -> KeycloakError:
    """Return the error that `response`, which is not the expected one, means."""
    return error_for(
        call,
        response.status_code,
        json_object(response),
        empty=not response.content,
        retry_after_s=retry_after_s(response.headers),
    )
