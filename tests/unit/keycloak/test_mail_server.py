"""Whether the realm's SMTP server greets, whatever answers in its place."""

import socket
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, cast

import pytest
from pytest_socket import enable_socket

from keycloak_bridge.domain.errors import KeycloakAuthError
from keycloak_bridge.keycloak import mail_server
from keycloak_bridge.keycloak.admin import KeycloakAdmin
from keycloak_bridge.keycloak.mail_server import MailServer, greets
from keycloak_bridge.testing.fake_clock import FakeClock

LOOPBACK = "127.0.0.1"


@pytest.fixture(autouse=True)
def _sockets() -> None:
    """A greeting is a matter of sockets."""
    enable_socket()


@contextmanager
def saying(*parts: bytes) -> Iterator[str]:
    """Lend the port of a server that says this to each client, part by part, and then nothing more."""
    with socket.create_server((LOOPBACK, 0)) as listener:

        def serve() -> None:
            with listener.accept()[0] as client:
                for part in parts:
                    client.sendall(part)
                if not parts:
                    client.recv(1)  # until the client has gone

        threading.Thread(target=serve, daemon=True).start()
        yield str(listener.getsockname()[1])


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        ((b"220 mx.acme.example ESMTP\r\n",), True),
        ((b"22", b"0-mx.acme.example\r\n220 ready\r\n"), True),
        ((b"554 no SMTP service here\r\n",), False),
        ((b"22",), False),
        ((b"HTTP/1.1 400 Bad Request\r\n\r\n",), False),
    ],
)
def test_a_server_greets_or_does_not(said: tuple[bytes, ...], expected: bool) -> None:
    """Only the first three digits are read."""
    with saying(*said) as port:
        assert greets(LOOPBACK, {"port": port}) is expected


def test_a_server_that_says_nothing_does_not_greet(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is waited for, but not for ever."""
    monkeypatch.setattr(mail_server, "_TIMEOUT_S", 0.05)
    with saying() as port:
        assert not greets(LOOPBACK, {"port": port})


@pytest.mark.parametrize(
    "settings",
    [{"port": "0"}, {"port": "99999"}, {"port": "1", "ssl": "true"}, {"port": ["25"]}, {}],
)
def test_a_server_that_is_not_there_does_not_greet(
    settings: Mapping[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nor does one whose settings are nonsense."""
    monkeypatch.setattr(mail_server, "_PORT", 1)
    assert not greets(LOOPBACK, settings)


@pytest.mark.parametrize("host", ["a..b", "x" * 70 + ".example", "\ud800", "nul\0"])
def test_a_host_that_can_be_none_does_not_greet(host: str) -> None:
    """An administrator may have entered anything."""
    assert not greets(host, {"port": "25"})


class _Realm:
    """The realm as the service account sees it; counts how often it was asked for."""

    def __init__(self, seen: Any) -> None:
        self.seen = seen
        self.asked = 0

    def realm(self) -> Any:
        """Return what is seen, or raise it."""
        self.asked += 1
        if isinstance(self.seen, Exception):
            raise self.seen
        return self.seen


@pytest.mark.parametrize(
    "seen",
    [
        {},
        {"smtpServer": {}},
        {"smtpServer": {"host": ""}},
        {"smtpServer": "x"},
        KeycloakAuthError("no"),
    ],
)
def test_an_account_that_may_not_read_the_server_does_not_know(seen: Any) -> None:
    """It takes the role view-realm."""
    assert MailServer(cast("KeycloakAdmin", _Realm(seen)), FakeClock()).greets() is None


def test_the_server_is_asked_once_in_ten_seconds(monkeypatch: pytest.MonkeyPatch) -> None:
    """However many mails fail."""
    monkeypatch.setattr(mail_server, "_TIMEOUT_S", 0.05)
    clock = FakeClock()
    with saying(b"220 ready\r\n") as port:
        realm = _Realm({"smtpServer": {"host": LOOPBACK, "port": port}})
        server = MailServer(cast("KeycloakAdmin", realm), clock)
        before = [server.greets() for _ in range(20)]
    clock.advance(10.0)
    after = [server.greets() for _ in range(20)]

    assert ([True] * 20, [False] * 20, 2) == (before, after, realm.asked)
