"""A door in front of a service: closed, open, or shut on everybody who is just passing through."""

import contextlib
import socket
import threading
from collections.abc import Iterator

from bridge_harness import free_port

_HOST = "127.0.0.1"


class TcpGate:
    """Forwards a port of its own to another one while it is open; nobody listens while it is closed."""

    def __init__(self, target_port: int) -> None:
        self.port = free_port()
        self._target_port = target_port
        self._lock = threading.Lock()
        self._listener: socket.socket | None = None
        self._passing: set[socket.socket] = set()

    def open(self) -> None:
        """Listen and forward."""
        listener = socket.socket()
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((_HOST, self.port))
        listener.listen()
        self._listener = listener
        threading.Thread(target=self._accept, args=(listener,), daemon=True).start()

    def close(self) -> None:
        """Stop listening and cut every connection, whatever is on its way."""
        listener, self._listener = self._listener, None
        if listener is not None:
            with contextlib.suppress(OSError):
                listener.shutdown(socket.SHUT_RDWR)
            listener.close()
        self.cut()

    def cut(self) -> int:
        """Cut every connection and go on listening; return how many halves there were."""
        with self._lock:
            passing, self._passing = self._passing, set()
        for one in passing:
            with contextlib.suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)
        return len(passing)

    def _accept(self, listener: socket.socket) -> None:
        while True:
            try:
                inside, _ = listener.accept()
            except OSError:
                return
            try:
                outside = socket.create_connection((_HOST, self._target_port), timeout=5)
            except OSError:
                inside.close()
                continue
            outside.settimeout(None)
            with self._lock:
                self._passing |= {inside, outside}
            for source, target in ((inside, outside), (outside, inside)):
                threading.Thread(target=self._forward, args=(source, target), daemon=True).start()

    def _forward(self, source: socket.socket, target: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while chunk := source.recv(65_536):
                target.sendall(chunk)
        with contextlib.suppress(OSError):
            target.shutdown(socket.SHUT_RDWR)
        with self._lock:
            self._passing.discard(source)
        source.close()


@contextlib.contextmanager
def gate(target_port: int) -> Iterator[TcpGate]:
    """Lend a gate that is closed at first."""
    lent = TcpGate(target_port)
    try:
        yield lent
    finally:
        lent.close()
