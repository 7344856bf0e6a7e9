"""An SMTP server that takes every mail, at once or after a while, and keeps none."""

import asyncio
import contextlib
import threading
import time
from collections import Counter
from collections.abc import Iterator
from typing import cast

_END = b"\r\n.\r\n"
_HOST = "127.0.0.1"


class SmtpSink:
    """What arrived: when each mail did, and how many each address got. Read it from any thread."""

    def __init__(self) -> None:
        self.port = 0
        self.arrived_s: list[float] = []
        """On the clock of `time.perf_counter`."""
        self.recipients: Counter[bytes] = Counter()

    def clear(self) -> None:
        """Forget what arrived."""
        self.arrived_s.clear()
        self.recipients.clear()

    def count(self) -> int:
        """Return how many mails arrived."""
        return len(self.arrived_s)


@contextlib.contextmanager
def smtp_sink(takes_s: float = 0.0) -> Iterator[SmtpSink]:
    """Run a sink meanwhile, in a thread of its own, which takes each mail after `takes_s`."""
    sink, loop = SmtpSink(), asyncio.new_event_loop()
    server = loop.run_until_complete(
        loop.create_server(lambda: Conversation(sink, takes_s), _HOST, 0)
    )
    sink.port = server.sockets[0].getsockname()[1]
    thread = threading.Thread(target=loop.run_forever, daemon=True)
    thread.start()
    try:
        yield sink
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        server.close()
        loop.close()


class Conversation(asyncio.Protocol):
    """One connection."""

    def __init__(self, sink: SmtpSink, takes_s: float = 0.0) -> None:
        self._sink = sink
        self._takes_s = takes_s
        self._held = b""
        self._in_mail = False
        self._to: list[bytes] = []

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Greet."""
        self._transport = cast("asyncio.WriteTransport", transport)
        self._say(b"220 sink")

    def data_received(self, data: bytes) -> None:
        """Answer each line, and each mail as a whole."""
        self._held += data
        while (end := self._held.find(_END if self._in_mail else b"\r\n")) >= 0:
            if self._in_mail:
                self._held, self._in_mail = self._held[end + len(_END) :], False
                if self._takes_s:
                    asyncio.get_running_loop().call_later(self._takes_s, self._take)
                else:
                    self._take()
            else:
                line, self._held = self._held[:end], self._held[end + 2 :]
                self._answer(line)

    def _take(self) -> None:
        self._sink.recipients.update(self._to)
        self._sink.arrived_s.append(time.perf_counter())
        self._say(b"250 taken")

    def _answer(self, line: bytes) -> None:
        verb = line[:4].upper()
        if verb == b"MAIL":
            self._to.clear()
        elif verb == b"RCPT":
            self._to.append(line.partition(b"<")[2].partition(b">")[0].lower())
        if verb == b"DATA":
            self._in_mail = True
            self._say(b"354 go on")
        elif verb == b"QUIT":
            self._say(b"221 bye")
            self._transport.close()
        else:
            self._say(b"250 sink")

    def _say(self, line: bytes) -> None:
        self._transport.write(line + b"\r\n")
