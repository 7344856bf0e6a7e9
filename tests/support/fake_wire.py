"""A connection without a network: what the transport writes to it, and what it reads."""


class FakeSocket:
    """Answers or fails as it was made to."""

    def __init__(self, answer: bytes | BaseException) -> None:
        self.answer = answer
        self.sent = b""
        self.blocks = True
        self.timeouts: list[float] = []
        self.now_s = 1000.0
        self.takes_s = 0.0
        self.endless = b""
        self.most_at_once = 65536

    def settimeout(self, timeout_s: float) -> None:
        self.blocks = timeout_s != 0

    def wait(self, timeout_s: float) -> bool:
        """Be ready at once."""
        assert not self.blocks
        self.timeouts.append(timeout_s)
        return True

    def send(self, data: memoryview) -> int:
        self.now_s += self.takes_s
        part = bytes(data[: self.most_at_once])
        self.sent += part
        return len(part)

    def recv(self, most: int) -> bytes:
        self.now_s += self.takes_s
        if isinstance(self.answer, BaseException):
            raise self.answer
        if not self.answer:
            self.answer = self.endless
        most = min(most, self.most_at_once)
        part, self.answer = self.answer[:most], self.answer[most:]
        return part


def _ready(sock: FakeSocket, timeout_s: float) -> bool:
    return sock.wait(timeout_s)


WAITS = (_ready, _ready)
"""What the transport waits by for such sockets."""


class FakeConnection:
    """A connection of urllib3, not yet opened."""

    def __init__(self, sock: FakeSocket, failure: Exception | None = None) -> None:
        self.sock: FakeSocket | None = None
        self.timeout = 0.0
        self.closed = 0
        self.dropped = False
        self._to_be = sock
        self._failure = failure

    @property
    def is_connected(self) -> bool:
        return self.sock is not None and not self.dropped

    def connect(self) -> None:
        if self._failure is not None:
            raise self._failure
        self.sock = self._to_be
        self.dropped = False

    def close(self) -> None:
        self.closed += 1
        self.sock = None
