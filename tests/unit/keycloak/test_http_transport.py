"""The transport: what goes over the wire, what becomes of the connection, and which errors come up."""

import contextlib
import gzip
import json
import ssl
from collections.abc import Callable
from typing import Any
from urllib.parse import quote

import pytest
import urllib3
from hypothesis import assume, given
from hypothesis import strategies as st
from requests import PreparedRequest

from keycloak_bridge.domain.errors import BridgeError, ConfigError, KeycloakRejectedError
from keycloak_bridge.keycloak.errors import Call
from keycloak_bridge.keycloak.http import KeycloakConnection, KeycloakHttp, WireAdapter

ORIGIN = "http://keycloak:8080"
CALL = Call("POST", "/users")
CREATED = b"HTTP/1.1 201 Created\r\nLocation: http://keycloak/users/1\r\ncontent-length: 0\r\n\r\n"
texts = st.text(st.characters(exclude_categories=["Cs"]))


class FakeSocket:
    """Answers or fails as it was made to."""

    def __init__(self, answer: bytes | BaseException) -> None:
        self.answer = answer
        self.sent = b""
        self.timeouts: list[float] = []

    def settimeout(self, timeout_s: float) -> None:
        self.timeouts.append(timeout_s)

    def sendall(self, data: bytes) -> None:
        self.sent += data

    def recv(self, most: int) -> bytes:
        if isinstance(self.answer, BaseException):
            raise self.answer
        part, self.answer = self.answer[:most], self.answer[most:]
        return part


class FakeConnection:
    """A connection of urllib3, not yet opened."""

    def __init__(self, sock: FakeSocket, failure: Exception | None = None) -> None:
        self.sock: FakeSocket | None = None
        self.timeout = 0.0
        self.closed = False
        self._to_be = sock
        self._failure = failure

    def connect(self) -> None:
        if self._failure is not None:
            raise self._failure
        self.sock = self._to_be

    def close(self) -> None:
        self.closed = True


class FakePool:
    """A pool of urllib3 with one connection."""

    def __init__(self, connection: FakeConnection) -> None:
        self.pool = object()
        self.connection = connection
        self.given_back: list[FakeConnection | None] = []

    def _get_conn(self) -> FakeConnection:
        return self.connection

    def _put_conn(self, connection: FakeConnection | None) -> None:
        self.given_back.append(connection)


class Wire:
    """The subject, and the other end."""

    def __init__(self, answer: bytes | BaseException, failure: Exception | None = None) -> None:
        self.sock = FakeSocket(answer)
        self.connection = FakeConnection(self.sock, failure)
        self.pool = FakePool(self.connection)
        self.adapter = WireAdapter(1)
        self.adapter._known = (ORIGIN, True, self.pool)
        self.http = KeycloakHttp(KeycloakConnection(ORIGIN, "acme", 1.5, 20.0), self.adapter)

    def post(self, body: object = None, **options: Any) -> Any:
        """Create a user."""
        url = f"{self.http.admin_url}/users"
        return self.http.send(CALL, url, token="t0k3n", json=body, **options)


def test_request_is_one_write_with_all_that_keycloak_needs() -> None:
    """A second write would cost a packet, and a wait where the server delays its acknowledgements."""
    wire = Wire(CREATED)

    answer = wire.post({"username": "Zoë"})

    assert (answer.status_code, answer.reason, answer.content) == (201, "Created", b"")
    assert answer.headers["Location"] == "http://keycloak/users/1"
    first, *headers = wire.sock.sent.decode().partition("\r\n\r\n")[0].split("\r\n")
    names = dict(line.split(": ", 1) for line in headers)
    body = b'{"username":"Zo\\u00eb"}'
    assert first == "POST /admin/realms/acme/users HTTP/1.1"
    assert names["Host"] == "keycloak:8080"
    assert names["Authorization"] == "Bearer t0k3n"
    assert names["Content-Type"] == "application/json"
    assert names["Content-Length"] == str(len(body))
    assert wire.sock.sent.endswith(b"\r\n\r\n" + body)


def test_compressed_answer_is_unpacked() -> None:
    """Something in front of Keycloak may do that."""
    body = gzip.compress(b'{"a": 1}')
    head = f"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: {len(body)}\r\n\r\n"

    assert Wire(head.encode() + body).post().json() == {"a": 1}


def test_connection_is_kept_and_each_timeout_is_its_own() -> None:
    """One for connecting, one for each part of the answer."""
    wire = Wire(CREATED)

    wire.post()

    assert wire.pool.given_back == [wire.connection]
    assert (wire.connection.timeout, wire.sock.timeouts) == (1.5, [20.0])


@pytest.mark.parametrize(
    "answer",
    [
        b"",
        b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nabc",
        b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 0\r\n\r\n",
        TimeoutError(),
        ConnectionResetError(),
        KeyboardInterrupt(),
    ],
    ids=repr,
)
def test_connection_in_doubt_is_closed_and_leaves_the_pool(answer: Any) -> None:
    """The rest of an answer would be taken for the next one."""
    wire = Wire(answer)

    with contextlib.suppress(BridgeError, KeyboardInterrupt):
        wire.post()

    assert wire.connection.closed
    assert wire.pool.given_back == [None]


def _new_connection(kind: Callable[..., Exception]) -> Exception:
    return kind(urllib3.connection.HTTPConnection("keycloak"), "refused")


@pytest.mark.parametrize(
    ("connecting", "answer", "code"),
    [
        (_new_connection(urllib3.exceptions.NewConnectionError), b"", "keycloak-unreachable"),
        (_new_connection(urllib3.exceptions.ConnectTimeoutError), b"", "keycloak-unreachable"),
        (TimeoutError(), b"", "keycloak-unreachable"),
        (ssl.SSLCertVerificationError("bad"), b"", "keycloak-tls"),
        (None, ssl.SSLError("bad record"), "keycloak-tls"),
        (None, TimeoutError(), "keycloak-no-answer"),
        (None, ConnectionResetError(), "keycloak-no-answer"),
        (None, b"HTTP/1.1 20", "keycloak-no-answer"),
        (None, b"SSH-2.0\r\n\r\n", "keycloak-no-answer"),
    ],
)
def test_failures_keep_their_meaning(
    connecting: Exception | None, answer: bytes | Exception, code: str
) -> None:
    """Above all whether the call may have taken effect."""
    with pytest.raises(BridgeError) as caught:
        Wire(answer, connecting).post()

    assert code == caught.value.code


def test_header_cannot_smuggle_another() -> None:
    """A token is whatever a server said it is."""
    wire = Wire(CREATED)
    url = f"{wire.http.admin_url}/users"

    with pytest.raises(ConfigError):
        wire.http.send(CALL, url, token="a\r\nX-Evil: 1")

    assert wire.sock.sent == b""


def test_value_that_json_lacks_is_never_sent() -> None:
    """Keycloak would not know it either."""
    with pytest.raises(KeycloakRejectedError):
        Wire(CREATED).post({"a": float("nan")})


def test_other_host_is_named() -> None:
    """The doctor calls Keycloak by the name that stands in its links."""
    wire = Wire(CREATED)

    wire.post(host="login.acme.example")

    assert wire.sock.sent.count(b"Host: ") == 1
    assert b"\r\nHost: login.acme.example\r\n" in wire.sock.sent


@pytest.mark.parametrize(
    ("url", "host"),
    [
        ("http://keycloak:80", "keycloak"),
        ("https://keycloak:443", "keycloak"),
        ("http://keycloak:443", "keycloak:443"),
        ("https://[::1]:8443", "[::1]:8443"),
    ],
)
def test_port_of_the_scheme_is_left_out(url: str, host: str) -> None:
    """As browsers do; Keycloak may build its issuer from it."""
    wire = Wire(CREATED)
    wire.adapter._known = (url, True, wire.pool)

    KeycloakHttp(KeycloakConnection(url, "acme"), wire.adapter).send(CALL, f"{url}/users")

    assert f"\r\nHost: {host}\r\n".encode() in wire.sock.sent


def test_pool_of_urllib3_is_used_as_it_is_made() -> None:
    """It has what is taken from it, and a closed one is not asked again."""
    adapter = WireAdapter(2)
    request = PreparedRequest()
    request.prepare("GET", f"{ORIGIN}/users")
    pool = adapter._pool(ORIGIN, request, True)
    connection = pool._get_conn()
    pool._put_conn(None)

    assert connection.sock is None
    assert adapter._pool(ORIGIN, request, True) is pool
    adapter.close()
    assert adapter._pool(ORIGIN, request, True) is not pool


@given(segment=texts, params=st.dictionaries(texts, texts | st.integers()), body=texts)
def test_short_cut_prepares_what_requests_would(
    segment: str, params: dict[str, str | int], body: str
) -> None:
    """Addresses and headers are the same, whatever is in them; `KeycloakAdmin` sends no segment that URLs collapse."""
    assume(segment not in (".", ".."))
    http = KeycloakHttp(KeycloakConnection("http://Keycloak.example/a b/", "a realm"))
    url = f"{http.admin_url}/users/{quote(segment, safe='')}"
    value = {"username": body}

    short = http._admin_request(CALL, url, "t", params, value)
    whole = http._prepare(CALL, url, {"Authorization": "Bearer t"}, params, None, value)

    assert short.url == whole.url
    assert json.loads(short.body or b"") == value
    assert {**short.headers, "Content-Length": 0} == {**whole.headers, "Content-Length": 0}


@pytest.mark.parametrize("url", ["keycloak:8080", "http://keycloak:8080/#part"])
def test_address_that_cannot_be_called_is_a_wrong_setting(url: str) -> None:
    """It shows at the first call."""
    http = KeycloakHttp(KeycloakConnection(url, "acme"))

    with pytest.raises(ConfigError):
        http.send(CALL, f"{http.admin_url}/users")
