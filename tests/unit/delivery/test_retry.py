import pytest
from hypothesis import given
from hypothesis import strategies as st

from keycloak_bridge.delivery.retry import RetryPolicy, delay_s

seconds = st.floats(0.001, 3600, allow_nan=False)
policies = st.builds(RetryPolicy, initial_s=seconds, max_s=seconds)
attempts = st.integers(1, 10**9)
jitters = st.floats(0, 1, exclude_max=True)


@given(policies, attempts, jitters)
def test_a_pause_stays_between_first_and_longest(
    policy: RetryPolicy, attempt: int, jitter: float
) -> None:
    """Never above `max`, and never below `initial` unless `max` is smaller."""
    pause = delay_s(policy, attempt, jitter)

    assert min(policy.initial_s, policy.max_s) <= pause <= policy.max_s


@given(policies, attempts, jitters, jitters)
def test_more_jitter_is_no_shorter_pause(
    policy: RetryPolicy, attempt: int, one: float, other: float
) -> None:
    """The pause grows with the jitter, so that bridges spread over the interval."""
    low, high = sorted((one, other))

    assert delay_s(policy, attempt, low) <= delay_s(policy, attempt, high)


@given(policies, attempts, jitters)
def test_a_later_attempt_waits_no_less(policy: RetryPolicy, attempt: int, jitter: float) -> None:
    """Backing off never turns around."""
    assert delay_s(policy, attempt, jitter) <= delay_s(policy, attempt + 1, jitter)


@given(policies, attempts, jitters, st.floats(0, 10**9))
def test_retry_after_is_kept_within_reason(
    policy: RetryPolicy, attempt: int, jitter: float, retry_after_s: float
) -> None:
    """Never sooner than the server asks for, but never beyond ten times the longest pause for it."""
    pause = delay_s(policy, attempt, jitter, retry_after_s)

    bound = policy.max_s * 10
    assert pause >= min(retry_after_s, bound)
    assert pause <= max(bound, policy.initial_s)


@pytest.mark.parametrize(
    ("attempt", "expected"), [(1, 0.2), (2, 0.2), (3, 0.4), (4, 0.8), (8, 12.8), (9, 15.0)]
)
def test_pauses_double_up_to_the_longest(attempt: int, expected: float) -> None:
    """Half the interval of the defaults, attempt by attempt."""
    assert expected == pytest.approx(delay_s(RetryPolicy(), attempt, 0.5))
