"""Scenario 8: the whole topic once more, on a realm that has everything already."""

from dataclasses import replace

import pytest
from report import record
from scene import Scene
from verdict import judge

pytestmark = [pytest.mark.integration, pytest.mark.chaos, pytest.mark.full]


def test_a_replay_writes_and_mails_nothing(scene: Scene) -> None:
    """From offset 0 of both topics: no write, no mail, nothing in the dead letters."""
    scene.bridges.start()
    scene.publish(scene.population.events)
    scene.wait_for_everything()
    scene.bridges.all_leave()
    figures = judge(scene)
    before = scene.bench.users(), scene.bench.written(), dict(scene.mails())
    told = len(scene.results.seen())

    again = scene.bench.but(KAFKA_GROUP_ID=f"replay-{scene.bench.suffix}")
    again.catch_up()

    after = scene.bench.users(), scene.bench.written(), dict(scene.mails())
    assert before == after
    assert [] == scene.bench.dead_letters()
    invitations = sum(scene.bench.end_offsets("invitations").values())
    repeated = scene.results.seen()[told:]
    assert len(scene.population.events) + invitations == len(repeated)
    assert {"provisioned", "skipped"} == {one.outcome for one in repeated}
    record("8 the whole topic again", replace(figures, writes=0, mails=0), within_s=None)
