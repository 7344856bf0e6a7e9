"""Plain words in a pipe, colours and progress bars on a terminal, unless NO_COLOR says otherwise."""

import io
import json
import sys

import pytest
from cli_harness import Terminal

from keycloak_bridge.cli.console import Console, progress_bar


@pytest.fixture(autouse=True)
def _colourful_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.setenv("COLUMNS", "100")
    for name in ("NO_COLOR", "FORCE_COLOR", "TTY_COMPATIBLE"):
        monkeypatch.delenv(name, raising=False)


LONG = "x" * 500


def printed(stream: io.StringIO) -> str:
    """Return what lines, tables and JSON look like on `stream`."""
    console = Console(stream)
    console.line("all is [well]", "green")
    console.line(LONG)
    console.line()
    console.table(("NAME", "N"), [("日本", "1"), ("[b]x[/b]", "22")])
    console.table(("A", "B"), [])
    console.json({"name": "é"})
    console.json({"name": "é"}, indent=None)
    return stream.getvalue()


def test_plain_in_a_pipe() -> None:
    """Aligned with spaces by the width that is seen; no tabs, no escapes, no markup, no line wrapped."""
    assert (
        f"all is [well]\n{LONG}\n\nNAME      N\n日本      1\n[b]x[/b]  22\nA  B\n"
        '{\n  "name": "é"\n}\n{"name": "é"}\n'
    ) == printed(io.StringIO())


def test_colours_on_a_terminal() -> None:
    """The same words, with escapes; what looks like markup is not taken as such."""
    text = printed(Terminal())

    assert "\x1b[32mall is [well]\x1b[0m\n" in text
    assert "[b]x[/b]" in text
    assert f"{LONG}\n" in text


def test_no_color(monkeypatch: pytest.MonkeyPatch) -> None:
    """NO_COLOR leaves a terminal without any escape."""
    monkeypatch.setenv("NO_COLOR", "1")
    text = printed(Terminal())

    assert "\x1b" not in text
    assert "all is [well]\n" in text


HOSTILE = "a\x1b[2J\x9b2J\u202eb\r\tc"
ESCAPED = "a\\x1b[2J\\x9b2J\\u202eb\\r\\tc"


@pytest.mark.parametrize("stream", [Terminal, io.StringIO])
def test_nothing_that_is_shown_moves_the_cursor(
    monkeypatch: pytest.MonkeyPatch, stream: type[io.StringIO]
) -> None:
    """Whatever a record holds: controls and marks of direction are escaped, and JSON means the same."""
    monkeypatch.setenv("NO_COLOR", "1")
    output = stream()
    console = Console(output)
    console.line(f"{HOSTILE}\nsecond line")
    console.table(("A", "B"), [(HOSTILE, f"{HOSTILE}\nno second line")])
    text = output.getvalue()
    documents = [stream(), stream()]
    for document, indent in zip(documents, (None, 2), strict=True):
        Console(document).json({"name": HOSTILE}, indent=indent)

    assert 3 == text.count(ESCAPED)
    assert "\nsecond line" in text
    assert "\nno second line" not in text
    shown = [text, *(one.getvalue() for one in documents)]
    assert "".join(one.replace("\n", "") for one in shown).isprintable()
    assert [{"name": HOSTILE}] * 2 == [json.loads(one.getvalue()) for one in documents]


@pytest.mark.parametrize("stream", [Terminal, io.StringIO])
def test_a_bar_is_drawn_on_a_terminal_only(
    monkeypatch: pytest.MonkeyPatch, stream: type[io.StringIO]
) -> None:
    """Elsewhere nothing is written; the caller need not know."""
    screen = stream()
    monkeypatch.setattr(sys, "stderr", screen)

    with progress_bar("reading", 10) as advance:
        advance(10)

    assert (stream is Terminal) is ("reading" in screen.getvalue())
