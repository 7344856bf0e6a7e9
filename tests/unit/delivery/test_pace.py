import threading
from itertools import accumulate

import pytest
from hypothesis import given
from hypothesis import strategies as st

from keycloak_bridge.delivery.rate_limit import RateLimiter

rates = st.floats(0.01, 1000)
pauses = st.lists(st.floats(0, 5) | st.just(0.0), min_size=1, max_size=60)
ROUNDING = 1e-3  # a microsecond at the fastest pace, in tokens


def most_in_any_span(taken_s: list[float], per_s: float) -> float:
    """Return by how many tokens the fullest span exceeds `per_s` times its length."""
    return max(
        (last - first + 1 - per_s * (taken_s[last] - taken_s[first]))
        for first in range(len(taken_s))
        for last in range(first, len(taken_s))
    )


@given(rates, pauses, st.floats(0, 10**6))
def test_no_span_holds_more_than_a_burst_and_its_share(
    per_s: float, pauses: list[float], start_s: float
) -> None:
    """Wherever one begins to count: at most one second's worth (at least 1) plus the pace."""
    pace = RateLimiter(per_s)
    taken_s = []
    for now_s in accumulate(pauses, initial=start_s):
        taken_s += [now_s for _ in range(3) if pace.take(now_s) == 0.0]

    assert most_in_any_span(taken_s, per_s) <= max(per_s, 1.0) + ROUNDING


@given(rates, st.floats(0, 10**6))
def test_who_waits_as_told_gets_a_token(per_s: float, now_s: float) -> None:
    """The wait is long enough, and never longer than one interval."""
    pace = RateLimiter(per_s)
    while not (wait_s := pace.take(now_s)):
        pass

    assert 0 < wait_s <= 1 / per_s + 1e-6
    assert 0.0 == pace.take(now_s + wait_s)


@given(
    st.sampled_from([0.25, 1.0, 2.0, 16.0]),  # with eighths of seconds, exact in floats
    st.lists(st.tuples(st.integers(0, 40), st.booleans()), max_size=60),
)
def test_tokens_given_back_at_once_leave_the_pace_to_the_used(
    per_s: float, turns: list[tuple[int, bool]]
) -> None:
    """Whoever asks, does not need it and says so changes nothing for the others."""
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
    """And at least one, however slow the pace."""
    pace = RateLimiter(per_s)

    assert expected == [pace.take(5.0) for _ in range(30)].count(0.0)


def test_idle_time_saves_no_more_than_a_burst() -> None:
    """A quiet night does not become a flood in the morning."""
    pace = RateLimiter(3.0)
    pace.take(0.0)

    assert 3 == [pace.take(40_000.0) for _ in range(30)].count(0.0)


def test_asking_takes_nothing() -> None:
    """Whoever is told to wait has not used up anybody's turn."""
    pace = RateLimiter(0.5)
    pace.take(10.0)
    waits = [pace.take(10.5) for _ in range(3)]

    assert [1.5, 1.5, 1.5] == waits
    assert 0.0 == pace.take(12.0)


def test_a_token_given_back_goes_to_another() -> None:
    """A mail that turned out not to be due costs none of the pace."""
    pace = RateLimiter(0.5)
    pace.take(10.0)
    pace.give_back()

    assert 0.0 == pace.take(10.0)
    assert 2.0 == pace.take(10.0)


def test_without_a_pace_nobody_waits() -> None:
    """None is no limit, whatever is given back."""
    pace = RateLimiter(None)
    waits = {pace.take(1.0) for _ in range(1000)}
    pace.give_back()

    assert {0.0} == waits | {pace.take(0.0)}


def test_an_earlier_time_gives_no_extra_token() -> None:
    """Threads read the clock before they ask, so times arrive out of order."""
    pace = RateLimiter(1.0)
    pace.take(10.0)

    assert 1.5 == pace.take(9.5)


def test_threads_share_one_pace() -> None:
    """However many ask at once, exactly the burst gets through."""
    pace, through = RateLimiter(50.0), []
    threads = [
        threading.Thread(
            target=lambda: through.append([pace.take(1.0) for _ in range(50)].count(0.0))
        )
        for _ in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert 50 == sum(through)
