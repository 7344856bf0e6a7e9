"""A bad record reaches its limit, an outage brings no record there."""

import random

import pytest

from keycloak_bridge.delivery.retry import Snapshot, Tally
from keycloak_bridge.domain.ports import Proof

ALL_WELL = Proof.KAFKA | Proof.KEYCLOAK


def after(successes: int, failures: int) -> tuple[Tally, Snapshot]:
    """Return a tally in which, since the snapshot, others did so well and so badly."""
    tally = Tally()
    tally.failed(Proof.KEYCLOAK)
    seen = tally.snapshot()
    for _ in range(successes):
        tally.succeeded(ALL_WELL)
    for _ in range(failures):
        tally.failed(Proof.KEYCLOAK)
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

    assert expected == tally.counts(seen, Proof.KEYCLOAK)


def test_a_first_failure_never_counts() -> None:
    """However well others did before: nobody compared."""
    tally, _ = after(100, 0)

    assert not tally.counts(None, Proof.KEYCLOAK)


def test_its_own_failure_is_not_one_of_others() -> None:
    """Asked before it is told, and the snapshot taken after: one success of another is enough each time."""
    tally, attempts, seen = Tally(), 0, None
    for _ in range(9):
        tally.succeeded(ALL_WELL)
        attempts += tally.counts(seen, Proof.KEYCLOAK)
        tally.failed(Proof.KEYCLOAK)
        seen = tally.snapshot()

    assert 8 == attempts


def test_told_before_it_is_asked_a_record_would_excuse_itself() -> None:
    """The order of the two calls matters, which the docstring of Tally says."""
    tally, seen = after(4, 0)
    tally.failed(Proof.KEYCLOAK)

    assert not tally.counts(seen, Proof.KEYCLOAK)


@pytest.mark.parametrize(
    ("proof", "needs", "expected"),
    [
        (Proof.KAFKA, Proof.KAFKA, True),
        (Proof.KAFKA, Proof.KEYCLOAK, False),
        (ALL_WELL, Proof.MAIL, False),
        (ALL_WELL | Proof.MAIL, Proof.MAIL, True),
        (Proof.NONE, Proof.KAFKA, False),
        (Proof.KAFKA, Proof.NONE, True),
        (ALL_WELL, ALL_WELL, True),
    ],
)
def test_only_a_success_that_proves_the_need_counts(
    proof: Proof, needs: Proof, expected: bool
) -> None:
    """An invitation that was skipped says nothing about the mail server."""
    tally = Tally()
    seen = tally.snapshot()
    tally.succeeded(proof)

    assert expected == tally.counts(seen, needs)


def test_failures_of_another_need_excuse_nothing() -> None:
    """While mails fail, a record that Keycloak alone refuses is still the exception."""
    tally = Tally()
    seen = tally.snapshot()
    tally.succeeded(ALL_WELL)
    tally.failed(Proof.MAIL)

    assert tally.counts(seen, Proof.KEYCLOAK)


def test_a_snapshot_does_not_move() -> None:
    """What happens later is what a record is judged by."""
    tally, seen = after(0, 0)
    before = tally.counts(seen, Proof.KEYCLOAK)
    tally.succeeded(ALL_WELL)

    assert (False, True) == (before, tally.counts(seen, Proof.KEYCLOAK))


def most_attempts(failing: float, seed: int, rounds: int = 400) -> int:
    """Return how far towards its limit any of sixteen lanes came; a success begins a new record."""
    chance = random.Random(seed)  # noqa: S311 - no secret
    tally, most = Tally(), 0
    seen: list[Snapshot | None] = [None] * 16
    attempts = [0] * 16
    for _ in range(rounds):
        for lane in range(16):
            if chance.random() >= failing:
                tally.succeeded(ALL_WELL)
                seen[lane], attempts[lane] = None, 0
                continue
            attempts[lane] += tally.counts(seen[lane], Proof.KEYCLOAK)
            tally.failed(Proof.KEYCLOAK)
            seen[lane] = tally.snapshot()
            most = max(most, attempts[lane])
    return most


@pytest.mark.parametrize("failing", [0.05, 0.5, 0.9, 1.0])
@pytest.mark.parametrize("seed", [1, 2, 3])
def test_chance_and_outage_bring_no_record_to_its_limit(failing: float, seed: int) -> None:
    """A few per cent of failures, half a cluster down, all of it down: far from eight attempts."""
    assert most_attempts(failing, seed) < 5
