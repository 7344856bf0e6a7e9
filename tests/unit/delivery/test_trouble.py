import pytest

from keycloak_bridge.delivery.breaker import BreakerState, FailurePolicy
from keycloak_bridge.delivery.key_queues import Task
from keycloak_bridge.delivery.retry import RetryPolicy
from keycloak_bridge.domain.errors import (
    BridgeError,
    BrokerUnavailableError,
    ConfigError,
    HoldError,
    InternalError,
    KeycloakAuthError,
    KeycloakUnavailableError,
    PartitionRevokedError,
)
from keycloak_bridge.domain.events import Record
from keycloak_bridge.domain.ports import Dependency

DOWN = KeycloakUnavailableError("down")
BROKEN = InternalError("broken")
POLICY = RetryPolicy(initial_s=1.0, max_s=8.0)


def task() -> Task:
    return Task(Record("user-events", 0, 0, 0, b"ada", b"{}"), b"ada")


def trouble(max_attempts: int = 3) -> FailurePolicy:
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
    assert until_s == fail(trouble(), task(), error, now_s=100.0)


def test_each_failure_of_a_record_waits_longer() -> None:
    """Up to the limit; what is no failure does not count."""
    one, record = trouble(), task()
    waits = [fail(one, record, BROKEN) for _ in range(3)]
    fail(one, record, HoldError("later", wait_s=1.0))
    waits += [fail(one, record, BROKEN) for _ in range(2)]

    assert [1.0, 2.0, 4.0, 8.0, 8.0] == waits


def test_an_outage_is_named_until_it_is_over() -> None:
    """The last error; only a record that proves what is needed ends it."""
    one = trouble()
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
    """But one refusal of the service account is: every record would be refused."""
    one = trouble()
    fail(one, task(), DOWN)
    single = (one.breaker.state, one.problem)
    refused = KeycloakAuthError("refused")
    fail(one, task(), refused)

    assert (BreakerState.CLOSED, None) == single
    assert refused is one.problem


@pytest.mark.parametrize(
    "error",
    [BROKEN, HoldError("later", wait_s=1.0), PartitionRevokedError("gone")],
    ids=lambda error: error.code,
)
def test_what_proves_nothing_lets_the_next_record_probe(error: BridgeError) -> None:
    """The breaker stays as it is, and does not wait for an answer that never comes."""
    one = trouble()
    for _ in range(5):
        fail(one, task(), DOWN)
    probes = [one.breaker.admits(10.0), one.breaker.admits(10.0)]
    fail(one, task(), error, now_s=10.0)

    assert [True, False] == probes
    assert BreakerState.HALF_OPEN is one.breaker.state
    assert one.breaker.admits(10.0)
    assert DOWN is one.problem


def test_a_failure_counts_when_others_succeed_meanwhile() -> None:
    """A record that fails alone reaches its limit; in an outage nothing counts."""
    one, record = trouble(max_attempts=2), task()
    given_up = []
    for successes in (0, 0, 1, 0, 1):
        for _ in range(successes):
            one.worked(Dependency.KEYCLOAK)
        given_up.append(one.gives_up(record, DOWN))
        fail(one, record, DOWN)

    assert [False, False, False, False, True] == given_up


def test_what_others_prove_must_be_what_the_record_needs() -> None:
    """Records that never ask Keycloak say nothing about one that fails there."""
    one, record = trouble(max_attempts=1), task()
    fail(one, record, DOWN)
    for _ in range(10):
        one.worked(Dependency.KAFKA)

    assert not one.gives_up(record, DOWN)


def test_a_fault_of_the_bridge_always_counts() -> None:
    """No outage explains it."""
    one, record = trouble(max_attempts=3), task()

    assert [False, False, True] == [one.gives_up(record, BROKEN) for _ in range(3)]


@pytest.mark.parametrize(
    "error",
    [HoldError("later", wait_s=1.0), PartitionRevokedError("gone"), ConfigError("wrong")],
    ids=lambda error: error.code,
)
def test_what_is_no_failure_gives_nothing_up(error: BridgeError) -> None:
    """Not even a record that had reached its limit before, and could not be written as a dead letter."""
    one, record = trouble(max_attempts=1), task()
    before = one.gives_up(record, BROKEN)

    assert (True, False) == (before, one.gives_up(record, error))
