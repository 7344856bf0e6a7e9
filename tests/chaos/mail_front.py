"""SMTP servers in front of the mail catcher that refuse some mails, or say nothing at all."""

import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

from aiosmtpd.controller import Controller
from bridge_harness import free_port
from scene import Scene

_HOST = "127.0.0.1"

Answer = Callable[[str], str | None]
"""What the server says to a recipient, None where it takes the mail."""


@contextmanager
def mail_front(scene: Scene, answer: Answer) -> Iterator[None]:
    """Have the realm send its mails by a server that answers so, and keeps in the catcher what it takes."""
    front = Controller(_Handler(scene, answer), hostname=_HOST, port=free_port())
    front.start()
    try:
        with _sending_by(scene, front.port):
            yield
    finally:
        front.stop()


@contextmanager
def black_hole(scene: Scene) -> Iterator[None]:
    """Have the realm send its mails by a server that takes connections and never says a word."""
    held: list[socket.socket] = []
    with socket.create_server((_HOST, 0)) as listener:

        def swallow() -> None:
            with suppress(OSError):
                while True:
                    held.append(listener.accept()[0])

        threading.Thread(target=swallow, daemon=True).start()
        try:
            with _sending_by(scene, listener.getsockname()[1]):
                yield
        finally:
            listener.shutdown(socket.SHUT_RDWR)
            for connection in held:
                connection.close()


@contextmanager
def _sending_by(scene: Scene, port: int) -> Iterator[None]:
    """Let the realm know another server meanwhile, with the patience of two seconds."""
    usual = scene.bench.admin("GET", "")["smtpServer"]
    patience = dict.fromkeys(("timeout", "connectionTimeout", "writeTimeout"), "2000")
    scene.bench.admin("PUT", "", json={"smtpServer": {**usual, **patience, "port": str(port)}})
    try:
        yield
    finally:
        scene.bench.admin("PUT", "", json={"smtpServer": usual})


class _Handler:
    """What aiosmtpd calls."""

    def __init__(self, scene: Scene, answer: Answer) -> None:
        self._catcher = scene.bench.sandbox.mail
        self._answer = answer

    async def handle_RCPT(  # noqa: N802 # aiosmtpd's name
        self, server: Any, session: Any, envelope: Any, address: str, options: Any
    ) -> str:
        """Take or refuse a recipient."""
        refusal = self._answer(address.lower())
        if refusal is None:
            envelope.rcpt_tos.append(address)
        return refusal or "250 OK"

    async def handle_DATA(self, server: Any, session: Any, envelope: Any) -> str:  # noqa: N802
        """Keep a mail."""
        self._catcher.keep(list(envelope.rcpt_tos), bytes(envelope.content))
        return "250 OK"
