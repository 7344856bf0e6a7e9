"""The benchmark of growing realms handles each kind of event, and its table says what grows."""

import itertools
import os
from collections.abc import Callable
from dataclasses import replace
from types import SimpleNamespace
from typing import Any, cast

import pytest
from http_realm import HttpRealm

from bench import scale
from bench.filling import ATTRIBUTES, email, user_id
from bench.machine import family_cpu_s, usage
from bench.scale import Bench, Measured, Measurement, Numbers, table
from keycloak_bridge.testing.realm_tools import FreshRealm

USERS = 300
ABOUT = {"cores": 2, "cpu": "some", "busy_cores": 0.1, "keycloak": "26"}


def _bench(monkeypatch: pytest.MonkeyPatch, *, again: bool = False) -> tuple[Bench, HttpRealm]:
    realm = HttpRealm()
    for number in range(1, USERS + 1):
        realm.add(
            {
                "username": user_id(number),
                "email": email(number),
                "enabled": True,
                "attributes": {name: [user_id(number)] for name in ATTRIBUTES[:2]},
            }
        )
    monkeypatch.setattr(scale, "keycloak_admin", lambda _, clock: realm.admin(clock))
    own = SimpleNamespace(keycloak_url="http://x", keycloak_pid=os.getpid(), pid=os.getpid())
    services: Any = own
    known = FreshRealm("acme", "bridge", "x")
    return Bench(services, cast("Any", own), known, Numbers(0, USERS), again=again), realm


@pytest.mark.parametrize(("layout", "created"), [("attribute", 2), ("username", 1)])
def test_every_kind_of_event_is_handled(
    monkeypatch: pytest.MonkeyPatch, layout: str, created: int
) -> None:
    """None becomes a dead letter, and each costs calls of its own."""
    bench, realm = _bench(monkeypatch)
    calls = {}
    for kind, ready, each in bench.acts(layout):
        act = ready()
        begun = len(realm.calls)
        act()
        calls[kind] = (len(realm.calls) - begun) / each

    assert {"created": created, "updated": 2, "disabled": 3, "deleted": 2}.items() <= calls.items()
    assert calls["created, in batches"] < 1


def test_realms_take_turns(monkeypatch: pytest.MonkeyPatch) -> None:
    """What slows the machine down for a while slows all of them down."""
    bench, _ = _bench(monkeypatch)
    order: list[str] = []

    def measurements(self: Bench, *_: object) -> list[Measurement]:
        def ready() -> Callable[[], None]:
            return lambda: order.append("other" if self.again else "one")

        return [Measurement(self, "username", "created", ready, 1, 30, 1000.0)]

    monkeypatch.setattr(Bench, "measurements", measurements)
    monkeypatch.setattr(scale, "index", lambda *_, **__: None)

    found = list(scale.run([bench, replace(bench, again=True)], 30, 1000.0))

    assert [(one.again, one.events) for one in found] == [(False, 31), (True, 31)] * 3
    turns = [len(list(turn)) for _, turn in itertools.groupby(order[:62])]
    assert turns == [1, 11, 20, 20, 10]


def test_what_grows_is_in_bold() -> None:
    """A ratio above the goal stands out."""
    found = [
        Measured(10_000, False, "attribute", "updated", 100, 2.0, 1.0, 0.5),
        Measured(100_000, False, "attribute", "updated", 100, 2.5, 4.0, 0.5),
    ]

    row = table(found, ABOUT).splitlines()[2]

    assert "| updated | attribute | 2.0 ms | 1.0 ms | × 1.25 | **× 4.00** |" == row


def test_the_cpu_of_a_family_is_at_least_that_of_its_head() -> None:
    """PostgreSQL works in processes of its own."""
    own = os.getpid()

    assert usage(own).cpu_s <= family_cpu_s(own)


def test_no_user_is_touched_twice() -> None:
    """Those that a realm has got since the last size are picked, each once."""
    numbers = Numbers(100, 400)

    assert set(range(101, 401)) == {numbers.there() for _ in range(300)}
    with pytest.raises(IndexError):
        numbers.there()
