"""By hand, a pause is waited for, said, and never endless."""

from collections.abc import Callable

import pytest

from keycloak_bridge.delivery.rate_limit import wait_out
from keycloak_bridge.domain.errors import HoldError, KeycloakUnavailableError


def held(*waits_s: float) -> Callable[[], str]:
    """Return an attempt that is held so often, and then works."""
    left = list(waits_s)

    def attempt() -> str:
        if left:
            raise HoldError("the pace is kept", wait_s=left.pop(0), code="pace")
        return "done"

    return attempt


def test_what_is_not_held_is_not_waited_for() -> None:
    """Nothing is said either."""
    told: list[HoldError] = []
    slept: list[float] = []

    assert "done" == wait_out(held(), told.append, limit_s=1.0, sleep=slept.append)
    assert ([], []) == (told, slept)


def test_each_pause_is_said_and_kept() -> None:
    """As long as the error says, up to the limit in all."""
    told: list[HoldError] = []
    slept: list[float] = []

    assert "done" == wait_out(held(0.5, 1.5), told.append, limit_s=2.0, sleep=slept.append)
    assert ([0.5, 1.5], [0.5, 1.5]) == ([one.wait_s for one in told], slept)


def test_what_takes_too_long_is_a_sentence() -> None:
    """Pauses add up; the one beyond the limit is not begun."""
    slept: list[float] = []

    with pytest.raises(HoldError) as caught:
        wait_out(held(1.5, 1.0), lambda _: None, limit_s=2.0, sleep=slept.append)

    assert [1.5] == slept
    assert ("pace", "the pace is kept; it would take 1 s more, so try again later") == (
        caught.value.code,
        caught.value.message,
    )


def test_any_other_error_comes_through() -> None:
    """A pause is not an outage."""
    error = KeycloakUnavailableError("gone")

    def attempt() -> None:
        raise error

    with pytest.raises(KeycloakUnavailableError) as caught:
        wait_out(attempt, lambda _: None, limit_s=2.0)

    assert error is caught.value
