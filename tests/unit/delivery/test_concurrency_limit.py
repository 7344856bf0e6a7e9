"""How many calls a server gets at once."""

import heapq
import random
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from statistics import mean

import pytest
from hypothesis import given
from hypothesis import strategies as st
from threads import in_threads, join, started

from keycloak_bridge.delivery.concurrency_limit import AdaptiveLimit, ConcurrencyLimit
from keycloak_bridge.domain.errors import KeycloakConflictError, KeycloakUnavailableError
from keycloak_bridge.testing.fake_clock import FakeClock


class Recorder(AdaptiveLimit):
    """Keeps what was reported to it."""

    def __init__(self, limit: int) -> None:
        super().__init__(1, limit, limit)
        self.notes: list[tuple[float, int, int, bool]] = []

    def note(self, latency_s: float, size: int, running: int, failed: bool, now_s: float) -> None:
        """Take it down."""
        self.notes.append((latency_s, size, running, failed))
        super().note(latency_s, size, running, failed, now_s)


def test_no_more_run_than_the_limit_says() -> None:
    """Thirty threads, a limit that changes: never more inside than were admitted, and all calls get in."""
    limiter = AdaptiveLimit(1, 4)
    limit = ConcurrencyLimit(limiter, FakeClock())
    lock, inside, most, turns = threading.Lock(), [0], [0], [0]

    def work() -> None:
        for _ in range(30):
            with limit.slot():
                with lock:
                    inside[0] += 1
                    most[0] = max(most[0], inside[0])
                    turns[0] += 1
                with lock:
                    inside[0] -= 1

    in_threads(*[work] * 30)

    assert turns == [900]
    assert most[0] <= 4
    assert limit.running == 0


def test_latency_size_and_failure_reach_the_limiter() -> None:
    """What could not be answered failed; what was refused is an answer."""
    clock, limiter = FakeClock(), Recorder(4)
    limit = ConcurrencyLimit(limiter, clock)

    with limit.slot(20):
        clock.advance(2)
    with pytest.raises(KeycloakUnavailableError), limit.slot():
        raise KeycloakUnavailableError("gone")
    with pytest.raises(KeycloakConflictError), limit.slot():
        raise KeycloakConflictError("taken")

    assert [(2, 20, 1, False), (0, 1, 1, True), (0, 1, 1, False)] == limiter.notes


@pytest.mark.parametrize("error", [KeycloakUnavailableError("one bad user"), KeyboardInterrupt()])
def test_what_was_excused_or_interrupted_says_nothing(error: BaseException) -> None:
    """One bad user fails a whole batch with a 500; that is not the server's weakness. An interrupt measures nothing."""
    limiter = Recorder(4)
    limit = ConcurrencyLimit(limiter, FakeClock())

    with pytest.raises(type(error)):
        _fail(limit, error)

    assert ([], 0) == (limiter.notes, limit.running)


def test_a_call_within_a_call_needs_no_turn() -> None:
    """A thread never waits for itself."""
    limit = ConcurrencyLimit(AdaptiveLimit(1, 1), FakeClock())

    with limit.slot(20) as outer, limit.slot() as inner:
        assert inner is outer
        assert limit.running == 1
    with limit.slot():
        assert limit.running == 1


def test_first_come_first_served() -> None:
    """No later call overtakes."""
    limit = ConcurrencyLimit(AdaptiveLimit(1, 1), FakeClock())
    served: list[int] = []
    waiting: list[threading.Thread] = []

    with limit.slot():
        for number in range(5):
            waiting += started(partial(_serve, limit, served, number))
            while len(limit._waiting) <= number:
                pass

    join(waiting)
    assert served == [0, 1, 2, 3, 4]


def test_closing_admits_all_calls() -> None:
    """A bridge that ends leaves no thread waiting."""
    limit = ConcurrencyLimit(AdaptiveLimit(1, 1), FakeClock())
    served: list[int] = []

    with limit.slot():
        waiting = started(*[partial(_serve, limit, served, 1)] * 5)
        while len(limit._waiting) < 5:
            pass
        limit.close()
        join(waiting)

    assert served == [1] * 5
    assert limit.running == 0


def _serve(limit: ConcurrencyLimit, served: list[int], number: int) -> None:
    with limit.slot():
        served.append(number)


def _fail(limit: ConcurrencyLimit, error: BaseException) -> None:
    with limit.slot(20) as turn:
        if isinstance(error, Exception):
            turn.excuse()
        raise error


COST_S = 0.03
SIZE = 20
MOST = 64


class FixedLimit(AdaptiveLimit):
    """Learns nothing."""

    def __init__(self, limit: int) -> None:
        super().__init__(limit, limit, limit)


@dataclass
class Server:
    """Some cores, one queue, and time on the way that takes no core; as a discrete-event simulation.

    A call costs a core `COST_S` seconds, give or take `spread`, times what `slower` says of the moment.
    """

    cores: int = 2
    on_the_way: float = 0.5
    spread: float = 0.2
    slower: Callable[[float], float] = lambda _at_s: 1.0
    fails: Callable[[float], bool] = lambda _at_s: False
    offered: int = MOST
    size: Callable[[random.Random], int] = lambda _dice: SIZE
    ended: list[tuple[float, float, bool, int]] = field(default_factory=list)

    def run(self, limiter: AdaptiveLimit, until_s: float) -> "Server":
        """Give it as many calls at once as `limiter` admits; what ended is in `ended`, with the limit at that moment."""
        dice = random.Random(1)  # noqa: S311
        free_s = [0.0] * self.cores
        running: list[tuple[float, float, int]] = []
        now_s = 0.0
        while now_s < until_s:
            while len(running) < self.offered and limiter.admits(len(running)):
                size = self.size(dice)
                cost_s = COST_S * self.slower(now_s) * (size / SIZE)
                way_s = self.on_the_way * cost_s / 2
                core = free_s.index(min(free_s))
                begin_s = max(now_s + way_s, free_s[core])
                free_s[core] = begin_s + cost_s * dice.lognormvariate(0, self.spread)
                heapq.heappush(running, (free_s[core] + way_s, now_s, size))
            now_s, begun_s, size = heapq.heappop(running)
            failed = self.fails(now_s)
            limiter.note(now_s - begun_s, size, len(running) + 1, failed, now_s)
            self.ended.append((now_s, now_s - begun_s, failed, limiter.limit))
        return self

    def throughput(self, from_s: float, to_s: float) -> float:
        """Return the calls that succeeded in a second."""
        good = [1 for at_s, _, failed, _ in self.ended if from_s <= at_s < to_s and not failed]
        return len(good) / (to_s - from_s)

    def latency_s(self, from_s: float, to_s: float) -> float:
        """Return what a call took on average."""
        return mean(took_s for at_s, took_s, _, _ in self.ended if from_s <= at_s < to_s)

    def limits(self, from_s: float, to_s: float) -> list[int]:
        """Return the limits of that time."""
        return [limit for at_s, _, _, limit in self.ended if from_s <= at_s < to_s]


@pytest.mark.parametrize("cores", [1, 2, 12])
@pytest.mark.parametrize("on_the_way", [0.0, 1.0])
@pytest.mark.parametrize("start", [1, 4, 32])
def test_settles_near_the_knee(cores: int, on_the_way: float, start: int) -> None:
    """Nearly all that the server can do, without a long queue, from wherever it began."""
    best = max(
        Server(cores, on_the_way).run(FixedLimit(limit), 10).throughput(2, 10)
        for limit in (1, 4, 16, 64)
    )
    alone_s = Server(cores, on_the_way).run(FixedLimit(1), 5).latency_s(0, 5)

    server = Server(cores, on_the_way).run(AdaptiveLimit(1, MOST, start), 60)

    assert server.throughput(40, 60) >= 0.9 * best
    assert server.latency_s(40, 60) <= 3 * alone_s


def test_gives_way_to_a_server_that_slows_down_and_comes_back() -> None:
    """Four times slower for a while: at least halved soon, and what it was later."""
    server = Server(cores=4, slower=lambda at_s: 4.0 if 40 <= at_s < 70 else 1.0)

    server.run(AdaptiveLimit(1, MOST), 130)

    before, soon = mean(server.limits(30, 40)), server.limits(42, 44)
    assert max(soon) <= before / 2
    assert mean(server.limits(120, 130)) >= 0.8 * before


def test_a_slower_server_is_used_well_once_it_is_known_to_be_slower() -> None:
    """What was quick once is forgotten: the pace of today is the measure."""
    server = Server(cores=4, slower=lambda at_s: 4.0 if at_s >= 40 else 1.0)
    best = Server(cores=4, slower=lambda _: 4.0).run(FixedLimit(16), 30).throughput(5, 30)

    server.run(AdaptiveLimit(1, MOST), 160)

    assert server.throughput(100, 160) >= 0.9 * best


def test_errors_bring_the_limit_down_at_once() -> None:
    """A server that cannot answer is left alone, and given more again when it can."""
    server = Server(cores=4, fails=lambda at_s: 40 <= at_s < 45)

    server.run(AdaptiveLimit(1, MOST), 70)

    assert server.limits(41, 45) == [1] * len(server.limits(41, 45))
    assert mean(server.limits(60, 70)) >= 0.8 * mean(server.limits(30, 40))


def test_one_burst_of_errors_cuts_once() -> None:
    """What had begun before the cut says nothing new."""
    limiter = AdaptiveLimit(1, MOST, 16)

    for number in range(16):
        limiter.note(1.0, SIZE, 16 - number, True, 10.0 + number / 100)

    assert limiter.limit == 8


def test_what_is_not_used_does_not_grow() -> None:
    """A limit that is never reached says nothing about what the server can take."""
    server = Server(cores=16, offered=3).run(AdaptiveLimit(1, MOST, 4), 30)

    assert max(server.limits(0, 30)) == 4


def test_batches_and_single_users_share_a_limit() -> None:
    """A single user takes longer than a user in a batch; that is no queue."""
    sizes: list[int] = [1, SIZE]
    server = Server(cores=4, size=lambda dice: dice.choice(sizes))

    server.run(AdaptiveLimit(1, MOST), 60)

    assert mean(server.limits(30, 60)) >= 4


@given(
    st.integers(1, 5),
    st.integers(0, 30),
    st.lists(
        st.tuples(
            st.floats(0, 100),
            st.integers(0, 60),
            st.integers(0, 60),
            st.booleans(),
            st.floats(0, 10),
        ),
        max_size=150,
    ),
)
def test_stays_within_its_bounds(
    least: int, more: int, ends: list[tuple[float, int, int, bool, float]]
) -> None:
    """Whatever is reported, the limit is between the least and the most, and admits no more than it says."""
    limiter = AdaptiveLimit(least, least + more)
    now_s = 0.0

    for latency_s, size, running, failed, pause_s in ends:
        now_s += pause_s
        limiter.note(latency_s, size, running, failed, now_s)

        assert least <= limiter.limit <= least + more
        assert limiter.admits(limiter.limit - 1)
        assert not limiter.admits(limiter.limit)


@pytest.mark.parametrize(("least", "most", "start"), [(0, 1, 1), (2, 1, 1), (1, 3, 4), (2, 3, 1)])
def test_impossible_bounds_are_refused(least: int, most: int, start: int) -> None:
    """A limit of nothing would wait for ever."""
    with pytest.raises(ValueError, match="1 <= least"):
        AdaptiveLimit(least, most, start)
