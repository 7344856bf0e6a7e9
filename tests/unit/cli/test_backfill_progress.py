import io
import sys

import pytest

from keycloak_bridge.cli.backfill import RateLimiter, Standing, expected, sentence, shown, span


class Terminal(io.StringIO):
    """Standard error of somebody who looks."""

    def isatty(self) -> bool:
        return True


def test_rate_and_rest_are_those_of_the_last_seconds() -> None:
    """What was slow a minute ago does not count any more."""
    pace = RateLimiter()
    for at_s, done in ((0.0, 0), (60.0, 60), (70.0, 1060), (80.0, 2060)):
        pace.note(at_s, done)
    standing = Standing(done=2060, read=2100, share_read=0.5, rejected=3)

    assert 100.0 == pace.per_s
    assert 4200 == expected(standing)
    assert "2060 of about 4200 done, 100/s, 21 s left, 3 rejected" == sentence(standing, pace)


def test_nobody_knows_how_much_a_pipe_will_bring() -> None:
    """So there is neither a total nor a time."""
    pace = RateLimiter()
    pace.note(0.0, 0)
    pace.note(2.0, 10)

    assert "10 done, 5/s" == sentence(Standing(10, 20, None, 0), pace)


@pytest.mark.parametrize(
    ("seconds", "expected"), [(0.4, "0 s"), (59, "59 s"), (61, "1 min 1 s"), (7260, "2 h 1 min")]
)
def test_durations_are_for_people(seconds: float, expected: str) -> None:
    """Two units at most."""
    assert expected == span(seconds)


def tell(monkeypatch: pytest.MonkeyPatch, stream: io.StringIO, *, quiet: bool) -> str:
    """Return what was shown of a run of a minute, which was asked every second."""
    monkeypatch.setattr(sys, "stderr", stream)
    seconds = 0.0

    def standing() -> Standing:
        return Standing(int(seconds * 10), int(seconds * 10), seconds / 60, 0)

    with shown(standing, quiet=quiet, now=lambda: seconds) as tick:
        for second in range(1, 61):
            seconds = float(second)
            tick()
    return stream.getvalue()


def test_lines_stand_apart_where_nobody_looks(monkeypatch: pytest.MonkeyPatch) -> None:
    """One every ten seconds, or none."""
    told = tell(monkeypatch, io.StringIO(), quiet=False).splitlines()

    assert 6 == len(told)
    assert "backfill: 100 of about 600 done, 10/s, 50 s left" == told[0]
    assert "" == tell(monkeypatch, io.StringIO(), quiet=True)


def test_a_terminal_has_a_bar(monkeypatch: pytest.MonkeyPatch) -> None:
    """With the same words."""
    monkeypatch.setenv("TERM", "xterm")

    assert "600 of about 600 done" in tell(monkeypatch, Terminal(), quiet=False)
