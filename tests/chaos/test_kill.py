"""Scenario 1: the bridge is killed again and again, at random and where it hurts most."""

import random
import subprocess
import time
from collections.abc import Callable, Sequence

import pytest
from fault_proxy import Trap
from poison import SMALL_KINDS, publish_bad
from population import Event
from report import record
from scene import BURST, TRICKLE, Scene, Size
from verdict import Position, judge

pytestmark = [pytest.mark.integration, pytest.mark.chaos]

_CREATE = {TRICKLE: ("POST", "/users"), BURST: ("POST", "/partialImport")}
_MAIL = ("PUT", "/execute-actions-email")
_PLACES = (
    None,
    ("create", "done"),  # the users are there, the bridge does not know
    None,
    ("create", "answered"),  # between create and mail
    ("mail", "done"),  # the mail is out, the bridge does not know
    ("mail", "answered"),  # between mail and commit
)
"""Where the bridge is killed, in turn; None is any instant."""


@pytest.mark.both_ways
def test_sigkill_and_restart(open_scene: Callable[..., Scene], size: Size) -> None:
    """Killed wherever it is, again and again: every user once, every mail once, every bad record given up."""
    scene = open_scene(proxied=True, EVENTS_TOMBSTONES="dead-letter")
    chance = random.Random(scene.seed)  # noqa: S311 # no secret
    portions = list(scene.population.portions(2 * size.kills))
    bad: dict[Position, str] = {}
    member = scene.bridges.start()
    for number, portion in enumerate(portions[::2]):
        bad |= publish_bad(scene, SMALL_KINDS[number :: size.kills])
        trap = _trap(scene, _PLACES[number % len(_PLACES)], member, chance, portion)
        if trap is None:
            done = scene.done()
            scene.publish(portion)
            scene.wait_for_done(done + 1)
            time.sleep(chance.uniform(0, 1.5))
            member.kill()
        else:
            scene.proxy.set_trap(trap)
            scene.publish(portion)
            scene.wait_until(lambda: member.poll() is not None, "the trap")  # noqa: B023
        with scene.fault():
            scene.bridges.kill(member)
        member = scene.bridges.start()
        done = scene.done()
        scene.publish(portions[2 * number + 1])
        scene.wait_for_done(done + 1)
    scene.wait_for_everything(others=len(bad))
    scene.bridges.all_leave()

    figures = judge(scene, bad=bad)
    record(f"1 SIGKILL at {size.kills} instants", figures, within_s=10.0)


def _trap(
    scene: Scene,
    place: tuple[str, str] | None,
    member: subprocess.Popen[str],
    chance: random.Random,
    events: Sequence[Event],
) -> Trap | None:
    """Return what kills the bridge at one of the calls of a kind that these events certainly lead to, or None."""
    if place is None:
        return None
    call, moment = place
    published = {event["id"] for event in events}
    invited = sum(event_id in published for event_id in scene.population.invited.values())
    if not invited:
        return None
    passing = chance.randrange(invited)
    if call == "mail":
        return Trap(*_MAIL, moment, member.kill, passing)
    # a batch holds many users
    return Trap(*_CREATE[scene.way], moment, member.kill, 0 if scene.way == BURST else passing)
