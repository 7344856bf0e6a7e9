import io
import sys

import pytest

from keycloak_bridge.backfill.run import RunState
from keycloak_bridge.cli.backfill import ProgressSentence, progress_shown, span


class Terminal(io.StringIO):
    """Standard error that is a terminal."""

    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize(
    ("seen", "state", "expected"),
    [
        (
            ((60.0, 60), (70.0, 1060)),
            RunState(done=2060, read=2100, share_read=0.5, rejected=3),
            "2060 of about 4200 done, 100/s, 21 s left, 3 rejected",
        ),
        ((), RunState(done=400, read=420, share_read=None, rejected=0), "400 done, 5/s"),
    ],
)
def test_rate_and_rest_are_those_of_the_last_seconds(
    seen: tuple[tuple[float, int], ...], state: RunState, expected: str
) -> None:
    """What was slow a minute ago does not count; of a pipe neither total nor time left is known."""
    progress = ProgressSentence(0.0, 0)
    for now_s, done in seen:
        progress.update(now_s, RunState(done, done, None, 0))

    assert expected == progress.update(80.0, state)


@pytest.mark.parametrize(
    ("seconds", "expected"), [(0.4, "0 s"), (59, "59 s"), (61, "1 min 1 s"), (7260, "2 h 1 min")]
)
def test_durations_have_two_units_at_most(seconds: float, expected: str) -> None:
    """The smaller ones do not matter."""
    assert expected == span(seconds)


@pytest.mark.parametrize(
    ("stream", "quiet", "lines"), [(io.StringIO(), False, 6), (io.StringIO(), True, 0), (Terminal(), False, None)]
)  # fmt: skip
def test_progress_goes_to_standard_error(
    monkeypatch: pytest.MonkeyPatch, stream: io.StringIO, quiet: bool, lines: int | None
) -> None:
    """Of a run of a minute: a line every ten seconds, nothing when quiet, on a terminal a bar with the same words."""
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setattr(sys, "stderr", stream)
    seconds = 0.0

    def state() -> RunState:
        return RunState(int(seconds * 10), int(seconds * 10), seconds / 60, 0)

    with progress_shown(state, quiet=quiet, now=lambda: seconds) as tick:
        for second in range(1, 61):
            seconds = float(second)
            tick()

    shown = stream.getvalue()
    assert lines is None or lines == len(shown.splitlines())
    assert quiet or "600 of about 600 done" in shown
    assert lines != 6 or "backfill: 100 of about 600 done, 10/s, 50 s left" == shown.splitlines()[0]
