"""One HTTP exchange with Keycloak: pooled, with timeouts, every failure to get an answer translated.

`requests`, urllib3 and http.client together take ten times the CPU of the exchange itself, most of it for cookies,
redirects, proxies and e-mail headers that no call to Keycloak has. So `WireAdapter`, the transport under `requests`, sends
a request in one write and reads the answer in as few steps as possible. Connections, their pool, TLS and its certificates
stay urllib3's.
"""

import io
import re
import ssl
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from http import HTTPStatus
from http.cookiejar import DefaultCookiePolicy
from json import JSONEncoder
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlencode

import requests
import urllib3
from requests import PreparedRequest, Response
from requests import exceptions as requests_errors
from requests.adapters import BaseAdapter, HTTPAdapter
from requests.structures import CaseInsensitiveDict
from requests.utils import get_encoding_from_headers
from urllib3 import exceptions as urllib3_errors
from urllib3.exceptions import ProtocolError

from keycloak_bridge import __version__
from keycloak_bridge.domain.errors import (
    BridgeError,
    ConfigError,
    KeycloakError,
    KeycloakRejectedError,
)
from keycloak_bridge.keycloak.errors import Call, error_for, keycloak_error, where

_MEANINGS: dict[str, tuple[type[Exception], ...]] = {
    "keycloak-no-answer": (
        requests_errors.RequestException,
        requests_errors.ConnectionError,
        requests_errors.Timeout,
        requests_errors.ReadTimeout,
        requests_errors.ChunkedEncodingError,
        requests_errors.ContentDecodingError,
        requests_errors.StreamConsumedError,
        requests_errors.UnrewindableBodyError,
        requests_errors.RetryError,
        requests_errors.HTTPError,
        requests_errors.JSONDecodeError,
        requests_errors.TooManyRedirects,
    ),
    "keycloak-unreachable": (requests_errors.ConnectTimeout, requests_errors.ProxyError),
    "keycloak-tls": (requests_errors.SSLError,),
    "keycloak-rejected": (requests_errors.InvalidJSONError,),
    "keycloak-url": (
        requests_errors.InvalidHeader,
        requests_errors.InvalidURL,
        requests_errors.InvalidProxyURL,
        requests_errors.InvalidSchema,
        requests_errors.MissingSchema,
        requests_errors.URLRequired,
    ),
}
CODES = {kind: code for code, kinds in _MEANINGS.items() for kind in kinds}
"""The code of each of `requests`' errors; a test fails when one is not here."""

_JSON = JSONEncoder(separators=(",", ":"), allow_nan=False)


class FixedHeaders(CaseInsensitiveDict[str]):
    """Headers of many requests; not to be changed once they were sent, since they are encoded only once."""

    sent_as: bytes | None = None


@dataclass(frozen=True, slots=True)
class KeycloakConnection:
    """Where Keycloak is and how long to wait for it; `url` may end in a path such as `/auth`."""

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
            if form is None and host is None and url.startswith(self.admin_url):
                request = self._admin_request(call, url, token, params, json)
            else:
                request = self._prepare(call, url, headers, params, form, json)
            response = self._session.get_adapter(request.url or "").send(
                request, timeout=self._timeout, verify=self._session.verify or True
            )
            response.content  # noqa: B018 # has it read by an adapter that has not done so
        except requests.RequestException as error:
            raise translate(call, error) from error
        return response

    def close(self) -> None:
        """Close the pooled connections."""
        self._session.close()

    def _prepare(
        self,
        call: Call,
        url: str,
        headers: Mapping[str, str],
        params: Mapping[str, str | int] | None = None,
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
        params: Mapping[str, str | int] | None,
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
            request.url += "?" + urlencode(params)
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


def _open_session(connection: KeycloakConnection, adapter: BaseAdapter | None) -> requests.Session:
    session = requests.Session()
    session.trust_env = False
    session.cookies.set_policy(DefaultCookiePolicy(allowed_domains=()))
    session.headers.update(
        {"User-Agent": f"keycloak-bridge/{__version__}", "Accept": "application/json"}
    )
    if connection.ca_file is not None:
        try:  # now: a wrong file would look like an outage at every call
            ssl.create_default_context(cafile=str(connection.ca_file))
        except (OSError, ssl.SSLError) as error:
            raise ConfigError(
                "[keycloak] ca_file cannot be read as certificates",
                code="keycloak-ca-file",
                remedy="point it at a PEM file that the bridge may read",
            ) from error
        session.verify = str(connection.ca_file)
    adapter = adapter or WireAdapter(connection.pool_size)
    session.mount("http://", adapter)
    session.mount("https://", adapter)
    return session


def translate(call: Call, error: requests.RequestException) -> BridgeError:
    """Return the bridge's error for one that `requests` raised."""
    code = CODES[next(known for known in type(error).__mro__ if known in CODES)]
    if code == "keycloak-url":
        return ConfigError(
            "[keycloak] url is not an address that can be called",
            code="keycloak-url",
            remedy="write it as https://host or https://host:port, with Keycloak's path if it has one",
        )
    if code == "keycloak-rejected":
        return KeycloakRejectedError(
            f"the user cannot be written as JSON for {call}", **where(call)
        )
    cause = error.args[0] if error.args else None
    if isinstance(getattr(cause, "reason", cause), urllib3_errors.NewConnectionError):
        code = "keycloak-unreachable"  # never connected, so that the call cannot have taken effect
    return keycloak_error(code=code, call=call)


def from_response(call: Call, response: requests.Response) -> KeycloakError:
    """Return the error that `response`, which is not the expected one, means."""
    return error_for(
        call,
        response.status_code,
        json_object(response),
        empty=not response.content,
        retry_after_s=_retry_after_s(response.headers),
    )


def json_object(response: requests.Response) -> dict[str, Any] | None:
    """Return the body if it is a JSON object, else None."""
    try:
        body = response.json()
    except ValueError:
        return None
    return body if isinstance(body, dict) else None


def _retry_after_s(headers: Mapping[str, str]) -> float | None:
    """Read Retry-After; a date counts from the answer's own Date, so that no clock of ours is asked."""
    value = headers.get("Retry-After", "").strip()
    if value.isascii() and value.isdigit():
        return float(value[:9])
    try:
        wait = parsedate_to_datetime(value) - parsedate_to_datetime(headers.get("Date", ""))
    except (TypeError, ValueError):  # no date, or only one of both has a time zone
        return None
    return max(0.0, wait.total_seconds())


_URL = re.compile(r"(https?://(?:[^/?#@]*@)?([^/?#@]+))(/[^#]*)")
_OWN_PORT = {"http:": ":80", "https": ":443"}
_WITHOUT_BODY = frozenset({"GET", "HEAD"})


class WireAdapter(HTTPAdapter):
    """Sends a request and reads the whole answer. Safe to share between threads; raises errors of `requests` only.

    Nothing is tried again. Proxies, client certificates and streamed bodies, which the bridge does not use, are not known.
    """

    def __init__(self, pool_size: int) -> None:
        super().__init__(pool_connections=1, pool_maxsize=pool_size, max_retries=0, pool_block=True)
        self._known: tuple[str, Any, Any] | None = None

    def send(
        self,
        request: PreparedRequest,
        stream: bool = False,
        timeout: Any = None,
        verify: Any = True,
        cert: Any = None,
        proxies: Mapping[str, str] | None = None,
    ) -> Response:
        """Return the answer; `timeout` is (for the connection, for each part of the answer)."""
        del stream, cert, proxies
        url = _URL.fullmatch(request.url or "")
        if url is None:
            raise requests_errors.InvalidURL("the URL has a fragment or no path", request=request)
        origin, host, target = url.groups()
        body = request.body or b""
        body = body.encode() if isinstance(body, str) else body
        message = _head(request, host.removesuffix(_OWN_PORT[origin[:5]]), target, body) + body
        pool = self._pool(origin, request, verify)
        return self._response(request, _exchange(pool, request, message, timeout))

    def close(self) -> None:
        """Close the pooled connections; a later call opens new ones."""
        self._known = None
        super().close()

    def _pool(self, origin: str, request: PreparedRequest, verify: Any) -> Any:
        """Return urllib3's pool for `origin`; looking it up each time would cost as much as the exchange."""
        known = self._known
        if known is not None and known[:2] == (origin, verify) and known[2].pool is not None:
            return known[2]
        try:
            pool = self.get_connection_with_tls_context(request, verify)
        except urllib3_errors.LocationValueError as error:
            raise requests_errors.InvalidURL(error, request=request) from error
        self.cert_verify(pool, request.url, verify, None)  # type: ignore[no-untyped-call]
        self._known = (origin, verify, pool)
        return pool

    def _response(self, request: PreparedRequest, answer: "Answer") -> Response:
        if "content-encoding" in answer.headers:
            return self._decoded(request, answer)
        response = Response()
        response.status_code = answer.status
        response.reason = answer.reason
        response.headers = CaseInsensitiveDict(answer.headers)
        if answer.body:
            response.encoding = get_encoding_from_headers(response.headers)
        response.url = request.url or ""
        response.request = request
        response._content = answer.body  # noqa: SLF001 # there is no public way to say that it is read
        return response

    def _decoded(self, request: PreparedRequest, answer: "Answer") -> Response:
        """Let urllib3 decompress what a proxy in front of Keycloak compressed."""
        raw = urllib3.HTTPResponse(
            io.BytesIO(answer.body),
            headers=answer.headers,
            status=answer.status,
            reason=answer.reason,
            preload_content=False,
            decode_content=False,
        )
        response = self.build_response(request, raw)
        response.content  # noqa: B018 # reads it, or raises
        return response


def _head(request: PreparedRequest, host: str, target: str, body: bytes) -> bytes:
    headers = request.headers
    first = f"{request.method} {target} HTTP/1.1\r\n"
    if "Host" not in headers:
        first += f"Host: {host}\r\n"
    if "Content-Length" not in headers and (body or request.method not in _WITHOUT_BODY):
        first += f"Content-Length: {len(body)}\r\n"
    if not isinstance(headers, FixedHeaders):
        return first.encode("latin-1") + _lines(request) + b"\r\n"
    if headers.sent_as is None:
        headers.sent_as = _lines(request)
    return first.encode("latin-1") + headers.sent_as + b"\r\n"


def _lines(request: PreparedRequest) -> bytes:
    lines = [f"{name}: {value}\r\n" for name, value in request.headers.items()]
    block = "".join(lines)
    if block.count("\n") != len(lines) or block.count("\r") != len(lines):
        raise requests_errors.InvalidHeader("a header holds a line break", request=request)
    return block.encode("latin-1")


def _exchange(
    pool: Any, request: PreparedRequest, message: bytes, timeout: tuple[float, float]
) -> "Answer":
    """Send `message` on a connection of `pool` and return the answer."""
    try:
        connection = pool._get_conn()  # noqa: SLF001 # also finds out whether the server closed it
    except urllib3_errors.HTTPError as error:
        raise requests_errors.ConnectionError(error, request=request) from error
    kept = None
    try:
        if connection.sock is None:
            _connect(connection, request, timeout[0])
        answer = _converse(connection.sock, request, message, timeout[1])
        if answer.reusable:
            kept = connection
    finally:
        if kept is None:
            connection.close()
        pool._put_conn(kept)  # noqa: SLF001 # None lets the pool open another one
    return answer


def _connect(connection: Any, request: PreparedRequest, timeout_s: float) -> None:
    """Open the connection; nothing was sent yet if this fails."""
    connection.timeout = timeout_s
    try:
        connection.connect()
    except (ssl.SSLError, ssl.CertificateError, urllib3_errors.SSLError) as error:
        raise requests_errors.SSLError(error, request=request) from error
    except (TimeoutError, urllib3_errors.ConnectTimeoutError) as error:
        raise requests_errors.ConnectTimeout(error, request=request) from error
    except (OSError, urllib3_errors.HTTPError) as error:
        raise requests_errors.ConnectionError(error, request=request) from error


def _converse(sock: Any, request: PreparedRequest, message: bytes, timeout_s: float) -> "Answer":
    try:
        sock.settimeout(timeout_s)
        sock.sendall(message)
        return read_answer(sock.recv, request.method or "")
    except TimeoutError as error:
        raise requests_errors.ReadTimeout(error, request=request) from error
    except ssl.SSLError as error:
        raise requests_errors.SSLError(error, request=request) from error
    except (OSError, urllib3_errors.HTTPError) as error:
        raise requests_errors.ConnectionError(error, request=request) from error


Receive = Callable[[int], bytes]
"""Returns at most so many bytes; none once the connection has ended."""

_CHUNK = 65536
_MOST_HEAD_BYTES = 65536
_END = re.compile(rb"\r?\n\r?\n")
_STATUS = re.compile(r"HTTP/1\.([01]) ([1-9][0-9]{2})(?: (.*))?")
_DIGITS = {10: re.compile("[0-9]{1,18}"), 16: re.compile("[0-9a-fA-F]{1,15}")}
_BODILESS = frozenset({HTTPStatus.NO_CONTENT, HTTPStatus.NOT_MODIFIED})


@dataclass(frozen=True, slots=True)
class Answer:
    """What came back; names of headers are in lower case, `reusable` says that the connection can take another request."""

    status: int
    reason: str
    headers: dict[str, str]
    body: bytes
    reusable: bool


def read_answer(receive: Receive, method: str) -> Answer:
    """Return the final answer to a request by `method`, with its whole body.

    Raises urllib3's ProtocolError for what ends too early or is no HTTP; errors of `receive` come through.
    """
    stream = _Stream(receive)
    while True:
        version, status, reason, headers = _parsed(stream.head())
        if status >= HTTPStatus.OK:
            break
        if status == HTTPStatus.SWITCHING_PROTOCOLS:
            raise ProtocolError("the answer changes the protocol")
    reusable = version == "1" and "close" not in headers.get("connection", "").lower()
    coding = headers.get("transfer-encoding", "").lower()
    length = headers.get("content-length")
    if method == "HEAD" or status in _BODILESS:
        body = b""
    elif coding:
        if coding != "chunked":
            raise ProtocolError("the answer has a transfer coding that was not asked for")
        body = stream.chunks()
    elif length is not None:
        body = stream.exactly(_number(length, 10))
    else:
        body, reusable = stream.rest(), False
    return Answer(status, reason, headers, body, reusable and stream.empty)


class _Stream:
    """The bytes received and not read yet."""

    def __init__(self, receive: Receive) -> None:
        self._receive = receive
        self._buffer = b""

    @property
    def empty(self) -> bool:
        return not self._buffer

    def head(self) -> str:
        while (end := _END.search(self._buffer)) is None:
            if len(self._buffer) > _MOST_HEAD_BYTES:
                raise ProtocolError("the head of the answer has no end")
            self._more()
        head, self._buffer = self._buffer[: end.start()], self._buffer[end.end() :]
        return head.decode("latin-1")

    def exactly(self, length: int) -> bytes:
        parts, received = [self._buffer], len(self._buffer)
        while received < length:
            self._buffer = b""
            self._more()
            parts.append(self._buffer)
            received += len(self._buffer)
        whole = parts[0] if len(parts) == 1 else b"".join(parts)
        self._buffer = whole[length:]
        return whole[:length]

    def rest(self) -> bytes:
        parts = [self._buffer]
        while part := self._receive(_CHUNK):
            parts.append(part)
        self._buffer = b""
        return b"".join(parts)

    def chunks(self) -> bytes:
        """Return the content of all chunks, without trailers."""
        parts = []
        while length := _number(self._line().partition(b";")[0].decode("latin-1").strip(), 16):
            parts.append(self.exactly(length))
            if self._line():
                raise ProtocolError("a chunk of the answer is longer than it says")
        while self._line():
            pass
        return b"".join(parts)

    def _line(self) -> bytes:
        while b"\n" not in self._buffer:
            if len(self._buffer) > _MOST_HEAD_BYTES:
                raise ProtocolError("a line of the answer has no end")
            self._more()
        line, _, self._buffer = self._buffer.partition(b"\n")
        return line.removesuffix(b"\r")

    def _more(self) -> None:
        part = self._receive(_CHUNK)
        if not part:
            raise ProtocolError("the connection ended before the answer did")
        self._buffer += part


def _parsed(head: str) -> tuple[str, int, str, dict[str, str]]:
    """Return the minor version, the status, its reason and the headers."""
    first, *lines = head.split("\n")
    found = _STATUS.fullmatch(first.rstrip("\r"))
    if found is None:
        raise ProtocolError("the answer is not HTTP")
    headers: dict[str, str] = {}
    name = ""
    for line in lines:
        if line[:1] in (" ", "\t") and name:
            headers[name] += " " + line.strip()
            continue
        name, colon, value = line.partition(":")
        if not colon:
            raise ProtocolError("the answer has a header without a colon")
        name, value = name.strip().lower(), value.strip()
        headers[name] = f"{headers[name]}, {value}" if name in headers else value
    return found[1], int(found[2]), (found[3] or "").strip(), headers


def _number(text: str, base: int) -> int:
    """Return a length; Python would take signs, spaces, prefixes and underscores too."""
    if _DIGITS[base].fullmatch(text) is None:
        raise ProtocolError("the answer does not say how long it is")
    return int(text, base)
