"""The transport under `requests`: its own connections, with one write and as few reads as possible for each call.

`requests`, urllib3 and http.client together take ten times the CPU of the exchange itself, most of it for cookies,
redirects, proxies and e-mail headers that no call to Keycloak has. Connections, their pool, TLS and its certificates stay
theirs.
"""

import io
import re
import ssl
from collections.abc import Mapping
from typing import Any

import urllib3
from requests import PreparedRequest, Response
from requests import exceptions as requests_errors
from requests.adapters import HTTPAdapter
from requests.structures import CaseInsensitiveDict
from requests.utils import get_encoding_from_headers
from urllib3 import exceptions as urllib3_errors

from keycloak_bridge.http_answer import Answer, read_answer

_URL = re.compile(r"(https?://(?:[^/?#@]*@)?([^/?#@]+))(/[^#]*)")
_OWN_PORT = {"http:": ":80", "https": ":443"}
_WITHOUT_BODY = frozenset({"GET", "HEAD"})


class FixedHeaders(CaseInsensitiveDict[str]):
    """Headers of many requests; not to be changed once they were sent, since they are made bytes only once."""

    sent_as: bytes | None = None


class WireAdapter(HTTPAdapter):
    """Sends a request and reads the whole answer. Safe to share between threads; raises errors of `requests` only.

    Nothing is tried again. What has no plain URL, goes through a proxy or streams its body is left to `requests`.
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
        """Return the answer; `timeout` is how long to wait for a connection, and for each part of the answer."""
        url = _URL.fullmatch(request.url or "")
        body = _body_of(request)
        if url is None or body is None or proxies or cert or not isinstance(timeout, tuple):
            request.headers = CaseInsensitiveDict(request.headers)
            request.prepare_content_length(request.body)
            return super().send(request, stream, timeout, verify, cert, proxies)
        origin, host, target = url.groups()
        message = _head(request, host.removesuffix(_OWN_PORT[origin[:5]]), target, body) + body
        pool = self._pool(origin, request, verify)
        return self._response(request, _exchange(pool, request, message, timeout))

    def close(self) -> None:
        """Close the pooled connections; a later call opens others."""
        self._known = None
        super().close()

    def _pool(self, origin: str, request: PreparedRequest, verify: Any) -> Any:
        """Return urllib3's pool for `origin`; to look it up anew each time would cost as much as the exchange."""
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

    def _response(self, request: PreparedRequest, answer: Answer) -> Response:
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

    def _decoded(self, request: PreparedRequest, answer: Answer) -> Response:
        """Have urllib3 unpack what something in front of Keycloak has compressed."""
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


def _body_of(request: PreparedRequest) -> bytes | None:
    """Return the body as it is sent; None for one that is not held in memory."""
    body: object = request.body
    if body is None:
        return b""
    if isinstance(body, bytes):
        return body
    return body.encode() if isinstance(body, str) else None


def _head(request: PreparedRequest, host: str, target: str, body: bytes) -> bytes:
    """Return everything before the body."""
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
) -> Answer:
    """Send `message` on a connection of `pool` and return the answer."""
    try:
        connection = pool._get_conn()  # noqa: SLF001 # finds out, too, whether the server has closed it meanwhile
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
        pool._put_conn(kept)  # noqa: SLF001 # None makes room for another one
    return answer


def _connect(connection: Any, request: PreparedRequest, timeout_s: float) -> None:
    """Open the connection; whatever goes wrong here, nothing was asked yet."""
    connection.timeout = timeout_s
    try:
        connection.connect()
    except (ssl.SSLError, ssl.CertificateError, urllib3_errors.SSLError) as error:
        raise requests_errors.SSLError(error, request=request) from error
    except (TimeoutError, urllib3_errors.ConnectTimeoutError) as error:
        raise requests_errors.ConnectTimeout(error, request=request) from error
    except (OSError, urllib3_errors.HTTPError) as error:
        raise requests_errors.ConnectionError(error, request=request) from error


def _converse(sock: Any, request: PreparedRequest, message: bytes, timeout_s: float) -> Answer:
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
