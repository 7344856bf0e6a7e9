"""Answers off the wire: in whatever pieces they come, they read the same."""

from collections.abc import Iterable, Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st
from urllib3.exceptions import ProtocolError

from keycloak_bridge.keycloak.http import Answer, Receive, read_answer

CREATED = b"HTTP/1.1 201 Created\r\nLocation: http://keycloak/users/1\r\ncontent-length: 0\r\n\r\n"
LISTED = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n[]"
CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\n[\r\n1;x=y\r\n]\r\n0\r\n\r\n"


def pieces(parts: Iterable[bytes]) -> Receive:
    """Return a connection that brings these parts, then ends."""
    left: Iterator[bytes] = iter(parts)

    def receive(most: int) -> bytes:
        part = next(left, b"")
        assert len(part) <= most
        return part

    return receive


def read(data: bytes, method: str = "GET") -> Answer:
    """Return the answer that comes in pieces as large as can be."""
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
            b"HTTP/1.1 200\r\nA: 1\r\na:2\r\n  3\r\nContent-Length: 0\r\n\r\n",
            Answer(200, "", {"a": "1, 2 3", "content-length": "0"}, b"", reusable=True),
        ),
        (
            b"HTTP/1.1 200 OK\nContent-Length: 1\n\nx",
            Answer(200, "OK", {"content-length": "1"}, b"x", reusable=True),
        ),
    ],
    ids=["created", "odd headers", "bare line feeds"],
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
    ],
    ids=["old", "told", "to the end", "more than asked for"],
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
        b"HTTP/1.1 20 OK\r\n\r\n",
        b"HTTP/1.1 101 Switching Protocols\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nno header\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 1_0\r\n\r\n0123456789",
        b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 2\r\n\r\n[]",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\n[]\r\n0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0x1\r\n[\r\n0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nX: " + b"x" * 65536,
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
