"""A bad record reaches its limit, an outage brings no record there."""

import random

import pytest

from keycloak_bridge.delivery.retry import Snapshot, Tally
from keycloak_bridge.domain.ports import Dependency

ALL_WELL = Dependency.KAFKA | Dependency.KEYCLOAK


def after(successes: int, failures: int) -> tuple[Tally, Snapshot]:
    """Return a tally in which, since the snapshot, others did so well and so badly."""
    tally = Tally()
    tally.failed(Dependency.KEYCLOAK)
    seen = tally.snapshot()
    for _ in range(successes):
        tally.succeeded(ALL_WELL)
    for _ in range(failures):
        tally.failed(Dependency.KEYCLOAK)
    return tally, seen


@pytest.mark.parametrize(
    ("successes", "failures", "expected"),
    [
        (0, 0, False),
        (1, 0, True),
        (4, 1, False),
        (5, 1, True),
        (8, 2, False),
        (9, 2, True),
        (100, 100, False),
    ],
)
def test_a_failure_counts_when_others_do_well(
    successes: int, failures: int, expected: bool
) -> None:
    """More than four successes of others to each of their failures."""
    tally, seen = after(successes, failures)

    assert expected == tally.counts(seen, Dependency.KEYCLOAK)


def test_a_first_failure_never_counts() -> None:
    """However well others did before: nobody compared."""
    tally, _ = after(100, 0)

    assert not tally.counts(None, Dependency.KEYCLOAK)


def test_its_own_failure_is_not_one_of_others() -> None:
    """Asked before it is told, and the snapshot taken after: one success of another is enough each time."""
    tally, attempts, seen = Tally(), 0, None
    for _ in range(9):
        tally.succeeded(ALL_WELL)
        attempts += tally.counts(seen, Dependency.KEYCLOAK)
        tally.failed(Dependency.KEYCLOAK)
        seen = tally.snapshot()

    assert 8 == attempts


def test_told_before_it_is_asked_a_record_would_excuse_itself() -> None:
    """The order of the two calls matters, which the docstring of Tally says."""
    tally, seen = after(4, 0)
    tally.failed(Dependency.KEYCLOAK)

    assert not tally.counts(seen, Dependency.KEYCLOAK)


@pytest.mark.parametrize(
    ("dependency", "needs", "expected"),
    [
        (Dependency.KAFKA, Dependency.KAFKA, True),
        (Dependency.KAFKA, Dependency.KEYCLOAK, False),
        (ALL_WELL, Dependency.MAIL, False),
        (ALL_WELL | Dependency.MAIL, Dependency.MAIL, True),
        (Dependency.NONE, Dependency.KAFKA, False),
        (Dependency.KAFKA, Dependency.NONE, True),
        (ALL_WELL, ALL_WELL, True),
    ],
)
def test_only_a_success_that_proves_the_need_counts(
    dependency: Dependency, needs: Dependency, expected: bool
) -> None:
    """An invitation that was skipped says nothing about the mail server."""
    tally = Tally()
    seen = tally.snapshot()
    tally.succeeded(dependency)

    assert expected == tally.counts(seen, needs)


def test_failures_of_another_need_excuse_nothing() -> None:
    """While mails fail, a record that Keycloak alone refuses is still the exception."""
    tally = Tally()
    seen = tally.snapshot()
    tally.succeeded(ALL_WELL)
    tally.failed(Dependency.MAIL)

    assert tally.counts(seen, Dependency.KEYCLOAK)


def test_a_snapshot_does_not_move() -> None:
    """What happens later is what a record is judged by."""
    tally, seen = after(0, 0)
    before = tally.counts(seen, Dependency.KEYCLOAK)
    tally.succeeded(ALL_WELL)

    assert (False, True) == (before, tally.counts(seen, Dependency.KEYCLOAK))


def most_attempts(failing: float, seed: int, rounds: int = 400) -> int:
    """Return how far towards its limit any of sixteen lanes came; a success begins a new record."""
    chance = random.Random(seed)  # noqa: S311 - no secret
    tally, most = Tally(), 0
    seen: list[Snapshot | None] = [None] * 16
    attempts = [0] * 16
    for _ in range(rounds):
        for ordering_key in range(16):
            if chance.random() >= failing:
                tally.succeeded(ALL_WELL)
                seen[ordering_key], attempts[ordering_key] = None, 0
                continue
            attempts[ordering_key] += tally.counts(seen[ordering_key], Dependency.KEYCLOAK)
            tally.failed(Dependency.KEYCLOAK)
            seen[ordering_key] = tally.snapshot()
            most = max(most, attempts[ordering_key])
    return most


@pytest.mark.parametrize("failing", [0.05, 0.5, 0.9, 1.0])
@pytest.mark.parametrize("seed", [1, 2, 3])
def test_chance_and_outage_bring_no_record_to_its_limit(failing: float, seed: int) -> None:
    """A few per cent of failures, half a cluster down, all of it down: far from eight attempts."""
    assert most_attempts(failing, seed) < 5
