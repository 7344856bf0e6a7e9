"""An outage is distinguished from a bad record."""

import random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from keycloak_bridge.delivery.breaker import (
    Breaker,
    BreakerState,
    RetryPolicy,
    Snapshot,
    Tally,
    delay_s,
)
from keycloak_bridge.delivery.failures import FailurePolicy
from keycloak_bridge.delivery.key_queues import Task
from keycloak_bridge.domain.errors import (
    BridgeError,
    BrokerUnavailableError,
    ConfigError,
    Dependency,
    HoldError,
    InternalError,
    KeycloakAuthError,
    KeycloakUnavailableError,
    MailDeliveryError,
    PartitionRevokedError,
    RegistryAccessError,
    RegistryUnavailableError,
)
from keycloak_bridge.domain.events import Record

POLICY = RetryPolicy(initial_s=1, max_s=8)
ALL_WELL = Dependency.KAFKA | Dependency.KEYCLOAK
FULL = 1 - 2**-52  # jitter that waits for (almost) the whole interval


def opens(breaker: Breaker, needs: Dependency, at_s: float, jitter: float, **details: Any) -> bool:
    """Report a failure; say whether it opened the closed breaker."""
    was_closed = breaker.state is BreakerState.CLOSED
    breaker.failed(needs, at_s, jitter, **details)
    return was_closed and breaker.state is BreakerState.OPEN


def opened(needs: Dependency = Dependency.KEYCLOAK, at_s: float = 100.0) -> Breaker:
    """Return a breaker that just opened."""
    breaker = Breaker(POLICY)
    breaker.failed(needs, at_s, FULL, at_once=True)
    return breaker


def test_it_opens_after_so_many_failures_in_a_row() -> None:
    """Once, and from then on nothing starts."""
    breaker = Breaker(POLICY, threshold=3)
    opened_now = [opens(breaker, Dependency.KEYCLOAK, 100.0, 0.0) for _ in range(4)]

    assert [False, False, True, False] == opened_now
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
    opened_now = []
    for _ in range(3):
        opened_now.append(opens(breaker, Dependency.MAIL, 0.0, 0.0))
        breaker.succeeded(ALL_WELL)

    assert [False, False, True] == opened_now


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


def test_retry_after_opens_it_for_so_long() -> None:
    """The server said when to come back, and one record more would not be polite."""
    breaker = Breaker(POLICY)

    assert opens(breaker, Dependency.KEYCLOAK, 5.0, 0.0, retry_after_s=30.0)
    assert 35.0 == breaker.probe_at_s


def test_failed_probes_pause_longer_and_longer() -> None:
    """The backoff of the retry policy, without a last attempt."""
    breaker, now_s, pauses = opened(at_s=0.0), 0.0, []
    for _ in range(6):
        probe_at_s = breaker.probe_at_s
        assert probe_at_s is not None
        pauses.append(round(probe_at_s - now_s, 6))
        now_s = probe_at_s
        assert breaker.admits(now_s)
        breaker.failed(Dependency.KEYCLOAK, now_s, FULL)

    assert [1, 2, 4, 8, 8, 8] == pauses


def test_closing_forgets_the_failures() -> None:
    """The next outage begins with a first failure and the shortest pause."""
    breaker = Breaker(POLICY, threshold=2, window=4)
    for _ in range(2):
        breaker.failed(Dependency.KEYCLOAK, 0.0, FULL)
    breaker.admits(10.0)
    breaker.failed(Dependency.KEYCLOAK, 10.0, FULL)
    breaker.succeeded(ALL_WELL)
    opened_now = [opens(breaker, Dependency.KEYCLOAK, 20.0, FULL) for _ in range(2)]

    assert [False, True] == opened_now
    assert breaker.probe_at_s == pytest.approx(21.0)


DOWN = KeycloakUnavailableError("down")
BROKEN = InternalError("broken")


def task() -> Task:
    return Task(Record("user-events", 0, 0, 0, b"ada", b"{}"), b"ada")


def failure_policy(max_attempts: int = 3) -> FailurePolicy:
    return FailurePolicy(POLICY, max_attempts)


def fail(
    one: FailurePolicy, record: Task, error: BridgeError, *, now_s: float = 0.0
) -> float | None:
    return one.failed(record, error, now_s, 1.0)


@pytest.mark.parametrize(
    ("error", "until_s"),
    [
        (DOWN, 101.0),
        (KeycloakUnavailableError("busy", retry_after_s=30.0), 130.0),
        (BrokerUnavailableError("gone"), 101.0),
        (BROKEN, 101.0),
        (HoldError("later", wait_s=7.0), 107.0),
        (PartitionRevokedError("gone"), 100.5),
        (ConfigError("wrong"), None),
    ],
    ids=lambda value: getattr(value, "code", None),
)
def test_when_a_record_is_taken_up_again(error: BridgeError, until_s: float | None) -> None:
    """After its back-off, after the time that it must wait, soon, or never: the flow stops."""
    assert until_s == fail(failure_policy(), task(), error, now_s=100.0)


def test_an_outage_is_named_until_it_is_over() -> None:
    """The last error; only a record that proves what is needed ends it."""
    one = failure_policy()
    for _ in range(5):
        fail(one, task(), DOWN)
    during = (one.breaker.state, one.problem, one.breaker.probe_at_s)
    one.worked(Dependency.KAFKA)
    still = one.breaker.state
    assert one.breaker.admits(10.0)
    one.worked(Dependency.KEYCLOAK | Dependency.KAFKA)

    assert (BreakerState.OPEN, DOWN, 1.0) == during
    assert BreakerState.OPEN is still
    assert (BreakerState.CLOSED, None, None) == (
        one.breaker.state,
        one.problem,
        one.breaker.probe_at_s,
    )


def test_a_single_failure_is_no_outage() -> None:
    """Nor are faults of the bridge; one refusal of the service account is: every record would be refused."""
    one = failure_policy()
    fail(one, task(), DOWN)
    for _ in range(20):
        fail(one, task(), BROKEN)
    single = (one.breaker.state, one.problem)
    refused = KeycloakAuthError("refused")
    fail(one, task(), refused)

    assert (BreakerState.CLOSED, None) == single
    assert refused is one.problem


def test_an_outage_of_the_registry_holds_up_only_what_needs_it() -> None:
    """Nothing is given up, and the breaker stays closed for records whose schema is known; the reason is named meanwhile."""
    one, record = failure_policy(max_attempts=2), task()
    away = RegistryUnavailableError("away")
    seen = []
    for _ in range(10):
        seen.append((one.count_failure(record, away), one.problem is None))
        fail(one, record, away)
        one.worked(ALL_WELL)
    named = one.problem
    refused, other = failure_policy(), task()
    fail(refused, other, RegistryAccessError("refused"))
    at_once = refused.problem
    fail(refused, other, DOWN)

    assert [(False, True)] * 5 + [(False, False)] * 5 == seen
    assert BreakerState.CLOSED is one.breaker.state
    assert named is not None
    assert ("away", "registry-unavailable") == (named.message, named.code)
    assert at_once is not None
    assert refused.problem is None
    one.worked(ALL_WELL | Dependency.REGISTRY, record)
    assert one.problem is None


def test_a_record_that_waits_for_its_schema_is_no_problem_of_a_member_that_has_it_no_more() -> None:
    """Its partition may go to another member."""
    one, record = failure_policy(), task()
    fail(one, record, RegistryAccessError("refused"))
    del record

    assert one.problem is None


def test_a_failure_counts_when_others_succeed_meanwhile() -> None:
    """A record that fails alone reaches its limit; in an outage nothing counts."""
    one, record = failure_policy(max_attempts=2), task()
    given_up = []
    for successes in (0, 0, 1, 0, 1):
        for _ in range(successes):
            one.worked(Dependency.KEYCLOAK)
        given_up.append(one.count_failure(record, DOWN))
        fail(one, record, DOWN)

    assert [False, False, False, False, True] == given_up


def not_mailed(*, greets: bool | None = None) -> MailDeliveryError:
    error = MailDeliveryError("not taken", status=500)
    error.server_greets = greets
    return error


def pauses_of(one: FailurePolicy, record: Task, error: BridgeError, times: int) -> list[float]:
    """Let `record` fail so many times, or until it is given up; return how long it waits after each."""
    pauses: list[float] = []
    while len(pauses) < times and not one.count_failure(record, error):
        until_s = fail(one, record, error)
        assert until_s is not None
        pauses.append(until_s)
    return pauses


def proven(error: BridgeError, max_attempts: int = 5) -> tuple[FailurePolicy, Task]:
    """Return a record that failed twice, between which another one showed that the service works."""
    one, record = failure_policy(max_attempts), task()
    pauses_of(one, record, error, 1)
    one.worked(error.dependency)
    pauses_of(one, record, error, 1)
    return one, record


@pytest.mark.parametrize(
    "error",
    [not_mailed(), KeycloakUnavailableError("failed", status=500)],
    ids=["mail", "Keycloak"],
)
def test_a_record_that_fails_alone_is_given_up_after_growing_pauses(error: BridgeError) -> None:
    """Once others have passed, it needs none of them any more; meanwhile the stage says why it stands."""
    one, record = proven(error)
    pauses = pauses_of(one, record, error, 10)
    during = one.problem
    one.worked(error.dependency, record)

    assert [16, 32, 64] == pauses
    assert during is not None
    assert (error.message, error.code) == (during.message, during.code)
    assert (BreakerState.CLOSED, None) == (one.breaker.state, one.problem)


def test_the_pauses_of_a_record_end_at_an_hour() -> None:
    """However many attempts it has."""
    one, record = proven(not_mailed(), max_attempts=2000)

    assert 3600 == pauses_of(one, record, not_mailed(), 1990)[-1]


def test_a_record_that_fails_alone_holds_up_nothing() -> None:
    """While other mails pass, the stage is ready."""
    one, record = proven(not_mailed())
    pauses_of(one, record, not_mailed(), 1)
    one.worked(Dependency.KEYCLOAK)
    still = one.problem
    one.worked(Dependency.KEYCLOAK | Dependency.MAIL)

    assert still is not None
    assert one.problem is None


def test_a_record_that_fails_alone_is_no_problem_of_a_member_that_has_it_no_more() -> None:
    """Its partition went to another one; an error knows the frames that it was raised through, and so the record."""
    one, record = proven(not_mailed())

    def raise_through(record: Task) -> None:
        try:
            raise not_mailed()
        except MailDeliveryError as error:
            pauses_of(one, record, error, 1)

    raise_through(record)
    during = one.problem
    del record

    assert (True, None) == (during is not None, one.problem)


def test_a_refused_mailbox_is_told_from_an_outage_by_the_greeting_of_the_server() -> None:
    """Where no other mail has passed: a server that greets refuses the mail, any other one is away."""
    given_up = {
        greets: len(pauses_of(failure_policy(), task(), not_mailed(greets=greets), 50))
        for greets in (True, False, None)
    }

    assert {True: 2, False: 50, None: 50} == given_up


@pytest.mark.parametrize(
    "error", [not_mailed(greets=False), KeycloakUnavailableError("gone", status=503)]
)
def test_an_outage_blames_no_record_that_failed_before(error: BridgeError) -> None:
    """The server is away, or a proxy answers in its place; the breaker opens and says so."""
    one, record = proven(error)

    assert 50 == len(pauses_of(one, record, error, 50))
    assert (BreakerState.OPEN, error) == (one.breaker.state, one.problem)


def test_many_that_fail_are_an_outage() -> None:
    """A server that greets and takes no mail at all, since its password has changed, waits for ever."""
    one, refused = failure_policy(), not_mailed(greets=True)
    records = [task() for _ in range(5)]
    for record in records:
        fail(one, record, refused)

    assert [50] * 5 == [len(pauses_of(one, record, refused, 50)) for record in records]
    one.worked(ALL_WELL, records.pop())
    del record  # its partition went to another member
    assert 2 == len(pauses_of(one, records[0], refused, 50))


def test_a_fault_of_the_bridge_always_counts() -> None:
    """No outage explains it."""
    one, record = failure_policy(max_attempts=3), task()

    assert [False, False, True] == [one.count_failure(record, BROKEN) for _ in range(3)]


@pytest.mark.parametrize(
    "error",
    [HoldError("later", wait_s=1.0), PartitionRevokedError("gone"), ConfigError("wrong")],
    ids=lambda error: error.code,
)
def test_what_is_no_failure_gives_nothing_up(error: BridgeError) -> None:
    """Not even a record that had reached its limit before, and could not be written as a dead letter."""
    one, record = failure_policy(max_attempts=1), task()
    before = one.count_failure(record, BROKEN)

    assert (True, False) == (before, one.count_failure(record, error))


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


def test_its_own_failure_is_not_one_of_others() -> None:
    """Asked before it is counted, and the snapshot taken after: one success of another is enough each time."""
    tally, attempts, seen = Tally(), 0, None
    for _ in range(9):
        tally.succeeded(ALL_WELL)
        attempts += tally.counts(seen, Dependency.KEYCLOAK)
        tally.failed(Dependency.KEYCLOAK)
        seen = tally.snapshot()

    assert 8 == attempts


@pytest.mark.parametrize(
    ("proven", "failed", "needs", "expected"),
    [
        (Dependency.KAFKA, None, Dependency.KAFKA, True),
        (Dependency.KAFKA, None, Dependency.KEYCLOAK, False),
        (ALL_WELL, None, Dependency.MAIL, False),
        (ALL_WELL | Dependency.MAIL, None, Dependency.MAIL, True),
        (Dependency.NONE, None, Dependency.KAFKA, False),
        (Dependency.KAFKA, None, Dependency.NONE, True),
        (ALL_WELL, None, ALL_WELL, True),
        (ALL_WELL, Dependency.MAIL, Dependency.KEYCLOAK, True),
    ],
)
def test_only_a_success_that_proves_the_need_counts(
    proven: Dependency, failed: Dependency | None, needs: Dependency, expected: bool
) -> None:
    """An invitation that was skipped says nothing about the mail server; failing mails excuse nothing else."""
    tally = Tally()
    seen = tally.snapshot()
    tally.succeeded(proven)
    if failed is not None:
        tally.failed(failed)

    assert expected == tally.counts(seen, needs)


def most_attempts(failing: float, seed: int, rounds: int = 400) -> int:
    """Return how far towards its limit any of sixteen users came; a success begins a new record."""
    chance = random.Random(seed)  # noqa: S311 - no secret
    tally, most = Tally(), 0
    seen: list[Snapshot | None] = [None] * 16
    attempts = [0] * 16
    for _ in range(rounds):
        for user in range(16):
            if chance.random() >= failing:
                tally.succeeded(ALL_WELL)
                seen[user], attempts[user] = None, 0
                continue
            attempts[user] += tally.counts(seen[user], Dependency.KEYCLOAK)
            tally.failed(Dependency.KEYCLOAK)
            seen[user] = tally.snapshot()
            most = max(most, attempts[user])
    return most


@pytest.mark.parametrize("failing", [0.05, 0.5, 0.9, 1.0])
@pytest.mark.parametrize("seed", [1, 2, 3])
def test_chance_and_outage_bring_no_record_to_its_limit(failing: float, seed: int) -> None:
    """A few per cent of failures, half a cluster down, all of it down: far from eight attempts."""
    assert most_attempts(failing, seed) < 5


seconds = st.floats(0.001, 3600, allow_nan=False)
policies = st.builds(RetryPolicy, initial_s=seconds, max_s=seconds)
attempts = st.integers(1, 10**9)
jitters = st.floats(0, 1, exclude_max=True)


@given(policies, attempts, jitters, jitters)
def test_a_pause_grows_with_attempt_and_jitter_within_its_bounds(
    policy: RetryPolicy, attempt: int, one: float, other: float
) -> None:
    """Bridges spread over the interval; backing off never turns around."""
    low, high = sorted((one, other))
    pause = delay_s(policy, attempt, low)

    assert min(policy.initial_s, policy.max_s) <= pause <= policy.max_s
    assert pause <= delay_s(policy, attempt, high)
    assert pause <= delay_s(policy, attempt + 1, low)


@given(policies, attempts, jitters, st.floats(0, 10**9))
def test_retry_after_is_kept_within_reason(
    policy: RetryPolicy, attempt: int, jitter: float, retry_after_s: float
) -> None:
    """Never sooner than the server asks for, but never beyond ten times the longest pause for it."""
    pause = delay_s(policy, attempt, jitter, retry_after_s)

    bound = policy.max_s * 10
    assert pause >= min(retry_after_s, bound)
    assert pause <= max(bound, policy.initial_s)


def test_each_failure_of_a_record_waits_longer() -> None:
    """Up to the limit; what is no failure does not count."""
    one, record = failure_policy(), task()
    waits = [fail(one, record, BROKEN) for _ in range(3)]
    fail(one, record, HoldError("later", wait_s=1.0))
    waits += [fail(one, record, BROKEN) for _ in range(2)]

    assert [1.0, 2.0, 4.0, 8.0, 8.0] == waits


def test_closing_empties_the_window() -> None:
    """The failures of an outage that is over are no share of what comes after it."""
    breaker = Breaker(POLICY, threshold=5, window=4)
    opened_now = []
    for _ in range(3):
        breaker.succeeded(ALL_WELL)
        opened_now.append(opens(breaker, Dependency.KEYCLOAK, 0.0, 0.0))

    assert [False, True, False] == opened_now


@pytest.mark.parametrize(
    "error",
    [BROKEN, HoldError("later", wait_s=1.0), PartitionRevokedError("gone")],
    ids=lambda error: error.code,
)
def test_what_proves_nothing_lets_the_next_record_probe(error: BridgeError) -> None:
    """The breaker stays as it is, and does not wait for an answer that never comes."""
    one = failure_policy()
    for _ in range(5):
        fail(one, task(), DOWN)
    probes = [one.breaker.admits(10.0), one.breaker.admits(10.0)]
    fail(one, task(), error, now_s=10.0)

    assert [True, False] == probes
    assert BreakerState.HALF_OPEN is one.breaker.state
    assert one.breaker.admits(10.0)
    assert DOWN is one.problem


def test_a_probe_that_fails_for_another_reason_adds_to_what_is_needed() -> None:
    """Both have to be seen working then."""
    breaker = opened()
    breaker.admits(101.0)
    breaker.failed(Dependency.KAFKA, 101.0, 0.0)

    assert ALL_WELL == breaker.needs


def test_stragglers_do_not_lengthen_the_pause() -> None:
    """Sixteen records fail together, which is one outage."""
    breaker = opened()
    for _ in range(16):
        breaker.failed(Dependency.KAFKA, 100.5, FULL, at_once=True, retry_after_s=50)

    assert (101.0, Dependency.KEYCLOAK) == (breaker.probe_at_s, breaker.needs)


def test_a_probe_that_proves_too_little_lets_the_next_one_try() -> None:
    """One record at a time, until what is needed was seen working."""
    breaker = opened()
    admitted = [breaker.admits(101.0), breaker.admits(101.0)]
    breaker.succeeded(Dependency.KAFKA)
    too_little = breaker.state
    admitted += [breaker.admits(101.0), breaker.admits(101.0)]
    breaker.succeeded(ALL_WELL)

    assert ([True, False, True, False], BreakerState.HALF_OPEN) == (admitted, too_little)
    assert (BreakerState.CLOSED, None, Dependency.NONE) == (
        breaker.state,
        breaker.probe_at_s,
        breaker.needs,
    )
