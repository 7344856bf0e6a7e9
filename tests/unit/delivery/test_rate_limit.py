"""How fast something may happen, and how a command waits for it."""

from collections.abc import Callable
from itertools import accumulate

import pytest
from hypothesis import given
from hypothesis import strategies as st
from threads import in_threads

from keycloak_bridge.delivery.rate_limit import RateLimiter, wait_out
from keycloak_bridge.domain.errors import HoldError

rates = st.floats(0.01, 1000)
pauses = st.lists(st.floats(0, 5) | st.just(0.0), min_size=1, max_size=60)
ROUNDING = 1e-3  # a microsecond at the fastest rate, in tokens


def most_in_any_span(taken_s: list[float], per_s: float) -> float:
    """Return by how many tokens the fullest span exceeds `per_s` times its length."""
    return max(
        (last - first + 1 - per_s * (taken_s[last] - taken_s[first]))
        for first in range(len(taken_s))
        for last in range(first, len(taken_s))
    )


@given(rates, pauses, st.floats(0, 10**6))
def test_no_span_has_more_than_a_burst_and_its_share(
    per_s: float, pauses: list[float], start_s: float
) -> None:
    """Wherever one begins to count: at most one second's worth (at least 1) plus the rate."""
    limiter = RateLimiter(per_s)
    taken_s = []
    for now_s in accumulate(pauses, initial=start_s):
        taken_s += [now_s for _ in range(3) if limiter.take(now_s) == 0.0]

    assert most_in_any_span(taken_s, per_s) <= max(per_s, 1.0) + ROUNDING


@given(rates, st.floats(0, 10**6))
def test_a_token_is_there_after_the_wait(per_s: float, now_s: float) -> None:
    """The wait is long enough, and never longer than one interval."""
    limiter = RateLimiter(per_s)
    while not (wait_s := limiter.take(now_s)):
        pass

    assert 0 < wait_s <= 1 / per_s + 1e-6
    assert 0.0 == limiter.take(now_s + wait_s)


@given(
    st.sampled_from([0.25, 1.0, 2.0, 16.0]),  # with eighths of seconds, exact in floats
    st.lists(st.tuples(st.integers(0, 40), st.booleans()), max_size=60),
)
def test_tokens_given_back_at_once_change_nothing(
    per_s: float, turns: list[tuple[int, bool]]
) -> None:
    """A token that is taken and given back changes nothing for the others."""
    asked, spared = RateLimiter(per_s), RateLimiter(per_s)
    now_s, differences = 0.0, []
    for eighths, used in turns:
        now_s += eighths / 8
        if not used:
            if asked.take(now_s) == 0.0:
                asked.give_back()
            continue
        differences.append(asked.take(now_s) - spared.take(now_s))

    assert {0.0} >= set(differences)


@pytest.mark.parametrize(
    ("per_s", "expected"), [(0.01, 1), (0.5, 1), (1.0, 1), (2.5, 2), (14.0, 14)]
)
def test_a_burst_is_one_seconds_worth(per_s: float, expected: int) -> None:
    """And at least one, however low the rate."""
    limiter = RateLimiter(per_s)

    assert expected == [limiter.take(5.0) for _ in range(30)].count(0.0)


def test_without_a_limit_nothing_waits() -> None:
    """None is no limit, whatever is given back."""
    limiter = RateLimiter(None)
    waits = {limiter.take(1.0) for _ in range(1000)}
    limiter.give_back()

    assert {0.0} == waits | {limiter.take(0.0)}


def test_an_earlier_time_gives_no_extra_token() -> None:
    """Threads read the clock before they ask, so times arrive out of order."""
    limiter = RateLimiter(1.0)
    limiter.take(10.0)

    assert 1.5 == limiter.take(9.5)


def test_threads_share_one_limit() -> None:
    """However many ask at once, exactly the burst gets through."""
    limiter, through = RateLimiter(50.0), []
    in_threads(*[lambda: through.append([limiter.take(1.0) for _ in range(50)].count(0.0))] * 8)

    assert 50 == sum(through)


def held(*waits_s: float) -> Callable[[], str]:
    """Return an attempt that is held so often, and then works."""
    left = list(waits_s)

    def attempt() -> str:
        if left:
            raise HoldError("the pace is kept", wait_s=left.pop(0), code="pace")
        return "done"

    return attempt


def test_each_pause_is_reported_and_kept() -> None:
    """As long as the error says, up to the limit in all."""
    pauses: list[HoldError] = []
    slept: list[float] = []

    assert "done" == wait_out(held(0.5, 1.5), pauses.append, limit_s=2.0, sleep=slept.append)
    assert ([0.5, 1.5], [0.5, 1.5]) == ([one.wait_s for one in pauses], slept)


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
