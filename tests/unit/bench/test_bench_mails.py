"""The server that takes the mails of the benchmark, and its table."""

import asyncio

from bench.mail_calls import CREDENTIALS, MAIL, MARK, USER
from bench.mail_calls import table as calls_table
from bench.mails import BARE, BRIDGE, table
from bench.smtp_sink import Conversation, SmtpSink


class Wire(asyncio.Transport):
    """Keeps what is said."""

    def __init__(self) -> None:
        self.said: list[bytes] = []
        self.closed = False

    def write(self, data: bytes | bytearray | memoryview) -> None:
        """Keep the code of an answer."""
        self.said.append(bytes(data)[:3])

    def close(self) -> None:
        """Note it."""
        self.closed = True


def test_each_mail_is_taken_and_counted() -> None:
    """Two mails of one conversation in odd pieces; one goes to two people, and has a line that begins with a dot."""
    sink, wire = SmtpSink(), Wire()
    conversation = Conversation(sink)
    conversation.connection_made(wire)
    lines = [
        *("EHLO kc", "MAIL FROM:<b@acme.example>", "RCPT TO:<Ada@acme.example>", "DATA"),
        *("Subject: a", "", "..", "."),
        *("MAIL FROM:<b@acme.example>", "RCPT TO:<ada@acme.example>", "RCPT TO:<eve@acme.example>"),
        *("DATA", "Subject: b", "", "hello", ".", "QUIT", ""),
    ]
    sent = "\r\n".join(lines).encode()
    for at in range(0, len(sent), 7):
        conversation.data_received(sent[at : at + 7])

    assert {b"ada@acme.example": 2, b"eve@acme.example": 1} == sink.recipients
    assert (2, True) == (sink.count(), wire.closed)
    assert b"220 250 250 250 354 250 250 250 250 354 250 221" == b" ".join(wire.said)
    sink.clear()
    assert 0 == sink.count()


def test_the_ratio_is_that_of_each_round() -> None:
    """Not of the medians; it stands with the least and the greatest."""

    def run(rate: float) -> dict[str, float]:
        return {"rate": rate, "client": 1.0, "keycloak": 10.0, "kafka": 0.5}

    found = {BARE: [run(100), run(200), run(50)], BRIDGE: [run(80), run(180), run(50)]}

    bridge = table(found).splitlines()[-1]
    assert bridge.startswith("| bridge | 80 (50 to 180) | 0.90 (0.80 to 1.00) | 1.0 (1.0 to 1.0) |")


def test_each_call_lowers_what_is_possible() -> None:
    """By the CPU of the mail beside that of all calls so far, calculated within each round."""
    found = {MAIL: [4.0, 6.0], MARK: [4.0, 4.0], USER: [1.0, 1.0], CREDENTIALS: [1.0, 1.0]}

    lines = calls_table(found).splitlines()[2:]
    assert "| `PUT mail` | 5.00 (4.00 to 6.00) | 1.00 (1.00 to 1.00) |" == lines[0]
    assert "| `PUT user` | 4.00 (4.00 to 4.00) | 0.55 (0.50 to 0.60) |" == lines[1]
    assert lines[3].endswith("| 0.45 (0.40 to 0.50) |")
