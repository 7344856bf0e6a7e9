"""The warm-up lasts until Keycloak's CPU for a user is steady, within its bounds."""

import contextlib
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import pytest

from bench import program
from bench.contenders import Run
from bench.machine import Usage
from bench.sizes import Sizes
from bench.users import make_people
from bench.warming import batch_due, is_steady, next_portion
from bench.wire import Posted

FALLING = [4.2, 3.9, 3.5, 3.3, 3.1, 2.9, 2.7, 2.6]
STEADY = [*FALLING, 2.5, 2.4, 2.45, 2.4, 2.4, 2.42, 2.38, 2.4]


@pytest.mark.parametrize(
    ("cpu_ms", "expected"),
    [
        ([], False),
        ([2.4] * 7, False),
        ([2.4] * 8, True),
        (FALLING, False),
        (STEADY, True),
        ([2.0] * 4 + [1.91] * 4, True),
        ([2.0] * 4 + [1.89] * 4, False),
        ([2.0] * 4 + [2.11] * 4, False),
        ([2.0] * 4 + [2.0, 9.0, 2.0, 2.0], True),
        ([9.0] * 50 + [2.4] * 8, True),
    ],
    ids=str,
)
def test_cpu_is_steady_when_the_last_portions_are_as_those_before(
    cpu_ms: list[float], expected: bool
) -> None:
    """Within 5 percent, up or down, by medians of four; one bad portion changes nothing, and older ones do not count."""
    assert expected == is_steady(cpu_ms)


@pytest.mark.parametrize(
    ("users", "cpu_ms", "least", "most", "expected"),
    [
        (0, [], 12_000, 60_000, 1000),
        (8_000, [2.4] * 8, 12_000, 60_000, 1000),
        (12_000, STEADY, 12_000, 60_000, 0),
        (12_000, FALLING, 12_000, 60_000, 1000),
        (59_500, FALLING, 12_000, 60_000, 500),
        (60_000, FALLING, 12_000, 60_000, 0),
        (1_000, [4.2], 1_500, 60_000, 500),
        (6_000, FALLING, 8_000, 6_000, 1000),
        (8_000, FALLING, 8_000, 6_000, 0),
        (0, [], 0, 0, 0),
    ],
    ids=str,
)
def test_the_warm_up_goes_on_until_it_is_steady(
    users: int, cpu_ms: list[float], least: int, most: int, expected: int
) -> None:
    """In portions of a thousand, of which the last one is what is left; with the least number of users in any case."""
    assert expected == next_portion(users, cpu_ms, least, most)


def test_batches_have_their_share() -> None:
    """A third of what comes one by one, twice in the least warm-up, and as often again for each that is added."""
    batched, due_at = 0, {}
    for posted in range(1000, 24_001, 1000):
        if due := batch_due(posted, batched, 12_000):
            due_at[posted] = due
            batched += due

    assert {6_000: 2_000, 12_000: 2_000, 18_000: 2_000, 24_000: 2_000} == due_at


@pytest.mark.parametrize(("posted", "expected"), [(2_000, 0), (3_000, 1_000), (4_000, 1_333)])
def test_a_short_warm_up_has_batches_too(posted: int, expected: int) -> None:
    """Never fewer than a thousand, for which the bridge writes batches."""
    assert expected == batch_due(posted, 0, 4_000)


class Ground:
    """A realm that takes everything."""

    users_url = "http://127.0.0.1/users"

    def __init__(self, services: "Warmed") -> None:
        self.services = services

    def token(self) -> str:
        """Return a token."""
        return "t"


class Warmed:
    """A place whose Keycloak needs the CPU of STEADY, a thousand users after the other."""

    keycloak_pid = 1

    def __init__(self, tidy: Callable[[], None] | None) -> None:
        self.tidy = tidy
        self.stayed: list[bool] = []
        self.portions = 0

    @contextlib.contextmanager
    def ground(self, *, stays: bool) -> Iterator[Ground]:
        """Lend a realm, and note whether it stays."""
        self.stayed.append(stays)
        yield Ground(self)

    def used(self) -> float:
        """Return the CPU so far, in seconds."""
        return sum(STEADY[: self.portions])


@pytest.mark.parametrize(
    ("tidy", "stayed"), [(None, [False, False]), (lambda: None, [True, False])]
)
def test_the_warm_up_ends_when_keycloak_is_steady(
    monkeypatch: pytest.MonkeyPatch, tidy: Callable[[], None] | None, stayed: list[bool]
) -> None:
    """It tells the CPU of each portion and the runs in batches; its first realm stays where the database is tidied."""
    services: Any = Warmed(tidy)

    def post_all(_: str, requests: Sequence[bytes]) -> Posted:
        services.portions += 1
        return Posted([1.0] * len(requests), 0.0)

    monkeypatch.setattr(program, "post_all", post_all)
    monkeypatch.setattr(program, "usage", lambda _: Usage(services.used(), 0.0, 0.0))
    monkeypatch.setattr(program, "compete", lambda _, name, people, *__: Run(name, 0, len(people)))
    monkeypatch.setattr(program, "make_people", lambda _, count: make_people("w", 1) * count)

    found: Any = program.warm(services, Sizes(warm=6_000), lambda _: None)

    assert (STEADY[:15], True) == (found["keycloak_cpu_ms_of_each_thousand"], found["steady"])
    assert (15_000, stayed) == (found["users"], services.stayed)
    assert {("burst", 1_000)} == {(run["contender"], run["users"]) for run in found["batches"]}
    assert 5 == len(found["batches"])


def test_a_run_begins_with_a_database_in_order(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is tidied, and then Keycloak is waited for."""
    steps: list[str] = []
    services: Any = Warmed(lambda: steps.append("tidied"))
    monkeypatch.setattr("bench.program.time.sleep", lambda _: steps.append("waited"))
    monkeypatch.setattr(program, "usage", lambda _: Usage(0.0, 0.0, 0.0))

    program.prepare(services)

    assert ["tidied", "waited"] == steps
