"""The benchmark of growing realms handles each kind of event, and its table says what grows."""

import os
from types import SimpleNamespace
from typing import Any, cast

import pytest
from http_realm import HttpRealm

from bench import scale
from bench.filling import ATTRIBUTES, email, user_id
from bench.machine import family_cpu_s, usage
from bench.scale import Bench, Measured, Numbers, table
from keycloak_bridge.testing.realm_tools import FreshRealm

USERS = 300
ABOUT = {"cores": 2, "cpu": "some", "busy_cores": 0.1, "keycloak": "26"}


@pytest.mark.parametrize(("layout", "created"), [("attribute", 2), ("username", 1)])
def test_every_kind_of_event_is_handled(
    monkeypatch: pytest.MonkeyPatch, layout: str, created: int
) -> None:
    """None becomes a dead letter, and each costs calls of its own."""
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
    place: Any = own
    bench = Bench(place, cast("Any", own), FreshRealm("acme", "bridge", "x"), Numbers(0, USERS))
    calls = {}
    for kind, ready, each in bench.acts(layout):
        act = ready()
        begun = len(realm.calls)
        act()
        calls[kind] = (len(realm.calls) - begun) / each

    assert {"created": created, "updated": 2, "disabled": 3, "deleted": 2}.items() <= calls.items()
    assert calls["created, in batches"] < 1


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
