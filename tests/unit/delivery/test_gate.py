"""Who waits for whom before Keycloak is called."""

import threading
from collections.abc import Callable

import pytest

from keycloak_bridge.delivery.concurrency_limit import AdaptiveLimit, ConcurrencyLimit
from keycloak_bridge.domain.errors import KeycloakConflictError, KeycloakUnavailableError
from keycloak_bridge.testing.fake_clock import FakeClock

_PATIENCE_S = 30


class Recorder(AdaptiveLimit):
    """Keeps what it was told."""

    def __init__(self, limit: int) -> None:
        super().__init__(1, limit, limit)
        self.notes: list[tuple[float, int, int, bool]] = []

    def note(self, latency_s: float, size: int, running: int, failed: bool, now_s: float) -> None:
        """Take it down."""
        self.notes.append((latency_s, size, running, failed))
        super().note(latency_s, size, running, failed, now_s)


def threads(count: int, work: Callable[[], None]) -> list[threading.Thread]:
    """Return that many threads at `work`."""
    started = [threading.Thread(target=work, daemon=True) for _ in range(count)]
    for one in started:
        one.start()
    return started


def join(started: list[threading.Thread]) -> None:
    """See all of them end."""
    for one in started:
        one.join(_PATIENCE_S)
        assert not one.is_alive()


def test_no_more_run_than_the_limit_says() -> None:
    """Thirty threads, a limit that changes: never more inside than were admitted, and everybody gets in."""
    limiter = AdaptiveLimit(1, 4)
    gate = ConcurrencyLimit(limiter, FakeClock())
    lock, inside, most, turns = threading.Lock(), [0], [0], [0]

    def work() -> None:
        for _ in range(30):
            with gate.slot():
                with lock:
                    inside[0] += 1
                    most[0] = max(most[0], inside[0])
                    turns[0] += 1
                with lock:
                    inside[0] -= 1

    join(threads(30, work))

    assert turns == [900]
    assert most[0] <= 4
    assert gate.running == 0


def test_latency_size_and_failure_reach_the_limiter() -> None:
    """What could not be answered failed; what was refused is an answer."""
    clock, limiter = FakeClock(), Recorder(4)
    gate = ConcurrencyLimit(limiter, clock)

    with gate.slot(20):
        clock.advance(2)
    with pytest.raises(KeycloakUnavailableError), gate.slot():
        raise KeycloakUnavailableError("gone")
    with pytest.raises(KeycloakConflictError), gate.slot():
        raise KeycloakConflictError("taken")

    assert [(2, 20, 1, False), (0, 1, 1, True), (0, 1, 1, False)] == limiter.notes


def test_an_excused_failure_says_nothing() -> None:
    """One bad user fails a whole batch with a 500; that is not the server's weakness."""
    limiter = Recorder(4)
    gate = ConcurrencyLimit(limiter, FakeClock())

    with pytest.raises(KeycloakUnavailableError):
        _fail_excused(gate)

    assert limiter.notes == []
    assert gate.running == 0


def test_an_interrupted_call_says_nothing() -> None:
    """Whoever pressed Ctrl-C did not measure anything."""
    limiter = Recorder(4)
    gate = ConcurrencyLimit(limiter, FakeClock())

    with pytest.raises(KeyboardInterrupt), gate.slot():
        raise KeyboardInterrupt

    assert limiter.notes == []
    assert gate.running == 0


def test_a_call_within_a_call_needs_no_turn() -> None:
    """A thread never waits for itself."""
    gate = ConcurrencyLimit(AdaptiveLimit(1, 1), FakeClock())

    with gate.slot(20) as outer, gate.slot() as inner:
        assert inner is outer
        assert gate.running == 1
    with gate.slot():
        assert gate.running == 1


def test_first_come_first_served() -> None:
    """Nobody who asks later overtakes."""
    gate = ConcurrencyLimit(AdaptiveLimit(1, 1), FakeClock())
    served: list[int] = []
    waiting: list[threading.Thread] = []

    with gate.slot():
        for number in range(5):
            waiting += threads(1, lambda number=number: _serve(gate, served, number))  # type: ignore[misc]
            while gate.waiting <= number:
                pass

    join(waiting)
    assert served == [0, 1, 2, 3, 4]


def test_closing_admits_everybody() -> None:
    """A bridge that ends leaves no thread behind at the gate."""
    gate = ConcurrencyLimit(AdaptiveLimit(1, 1), FakeClock())
    served: list[int] = []

    with gate.slot():
        waiting = threads(5, lambda: _serve(gate, served, 1))
        while gate.waiting < 5:
            pass
        gate.close()
        join(waiting)

    assert served == [1] * 5
    assert gate.running == 0


def _serve(gate: ConcurrencyLimit, served: list[int], number: int) -> None:
    with gate.slot():
        served.append(number)


def _fail_excused(gate: ConcurrencyLimit) -> None:
    with gate.slot(20) as turn:
        turn.excuse()
        raise KeycloakUnavailableError("one bad user")
