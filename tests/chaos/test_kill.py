"""Scenario 1: the bridge is killed again and again, at random and where it hurts most."""

import random
import subprocess
import time
from collections.abc import Callable

import pytest
from fault_proxy import Trap
from figures import record
from poison import SMALL_KINDS, publish_bad
from scene import Scene, Size
from verdict import Position, judge

pytestmark = [pytest.mark.integration, pytest.mark.chaos]

_CREATE = ("POST", "/users")
_MAIL = ("PUT", "/execute-actions-email")
_INSTANTS = (
    None,
    (*_CREATE, "done"),  # the user is there, the bridge does not know
    None,
    (*_CREATE, "answered"),  # between create and mail
    (*_MAIL, "done"),  # the mail is out, the bridge does not know
    (*_MAIL, "answered"),  # between mail and commit
)
"""Where the bridge is killed, in turn; None is any instant."""


def test_sigkill_and_restart(open_scene: Callable[..., Scene], size: Size) -> None:
    """Killed wherever it is, again and again: every user once, every mail once, every bad record given up."""
    scene = open_scene(proxied=True, EVENTS_TOMBSTONES="dead-letter")
    chance = random.Random(scene.seed)  # noqa: S311 # no secret
    portions = list(scene.population.portions(2 * size.kills))
    bad: dict[Position, str] = {}
    member = scene.bridges.start()
    for number, portion in enumerate(portions[::2]):
        bad |= publish_bad(scene, SMALL_KINDS[number :: size.kills])
        instant = _INSTANTS[number % len(_INSTANTS)]
        if instant is None:
            done = scene.done()
            scene.publish(portion)
            scene.wait_for_done(done + 1)
            time.sleep(chance.uniform(0, 1.5))
            member.kill()
        else:
            passing = chance.randrange(1 + len(portion) // 4)
            scene.proxy.set_trap(Trap(*instant, member.kill, passing))
            scene.publish(portion)
            _wait_for_death(scene, member)
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


def _wait_for_death(scene: Scene, member: subprocess.Popen[bytes]) -> None:
    scene.wait_until(lambda: member.poll() is not None, "the trap")
