"""How much a server gets to write at once."""

import contextlib
import heapq
import random
import threading
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from functools import partial
from statistics import mean
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from threads import in_threads, join, started

from keycloak_bridge.delivery.concurrency_limit import ConcurrencyLimit
from keycloak_bridge.delivery.fencing import Fence, fenced
from keycloak_bridge.domain.errors import (
    BridgeError,
    KeycloakAuthError,
    KeycloakConflictError,
    KeycloakNotFoundError,
    KeycloakRejectedError,
    KeycloakUnavailableError,
    PartitionRevokedError,
)
from keycloak_bridge.domain.users import MatchCriterion
from keycloak_bridge.testing.fake_clock import FakeClock
from keycloak_bridge.testing.in_memory_keycloak import InMemoryKeycloak

LATE_S = 10.0


def singles(clock: FakeClock, most: int = 16, start: int = 8) -> ConcurrencyLimit:
    """Return a limit of calls for one user each."""
    return ConcurrencyLimit(clock, most=most, start=start)


def batches(clock: FakeClock, start: int = 100) -> ConcurrencyLimit:
    """Return a limit of calls for 5 to 50 users."""
    return ConcurrencyLimit(clock, most=400, start=start, batch=(5, 50))


def write(limit: ConcurrencyLimit, took_s: float, error: BaseException | None = None) -> None:
    """Have as many users as may be written at once written, each in `took_s` seconds and with this error."""
    turns = [limit.turn() for _ in range(limit.users)]
    for turn in turns:
        turn.__enter__()
    clock: Any = limit._clock
    clock.advance(took_s)
    for turn in turns:
        end(turn, error)


def end(turn: AbstractContextManager[None], error: BaseException | None) -> None:
    """End a call, with an error or without."""
    with contextlib.suppress(Exception, KeyboardInterrupt):
        turn.__exit__(None if error is None else type(error), error, None)


# who may begin


def test_no_more_run_than_the_limit_says() -> None:
    """Thirty threads: never more inside than are admitted, and all calls get in."""
    limit = singles(FakeClock(), most=4, start=4)
    lock, inside, most, turns = threading.Lock(), [0], [0], [0]

    def work() -> None:
        for _ in range(30):
            with limit.turn():
                with lock:
                    inside[0] += 1
                    most[0] = max(most[0], inside[0])
                    turns[0] += 1
                with lock:
                    inside[0] -= 1

    in_threads(*[work] * 30)

    assert (turns, limit.running) == ([900], 0)
    assert most[0] <= 4


def test_first_come_first_served() -> None:
    """No later call overtakes, although it is smaller, and what is too large is written when nothing else is."""
    limit = singles(FakeClock(), most=2, start=2)
    served: list[int] = []
    waiting: list[threading.Thread] = []

    def serve(size: int) -> None:
        with limit.turn(size):
            served.append(size)

    with limit.turn():
        for number, size in enumerate((5, 1, 2, 1)):
            waiting += started(partial(serve, size))
            while len(limit._waiting) <= number:
                pass

    join(waiting)
    assert served[0] == 5
    assert sorted(served) == [1, 1, 2, 5]


# what counts


@pytest.mark.parametrize(
    ("error", "users"),
    [
        (None, 4),
        (KeycloakUnavailableError("timed out"), 4),
        (KeycloakUnavailableError("too many requests", status=429), 4),
        (KeycloakUnavailableError("unavailable", status=503), 4),
        (KeycloakUnavailableError("unknown_error", status=500), 8),
        (KeycloakConflictError("taken", status=409), 8),
        (KeycloakNotFoundError("gone", status=404), 8),
        (KeycloakRejectedError("bad", status=400), 8),
        (KeycloakAuthError("no role", status=403), 8),
        (PartitionRevokedError("another member's"), 8),
        (KeyboardInterrupt(), 8),
    ],
    ids=lambda one: type(one).__name__ if isinstance(one, BaseException) else str(one),
)
def test_late_answers_and_none_halve_it_once(error: BaseException | None, users: int) -> None:
    """For all that ran at that moment. What may be one user's fault, or is no answer to a write, says nothing."""
    limit = singles(FakeClock())

    write(limit, LATE_S, error)

    assert (limit.users, limit.running) == (users, 0)


@pytest.mark.parametrize(("took_s", "users"), [(0.0, 9), (0.2, 9), (0.3, 8), (0.5, 8)])
def test_one_more_at_a_time_while_answers_come_soon(took_s: float, users: int) -> None:
    """In between it stays, so that it does not swing to and fro."""
    limit = singles(FakeClock())

    for _ in range(10):
        write(limit, took_s)

    assert limit.users == users


def test_what_is_not_used_does_not_grow() -> None:
    """A limit that is never reached says nothing about what Keycloak can take."""
    limit = singles(FakeClock())
    for _ in range(100):
        with limit.turn():
            pass

    assert limit.users == 8


def test_half_of_what_ran_is_left() -> None:
    """Not half of a limit that was never reached: that would take many late answers."""
    clock = FakeClock()
    limit = singles(clock, most=100, start=100)
    with limit.turn(), limit.turn(), limit.turn(), limit.turn():
        clock.advance(LATE_S)

    assert limit.users == 2


class SlowKeycloak(InMemoryKeycloak):
    """A realm of so many users that every search takes long."""

    def __init__(self, clock: FakeClock) -> None:
        super().__init__(groups=["/staff"])
        self._clock = clock

    def __getattribute__(self, name: str) -> Any:
        """Let the time of a search pass with each call that is no write to a user itself."""
        if name in ("find", "having", "get", "join", "users", "execute_actions_email"):
            object.__getattribute__(self, "_clock").advance(LATE_S)
        return object.__getattribute__(self, name)


@pytest.mark.parametrize("call", ["create", "update", "delete"])
def test_slow_searches_say_nothing_about_writes(call: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nor do mails and memberships; a slow write does."""
    clock = FakeClock()
    limit = singles(clock)
    keycloak = SlowKeycloak(clock)
    users = fenced(keycloak, Fence(), limit)
    for name in ("ada", "bob"):
        users.find([MatchCriterion("username", name)])
        user = users.create({"username": name, "enabled": True})
        users.join(user, "groups", ["/staff"])
        users.having(MatchCriterion("username", name))
        users.update(user, {"username": name, "enabled": False})
    before = limit.users
    monkeypatch.setattr(keycloak, call, lambda *_: clock.advance(LATE_S))
    getattr(users, call)("id", {})

    assert (before, limit.users) == (8, 1)


# a server, as a discrete-event simulation


@dataclass
class Server:
    """Some cores and one queue. A call costs a core `call_s`, and `user_s` for each of its users, give or take a fifth.

    All of it is `slower` at some moments, and at some it `fails`.
    """

    cores: int = 2
    call_s: float = 0.002
    user_s: float = 0.008
    slower: Callable[[float], float] = lambda _at_s: 1.0
    fails: Callable[[float], bool] = lambda _at_s: False
    clock: FakeClock = field(default_factory=FakeClock)
    ended: list[tuple[float, float, int, int]] = field(default_factory=list)
    """When, how long it took, for how many users (0 where it failed), and the limit then."""

    def run(self, limit: ConcurrencyLimit, until_s: float) -> "Server":
        """Have as much written as `limit` admits."""
        dice = random.Random(1)  # noqa: S311
        free_s = [0.0] * self.cores
        running: list[tuple[float, int, float, int, Any]] = []
        now_s, calls = 0.0, 0
        while now_s < until_s:
            while limit.admits(size := limit.batch_size):
                turn = limit.turn(size)
                turn.__enter__()
                cost_s = (self.call_s + self.user_s * size) * self.slower(now_s)
                core = free_s.index(min(free_s))
                free_s[core] = max(now_s, free_s[core]) + cost_s * dice.lognormvariate(0, 0.2)
                calls += 1
                heapq.heappush(running, (free_s[core], calls, now_s, size, turn))
            end_s, _, begun_s, size, turn = heapq.heappop(running)
            self.clock.advance(end_s - now_s)
            now_s = end_s
            failed = self.fails(now_s)
            end(turn, KeycloakUnavailableError("down", status=503) if failed else None)
            self.ended.append((now_s, now_s - begun_s, 0 if failed else size, limit.users))
        return self

    def throughput(self, from_s: float, to_s: float) -> float:
        """Return the users that were written in a second."""
        return sum(size for at_s, _, size, _ in self.ended if from_s <= at_s < to_s) / (
            to_s - from_s
        )

    def capacity(self, size: int) -> float:
        """Return the users a second with calls of this size on cores that never wait."""
        return self.cores * size / (self.call_s + self.user_s * size)

    def latency_s(self, from_s: float, to_s: float) -> float:
        """Return what a call took on average."""
        return mean(took_s for at_s, took_s, _, _ in self.ended if from_s <= at_s < to_s)

    def limits(self, from_s: float, to_s: float) -> list[int]:
        """Return the limits of that time."""
        return [limit for at_s, _, _, limit in self.ended if from_s <= at_s < to_s]


KINDS: dict[str, Callable[[FakeClock], ConcurrencyLimit]] = {"singles": singles, "batches": batches}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("cores", [1, 2, 4])
@pytest.mark.parametrize("user_s", [0.001, 0.008, 0.03])
def test_settles_where_the_server_is_busy_and_answers_soon(
    kind: str, cores: int, user_s: float
) -> None:
    """Nearly all that the server can do, and no answer that takes much longer than it should."""
    clock = FakeClock()
    limit = KINDS[kind](clock)
    server = Server(cores, user_s=user_s, clock=clock).run(limit, 40)

    assert server.throughput(20, 40) >= 0.9 * server.capacity(limit.batch_size)
    assert server.latency_s(20, 40) <= 0.5


@pytest.mark.parametrize("kind", KINDS)
def test_from_the_smallest_to_where_it_settles(kind: str) -> None:
    """In a few seconds, and the batches grow with it."""
    clock = FakeClock()
    limit = singles(clock, start=1) if kind == "singles" else batches(clock, start=5)
    first = limit.batch_size
    server = Server(cores=4, user_s=0.004, clock=clock).run(limit, 10)

    assert server.throughput(5, 10) >= 0.9 * server.capacity(limit.batch_size)
    assert (first, limit.batch_size) == ((1, 1) if kind == "singles" else (5, 50))


@pytest.mark.parametrize("kind", KINDS)
def test_gives_way_to_a_server_that_slows_down_and_comes_back(kind: str) -> None:
    """Twenty times slower for a while: at least halved soon, and what it was later."""
    clock = FakeClock()
    server = Server(cores=4, slower=lambda at_s: 20.0 if 40 <= at_s < 70 else 1.0, clock=clock).run(
        KINDS[kind](clock), 130
    )

    before = mean(server.limits(30, 40))
    assert max(server.limits(50, 70)) <= before / 2
    assert mean(server.limits(120, 130)) >= 0.8 * before


@pytest.mark.parametrize("kind", KINDS)
def test_a_server_that_is_slow_and_not_overloaded_is_used_well(kind: str) -> None:
    """No answer comes soon, however little is written: that is its speed."""
    clock = FakeClock()
    server = Server(cores=4, slower=lambda _: 80.0, clock=clock).run(KINDS[kind](clock), 600)

    size = 1 if kind == "singles" else 5
    assert server.throughput(200, 600) >= 0.6 * server.capacity(size) / 80


@pytest.mark.parametrize("kind", KINDS)
def test_errors_bring_the_limit_down_at_once(kind: str) -> None:
    """A server that cannot answer is left alone, and given more again when it can."""
    clock = FakeClock()
    server = Server(cores=4, fails=lambda at_s: 40 <= at_s < 45, clock=clock).run(
        KINDS[kind](clock), 70
    )

    assert set(server.limits(42, 45)) == {1 if kind == "singles" else 5}
    assert mean(server.limits(60, 70)) >= 0.8 * mean(server.limits(30, 40))


@given(
    st.integers(1, 5),
    st.integers(0, 5),
    st.integers(0, 30),
    st.lists(st.tuples(st.floats(0, 100), st.integers(1, 60), st.booleans()), max_size=150),
)
def test_stays_within_its_bounds(
    least: int, larger: int, more: int, calls: list[tuple[float, int, bool]]
) -> None:
    """Whatever comes."""
    clock = FakeClock()
    most = least + larger + more
    limit = ConcurrencyLimit(clock, most=most, start=least, batch=(least, least + larger))

    for took_s, size, fails in calls:
        with contextlib.suppress(BridgeError), limit.turn(size):
            clock.advance(took_s)
            if fails:
                raise KeycloakUnavailableError("down")

        assert least <= limit.users <= most
        assert least <= limit.batch_size <= least + larger
        assert limit.admits(limit.users + 1)


@pytest.mark.parametrize(
    ("most", "start", "batch"), [(1, 1, (0, 1)), (1, 2, (1, 1)), (9, 1, (2, 3)), (2, 2, (2, 3))]
)
def test_impossible_bounds_are_refused(most: int, start: int, batch: tuple[int, int]) -> None:
    """A limit of nothing would wait for ever."""
    with pytest.raises(ValueError, match="1 <= batch"):
        ConcurrencyLimit(FakeClock(), most=most, start=start, batch=batch)
