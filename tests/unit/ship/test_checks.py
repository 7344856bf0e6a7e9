"""How a check of shipping ends: what it says, and its exit code."""

import signal
from collections.abc import Iterator

import pytest
from ship.checks import Failed, expect_equal, verdict
from ship.machine import ShipError

from keycloak_bridge.sandbox import SandboxError


@pytest.fixture(autouse=True)
def own_handler() -> Iterator[None]:
    """Leave SIGTERM as it was."""
    before = signal.getsignal(signal.SIGTERM)
    yield
    signal.signal(signal.SIGTERM, before)


@pytest.mark.parametrize(
    ("ends", "code", "said"),
    [
        (Failed("it is red"), 1, "FAILED: it is red\n"),
        (ShipError("no podman"), 2, "error: no podman\n"),
        (SandboxError("no Java"), 2, "error: no Java\n"),
        (KeyboardInterrupt(), 130, "interrupted; everything was removed\n"),
    ],
)
def test_what_went_wrong_is_said_with_its_exit_code(
    ends: BaseException, code: int, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """And nothing of what works."""
    with pytest.raises(SystemExit) as ended, verdict("it works"):
        raise ends

    assert (code, ("", said)) == (ended.value.code, capsys.readouterr())


def test_a_sigterm_ends_the_check_from_within() -> None:
    """As an exception, so that what it started is removed."""
    with pytest.raises(SystemExit) as ended, verdict("it works"):
        signal.raise_signal(signal.SIGTERM)

    assert 143 == ended.value.code


def test_what_works_is_said(capsys: pytest.CaptureFixture[str]) -> None:
    """With the seconds that it took."""
    with verdict("it works"):
        expect_equal("the answer", 42, 42)

    assert capsys.readouterr().out.startswith("it works (")
