"""The yardstick: a client that does nothing but send prepared bytes over connections that stay open.

One thread and no HTTP library, so that next to nothing of the machine goes to the client itself.
"""

import gc
import selectors
import socket
import time
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from http import HTTPStatus
from urllib.parse import urlsplit

_END = b"\r\n\r\n"
_TIMEOUT_S = 60.0
_CHUNK = 65536


class WireError(Exception):
    """Keycloak did not answer as it has to; the run counts for nothing."""


@dataclass(frozen=True, slots=True)
class Posted:
    """What one run of the bare client saw."""

    at_s: Sequence[float]
    """When each request was acknowledged, in seconds after the first request."""
    cpu_s: float
    """CPU of the client itself."""


class Line:
    """One connection that stays open, for one request after the other."""

    def __init__(self, url: str) -> None:
        parts = urlsplit(url)
        self.address = (parts.hostname or "", parts.port or 80)
        self.socket = socket.create_connection(self.address, timeout=_TIMEOUT_S)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._held = b""

    def send(self, request: bytes) -> None:
        """Send one prepared request."""
        self.socket.sendall(request)

    def receive(self) -> tuple[int, bytes] | None:
        """Return status and body once the answer is whole, None while more has to come."""
        chunk = self.socket.recv(_CHUNK)
        if not chunk:
            raise WireError("Keycloak closed the connection")
        held = self._held + chunk
        head, found, rest = held.partition(_END)
        body = whole_body(head, rest) if found else None
        self._held = held if body is None else b""
        return None if body is None else (int(head[9:12]), body)

    def ask(self, request: bytes) -> tuple[int, bytes]:
        """Send one request and return status and body of its answer."""
        self.send(request)
        while (answer := self.receive()) is None:
            pass
        return answer

    def close(self) -> None:
        """Close the connection."""
        self.socket.close()


def whole_body(head: bytes, rest: bytes) -> bytes | None:
    """Return the body of an answer, None while more of it has to come."""
    lowered = head.lower()
    if b"transfer-encoding: chunked" in lowered:
        return _unchunked(rest) if rest.endswith(b"0\r\n\r\n") else None
    _, found, after = lowered.partition(b"content-length:")
    length = int(after.split(b"\r\n", 1)[0]) if found else 0
    return rest if len(rest) >= length else None


def _unchunked(rest: bytes) -> bytes:
    whole, left = b"", rest
    while True:
        size, _, left = left.partition(b"\r\n")
        length = int(size, 16)
        if length == 0:
            return whole
        whole, left = whole + left[:length], left[length + 2 :]


def prepared_post(url: str, token: str, body: bytes) -> bytes:
    """Return the bytes of a POST of JSON."""
    return _prepared("POST", url, token, body)


def prepared_put(url: str, token: str, body: bytes) -> bytes:
    """Return the bytes of a PUT of JSON."""
    return _prepared("PUT", url, token, body)


def _prepared(method: str, url: str, token: str, body: bytes) -> bytes:
    parts = urlsplit(url)
    query = f"?{parts.query}" if parts.query else ""
    return (
        f"{method} {parts.path}{query} HTTP/1.1\r\nHost: {parts.netloc}\r\n"
        f"Authorization: Bearer {token}\r\n"
        f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    ).encode() + body


def prepared_get(url: str, token: str) -> bytes:
    """Return the bytes of a GET."""
    parts = urlsplit(url)
    query = f"?{parts.query}" if parts.query else ""
    return (
        f"GET {parts.path}{query} HTTP/1.1\r\nHost: {parts.netloc}\r\n"
        f"Authorization: Bearer {token}\r\nAccept: application/json\r\n\r\n"
    ).encode()


def post_all(
    url: str,
    requests: Sequence[bytes],
    *,
    connections: int = 16,
    expect: HTTPStatus = HTTPStatus.CREATED,
) -> Posted:
    """Send every request, `connections` at a time, and return when each was answered as expected.

    Raises WireError for any other answer.
    """
    lines = [Line(url) for _ in range(min(connections, len(requests)))]
    gc.collect()
    gc.disable()
    try:
        return _post_all(lines, requests, expect)
    finally:
        gc.enable()
        for line in lines:
            line.close()


def _post_all(lines: Sequence[Line], requests: Sequence[bytes], expect: HTTPStatus) -> Posted:
    left, at_s = deque(requests), list[float]()
    with selectors.DefaultSelector() as selector:
        for line in lines:
            selector.register(line.socket, selectors.EVENT_READ, line)
        cpu_s, begin = time.thread_time(), time.perf_counter()
        for line in lines:
            line.send(left.popleft())
        while len(at_s) < len(requests):
            ready = selector.select(_TIMEOUT_S)
            if not ready:
                raise WireError(f"Keycloak gave no answer for {_TIMEOUT_S:.0f} s")
            for key, _ in ready:
                answer = key.data.receive()
                if answer is None:
                    continue
                if answer[0] != expect:
                    raise WireError(
                        f"Keycloak answered {answer[0]} instead of {expect} to the bare client"
                    )
                at_s.append(time.perf_counter() - begin)
                if left:
                    key.data.send(left.popleft())
        return Posted(at_s, time.thread_time() - cpu_s)
