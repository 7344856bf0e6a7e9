"""Scenario 2: members of the group join, leave, die and stand still for longer than the group bears."""

import time
from collections.abc import Callable, Sequence
from subprocess import Popen

import pytest
from figures import record
from population import Event
from scene import Scene
from verdict import judge

pytestmark = [pytest.mark.integration, pytest.mark.chaos]

_MAX_POLL_INTERVAL_S = 8
_FROZEN_S = 12


@pytest.mark.both_ways
def test_members_come_and_go(open_scene: Callable[..., Scene]) -> None:
    """Three bridges with 8 partitions between them: every user and every mail once, whoever does it."""
    scene = open_scene(KAFKA_MAX_POLL_INTERVAL=f"{_MAX_POLL_INTERVAL_S} s")
    bridges = scene.bridges
    portions = scene.population.portions(7)
    first, second, third = (bridges.start() for _ in range(3))
    scene.publish(next(portions))
    scene.wait_for_done(1)

    _frozen_meanwhile(scene, [second], next(portions))
    scene.publish(next(portions))
    bridges.leave(third)
    fourth = bridges.start()
    scene.publish(next(portions))
    _frozen_meanwhile(scene, [first, fourth], next(portions))
    scene.publish(next(portions))
    bridges.kill(second)
    bridges.start()
    scene.publish(next(portions))
    scene.wait_for_everything()
    bridges.all_leave()

    record("2 three members: leave, join, frozen, killed", judge(scene), within_s=None)


def _frozen_meanwhile(
    scene: Scene, members: Sequence[Popen[bytes]], events: Sequence[Event]
) -> None:
    """Freeze members in the middle of their work until the group has given them up, then let them go on."""
    done = scene.done()
    scene.publish(events)
    scene.wait_for_done(done + 1)
    for member in members:
        scene.bridges.freeze(member)
    time.sleep(_FROZEN_S)
    with scene.fault():
        for member in members:
            scene.bridges.resume(member)
