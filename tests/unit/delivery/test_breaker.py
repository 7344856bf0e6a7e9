import pytest

from keycloak_bridge.delivery.breaker import Breaker, BreakerState
from keycloak_bridge.delivery.retry import RetryPolicy
from keycloak_bridge.domain.ports import Dependency

POLICY = RetryPolicy(initial_s=1, max_s=8)
ALL_WELL = Dependency.KAFKA | Dependency.KEYCLOAK
FULL = 1 - 2**-52  # jitter that waits for (almost) the whole interval


def opened(needs: Dependency = Dependency.KEYCLOAK, at_s: float = 100.0) -> Breaker:
    """Return a breaker that just opened."""
    breaker = Breaker(POLICY)
    breaker.failed(needs, at_s, FULL, at_once=True)
    return breaker


def probing(needs: Dependency = Dependency.KEYCLOAK) -> Breaker:
    """Return a breaker that lets one record probe at second 101."""
    breaker = opened(needs)
    assert breaker.admits(101.0)
    return breaker


def test_it_opens_after_so_many_failures_in_a_row() -> None:
    """That is news once, and from then on nothing starts."""
    breaker = Breaker(POLICY, threshold=3)
    news = [breaker.failed(Dependency.KEYCLOAK, 100.0, 0.0) for _ in range(4)]

    assert [False, False, True, False] == news
    assert (BreakerState.OPEN, 101.0, Dependency.KEYCLOAK) == (
        breaker.state,
        breaker.probe_at_s,
        breaker.needs,
    )
    assert not breaker.admits(100.9)


def test_a_success_between_begins_a_new_row() -> None:
    """One bad record among good ones opens nothing."""
    breaker = Breaker(POLICY, threshold=3, window=1000)
    for _ in range(50):
        breaker.failed(Dependency.KEYCLOAK, 0.0, 0.0)
        breaker.failed(Dependency.KEYCLOAK, 0.0, 0.0)
        breaker.succeeded(ALL_WELL)

    assert BreakerState.CLOSED is breaker.state
    assert breaker.admits(0.0)


def test_a_success_that_proves_something_else_ends_no_row() -> None:
    """Invitations that need no mail do not hide that mails fail."""
    breaker = Breaker(POLICY, threshold=3, window=1000)
    news = []
    for _ in range(3):
        news.append(breaker.failed(Dependency.MAIL, 0.0, 0.0))
        breaker.succeeded(ALL_WELL)

    assert [False, False, True] == news


def test_a_row_of_several_kinds_needs_all_of_them() -> None:
    """The union of what failed since it was last proven."""
    breaker = Breaker(POLICY, threshold=3)
    breaker.failed(Dependency.MAIL, 0.0, 0.0)
    breaker.succeeded(Dependency.MAIL)
    for needs in (Dependency.KAFKA, Dependency.NONE, Dependency.KEYCLOAK):
        breaker.failed(needs, 0.0, 0.0)

    assert ALL_WELL == breaker.needs


@pytest.mark.parametrize(("pattern", "expected"), [("gf", True), ("ggf", False), ("gff", True)])
def test_half_of_a_full_window_is_an_outage(pattern: str, expected: bool) -> None:
    """A dead node of two fails every other record, which is never a row."""
    breaker = Breaker(POLICY, threshold=5, window=6)
    for outcome in pattern * 12:
        if outcome == "g":
            breaker.succeeded(ALL_WELL)
        else:
            breaker.failed(Dependency.KEYCLOAK, 0.0, 0.0)
            if breaker.state is BreakerState.OPEN:
                break

    assert expected == (breaker.state is BreakerState.OPEN)


def test_a_window_that_is_not_full_shows_nothing() -> None:
    """The first failures after the start are no share of anything."""
    breaker = Breaker(POLICY, threshold=5, window=6)
    for _ in range(2):
        breaker.succeeded(ALL_WELL)
        breaker.failed(Dependency.KEYCLOAK, 0.0, 0.0)

    assert BreakerState.CLOSED is breaker.state


def test_some_failures_open_it_at_once() -> None:
    """A refused service account, for one: every record would fail."""
    breaker = Breaker(POLICY)

    assert breaker.failed(Dependency.KEYCLOAK, 5.0, 0.0, at_once=True)
    assert 6.0 == breaker.probe_at_s


def test_retry_after_opens_it_for_so_long() -> None:
    """The server said when to come back, and one record more would not be polite."""
    breaker = Breaker(POLICY)

    assert breaker.failed(Dependency.KEYCLOAK, 5.0, 0.0, retry_after_s=30.0)
    assert 35.0 == breaker.probe_at_s


def test_one_record_probes_when_the_pause_is_over() -> None:
    """Half-open, a second one has to wait for the first."""
    breaker = opened()

    assert [False, True, False] == [breaker.admits(now) for now in (100.9, 101.0, 500.0)]
    assert (BreakerState.HALF_OPEN, None) == (breaker.state, breaker.probe_at_s)


def test_failed_probes_pause_longer_and_longer() -> None:
    """The backoff of the retry policy, without a last attempt; none of it is news."""
    breaker, now_s, pauses = opened(at_s=0.0), 0.0, []
    for _ in range(6):
        probe_at_s = breaker.probe_at_s
        assert probe_at_s is not None
        pauses.append(round(probe_at_s - now_s, 6))
        now_s = probe_at_s
        assert breaker.admits(now_s)
        assert not breaker.failed(Dependency.KEYCLOAK, now_s, FULL)

    assert [1, 2, 4, 8, 8, 8] == pauses


def test_stragglers_do_not_lengthen_the_pause() -> None:
    """Sixteen records fail together, which is one outage."""
    breaker = opened()
    for _ in range(16):
        breaker.failed(Dependency.KAFKA, 100.5, FULL, at_once=True, retry_after_s=50)

    assert (101.0, Dependency.KEYCLOAK) == (breaker.probe_at_s, breaker.needs)


def test_a_probe_that_fails_for_another_reason_adds_to_what_is_needed() -> None:
    """Both have to be seen working then."""
    breaker = probing()
    breaker.failed(Dependency.KAFKA, 101.0, 0.0)

    assert ALL_WELL == breaker.needs


@pytest.mark.parametrize(
    ("dependency", "expected"),
    [
        (ALL_WELL, BreakerState.CLOSED),
        (Dependency.KEYCLOAK, BreakerState.CLOSED),
        (Dependency.KAFKA, BreakerState.HALF_OPEN),
        (Dependency.NONE, BreakerState.HALF_OPEN),
    ],
)
def test_a_probe_closes_it_by_proof_only(dependency: Dependency, expected: BreakerState) -> None:
    """Another success lets the next record probe at once."""
    breaker = probing()
    closed = breaker.succeeded(dependency)

    assert (expected, expected is BreakerState.CLOSED) == (breaker.state, closed)
    assert breaker.admits(101.0)


def test_a_stragglers_success_closes_it_as_well() -> None:
    """Proof is proof, also during the pause."""
    breaker = opened()

    assert breaker.succeeded(ALL_WELL)
    assert breaker.admits(100.0)
    assert (None, Dependency.NONE) == (breaker.probe_at_s, breaker.needs)


def test_closing_forgets_the_failures() -> None:
    """The next outage begins with a first failure and the shortest pause."""
    breaker = Breaker(POLICY, threshold=2, window=4)
    for _ in range(2):
        breaker.failed(Dependency.KEYCLOAK, 0.0, FULL)
    breaker.admits(10.0)
    breaker.failed(Dependency.KEYCLOAK, 10.0, FULL)
    breaker.succeeded(ALL_WELL)
    news = [breaker.failed(Dependency.KEYCLOAK, 20.0, FULL) for _ in range(2)]

    assert [False, True] == news
    assert breaker.probe_at_s == pytest.approx(21.0)


def test_closing_empties_the_window() -> None:
    """The failures of an outage that is over are no share of what comes after it."""
    breaker = Breaker(POLICY, threshold=5, window=4)
    news = []
    for _ in range(3):
        breaker.succeeded(ALL_WELL)
        news.append(breaker.failed(Dependency.KEYCLOAK, 0.0, 0.0))

    assert [False, True, False] == news


def test_a_probe_without_a_finding_gives_its_turn_away() -> None:
    """An invalid event or a rebalance says nothing about Keycloak."""
    breaker = probing()
    breaker.neutral()

    assert [True, False] == [breaker.admits(101.0), breaker.admits(101.0)]
    assert BreakerState.HALF_OPEN is breaker.state


def test_nothing_to_find_changes_nothing_elsewhere() -> None:
    """An invalid event neither ends a pause nor opens anything."""
    breaker = opened()
    breaker.neutral()

    assert not breaker.admits(100.5)
    assert 101.0 == breaker.probe_at_s
