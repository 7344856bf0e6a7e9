"""The whole benchmark on one Keycloak: warm it, then every contender in every round, then the single looks."""

import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from bench.contenders import BURST, BY_USERNAME, TRICKLE, Run, compete, contenders, profiled
from bench.latency import latency
from bench.machine import usage
from bench.rivals import Rivals
from bench.samples import StandstillError
from bench.services import Ground, Services
from bench.sizes import Sizes
from bench.users import MAPPING, USERNAME_MAPPING, make_people
from bench.warming import WINDOW, batch_due, is_steady, next_portion
from bench.wire import post_all, prepared_post
from keycloak_bridge.sandbox import SandboxError

Say = Callable[[str], None]

_WARM_REALM = 12_000
"""Users of a realm of the warm-up: a larger one would be slower to fill, and much slower to delete."""
_CALM_SHARE = 0.15
_CALM_STEP_S = 0.5
_CALM_PATIENCE_S = 20.0


def measure(services: Services, sizes: Sizes, built: Rivals, say: Say) -> dict[str, Any]:
    """Return everything that was measured on this Keycloak, as JSON."""
    began = time.monotonic()
    names = contenders(built, layouts=sizes.layouts > 0)
    warm_up = warm(services, sizes, say)
    trials = _round(services, names, sizes, built, say, number=0)
    runs: list[Run] = []
    for number in range(1, sizes.rounds + 1):
        # every other round backwards, so that no contender always goes first
        order = names if number % 2 else names[::-1]
        runs += _round(services, order, sizes, built, say, number=number)
    found: dict[str, Any] = {
        "warm_up": warm_up | {"trials": [run.to_json() for run in trials]},
        "runs": [run.to_json() for run in runs],
    }
    if sizes.profile:
        found["profile"] = profiles(services, sizes, say)
    if sizes.latency:
        say(f"latency: {sizes.latency} single events each way")
        prepare(services)
        found["latency"] = latency(services, sizes.latency)
    return found | {"took_s": round(time.monotonic() - began)}


def profiles(services: Services, sizes: Sizes, say: Say) -> dict[str, Mapping[str, float]]:
    """Return for both ways to write how the bridge's CPU is shared among packages; none where py-spy cannot look."""
    found: dict[str, Mapping[str, float]] = {}
    for contender in (TRICKLE, BURST):
        prepare(services)
        say(f"profile: {contender}")
        try:
            found[contender] = profiled(
                services, contender, make_people(f"profile{contender}", sizes.profile)
            )
        except (SandboxError, StandstillError) as error:
            say(f"no profile: {error}")
    return found


def _round(
    services: Services, names: Sequence[str], sizes: Sizes, built: Rivals, say: Say, *, number: int
) -> list[Run]:
    """Run every contender with the same users; round 0 is short."""
    count = sizes.events if number else sizes.trial
    runs = []
    for contender in names:
        mapping = USERNAME_MAPPING if contender == BY_USERNAME else MAPPING
        people = make_people(f"round{number}n", count, mapping)
        prepare(services)
        runs.append(compete(services, contender, people, number, built))
        say(_told(runs[-1]))
    return runs


@dataclass(slots=True)
class WarmUp:
    """A warm-up as it went: each portion that came one by one, and each run in batches."""

    users: int = 0
    rates: list[float] = field(default_factory=list)
    cpu_ms: list[float] = field(default_factory=list)
    """CPU of Keycloak for each user of a portion."""
    batches: list[Run] = field(default_factory=list)

    @property
    def batched(self) -> int:
        """Return how many users came in batches."""
        return sum(run.users for run in self.batches)

    def to_json(self) -> dict[str, object]:
        """Return it as JSON."""
        return {
            "users": self.users,
            "rate_of_each_thousand": self.rates,
            "keycloak_cpu_ms_of_each_thousand": self.cpu_ms,
            "steady": is_steady(self.cpu_ms),
            "batches": [run.to_json() for run in self.batches],
        }


def warm(services: Services, sizes: Sizes, say: Say) -> dict[str, object]:
    """Let Keycloak compile what it needs: users one by one and in batches, until its CPU for them is steady."""
    so_far = WarmUp()
    while _portion_after(so_far, sizes):
        first, end = so_far.users == 0, so_far.users + _WARM_REALM
        with services.ground(stays=first and services.tidy is not None) as ground:
            while so_far.users < end and (count := _portion_after(so_far, sizes)):
                _warm_one_by_one(ground, so_far, count, say)
                if due := batch_due(so_far.users, so_far.batched, sizes.warm):
                    _warm_in_batches(services, so_far, due, say)
    last = f"{statistics.median(so_far.cpu_ms[-WINDOW:]):.2f}" if so_far.cpu_ms else "unknown"
    steady = "steady" if is_steady(so_far.cpu_ms) else "not steady"
    say(f"warmed with {so_far.users:,} users; Keycloak's CPU is {steady}, {last} ms a user")
    return so_far.to_json()


def _portion_after(so_far: WarmUp, sizes: Sizes) -> int:
    return next_portion(so_far.users, so_far.cpu_ms, sizes.warm, sizes.warm_most)


def _warm_one_by_one(ground: Ground, so_far: WarmUp, count: int, say: Say) -> None:
    token, url, pid = ground.token(), ground.users_url, ground.services.keycloak_pid
    people = make_people(f"warm{so_far.users}n", count)
    requests = [prepared_post(url, token, person.body) for person in people]
    before = usage(pid).cpu_s
    rate = count / post_all(url, requests).at_s[-1]
    cpu_ms = 1000 * (usage(pid).cpu_s - before) / count
    so_far.users += count
    so_far.rates.append(round(rate, 1))
    so_far.cpu_ms.append(round(cpu_ms, 3))
    say(f"warm-up: {so_far.users:,} users, {rate:.0f} a second; CPU ms a user: {cpu_ms:.2f}")


def _warm_in_batches(services: Services, so_far: WarmUp, count: int, say: Say) -> None:
    people = make_people(f"warmbatch{so_far.users}n", count)
    so_far.batches.append(compete(services, BURST, people, 0, Rivals({})))
    say(_told(so_far.batches[-1], "warm-up"))


def prepare(services: Services) -> None:
    """Bring the database to the state that every run starts from, and wait until Keycloak is idle, within reason."""
    if services.tidy is not None:
        services.tidy()
    deadline = time.monotonic() + _CALM_PATIENCE_S
    while time.monotonic() < deadline:
        before = usage(services.keycloak_pid).cpu_s
        time.sleep(_CALM_STEP_S)
        if usage(services.keycloak_pid).cpu_s - before < _CALM_SHARE * _CALM_STEP_S:
            return


def _told(run: Run, before: str = "trial") -> str:
    """Return the run in a line; `before` is what it is called when it came before the first round."""
    name = f"{f'round {run.round}' if run.round else before}: {run.contender}"
    if run.problem:
        return f"{name} FAILED: {run.problem}"
    costs = ", ".join(f"{who} {value:.2f}" for who, value in run.cpu_ms.items())
    return f"{name}: {run.rate:.0f} a second; CPU ms a user: {costs}; {run.peak_mb:.0f} MB"
