"""The whole benchmark on one Keycloak: warm it, then every contender in every round, then the single looks."""

import time
from collections.abc import Callable, Sequence
from typing import Any

from bench.contenders import MAILS, Run, compete, contenders
from bench.crowd import Person, crowd
from bench.footprint import start_and_rest, under_backlog
from bench.latency import latency
from bench.place import Ground, Place
from bench.processes import usage
from bench.sizes import Sizes
from bench.wire import post_all, prepared_post

Say = Callable[[str], None]

_WARM_PORTION = 1000
_CALM_SHARE = 0.15
_CALM_STEP_S = 0.5
_CALM_PATIENCE_S = 20.0


def measure(place: Place, sizes: Sizes, say: Say, *, weigh: bool = True) -> dict[str, Any]:
    """Return everything that was measured, as JSON; `weigh` looks at the bridge's memory and rest too."""
    began = time.monotonic()
    warm_up = _warm(place, sizes, say)
    runs: list[Run] = []
    starts = []
    for number in range(1, sizes.rounds + 1):
        people = crowd(f"round{number}n", sizes.events)
        for contender in _order(number):
            runs.append(_one(place, contender, people, sizes, number))
            say(_told(runs[-1]))
        if weigh and sizes.idle_s:
            starts.append(start_and_rest(place, number, sizes.idle_s))
            say(f"round {number}: start to first event {starts[-1]['start_to_first_event_s']} s")
    found: dict[str, Any] = {
        "warm_up": warm_up,
        "runs": [run.to_json() for run in runs],
        "rest": starts,
    }
    if sizes.latency:
        say(f"latency: {sizes.latency} single events each way")
        found["latency"] = latency(place, sizes.latency)
    if weigh and sizes.backlog:
        say(f"footprint: {sizes.backlog:,} records are published first")
        found["backlog"] = under_backlog(place, sizes.backlog, sizes.backlog_s)
    return found | {"took_s": round(time.monotonic() - began)}


def _order(number: int) -> Sequence[str]:
    """Return the contenders, every other round backwards, so that no one always goes first."""
    order = contenders()
    return order if number % 2 else order[::-1]


def _one(place: Place, contender: str, people: Sequence[Person], sizes: Sizes, number: int) -> Run:
    _calm(place)
    chosen = people[: sizes.mails] if contender == MAILS else people
    return compete(place, contender, chosen, number)


def _warm(place: Place, sizes: Sizes, say: Say) -> dict[str, object]:
    """Let Keycloak compile what it needs: the bare client first, then a short run of every contender."""
    curve = []
    with place.ground() as ground:
        for begin in range(0, sizes.warm, _WARM_PORTION):
            rate = _warm_portion(ground, f"warm{begin}n", min(_WARM_PORTION, sizes.warm - begin))
            curve.append(round(rate, 1))
            say(f"warm-up: {begin + _WARM_PORTION:,} users, {rate:.0f} a second")
    short = crowd("trial", max(1000, sizes.events // 2))
    trials = []
    for name in contenders():
        trials.append(_one(place, name, short, sizes, 0))
        say(_told(trials[-1]))
    return {
        "users": sizes.warm,
        "rate_of_each_thousand": curve,
        "trials": [run.to_json() for run in trials],
    }


def _warm_portion(ground: Ground, tag: str, count: int) -> float:
    token, url = ground.token(), ground.users_url
    requests = [prepared_post(url, token, person.body) for person in crowd(tag, count)]
    return count / post_all(url, requests).at_s[-1]


def _calm(place: Place) -> None:
    """Wait until Keycloak has finished what the run before has left to do, within reason."""
    deadline = time.monotonic() + _CALM_PATIENCE_S
    while time.monotonic() < deadline:
        before = usage(place.keycloak_pid).cpu_s
        time.sleep(_CALM_STEP_S)
        if usage(place.keycloak_pid).cpu_s - before < _CALM_SHARE * _CALM_STEP_S:
            return


def _told(run: Run) -> str:
    name = f"round {run.round}: {run.contender}" if run.round else f"trial: {run.contender}"
    if run.problem:
        return f"{name} FAILED: {run.problem}"
    costs = ", ".join(f"{who} {value:.2f}" for who, value in run.cpu_ms.items())
    return f"{name}: {run.rate:.0f} a second; CPU ms a user: {costs}"
