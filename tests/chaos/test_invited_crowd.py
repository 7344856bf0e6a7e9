"""Scenario 9: what became of the invited, over kills: some set a password, some let the link end, some still may."""

import re
from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from urllib.request import urlopen

import pytest
from bridge_harness import an_event, free_port
from population import Population
from scene import Bridges, Scene, Size
from ship.mailed_link import set_password_by

pytestmark = [pytest.mark.integration, pytest.mark.chaos, pytest.mark.full]

_TABS = 4
"""People who set their passwords at the same time."""

_CARD = re.compile(r"#outcomes-title\">(\w+)</a></dt><dd>(\d+)</dd>")
_ENDS = ("activated", "invitation-expired")
_PAGE_S = 30


def test_every_invited_person_ends_in_one_state(
    open_scene: Callable[..., Scene], size: Size
) -> None:
    """A third sets a password, a third lets the link end, a third does neither: all once on the topic, and on the page."""
    port = free_port()
    scene = open_scene(
        lambda *_: Population([], {}, {}),
        UI_ENABLED="true",
        HEALTH_PORT=str(port),
        ACTIVATION_INTERVAL="1 s",
        ACTIVATION_GRACE="1 s",
    )
    third = size.users // 3
    people = [f"p{number}-{scene.bench.suffix}" for number in range(3 * third)]
    active, waiting, late = people[:third], people[third : 2 * third], people[2 * third :]

    member = scene.bridges.start()
    scene.bench.publish(*map(an_event, active + waiting))
    scene.wait_until(lambda: _mailed(scene, active + waiting) > third, "half of the mails")
    scene.bridges.kill(member)  # while it mails
    member = scene.bridges.start()
    scene.wait_until(lambda: _mailed(scene, active + waiting) == 2 * third, "the mails")
    _set_passwords(scene, active[: third // 2])
    scene.bridges.kill(member)  # while it hears of passwords
    _set_passwords(scene, active[third // 2 :])  # while nobody listens
    scene.bridges.start()
    scene.wait_until(lambda: len(_ends(scene)) == third, f"{third} activated")
    scene.bridges.all_leave()

    folder = scene.bench.folder / "short"
    folder.mkdir()
    short = scene.bench.but(INVITE_LIFESPAN="5 s")
    short.folder = folder
    with Bridges(short).ended_at_last() as bridges:
        member = bridges.start()
        scene.bench.publish(*map(an_event, late))
        scene.wait_until(lambda: len(_ends(scene)) > third + third // 4, "some links that ended")
        bridges.kill(member)  # while links end
        bridges.start()
        scene.wait_until(lambda: len(_ends(scene)) == 2 * third, f"{third} links that ended")
        wanted = {"Sent": third, "Activated": third, "Expired": third}
        scene.wait_until(lambda: _on_page(port) == wanted, f"{wanted} on the page")
        bridges.all_leave()

    ends = _ends(scene)
    assert {one: {"activated": 1} for one in active} | {
        one: {"invitation-expired": 1} for one in late
    } == ends
    assert {1} == {len(scene.bench.mails_to(_address(one))) for one in people}
    assert [] == scene.bench.dead_letters()


def _ends(scene: Scene) -> Mapping[str, Mapping[str, int]]:
    """Return how an invitation ended, by user: how often each outcome was told, repeats of one id left out."""
    told = {one.id: one for one in scene.results.seen() if one.outcome in _ENDS}
    found: dict[str, Counter[str]] = defaultdict(Counter)
    for one in told.values():
        found[str(one.data["userId"])][one.outcome] += 1
    return found


def _address(user_id: str) -> str:
    return f"{user_id}@acme.example"


def _mailed(scene: Scene, people: Sequence[str]) -> int:
    return sum(bool(scene.bench.mails_to(_address(one))) for one in people)


def _set_passwords(scene: Scene, people: Sequence[str]) -> None:
    links = [
        link
        for one in people
        for link in scene.bench.mails_to(_address(one))[0].links
        if "action-token" in link
    ]
    with ThreadPoolExecutor(_TABS) as pool:
        list(pool.map(set_password_by, links))


def _on_page(port: int) -> Mapping[str, int]:
    """Return how many people the page of the bridge counts in each state."""
    with urlopen(f"http://127.0.0.1:{port}/", timeout=_PAGE_S) as answer:
        return {state: int(count) for state, count in _CARD.findall(answer.read().decode())}
