"""Scenario 2: members of the group join, leave, die and stand still for longer than the group bears."""

import signal
from collections.abc import Callable, Sequence
from subprocess import Popen

import pytest
from population import Event
from report import record
from scene import Scene
from verdict import judge

pytestmark = [pytest.mark.integration, pytest.mark.chaos]


@pytest.mark.both_ways
def test_members_come_and_go(open_scene: Callable[..., Scene]) -> None:
    """Three bridges with 8 partitions between them: every user and every mail once, whoever does it."""
    scene = open_scene()
    bridges = scene.bridges
    portions = scene.population.portions(7)
    first, second, third = (bridges.start() for _ in range(3))
    scene.wait_until(lambda: scene.bench.group_members() == 3, "a group of three")
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


def _frozen_meanwhile(scene: Scene, members: Sequence[Popen[str]], events: Sequence[Event]) -> None:
    """Freeze members in the middle of their work until the group has given them up, then let them go on."""
    done = scene.done()
    scene.publish(events)
    scene.wait_for_done(done + 1)
    for member in members:
        member.send_signal(signal.SIGSTOP)
    remaining = range(1 + len(scene.bridges.members) - len(members))
    scene.wait_until(lambda: scene.bench.group_members() in remaining, "a group without the frozen")
    with scene.fault():
        for member in members:
            member.send_signal(signal.SIGCONT)
