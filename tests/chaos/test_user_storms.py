"""Scenario 7: hundreds of events of one user, in order, while calls fail here and there."""

import random
import threading
from collections import Counter
from collections.abc import Callable

import pytest
from fault_proxy import PASS, Fault, Rule
from population import Event, Population, changed, generate, settled
from report import record
from scene import Scene, Size
from verdict import judge

pytestmark = [pytest.mark.integration, pytest.mark.chaos, pytest.mark.full]

_STORMS = 3
_EVENTS = 200
_FAILING_SHARE = 0.05


def test_the_order_of_a_user_is_kept(open_scene: Callable[..., Scene], size: Size) -> None:
    """200 events of each of three users among all others, 5 % of the calls failing: in order, and rightly in the end."""

    def stormy(suffix: str, seed: int) -> Population:
        return _with_storms(generate(size.users, suffix, seed), seed)

    scene = open_scene(stormy, proxied=True)
    scene.bridges.start()
    with scene.proxy.failing(_failing_now_and_then(scene.seed)):
        scene.publish(scene.population.events)
        scene.wait_for_everything()
    scene.bridges.all_leave()

    figures = judge(scene)
    for user_id, events in _storms(scene.population).items():
        assert [event["id"] for event in events] == _results_about(scene, user_id)
    record(f"7 {_STORMS} users with {_EVENTS} events, 5 % failures", figures, within_s=None)


def _with_storms(population: Population, seed: int) -> Population:
    """Put further events of some users among all events, behind the first of each."""
    chance = random.Random(seed)  # noqa: S311 # no secret
    count = Counter(event["subject"] for event in population.events)
    quiet = [event for event in population.events if count[event["subject"]] == 1][:_STORMS]
    calm = [event for event in population.events if event not in quiet]
    storms = [[event, *(changed(event, n) for n in range(1, _EVENTS))] for event in quiet]
    turns = [-1] * len(calm) + [n for n, storm in enumerate(storms) for _ in storm]
    chance.shuffle(turns)
    queues = [*map(iter, storms), iter(calm)]
    return settled([next(queues[turn]) for turn in turns])


def _storms(population: Population) -> dict[str, list[Event]]:
    lives: dict[str, list[Event]] = {}
    for event in population.events:
        lives.setdefault(event["subject"], []).append(event)
    return {user_id: life for user_id, life in lives.items() if len(life) == _EVENTS}


def _results_about(scene: Scene, user_id: str) -> list[str]:
    """Return the ids of the user's events in the order of their first results."""
    told = [one.data for one in scene.results.seen() if not one.is_of_a_mail]
    assert not [one for one in told if one.get("userId") == user_id and one.get("reason")]
    return list(dict.fromkeys(one["eventId"] for one in told if one.get("userId") == user_id))


def _failing_now_and_then(seed: int) -> Rule:
    """Return a rule by which one call in twenty fails, before or after Keycloak has done it."""
    chance, lock = random.Random(seed), threading.Lock()  # noqa: S311 # no secret
    faults = (Fault(status=503), Fault(reset_before=True), Fault(reset_after=True))

    def rule(method: str, path: str) -> Fault:
        with lock:
            return chance.choice(faults) if chance.random() < _FAILING_SHARE else PASS

    return rule
