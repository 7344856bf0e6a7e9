"""An SMTP server that delivers nothing and shows everything."""

import asyncio
import re
import time
from collections.abc import Sequence
from dataclasses import dataclass
from email import message_from_bytes
from email.message import EmailMessage
from email.policy import default
from html.parser import HTMLParser
from pathlib import Path
from threading import Condition
from typing import Any
from weakref import WeakSet

from keycloak_bridge.sandbox.options import SandboxError
from keycloak_bridge.sandbox.processes import LOOPBACK, loopback_port

_RECIPIENTS = "X-Sandbox-Recipients"
_LINK = re.compile(r"https?://[^\s<>\"']+")
_STOP_S, _TURNS = 10.0, 5
_REFUSAL = "451 4.3.2 The sandbox was asked to refuse mail"


@dataclass(frozen=True, slots=True)
class Mail:
    """One caught mail, decoded."""

    recipients: tuple[str, ...]
    subject: str
    text: str
    html: str
    links: tuple[str, ...]


class MailCatcher:
    """Accepts mail on a loopback port and keeps it, in memory and as files."""

    def __init__(self, folder: Path, port: int = 0) -> None:
        self.folder = folder
        self.port = loopback_port(port, "the mail catcher")
        self.refusing = False
        """While this is set, every mail is refused with a temporary error."""
        self.refusals: dict[str, str] = {}
        """What is said to these recipients (in lower case) instead of taking their mail."""
        self._arrived = Condition()
        self._messages: list[Mail] = []
        self._controller: Any = None

    @property
    def host(self) -> str:
        """Return the host that the SMTP server listens on."""
        return LOOPBACK

    @property
    def messages(self) -> tuple[Mail, ...]:
        """Return what was caught so far, oldest first."""
        with self._arrived:
            return tuple(self._messages)

    def start(self) -> None:
        """Listen; a catcher that was stopped goes on with what it had."""
        self.folder.mkdir(parents=True, exist_ok=True)
        self._controller = smtp_server(_Handler(self), self.port)
        self._controller.start()

    def stop(self) -> None:
        """Stop listening."""
        if self._controller is not None:
            self._controller.stop()
            self._controller = None

    def sent_to(self, recipient: str) -> tuple[Mail, ...]:
        """Return the mails to one address, oldest first."""
        wanted = recipient.lower()
        return tuple(
            mail
            for mail in self.messages
            if wanted in (address.lower() for address in mail.recipients)
        )

    def wait_for(self, recipient: str, timeout_s: float = 30.0, count: int = 1) -> Mail:
        """Return the count-th mail to an address as soon as it is there."""
        deadline = time.monotonic() + timeout_s
        with self._arrived:
            while True:
                found = self.sent_to(recipient)
                if len(found) >= count:
                    return found[count - 1]
                if not self._arrived.wait(deadline - time.monotonic()):
                    raise SandboxError(
                        f"Mail {count} to that address did not come within {timeout_s:g} s; "
                        f"{len(found)} came."
                    )

    def keep(self, recipients: list[str], content: bytes) -> None:
        """Store one mail."""
        with self._arrived:
            raw = f"{_RECIPIENTS}: {', '.join(recipients)}\r\n".encode() + content
            name = f"{len(self._messages) + 1:06d}.eml"
            draft = self.folder / f".{name}"
            draft.write_bytes(raw)
            draft.rename(self.folder / name)  # readers in other processes see whole files only
            self._messages.append(decode(raw))
            self._arrived.notify_all()


def smtp_server(handler: Any, port: int) -> Any:
    """Return a server of aiosmtpd on a loopback port, to `start` and `stop`; a stop ends its connections too."""
    from aiosmtpd.controller import Controller  # noqa: PLC0415  (the sandbox extra)

    class Server(Controller):  # type: ignore[misc, unused-ignore]
        """aiosmtpd leaves open connections to the garbage collector."""

        def __init__(self) -> None:
            super().__init__(handler, hostname=LOOPBACK, port=port)
            self._connections: WeakSet[Any] = WeakSet()

        def factory(self) -> Any:
            connection = super().factory()  # type: ignore[no-untyped-call]
            self._connections.add(connection)
            return connection

        def stop(self, no_assert: bool = False) -> None:  # aiosmtpd's signature
            ended = asyncio.run_coroutine_threadsafe(self._end_connections(), self.loop)
            ended.result(_STOP_S)
            super().stop(no_assert=no_assert)

        async def _end_connections(self) -> None:
            sockets: Sequence[Any] = getattr(self.server, "sockets", ())
            for listening in sockets:
                # not `close`: what is accepted already would find no server, and stay open
                self.loop.remove_reader(listening.fileno())
            for _ in range(
                _TURNS
            ):  # of the loop: what was accepted has its connection, what was closed its socket closed
                await asyncio.sleep(0)
                for connection in list(self._connections):
                    if connection.transport is not None:
                        connection.transport.close()
            await asyncio.sleep(0)

    return Server()


class _Handler:
    """What aiosmtpd calls."""

    def __init__(self, catcher: MailCatcher) -> None:
        self._catcher = catcher

    async def handle_RCPT(  # noqa: N802 # aiosmtpd's name
        self,
        server: Any,  # noqa: ARG002
        session: Any,  # noqa: ARG002
        envelope: Any,
        address: str,
        options: Any,
    ) -> str:
        """Take or refuse a recipient."""
        refusal = self._catcher.refusals.get(address.lower())
        if refusal is None:
            envelope.rcpt_tos.append(address)
            envelope.rcpt_options.extend(options)
        return refusal or "250 OK"

    async def handle_DATA(self, server: Any, session: Any, envelope: Any) -> str:  # noqa: ARG002, N802
        """Answer to one mail."""
        if self._catcher.refusing:
            return _REFUSAL
        self._catcher.keep(list(envelope.rcpt_tos), bytes(envelope.content))
        return "250 OK"


def read_mails(folder: Path) -> list[Mail]:
    """Return the mails that a catcher, perhaps in another process, has kept in a folder."""
    return [decode(path.read_bytes()) for path in sorted(folder.glob("[0-9]*.eml"))]


def decode(raw: bytes) -> Mail:
    """Read one kept mail."""
    message = message_from_bytes(raw, policy=default)
    text, html = _body(message, "plain"), _body(message, "html")
    recipients = tuple(str(message[_RECIPIENTS] or message["To"] or "").split(", "))
    anchors = _Anchors()
    anchors.feed(html)
    links = dict.fromkeys([link.rstrip(".,;)") for link in _LINK.findall(text)] + anchors.links)
    return Mail(recipients, str(message["Subject"] or ""), text, html, tuple(links))


def _body(message: EmailMessage, kind: str) -> str:
    part = message.get_body(preferencelist=(kind,))
    return str(part.get_content()) if part is not None else ""


class _Anchors(HTMLParser):
    """Collects the targets of links."""

    def __init__(self) -> None:
        super().__init__()
        self.links: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Keep what an anchor points to."""
        target = dict(attrs).get("href")
        if tag == "a" and target and target.startswith("http"):
            self.links.append(target)
