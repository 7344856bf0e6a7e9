"""One exchange: what goes over the wire, how the answer is read, and what becomes of every failure to get one."""

import contextlib
import email.message
import gzip
import json
import ssl
import threading
import types
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
import requests
import urllib3
from fake_wire import WAITS, FakeConnection, FakeSocket
from hypothesis import assume, given
from hypothesis import strategies as st
from otlp_collector import KeptSpans
from requests import exceptions as requests_errors
from stub_adapter import StubAdapter
from urllib3.exceptions import ProtocolError

from keycloak_bridge.domain.errors import (
    BridgeError,
    ConfigError,
    KeycloakRejectedError,
    KeycloakUnavailableError,
)
from keycloak_bridge.keycloak.calls import Call
from keycloak_bridge.keycloak.http import KeycloakConnection, KeycloakHttp, translate
from keycloak_bridge.ops.tracing import Kind, active
from keycloak_bridge.transport.http import (
    FAILURES,
    Answer,
    Receive,
    WireAdapter,
    _Pool,
    new_connection,
    read_answer,
)

ORIGIN = "http://keycloak:8080"
CALL = Call("POST", "/users")
CREATED = b"HTTP/1.1 201 Created\r\nLocation: http://keycloak/users/1\r\ncontent-length: 0\r\n\r\n"
URL = "https://keycloak.example/users"
texts = st.text(st.characters(exclude_categories=["Cs"]))


@pytest.fixture
def stub() -> StubAdapter:
    return StubAdapter()


@pytest.fixture
def http(stub: StubAdapter) -> KeycloakHttp:
    return KeycloakHttp(
        KeycloakConnection("https://keycloak.example/auth/", "a realm", 1.5, 20.0), stub
    )


def subclasses(of: type[Exception]) -> Iterator[type[Exception]]:
    yield of
    for each in of.__subclasses__():
        yield from subclasses(each)


def test_urls_hold_path_and_encoded_realm(http: KeycloakHttp) -> None:
    """Keycloak may live below a path, and realm names may hold spaces."""
    assert (http.realm_url, http.admin_url) == (
        "https://keycloak.example/auth/realms/a%20realm",
        "https://keycloak.example/auth/admin/realms/a%20realm",
    )


def test_redirects_are_not_followed(http: KeycloakHttp, stub: StubAdapter) -> None:
    """A token must not be carried to another host."""
    stub.answer(302, headers={"Location": "https://elsewhere.example/"})

    assert http.send(CALL, URL).status_code == 302
    assert len(stub.requests) == 1


def test_environment_decides_nothing(
    http: KeycloakHttp, stub: StubAdapter, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Neither a .netrc nor a proxy variable changes whom the bridge talks to, and as whom."""
    netrc = tmp_path / "netrc"
    netrc.write_text("machine keycloak.example login ada password lovelace\n")
    monkeypatch.setenv("NETRC", str(netrc))
    monkeypatch.setenv("HTTPS_PROXY", "http://proxy.example:3128")
    stub.answer(200, [])

    http.send(CALL, URL)

    assert "Authorization" not in stub.requests[0].headers
    assert http._session.trust_env is False


def test_cookies_are_not_kept(http: KeycloakHttp, stub: StubAdapter) -> None:
    """A session of one call does not reach the next one."""
    headers = email.message.Message()
    headers["Set-Cookie"] = "KEYCLOAK_SESSION=x; Path=/"
    raw = types.SimpleNamespace(_original_response=types.SimpleNamespace(msg=headers))
    stub.answer(200, [])
    stub._script[0].raw = raw  # type: ignore[union-attr]
    stub.answer(200, [])

    http.send(CALL, URL)
    http.send(CALL, URL)

    assert "Cookie" not in stub.requests[1].headers


def test_a_call_has_a_span(http: KeycloakHttp, stub: StubAdapter) -> None:
    """Keycloak is told of it, and its own spans come below; neither an id nor a query is in it."""
    spans = KeptSpans()
    call = Call("GET", "/users/{id}/groups")
    answers = ((200, None), (404, "404"), (None, "keycloak-unreachable"))
    with active(spans.tracer.start("process user-events", Kind.CONSUMER, {})):
        for status, _ in answers:
            if status is None:
                stub.fail(requests_errors.ConnectTimeout())
            else:
                stub.answer(status, [])
            with contextlib.suppress(KeycloakUnavailableError):
                url = f"{http.admin_url}/users/0815/groups"
                http.send(call, url, token="t", params={"q": "userId:u-1"})

    ended = spans.ended()
    for (status, error), span, sent in zip(answers, ended, stub.requests, strict=True):
        assert f"{span.context.span_id:016x}" in sent.headers["traceparent"]
        assert "Bearer t" == sent.headers["Authorization"]
        template = "/auth/admin/realms/a%20realm/users/{id}/groups"
        told = {
            "http.request.method": "GET",
            "http.response.status_code": status,
            "server.address": "keycloak.example",
            "server.port": 443,
            "url.full": f"https://keycloak.example{template}",
            "url.template": template,
            "error.type": error,
        }
        assert {k: v for k, v in told.items() if v is not None} == dict(span.attributes or {})
        assert (f"GET {template}", error is not None) == (span.name, not span.status.is_unset)


def test_more_threads_than_connections_wait() -> None:
    """Each call has a connection of its own, and one that is over hands it on."""
    made: list[FakeConnection] = []
    talking, both_talk = threading.Semaphore(0), threading.Event()

    class Waiting(FakeSocket):
        def recv(self, most: int) -> bytes:
            talking.release()
            both_talk.wait()
            return super().recv(most)

    def connect(*_: Any) -> Any:
        sock = Waiting(CREATED * 4)
        sock.most_at_once = len(CREATED)
        made.append(FakeConnection(sock))
        return made[-1]

    http = KeycloakHttp(
        KeycloakConnection(ORIGIN, "acme"),
        WireAdapter(2, monotonic=lambda: 0.0, connect=connect, waits=WAITS),
    )
    with ThreadPoolExecutor(4) as threads:
        calls = [threads.submit(http.send, CALL, f"{http.admin_url}/users") for _ in range(4)]
        talking.acquire()
        talking.acquire()
        both_talk.set()
        statuses = [call.result().status_code for call in calls]

    assert statuses == [201] * 4
    assert len(made) == 2


def test_call_that_comes_when_the_pool_is_closed_does_not_wait_forever() -> None:
    """Another thread may close the pool just after a call has found it; what the call opens is closed when it is over."""
    connection: Any = FakeConnection(FakeSocket(b""))
    pool = _Pool(1, lambda: connection)
    pool.close()

    with pool.one() as lent:
        lent.connect()

    assert connection.sock is None


def test_unusable_ca_file_is_a_wrong_setting(tmp_path: Path) -> None:
    """Found at start, not at every call."""
    broken = tmp_path / "ca.pem"
    broken.write_text("no certificate")

    for ca_file in (broken, tmp_path / "missing.pem"):
        with pytest.raises(ConfigError, match="ca_file"):
            KeycloakHttp(KeycloakConnection("https://localhost", "acme", ca_file=ca_file))


def test_every_error_of_requests_is_mapped() -> None:
    """A new one in a later `requests` shows here, not in production."""
    unmapped = [
        each.__name__
        for each in subclasses(requests.RequestException)
        if each.__module__.startswith("requests") and each not in FAILURES
    ]

    assert unmapped == []


@pytest.mark.parametrize(
    "kind",
    [
        each
        for each in subclasses(requests.RequestException)
        if each is not requests_errors.JSONDecodeError
    ],
    ids=lambda kind: kind.__name__,
)
def test_every_error_of_requests_is_translated(
    http: KeycloakHttp, stub: StubAdapter, kind: type[requests.RequestException]
) -> None:
    """Nothing of `requests` escapes, and nothing of what it says."""
    stub.fail(kind("ada.lovelace@acme.example"))

    with pytest.raises((KeycloakUnavailableError, KeycloakRejectedError, ConfigError)) as caught:
        http.send(CALL, URL)

    assert "ada" not in f"{caught.value} {caught.value.remedy}"
    assert caught.value.remedy or isinstance(caught.value, KeycloakRejectedError)


class Surprise(requests_errors.ConnectTimeout):
    """One that is not known here: it counts as its parent."""


def refused_connection() -> requests_errors.ConnectionError:
    """Return a connection that was never made, which `requests` wraps twice."""
    refused = urllib3.exceptions.NewConnectionError(
        urllib3.connection.HTTPConnection("localhost"), "refused"
    )
    pool = urllib3.HTTPConnectionPool("localhost")
    return requests_errors.ConnectionError(
        urllib3.exceptions.MaxRetryError(pool, "/users", refused)
    )


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (refused_connection(), "keycloak-unreachable"),
        (Surprise(), "keycloak-unreachable"),
        (requests_errors.ConnectionError(), "keycloak-no-answer"),
        (requests_errors.ChunkedEncodingError(), "keycloak-no-answer"),
        (requests_errors.InvalidURL(), "keycloak-url"),
        (requests_errors.InvalidJSONError(), "keycloak-rejected"),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, Exception) else value,
)
def test_kind_of_failure_is_reported(error: requests.RequestException, code: str) -> None:
    """Above all whether the call may have taken effect; an unknown error can delay users but lose none."""
    assert code == translate(CALL, error).code


# the transport


class Wire:
    """The subject, and the other end."""

    def __init__(
        self,
        answer: bytes | BaseException,
        failure: Exception | None = None,
        most_bytes: int = 10_000,
    ) -> None:
        self.sock = FakeSocket(answer)
        self.connection = FakeConnection(self.sock, failure)
        self.made = 0
        self.adapter = WireAdapter(
            1,
            monotonic=lambda: self.sock.now_s,
            most_bytes=most_bytes,
            connect=self.connect,
            waits=WAITS,
        )
        self.http = KeycloakHttp(KeycloakConnection(ORIGIN, "acme", 1.5, 20.0), self.adapter)

    def connect(self, *_: Any) -> Any:
        self.made += 1
        return self.connection

    def post(self, body: object = None, **options: Any) -> Any:
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
    assert names["User-Agent"].startswith("keycloak-bridge/")
    assert names["Content-Type"] == "application/json"
    assert names["Content-Length"] == str(len(body))
    assert wire.sock.sent.endswith(b"\r\n\r\n" + body)


def test_compressed_answer_is_unpacked() -> None:
    """Something in front of Keycloak may do that."""
    body = gzip.compress(b'{"a": 1}')
    head = f"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: {len(body)}\r\n\r\n"

    assert Wire(head.encode() + body).post().json() == {"a": 1}


@pytest.mark.parametrize("head", [b"", b"Content-Encoding: br\r\n", b"Content-Encoding: gzip\r\n"])
def test_content_that_cannot_be_unpacked_is_no_answer(head: bytes) -> None:
    """Neither is one that breaks off, or in a coding that was not asked for."""
    packed = gzip.compress(b"{}")[:-1] if head else b""
    length = len(packed) if head else 1
    data = b"HTTP/1.1 200 OK\r\n%sContent-Length: %d\r\n\r\n%s" % (head, length, packed)

    with pytest.raises(KeycloakUnavailableError) as caught:
        Wire(data).post()

    assert caught.value.code == "keycloak-no-answer"


def test_connection_is_kept_and_each_timeout_is_its_own() -> None:
    """One for connecting, one for all of the exchange: what its parts took is gone."""
    wire = Wire(CREATED)
    wire.sock.takes_s = 4.0
    wire.sock.most_at_once = len(CREATED) - 1

    wire.post()

    assert not wire.connection.closed
    assert wire.connection.timeout == 1.5
    sends = -(-len(wire.sock.sent) // wire.sock.most_at_once)
    assert wire.sock.timeouts == [20.0 - 4.0 * (sends + i) for i in range(2)]


HEAD = b"HTTP/1.1 200 OK\r\n"


@pytest.mark.parametrize(
    ("begins", "goes_on"),
    [
        (HEAD + b"Content-Length: 9999\r\n\r\n", b"x"),
        (HEAD + b"X-Slow: ", b"x"),
        (HEAD + b"Transfer-Encoding: chunked\r\n\r\n", b"1\r\nx\r\n"),
        (HEAD + b"Transfer-Encoding: chunked\r\n\r\n1;", b"x"),
        (HEAD + b"Transfer-Encoding: chunked\r\n\r\n0\r\n", b"T: x\r\n"),
        (b"", b"HTTP/1.1 100 Continue\r\n\r\n"),
        (HEAD + b"\r\n", b"x"),
        (b"", b"\r\n"),
    ],
    ids=["body", "head", "chunks", "extension", "trailers", "interim", "to the end", "line ends"],
)
class TestAnswerThatNeverEnds:
    """Whatever keeps Keycloak, or what answers in its place, from the end of its answer."""

    def test_it_ends_at_the_deadline(self, begins: bytes, goes_on: bytes) -> None:
        """A byte each second is no sign of life."""
        wire = Wire(begins)
        wire.sock.endless, wire.sock.most_at_once, wire.sock.takes_s = goes_on, 1, 0.125

        with pytest.raises(KeycloakUnavailableError) as caught:
            wire.post()

        assert caught.value.code == "keycloak-no-answer"
        assert wire.sock.now_s == 1020.0
        assert wire.connection.closed

    def test_its_length_is_bounded(self, begins: bytes, goes_on: bytes) -> None:
        """Fast is no better."""
        wire = Wire(begins, most_bytes=1000)
        wire.sock.endless = goes_on * (65536 // len(goes_on))

        with pytest.raises(KeycloakUnavailableError) as caught:
            wire.post()

        assert caught.value.code in ("keycloak-answer-too-large", "keycloak-no-answer")
        assert wire.connection.closed


def test_request_that_is_not_taken_ends_at_the_deadline() -> None:
    """The other end may read as slowly as it writes."""
    wire = Wire(CREATED)
    wire.sock.most_at_once, wire.sock.takes_s = 1, 1.0

    with pytest.raises(KeycloakUnavailableError) as caught:
        wire.post()

    assert caught.value.code == "keycloak-no-answer"
    assert len(wire.sock.sent) == 20


def test_unpacked_content_is_bounded() -> None:
    """A few bytes may become gigabytes."""
    body = gzip.compress(b" " * 1001)
    head = HEAD + b"Content-Encoding: gzip\r\nContent-Length: %d\r\n\r\n" % len(body)

    with pytest.raises(KeycloakUnavailableError) as caught:
        Wire(head + body, most_bytes=1000).post()

    assert caught.value.code == "keycloak-answer-too-large"


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
def test_connection_in_doubt_is_closed_and_opened_again(answer: Any) -> None:
    """The rest of an answer would be taken for the next one."""
    wire = Wire(answer)

    with contextlib.suppress(BridgeError, KeyboardInterrupt):
        wire.post()

    assert wire.connection.closed
    wire.sock.answer = CREATED
    assert wire.post().status_code == 201
    assert wire.made == 1


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

    KeycloakHttp(KeycloakConnection(url, "acme"), wire.adapter).send(CALL, f"{url}/users")

    assert f"\r\nHost: {host}\r\n".encode() in wire.sock.sent


def test_connection_that_the_server_has_closed_is_opened_again() -> None:
    """Keycloak, or what stands in front of it, ends connections that nobody used for a while."""
    wire = Wire(CREATED * 2)
    wire.sock.most_at_once = len(CREATED)
    wire.post()
    wire.connection.dropped = True

    wire.post()

    assert wire.connection.closed == 1


def test_no_more_connections_than_the_pool_may_have() -> None:
    """One that failed counts no longer; after `close` new ones are made."""
    wire = Wire(TimeoutError())
    for _ in range(3):
        with contextlib.suppress(BridgeError):
            wire.post()
    assert wire.made == 1

    wire.adapter.close()
    with contextlib.suppress(BridgeError):
        wire.post()

    assert wire.made == 2


@pytest.mark.parametrize(
    ("origin", "kind", "host", "port"),
    [
        ("http://keycloak", urllib3.connection.HTTPConnection, "keycloak", 80),
        ("http://Keycloak:8080", urllib3.connection.HTTPConnection, "keycloak", 8080),
        ("https://keycloak", urllib3.connection.HTTPSConnection, "keycloak", 443),
        ("https://[::1]:8443", urllib3.connection.HTTPSConnection, "::1", 8443),
    ],
)
def test_connection_is_to_the_origin(origin: str, kind: type, host: str, port: int) -> None:
    """Nothing is opened yet."""
    connection = new_connection(origin, True, None)

    assert (type(connection), connection.host, connection.port) == (kind, host, port)
    assert connection.sock is None


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


@pytest.mark.parametrize(
    "url",
    ["keycloak:8080", "http://keycloak:8080/#part", "http://a..b:1", f"http://{'a' * 64}:1"],
)
def test_address_that_cannot_be_called_is_a_wrong_setting(url: str) -> None:
    """It shows at the first call."""
    http = KeycloakHttp(KeycloakConnection(url, "acme"))

    with pytest.raises(ConfigError):
        http.send(CALL, f"{http.admin_url}/users")


# answers off the wire: in whatever pieces they come, they read the same

LISTED = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n[]"
CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\n[\r\n1;x=y\r\n]\r\n0\r\n\r\n"


def pieces(parts: Iterable[bytes]) -> Receive:
    left: Iterator[bytes] = iter(parts)

    def receive(most: int) -> bytes:
        part = next(left, b"")
        assert len(part) <= most
        return part

    return receive


def read(data: bytes, method: str = "GET") -> Answer:
    most = 65536
    return read_answer(pieces(data[at : at + most] for at in range(0, len(data), most)), method)


@pytest.mark.parametrize(
    ("data", "answer"),
    [
        (
            CREATED,
            Answer(
                201,
                "Created",
                {"location": "http://keycloak/users/1", "content-length": "0"},
                b"",
                reusable=True,
            ),
        ),
        (
            b"HTTP/1.1 200\r\nA: 1\r\na:2\r\nContent-Length: 0\r\n\r\n",
            Answer(200, "", {"a": "1, 2", "content-length": "0"}, b"", reusable=True),
        ),
    ],
    ids=["created", "odd headers"],
)
def test_answer_is_read_as_it_was_meant(data: bytes, answer: Answer) -> None:
    """Status, reason, headers in lower case and body."""
    assert answer == read(data)


@pytest.mark.parametrize("whole", [CREATED, LISTED, CHUNKED])
@given(data=st.data())
def test_pieces_make_no_difference(whole: bytes, data: st.DataObject) -> None:
    """A network cuts wherever it likes."""
    cuts = sorted(data.draw(st.sets(st.integers(1, len(whole) - 1))))
    parts = [whole[a:b] for a, b in zip([0, *cuts], [*cuts, len(whole)], strict=True)]

    assert read(whole) == read_answer(pieces(parts), "GET")


@pytest.mark.parametrize(
    ("method", "data", "body"),
    [
        ("GET", LISTED, b"[]"),
        ("GET", CHUNKED, b"[]"),
        ("GET", b"HTTP/1.1 200 OK\r\n\r\nto the end", b"to the end"),
        ("PUT", b"HTTP/1.1 204 No Content\r\n\r\n", b""),
        ("HEAD", b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n", b""),
        ("POST", b"HTTP/1.1 100 Continue\r\n\r\n" + LISTED, b"[]"),
        ("POST", b"HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n" + LISTED, b"[]"),
    ],
)
def test_body_ends_where_the_answer_says(method: str, data: bytes, body: bytes) -> None:
    """By its length, by its chunks, with the connection, or there is none."""
    assert body == read(data, method).body


@pytest.mark.parametrize(
    "data",
    [
        b"HTTP/1.0 200 OK\r\nContent-Length: 0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: Close\r\n\r\n",
        b"HTTP/1.1 200 OK\r\n\r\n",
        LISTED + b"HTTP/1.1 200 OK\r\n",
        LISTED + b"garbage",
    ],
    ids=["old", "told", "to the end", "more than asked for", "no answer either"],
)
def test_connection_that_ends_or_holds_more_is_not_asked_again(data: bytes) -> None:
    """The next answer on it could belong to another request."""
    assert not read(data).reusable


@pytest.mark.parametrize("whole", [CREATED, LISTED, CHUNKED])
def test_an_answer_that_breaks_off_is_none(whole: bytes) -> None:
    """At whatever byte the connection ends before the last one."""
    for end in range(len(whole)):
        with pytest.raises(ProtocolError):
            read(whole[:end])


@pytest.mark.parametrize(
    "data",
    [
        b"SSH-2.0-OpenSSH\r\n\r\n",
        b"HTTP/2 200\r\n\r\n",
        b"HTTP/2.0 200 OK\r\nContent-Length: 0\r\n\r\n",
        b"HTTP/1.1 200 OK\nContent-Length: 1\n\nx",
        b"HTTP/1.1 200 OK\r\nA: 1\r\n 2\r\nContent-Length: 0\r\n\r\n",
        b"HTTP/1.1 20 OK\r\n\r\n",
        b"HTTP/1.1 101 Switching Protocols\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nno header\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 1_0\r\n\r\n0123456789",
        b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 2\r\n\r\n[]",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\n[]\r\n0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0x1\r\n[\r\n0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nX: " + b"x" * 200_000,
    ],
)
def test_what_is_no_clear_answer_is_refused(data: bytes) -> None:
    """Better no answer than half of one, or two in one."""
    with pytest.raises(ProtocolError):
        read(data)


@given(st.binary(max_size=200))
def test_nothing_else_is_raised(data: bytes) -> None:
    """Whatever it is that answers."""
    for head in (b"", b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"):
        try:
            read(head + data)
        except ProtocolError:
            continue
