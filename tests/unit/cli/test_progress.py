import io
import sys

import pytest

from keycloak_bridge.cli.console import progress_bar


class Screen(io.StringIO):
    """Standard error on a terminal, or not."""

    def __init__(self, terminal: bool) -> None:
        super().__init__()
        self._terminal = terminal

    def isatty(self) -> bool:
        return self._terminal


@pytest.mark.parametrize("terminal", [True, False])
def test_a_bar_is_drawn_on_a_terminal_only(monkeypatch: pytest.MonkeyPatch, terminal: bool) -> None:
    """Elsewhere nothing is written; the caller need not know."""
    monkeypatch.setenv("TERM", "xterm")
    screen = Screen(terminal)
    monkeypatch.setattr(sys, "stderr", screen)

    with progress_bar("reading", 10) as advance:
        advance(10)

    assert terminal is ("reading" in screen.getvalue())
