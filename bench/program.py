"""The whole benchmark on one Keycloak: warm it, then every contender in every round, then the single looks."""

import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from bench.contenders import BURST, BY_USERNAME, TRICKLE, Run, compete, contenders, profiled
from bench.course import StandstillError
from bench.crowd import MAPPING, USERNAME_MAPPING, crowd
from bench.latency import latency
from bench.machine import usage
from bench.place import Ground, Place
from bench.rivals import Rivals
from bench.sizes import Sizes
from bench.wire import post_all, prepared_post
from keycloak_bridge.sandbox import SandboxError

Say = Callable[[str], None]

_WARM_PORTION = 1000
_CALM_SHARE = 0.15
_CALM_STEP_S = 0.5
_CALM_PATIENCE_S = 20.0


def measure(place: Place, sizes: Sizes, built: Rivals, say: Say) -> dict[str, Any]:
    """Return everything that was measured on this Keycloak, as JSON."""
    began = time.monotonic()
    names = contenders(built, layouts=sizes.layouts > 0)
    warm_up = warm(place, sizes, say)
    trials = _round(place, names, sizes, built, say, number=0)
    runs: list[Run] = []
    for number in range(1, sizes.rounds + 1):
        # every other round backwards, so that no contender always goes first
        order = names if number % 2 else names[::-1]
        runs += _round(place, order, sizes, built, say, number=number)
    found: dict[str, Any] = {
        "warm_up": warm_up | {"trials": [run.to_json() for run in trials]},
        "runs": [run.to_json() for run in runs],
    }
    if sizes.profile:
        found["profile"] = profiles(place, sizes, say)
    if sizes.latency:
        say(f"latency: {sizes.latency} single events each way")
        found["latency"] = latency(place, sizes.latency)
    return found | {"took_s": round(time.monotonic() - began)}


def profiles(place: Place, sizes: Sizes, say: Say) -> dict[str, Mapping[str, float]]:
    """Return for both ways to write how the bridge's CPU is shared among packages; none where py-spy cannot look."""
    found: dict[str, Mapping[str, float]] = {}
    for contender in (TRICKLE, BURST):
        _calm(place)
        say(f"profile: {contender}")
        try:
            found[contender] = profiled(
                place, contender, crowd(f"profile{contender}", sizes.profile)
            )
        except (SandboxError, StandstillError) as error:
            say(f"no profile: {error}")
    return found


def _round(
    place: Place, names: Sequence[str], sizes: Sizes, built: Rivals, say: Say, *, number: int
) -> list[Run]:
    """Run every contender with the same users; round 0 is short."""
    count = sizes.events if number else sizes.trial
    runs = []
    for contender in names:
        mapping = USERNAME_MAPPING if contender == BY_USERNAME else MAPPING
        people = crowd(f"round{number}n", count, mapping)
        _calm(place)
        runs.append(compete(place, contender, people, number, built))
        say(_told(runs[-1]))
    return runs


def warm(place: Place, sizes: Sizes, say: Say) -> dict[str, object]:
    """Let Keycloak compile what it needs."""
    curve = []
    with place.ground() as ground:
        for begin in range(0, sizes.warm, _WARM_PORTION):
            rate = _warm_portion(ground, f"warm{begin}n", min(_WARM_PORTION, sizes.warm - begin))
            curve.append(round(rate, 1))
            say(f"warm-up: {begin + _WARM_PORTION:,} users, {rate:.0f} a second")
    return {"users": sizes.warm, "rate_of_each_thousand": curve}


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
    return f"{name}: {run.rate:.0f} a second; CPU ms a user: {costs}; {run.peak_mb:.0f} MB"
