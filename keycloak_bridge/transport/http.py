"""One HTTP exchange: pooled, with timeouts, every failure to get an answer told apart.

`requests`, urllib3 and http.client together take three to four times the CPU (docs/scaling.md, Transports), most of it for
cookies, redirects, proxies and e-mail headers that no call of the bridge has, and an answer that comes byte by byte never
times out. So `WireAdapter`, the transport under `requests`, sends a request in one write and has `httptools` (llhttp, the
parser of Node.js) read the answer. Connections, TLS and its certificates stay urllib3's.

An exchange has one deadline, from the first byte of the request to the last one of the answer, however slowly either comes,
and an answer has a greatest length.
"""

import contextlib
import queue
import re
import ssl
import time
import zlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import timedelta
from email.utils import parsedate_to_datetime
from enum import StrEnum
from functools import partial
from http import HTTPStatus
from http.cookiejar import DefaultCookiePolicy
from pathlib import Path
from typing import Any

import httptools
import requests
from requests import PreparedRequest, Response
from requests import exceptions as requests_errors
from requests.adapters import BaseAdapter
from requests.cookies import RequestsCookieJar
from requests.structures import CaseInsensitiveDict
from requests.utils import DEFAULT_CA_BUNDLE_PATH, get_encoding_from_headers
from urllib3 import exceptions as urllib3_errors
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.exceptions import ProtocolError
from urllib3.util import parse_url, wait_for_read, wait_for_write

from keycloak_bridge import __version__
from keycloak_bridge.domain.errors import ConfigError

MOST_BODY_BYTES = 32 * 1024 * 1024
"""The longest answer that is read unless told otherwise: 64 KB for each user of the largest page, which has 500."""


class AnswerTooLargeError(requests_errors.RequestException):
    """The answer is longer than is read; nothing of it is kept."""


class Failure(StrEnum):
    """Why there is no answer; after `UNREACHABLE` and `TLS` the request cannot have taken effect."""

    NO_ANSWER = "no-answer"
    TOO_LARGE = "answer-too-large"
    UNREACHABLE = "unreachable"
    TLS = "tls"
    NOT_JSON = "rejected"
    URL = "url"


_MEANINGS: dict[Failure, tuple[type[Exception], ...]] = {
    Failure.NO_ANSWER: (
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
    Failure.TOO_LARGE: (AnswerTooLargeError,),
    Failure.UNREACHABLE: (requests_errors.ConnectTimeout, requests_errors.ProxyError),
    Failure.TLS: (requests_errors.SSLError,),
    Failure.NOT_JSON: (requests_errors.InvalidJSONError,),
    Failure.URL: (
        requests_errors.InvalidHeader,
        requests_errors.InvalidURL,
        requests_errors.InvalidProxyURL,
        requests_errors.InvalidSchema,
        requests_errors.MissingSchema,
        requests_errors.URLRequired,
    ),
}
FAILURES = {kind: failure for failure, kinds in _MEANINGS.items() for kind in kinds}
"""What each of `requests`' errors means; a test fails when one is not here."""


def failure_of(error: requests.RequestException) -> Failure:
    """Return what an error that `requests` raised means."""
    cause = error.args[0] if error.args else None
    if isinstance(getattr(cause, "reason", cause), urllib3_errors.NewConnectionError):
        return Failure.UNREACHABLE  # never connected, so that the request cannot have taken effect
    return FAILURES[next(known for known in type(error).__mro__ if known in FAILURES)]


@dataclass(frozen=True, slots=True)
class ClientCertificate:
    """A certificate (PEM) with its chain for mutual TLS; without `key` its file has the key, which has no passphrase."""

    certificate: Path
    key: Path | None = None


class FixedHeaders(CaseInsensitiveDict[str]):
    """Headers of many requests; not to be changed once they were sent, since they are encoded only once."""

    sent_as: bytes | None = None


def open_session(
    section: str,
    adapter: BaseAdapter,
    ca_file: Path | None,
    certificate: ClientCertificate | None = None,
) -> requests.Session:
    """Return a session that sends by `adapter`.

    Raises ConfigError for a file that cannot be used (`<section>-ca-file`, `<section>-tls-cert`).

    No redirect is followed, nothing is tried again, no cookie is kept, and neither proxies nor credentials are taken
    from the environment: the settings alone say whom the bridge talks to.
    """
    session = requests.Session()
    session.trust_env = False
    session.cookies.set_policy(DefaultCookiePolicy(allowed_domains=()))
    session.headers.update(
        {
            "User-Agent": f"keycloak-bridge/{__version__}",
            "Accept": "application/json",
            "Accept-Encoding": "gzip, deflate",
        }
    )
    # now: a wrong file would look like an outage at every call
    wrong = unusable_file(section, ca_file, certificate)
    if wrong is not None:
        raise wrong
    if ca_file is not None:
        session.verify = str(ca_file)
    session.mount("http://", adapter)
    session.mount("https://", adapter)
    return session


def unusable_file(
    section: str, ca_file: Path | None, certificate: ClientCertificate | None = None
) -> ConfigError | None:
    """Return what is wrong with a file that each connection reads; `requests` would not say which it is."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)  # without the system's authorities
    if ca_file is not None:
        try:
            context.load_verify_locations(ca_file)
        except OSError:
            return ConfigError(
                f"[{section}] ca_file cannot be read as certificates",
                code=f"{section}-ca-file",
                remedy="point it at a PEM file that the bridge may read",
            )
    if certificate is not None:
        try:
            context.load_cert_chain(
                certificate.certificate,
                certificate.key,
                password=lambda: b"",  # or OpenSSL asks for a passphrase at the terminal
            )
        except OSError:
            return ConfigError(
                f"[{section}] tls_cert_file and tls_key_file are no certificate with its key",
                code=f"{section}-tls-cert",
                remedy="point them at PEM files that the bridge may read, the key without passphrase",
            )
    return None


def exchange(
    session: requests.Session, request: PreparedRequest, timeout: tuple[float, float]
) -> Response:
    """Return the answer, whatever its status, with its whole body read; raises an error of `requests`.

    `timeout` is (for the connection, from then on to the end of the answer), in seconds.
    """
    adapter = session.get_adapter(request.url or "")
    response = adapter.send(request, timeout=timeout, verify=session.verify or True)
    response.content  # noqa: B018 # has it read by an adapter that has not done so
    return response


def json_object(response: requests.Response) -> dict[str, Any] | None:
    """Return the body if it is a JSON object, else None."""
    try:
        body = json_in(response)
    except ValueError:
        return None
    return body if isinstance(body, dict) else None


def json_in(response: requests.Response) -> Any:
    """Return the body's JSON; raises ValueError for what is none, or nests too deeply."""
    try:
        return response.json()
    except RecursionError as error:
        raise ValueError("nests too deeply") from error


def retry_after_s(headers: Mapping[str, str]) -> float | None:
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
_GZIP_OR_ZLIB = 32 + zlib.MAX_WBITS
_NO_COOKIES = RequestsCookieJar()
_NOT_MEASURED = timedelta(0)


Connect = Callable[[str, bool | str, ClientCertificate | None], HTTPConnection]
"""Returns a connection, not opened yet, to an origin; what follows is as in `new_connection`."""


def new_connection(
    origin: str, verify: bool | str, certificate: ClientCertificate | None
) -> HTTPConnection:
    """Return a connection, not opened yet, to an origin such as `https://host:8443`, by a certificate of the bridge's own.

    The server's certificate is verified by the file `verify`, or by the authorities that `requests` brings along. The
    files are read when it is opened. Raises LocationParseError.
    """
    url = parse_url(origin)
    host = (url.host or "").strip("[]")
    if not host:
        raise urllib3_errors.LocationParseError(origin)
    if url.scheme == "http":
        return HTTPConnection(host, url.port or HTTPConnection.default_port)
    key_file = certificate.key if certificate else None
    return HTTPSConnection(
        host,
        url.port or HTTPSConnection.default_port,
        cert_reqs="CERT_REQUIRED",
        ca_certs=verify if isinstance(verify, str) else DEFAULT_CA_BUNDLE_PATH,
        cert_file=str(certificate.certificate) if certificate else None,
        key_file=str(key_file) if key_file else None,
        key_password="" if certificate else None,  # or OpenSSL asks for it at the terminal
    )


Wait = Callable[[Any, float], bool]
"""Waits until a socket is ready, so many seconds at most; False where it is not."""

Waits = tuple[Wait, Wait]
"""Until a socket can be read from, and until it can be written to."""


class _Pool:
    """At most `size` connections, each lent to one thread at a time, the last used first; the others wait."""

    def __init__(self, size: int, connect: Callable[[], HTTPConnection]) -> None:
        self._connect = connect
        self._closed = False
        self._free: queue.LifoQueue[HTTPConnection | None] = queue.LifoQueue()
        for _ in range(size):
            self._free.put(None)

    @contextlib.contextmanager
    def one(self) -> Iterator[HTTPConnection]:
        """Lend a connection; one that is closed when it comes back, or by the server meanwhile, is opened by its next user."""
        connection = self._free.get()
        try:
            if connection is None:
                connection = self._connect()
            elif not connection.is_connected:
                connection.close()
            yield connection
        finally:
            self._free.put(connection)
            if self._closed:
                self.close()

    def close(self) -> None:
        """Close all that nobody uses, and the others when they come back; who already waits for one is served all the same."""
        self._closed = True
        free = []
        with contextlib.suppress(queue.Empty):
            while True:
                free.append(self._free.get_nowait())
        for connection in free:
            if connection is not None:
                connection.close()
            self._free.put(connection)


class WireAdapter(BaseAdapter):
    """Sends a request and reads the whole answer. Safe to share between threads; raises errors of `requests` only.

    Nothing is tried again. Proxies and streamed bodies, which the bridge does not use, are not known. Each new connection reads
    the files of certificates again. An answer longer than `most_bytes` is not read.
    """

    def __init__(
        self,
        pool_size: int,
        monotonic: Callable[[], float] = time.monotonic,
        *,
        most_bytes: int = MOST_BODY_BYTES,
        certificate: ClientCertificate | None = None,
        connect: Connect = new_connection,
        waits: Waits = (wait_for_read, wait_for_write),
    ) -> None:
        super().__init__()
        self._pool_size = pool_size
        self._monotonic = monotonic
        self._most_bytes = most_bytes
        self._certificate = certificate
        self._connect = connect
        self._waits = waits
        self._pools: dict[tuple[str, bool | str], _Pool] = {}

    def send(
        self,
        request: PreparedRequest,
        stream: bool = False,
        timeout: Any = None,
        verify: Any = True,
        cert: Any = None,
        proxies: Mapping[str, str] | None = None,
    ) -> Response:
        """Return the answer; `timeout` is (for the connection, from then on to the end of the answer)."""
        del stream, cert, proxies
        url = _URL.fullmatch(request.url or "")
        if url is None:
            raise requests_errors.InvalidURL("the URL has a fragment or no path", request=request)
        origin, host, target = url.groups()
        body = request.body or b""
        body = body.encode() if isinstance(body, str) else body
        message = _head(request, host.removesuffix(_OWN_PORT[origin[:5]]), target, body) + body
        pool = self._pools.get((origin, verify)) or self._new_pool(origin, verify)
        timed = partial(
            _TimedSocket, timeout_s=timeout[1], monotonic=self._monotonic, waits=self._waits
        )
        answer = _exchange(pool, request, message, timeout[0], timed, self._most_bytes)
        return _response(request, answer, self._most_bytes)

    def close(self) -> None:
        """Close the pooled connections; a later call opens new ones."""
        pools, self._pools = self._pools, {}
        for pool in tuple(pools.values()):
            pool.close()

    def _new_pool(self, origin: str, verify: bool | str) -> _Pool:
        connect = partial(self._connect, origin, verify, self._certificate)
        return self._pools.setdefault((origin, verify), _Pool(self._pool_size, connect))


def _response(request: PreparedRequest, answer: "Answer", most_bytes: int) -> Response:
    headers = CaseInsensitiveDict(answer.headers)
    coding = answer.headers.get("content-encoding")
    body = answer.body if coding is None else _unpacked(request, answer.body, coding, most_bytes)
    # as from a pickle: a new Response makes a jar for its cookies first, which takes longer than all of this
    response = Response.__new__(Response)
    pickled: Any = response
    pickled.__setstate__(
        {
            "_content": body,
            "status_code": answer.status,
            "url": request.url or "",
            "headers": headers,
            "history": [],
            "encoding": get_encoding_from_headers(headers) if answer.body else None,
            "reason": answer.reason,
            "cookies": _NO_COOKIES,
            "elapsed": _NOT_MEASURED,
            "request": request,
        }
    )
    return response


def _unpacked(request: PreparedRequest, body: bytes, coding: str, most_bytes: int) -> bytes:
    """Return what the server, or a proxy in front of it, compressed."""
    if not body or coding.lower() == "identity":
        return body
    if coding.lower() not in ("gzip", "x-gzip", "deflate"):
        raise requests_errors.ContentDecodingError(
            "not a coding that was asked for", request=request
        )
    unpacker = zlib.decompressobj(_GZIP_OR_ZLIB)
    try:
        whole = unpacker.decompress(body, most_bytes + 1)
    except zlib.error as error:
        raise requests_errors.ContentDecodingError(error, request=request) from error
    if len(whole) > most_bytes:
        raise AnswerTooLargeError(request=request)
    if not unpacker.eof:
        raise requests_errors.ContentDecodingError("the content has no end", request=request)
    return whole


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
    pool: _Pool,
    request: PreparedRequest,
    message: bytes,
    connect_timeout_s: float,
    timed: Callable[[Any], "_TimedSocket"],
    most_bytes: int,
) -> "Answer":
    """Send `message` on a connection of `pool` and return the answer."""
    try:
        with pool.one() as connection:
            kept = False
            try:
                if connection.sock is None:
                    _open(connection, request, connect_timeout_s)
                answer = _converse(timed(connection.sock), request, message, most_bytes)
                kept = answer.reusable
            finally:
                if not kept:
                    connection.close()
            return answer
    except urllib3_errors.LocationParseError as error:
        raise requests_errors.InvalidURL(error, request=request) from error


def _open(connection: HTTPConnection, request: PreparedRequest, timeout_s: float) -> None:
    """Open the connection; nothing was sent yet if this fails."""
    connection.timeout = timeout_s
    try:
        connection.connect()
        connection.sock.settimeout(0.0)
    except (ssl.SSLError, ssl.CertificateError, urllib3_errors.SSLError) as error:
        raise requests_errors.SSLError(error, request=request) from error
    except (TimeoutError, urllib3_errors.ConnectTimeoutError) as error:
        raise requests_errors.ConnectTimeout(error, request=request) from error
    except (UnicodeError, urllib3_errors.LocationParseError) as error:  # of IDNA: no name is so
        raise requests_errors.InvalidURL(error, request=request) from error
    except (OSError, urllib3_errors.HTTPError) as error:
        raise requests_errors.ConnectionError(error, request=request) from error


class _TimedSocket:
    """A socket that never blocks, whose deadline holds for all that is sent and received: each wait gets only the time left.

    A time-out of the socket itself would have Python wait before every operation, and give way to other threads twice as often.
    """

    def __init__(
        self, sock: Any, timeout_s: float, monotonic: Callable[[], float], waits: Waits
    ) -> None:
        self._sock = sock
        self._monotonic = monotonic
        self._end_s = monotonic() + timeout_s
        self._until_readable, self._until_writable = waits

    def send(self, message: bytes) -> None:
        left = memoryview(message)
        while left:
            self._left_s()
            left = left[self._when_ready(self._sock.send, left, self._until_writable) :]

    def receive(self, most: int) -> bytes:
        if not self._has_decrypted():
            self._wait(self._until_readable)
        received: bytes = self._when_ready(self._sock.recv, most, self._until_readable)
        return received

    def _has_decrypted(self) -> bool:
        """Say whether TLS has bytes left of what was read, for which the socket would never become readable."""
        pending = getattr(self._sock, "pending", None)
        return pending is not None and pending() > 0

    def _when_ready(self, operation: Callable[[Any], Any], argument: Any, wait: Wait) -> Any:
        while True:
            try:
                return operation(argument)
            except BlockingIOError:
                self._wait(wait)
            except ssl.SSLWantReadError:
                self._wait(self._until_readable)
            except ssl.SSLWantWriteError:
                self._wait(self._until_writable)

    def _wait(self, wait: Wait) -> None:
        if not wait(self._sock, self._left_s()):
            raise TimeoutError

    def _left_s(self) -> float:
        left_s = self._end_s - self._monotonic()
        if left_s <= 0:
            raise TimeoutError
        return left_s


def _converse(
    sock: _TimedSocket, request: PreparedRequest, message: bytes, most_bytes: int
) -> "Answer":
    try:
        sock.send(message)
        return read_answer(sock.receive, request.method or "", most_bytes)
    except TimeoutError as error:
        raise requests_errors.ReadTimeout(error, request=request) from error
    except ssl.SSLError as error:
        raise requests_errors.SSLError(error, request=request) from error
    except AnswerTooLargeError:
        raise
    except (OSError, urllib3_errors.HTTPError) as error:
        raise requests_errors.ConnectionError(error, request=request) from error


Receive = Callable[[int], bytes]
"""Returns at most so many bytes; none once the connection has ended."""

_CHUNK = 65536
_MOST_BYTES_BESIDE_BODY = 65536
_INTERIM = range(100, 200)
_BODILESS = frozenset({HTTPStatus.NO_CONTENT, HTTPStatus.NOT_MODIFIED})


@dataclass(frozen=True, slots=True)
class Answer:
    """What came back; names of headers are in lower case, `reusable` says that the connection can take another request."""

    status: int
    reason: str
    headers: dict[str, str]
    body: bytes
    reusable: bool


def read_answer(receive: Receive, method: str, most_bytes: int = MOST_BODY_BYTES) -> Answer:
    """Return the final answer to a request by `method`, with its whole body of at most `most_bytes`.

    Raises urllib3's ProtocolError for what ends too early or is no HTTP, AnswerTooLargeError for what is too long; errors of
    `receive` come through.
    """
    reading = _Reading(method, most_bytes)
    while not reading.ended:
        reading.feed(receive(_CHUNK))
    return reading.answer()


class _Reading:
    """What the parser has found so far; it calls the methods that begin with `on_`, in which nothing may be raised."""

    def __init__(self, method: str, most_bytes: int) -> None:
        self.ended = False
        self._most_bytes = most_bytes
        self._parser = httptools.HttpResponseParser(self)
        self._to_head = method == "HEAD"
        self._status = 0
        self._reason = b""
        self._headers: dict[str, str] = {}
        self._body = bytearray()  # parts of one byte each would cost fifty times as much
        self._length = 0
        self._beside_body = 0
        self._reusable = True
        self._problem: str | None = None

    def feed(self, data: bytes) -> None:
        """Take the next bytes of the answer; none mean that the connection has ended."""
        if not data:
            if not self._ends_with_connection:
                raise ProtocolError("the connection ended before the answer did")
            self.ended, self._reusable = True, False
            return
        self._beside_body += len(data)
        try:
            self._parser.feed_data(data)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade) as error:
            if not self.ended:
                raise ProtocolError("the answer is not HTTP") from error
            self._reusable = False  # what follows the answer belongs to nobody
        if self._problem is not None:
            raise ProtocolError(self._problem)
        if self._length > self._most_bytes:
            raise AnswerTooLargeError
        if self._beside_body > _MOST_BYTES_BESIDE_BODY + _CHUNK:
            raise ProtocolError("the answer has no end")

    def answer(self) -> Answer:
        """Return the answer that has ended; nothing can be fed any more."""
        del (
            self._parser
        )  # which refers to this object, so that both would wait for the garbage collector
        reason = self._reason.decode("latin-1").strip()
        return Answer(self._status, reason, self._headers, bytes(self._body), self._reusable)

    @property
    def _ends_with_connection(self) -> bool:
        return self._final and not self._headers.keys() & {"content-length", "transfer-encoding"}

    @property
    def _final(self) -> bool:
        """Whether all headers were read, and are not those of an interim answer such as 100 Continue."""
        return self._status != 0 and self._status not in _INTERIM

    def on_message_begin(self) -> None:
        if self.ended:
            self._reusable = False
            return
        self._status, self._reason, self._headers = 0, b"", {}

    def on_status(self, part: bytes) -> None:
        if not self.ended:
            self._reason += part

    def on_header(self, name: bytes, value: bytes) -> None:
        if self._final:  # a trailer, or what follows the answer
            return
        key, text = name.decode("latin-1").lower(), value.decode("latin-1").strip()
        self._headers[key] = f"{self._headers[key]}, {text}" if key in self._headers else text

    def on_headers_complete(self) -> None:
        if self.ended:
            return
        self._status = self._parser.get_status_code()
        if self._parser.get_http_version() not in ("1.0", "1.1"):
            self._problem = "the answer is of another version of HTTP"
        elif self._status == HTTPStatus.SWITCHING_PROTOCOLS:
            self._problem = "the answer changes the protocol"
        elif self._headers.get("transfer-encoding", "chunked").lower() != "chunked":
            self._problem = "the answer has a transfer coding that was not asked for"
        self._reusable = self._parser.should_keep_alive()
        self.ended = self._to_head and self._final

    def on_body(self, part: bytes) -> None:
        if self.ended:
            self._reusable = False
            return
        self._length += len(part)
        self._beside_body = 0
        if self._length <= self._most_bytes:
            self._body += part

    def on_message_complete(self) -> None:
        if self._final:
            self.ended = True
