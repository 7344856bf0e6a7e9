"""Reading caught mails."""

import socket
from email.message import EmailMessage
from pathlib import Path

import pytest
from pytest_socket import enable_socket

from keycloak_bridge.sandbox.mail import Mail, MailCatcher, read_mails
from keycloak_bridge.sandbox.options import SandboxError


@pytest.fixture
def catcher(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> MailCatcher:
    """Lend a catcher that does not listen."""
    monkeypatch.setattr("keycloak_bridge.sandbox.mail.loopback_port", lambda *_: 2525)
    (tmp_path / "mail").mkdir()
    return MailCatcher(tmp_path / "mail")


def message(subject: str = "Grüße", text: str = "Guten Tag") -> EmailMessage:
    """Return a mail as Keycloak writes one: text and HTML."""
    mail = EmailMessage()
    mail["To"], mail["From"], mail["Subject"] = "header@example.com", "x@example.com", subject
    mail.set_content(text)
    mail.add_alternative('<p><a href="http://host/b?x=1&amp;y=2">hier</a></p>', subtype="html")
    return mail


def test_kept_mail_is_decoded(catcher: MailCatcher) -> None:
    """Recipients of the envelope, subject, both bodies and all links are there, each link once."""
    catcher.keep(
        ["ada@example.com", "bob@example.com"],
        message(text="See http://host/a?key=1. http://host/b?x=1&y=2").as_bytes(),
    )

    (caught,) = catcher.messages

    assert caught == Mail(
        recipients=("ada@example.com", "bob@example.com"),
        subject="Grüße",
        text="See http://host/a?key=1. http://host/b?x=1&y=2\n",
        html='<p><a href="http://host/b?x=1&amp;y=2">hier</a></p>\n',
        links=("http://host/a?key=1", "http://host/b?x=1&y=2"),
    )


def test_other_processes_read_the_same_mails(catcher: MailCatcher) -> None:
    """The files give what the catcher has in memory, in the order of arrival."""
    for number in range(12):
        catcher.keep(["ada@example.com"], message(subject=str(number)).as_bytes())

    mails = read_mails(catcher.folder)

    assert [mail.subject for mail in mails] == [str(number) for number in range(12)]
    assert tuple(mails) == catcher.messages


def test_mails_are_found_by_recipient(catcher: MailCatcher) -> None:
    """Addresses are compared without regard to case."""
    catcher.keep(["Ada@Example.com"], message("one").as_bytes())
    catcher.keep(["bob@example.com"], message("two").as_bytes())

    assert [mail.subject for mail in catcher.sent_to("ada@example.com")] == ["one"]
    assert catcher.wait_for("bob@example.com").subject == "two"


def test_missing_mail_is_an_error_in_time(catcher: MailCatcher) -> None:
    """A mail that does not come fails the wait, without naming the address."""
    with pytest.raises(SandboxError, match=r"did not come within 0\.05 s; 0 came") as caught:
        catcher.wait_for("ada@example.com", timeout_s=0.05)

    assert "ada" not in str(caught.value)


def test_a_stop_ends_the_connections_that_are_open(tmp_path: Path) -> None:
    """A client sees the end at once; a catcher that was stopped can be started again."""
    enable_socket()
    catcher = MailCatcher(tmp_path)
    for _ in range(2):
        catcher.start()
        with socket.create_connection((catcher.host, catcher.port), timeout=30) as client:
            assert client.recv(1000).startswith(b"220")
            catcher.stop()
            assert b"" == client.recv(1000)
