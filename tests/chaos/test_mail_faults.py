"""Scenario 5: the SMTP server is away, silent, or refuses some of the addresses."""

import json
import random
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import pytest
from figures import record
from mail_front import black_hole, mail_front
from scene import Scene, Size
from verdict import Position, judge

pytestmark = [pytest.mark.integration, pytest.mark.chaos]

_LATER = "451 4.7.1 Greylisted, try again later"
_NEVER = "550 5.1.1 No such user here"
_GREYLISTED_SHARE = 0.4
_REFUSALS_AT_FIRST = 2
_KNOWN_PER_UNKNOWN = 30
_PORTIONS = 60
_TRICKLE_S = 1.5


@pytest.mark.parametrize("name", ["refused", "black hole"])
def test_smtp_is_away(scene: Scene, size: Size, name: str) -> None:
    """No user waits for a mail, and every mail goes out once when the server is back."""
    away = {"refused": _stopped, "black hole": black_hole}[name]
    half, rest = scene.population.portions(2)
    scene.bridges.start()
    scene.publish(half)
    scene.wait_until(lambda: scene.mails().total() >= len(half) // 8, "some mails")
    with scene.fault(outcome="invited"), away(scene):
        mailed = scene.mails().total()
        scene.publish(rest)
        scene.wait_for_done(len(scene.population.events))
        time.sleep(size.outage_s / 2)
        print(f"\nchaos: {scene.mails().total() - mailed} mails in the outage")
    scene.wait_for_everything()
    scene.bridges.all_leave()

    record(f"5 SMTP {name}", judge(scene))


@contextmanager
def _stopped(scene: Scene) -> Iterator[None]:
    scene.bench.sandbox.mail.stop()
    try:
        yield
    finally:
        scene.bench.sandbox.mail.start()


def test_smtp_refuses_some_addresses(open_scene: Callable[..., Scene]) -> None:
    """Greylisted addresses get their one mail, unknown ones end in the dead letters, and nobody else waits."""
    scene = open_scene(RETRY_MAX="1 s")
    chance = random.Random(scene.seed)  # noqa: S311 # no secret
    # only of a user with one event it is certain that there is one invitation
    count = Counter(event["data"]["email"].lower() for event in scene.population.events)
    unknown = [address for address in _early(scene) if count[address] == 1]
    unknown = chance.sample(unknown, len(unknown) // _KNOWN_PER_UNKNOWN + 1)
    known = sorted(set(_early(scene)) - set(unknown))
    greylisted = set(chance.sample(known, int(len(known) * _GREYLISTED_SHARE)))
    asked: Counter[str] = Counter()

    def answer(address: str) -> str | None:
        asked[address] += 1
        if address in greylisted and asked[address] <= _REFUSALS_AT_FIRST:
            return _LATER
        return _NEVER if address in unknown else None

    # an address is given up while nearly all other mails go out, so some are left for later
    portions = list(scene.population.portions(_PORTIONS))
    scene.bridges.start()
    with mail_front(scene, answer):
        for portion in portions[: _PORTIONS // 2]:
            scene.publish(portion)
        early = len(_early(scene)) - len(unknown)
        scene.wait_until(lambda: len(scene.mails()) >= early, f"{early} mails")
        for portion in portions[_PORTIONS // 2 :]:
            scene.publish(portion)
            if len(scene.bench.dead_letters()) < len(unknown):
                time.sleep(_TRICKLE_S)
        scene.wait_until(lambda: len(scene.bench.dead_letters()) >= len(unknown), "dead letters")
        scene.wait_for_everything(unmailed=len(unknown))
    scene.bridges.all_leave()

    bad = _invitations_of(scene, unknown)
    figures = judge(scene, bad=bad, unmailed=unknown)
    scenario = (
        f"5 SMTP: 451 at first for {len(greylisted)} addresses, 550 for ever for {len(unknown)}"
    )
    record(scenario, figures, within_s=None)


def _early(scene: Scene) -> list[str]:
    """Return the addresses of the users that the first half of all events invites."""
    early = {event["id"] for event in scene.population.events[: len(scene.population.events) // 2]}
    invited = scene.population.invited
    return sorted(address for address, event_id in invited.items() if event_id in early)


def _invitations_of(scene: Scene, addresses: Sequence[str]) -> dict[Position, str]:
    """Return where the invitations of these addresses stand, and the code of their dead letters."""
    events = {scene.population.invited[address] for address in addresses}
    return {
        (record.topic, record.partition, record.offset): "given-up"
        for record in scene.bench.read("invitations")
        if json.loads(record.value)["data"]["eventId"] in events
    }
