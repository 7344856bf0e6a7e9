"""Read one HTTP/1.1 answer off a connection, as few steps as it takes."""

import re
from collections.abc import Callable
from dataclasses import dataclass
from http import HTTPStatus

from urllib3.exceptions import ProtocolError

Receive = Callable[[int], bytes]
"""Returns at most so many bytes; none at the end of the connection."""

_CHUNK = 65536
_MOST_HEAD_BYTES = 65536
_END = re.compile(rb"\r?\n\r?\n")
_STATUS = re.compile(r"HTTP/1\.([01]) ([1-9][0-9]{2})(?: (.*))?")
_DIGITS = {10: re.compile("[0-9]{1,18}"), 16: re.compile("[0-9a-fA-F]{1,15}")}
_BODILESS = frozenset({HTTPStatus.NO_CONTENT, HTTPStatus.NOT_MODIFIED})


@dataclass(frozen=True, slots=True)
class Answer:
    """What came back; names of headers are in lower case, `reusable` says that the connection may be asked again."""

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
            raise ProtocolError("the answer is coded in a way that nobody asked for")
        body = stream.chunks()
    elif length is not None:
        body = stream.exactly(_number(length, 10))
    else:
        body, reusable = stream.rest(), False
    return Answer(status, reason, headers, body, reusable and stream.empty)


class _Stream:
    """What was received and is not used up yet."""

    def __init__(self, receive: Receive) -> None:
        self._receive = receive
        self._buffer = b""

    @property
    def empty(self) -> bool:
        return not self._buffer

    def head(self) -> str:
        """Return everything up to the next empty line."""
        while (end := _END.search(self._buffer)) is None:
            if len(self._buffer) > _MOST_HEAD_BYTES:
                raise ProtocolError("the head of the answer has no end")
            self._more()
        head, self._buffer = self._buffer[: end.start()], self._buffer[end.end() :]
        return head.decode("latin-1")

    def exactly(self, length: int) -> bytes:
        parts, there = [self._buffer], len(self._buffer)
        while there < length:
            self._buffer = b""
            self._more()
            parts.append(self._buffer)
            there += len(self._buffer)
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
        """Return the content of all chunks; what follows the last one is left out."""
        parts = []
        while length := _number(self._line().partition(b";")[0].decode("latin-1").strip(), 16):
            parts.append(self.exactly(length))
            if self._line():
                raise ProtocolError("a part of the answer is longer than it says")
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
        raise ProtocolError("the answer is no HTTP")
    headers: dict[str, str] = {}
    name = ""
    for line in lines:
        if line[:1] in (" ", "\t") and name:
            headers[name] += " " + line.strip()
            continue
        name, colon, value = line.partition(":")
        if not colon:
            raise ProtocolError("a header of the answer is none")
        name, value = name.strip().lower(), value.strip()
        headers[name] = f"{headers[name]}, {value}" if name in headers else value
    return found[1], int(found[2]), (found[3] or "").strip(), headers


def _number(text: str, base: int) -> int:
    """Return a length; Python would take signs, spaces, prefixes and underscores too."""
    if _DIGITS[base].fullmatch(text) is None:
        raise ProtocolError("the answer does not say how long it is")
    return int(text, base)
