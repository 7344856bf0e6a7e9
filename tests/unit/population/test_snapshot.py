"""A listed realm answers as Keycloak does, without being asked."""

from collections import Counter
from collections.abc import Sequence
from typing import Any, cast

import pytest
from http_realm import HttpRealm
from stage_harness import event_of, interpretation, record_of

from keycloak_bridge.app import connections
from keycloak_bridge.domain.errors import BridgeError
from keycloak_bridge.domain.ports import NOTHING_MORE
from keycloak_bridge.domain.users import (
    EXACT_ID,
    GROUPS,
    Lookup,
    MatchCriterion,
    UserRepresentation,
)
from keycloak_bridge.population import snapshot
from keycloak_bridge.population.population import Population
from keycloak_bridge.population.reconciliation import Finding, Reconciliation
from keycloak_bridge.population.snapshot import (
    RealmSnapshot,
    Sample,
    Way,
    least_way,
    sample_of,
    users_to_plan_with,
)
from keycloak_bridge.provisioning.provisioner import Provisioner, ProvisionPolicy
from keycloak_bridge.settings.model import Settings
from keycloak_bridge.testing.fake_clock import FakeClock
from keycloak_bridge.testing.in_memory_keycloak import InMemoryKeycloak

ID, NAME, EMAIL = "attributes.userId", "username", "email"
MEMBERS = Lookup(frozenset((GROUPS,)))


@pytest.fixture
def keycloak() -> InMemoryKeycloak:
    """Return a realm with Ada, her namesake, two users of one id, and one who is nobody's."""
    realm = InMemoryKeycloak(groups=["/staff"])
    for username, external_id in (("ada", "u-1"), ("eve", "u-2"), ("eva", "u-2"), ("zoe", None)):
        attributes = {} if external_id is None else {"userId": [external_id]}
        user_id = realm.add_user(
            {
                "username": username,
                "email": f"{username}@acme.example",
                "enabled": True,
                "attributes": attributes,
            }
        )
        realm.join(user_id, GROUPS, ["/staff"])
    return realm


def answer(directory: Any, criteria: Sequence[MatchCriterion], lookup: Lookup) -> object:
    """Return what is found, or the code of what is raised."""
    try:
        return directory.find(criteria, lookup, owner=criteria[0])
    except BridgeError as error:
        return error.code


@pytest.mark.parametrize(
    ("criteria", "lookup", "asks"),
    [
        ([(ID, "u-1")], NOTHING_MORE, 0),
        ([(ID, "u-1")], MEMBERS, 1),
        ([(ID, "u-1")], Lookup(sessions=True), 1),
        ([(ID, "U-1")], NOTHING_MORE, 0),
        ([(ID, "u-2")], NOTHING_MORE, 1),
        ([(ID, "u-9"), (NAME, "new"), (EMAIL, "new@acme.example")], MEMBERS, 0),
        ([(ID, "u-9"), (NAME, "Zoe")], NOTHING_MORE, 1),
        ([(ID, "u-9"), (NAME, "ada")], NOTHING_MORE, 1),
        ([(ID, "u-9"), (EMAIL, "ZOE@acme.example")], MEMBERS, 1),
        ([(ID, "u-9"), ("attributes.other", "x")], NOTHING_MORE, 1),
        ([(ID, "two\\\\slashes")], NOTHING_MORE, 1),
        ([(ID, "u-9"), (NAME, "half\ud800")], NOTHING_MORE, 1),
    ],
)
def test_it_finds_what_keycloak_finds(
    keycloak: InMemoryKeycloak, criteria: list[tuple[str, str]], lookup: Lookup, asks: int
) -> None:
    """Keycloak is asked where the list does not decide, and for memberships."""
    wanted = [MatchCriterion(*one) for one in criteria]
    snapshot = RealmSnapshot(keycloak, keycloak.users(), "userId", lambda _: True)
    keycloak.calls.clear()

    found = answer(snapshot, wanted, lookup)

    assert asks == len(keycloak.calls)
    assert answer(keycloak, wanted, lookup) == found


@pytest.mark.parametrize(
    ("criteria", "asks"),
    [
        ([(ID, "u-1")], 1),
        ([(ID, "u-9"), (NAME, "new"), (EMAIL, "new@acme.example")], 1),
        ([(ID, "u-9"), (NAME, "ada")], 2),
        ([(EXACT_ID, "new")], 0),
        ([(EXACT_ID, "ADA")], 1),
    ],
)
def test_names_alone_spare_the_searches_for_names(
    keycloak: InMemoryKeycloak, criteria: list[tuple[str, str]], asks: int
) -> None:
    """The external id is searched for, unless it is the username."""
    wanted = [MatchCriterion(*one) for one in criteria]
    name = criteria[0][0].removeprefix("attributes.")
    users = [without_attributes(user) for user in keycloak.users()]
    snapshot = RealmSnapshot(keycloak, users, name, lambda _: True, whole=False)
    keycloak.calls.clear()

    found = answer(snapshot, wanted, NOTHING_MORE)

    assert asks == len(keycloak.calls)
    assert answer(keycloak, wanted, NOTHING_MORE) == found


def without_attributes(user: UserRepresentation) -> UserRepresentation:
    """Return the user as a brief list has it."""
    return cast("UserRepresentation", {k: v for k, v in user.items() if k != "attributes"})


def test_users_that_come_twice_are_one(keycloak: InMemoryKeycloak) -> None:
    """Pages of a listing overlap."""
    users = [*keycloak.users(), *keycloak.users()]
    snapshot = RealmSnapshot(keycloak, users, "userId", lambda _: True)

    assert answer(snapshot, [MatchCriterion(ID, "u-1")], NOTHING_MORE) == keycloak.find(
        [MatchCriterion(ID, "u-1")]
    )


def test_all_else_goes_to_the_directory(keycloak: InMemoryKeycloak) -> None:
    """It is a directory itself."""
    snapshot = RealmSnapshot(keycloak, [], "userId", lambda _: True)

    assert ("/new",) == snapshot.missing(GROUPS, ["/staff", "/new"])


HALF_NEW = Sample(0.002, 0.5)


@pytest.mark.parametrize(
    ("listed", "wanted", "sample", "way"),
    [
        (0, 100_000, Sample(0.0, 1.0), Way.USERS),
        (100_000, 100_000, HALF_NEW, Way.USERS),
        (200_000, 100_000, HALF_NEW, Way.NAMES),
        (1_000_000, 100_000, HALF_NEW, Way.SEARCHES),
        (1_000_000, 100_000, Sample(0.002, 0.5, is_username=True), Way.SEARCHES),
        (300_000, 100_000, Sample(0.002, 1.0, is_username=True), Way.NAMES),
        (1_000_000, 100_000, Sample(2.0, 0.5), Way.USERS),
        (0, 10, Sample(2.0, 0.5), Way.SEARCHES),
        (1_000_000, 500, Sample(0.1, 0.5), Way.SEARCHES),
    ],
    ids=[
        "empty",
        "as many",
        "twice as many",
        "indexed",
        "username",
        "username, all new",
        "not indexed",
        "few",
        "few in many",
    ],
)
def test_the_realm_is_listed_where_that_is_less(
    listed: int, wanted: int, sample: Sample, way: Way
) -> None:
    """By the number of users on both sides, how many are new, and how long a search takes."""
    assert way == least_way(listed, wanted, sample)


def population_of(count: int) -> Population:
    """Return users u-0 and so on."""
    population = Population(interpretation())
    for number in range(count):
        population.take_in(record_of(event_of(f"u-{number}")))
    return population


def test_a_sample_tells_of_the_population(
    keycloak: InMemoryKeycloak, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first search may be slow, and two users of one id are a matter of the plan; u-2 are two."""
    clock, find, times = FakeClock(), keycloak.find, [5.0, *[0.01] * 19]

    def slow(*args: Any) -> object:
        clock.advance(times.pop(0))
        return find(*args)

    monkeypatch.setattr(keycloak, "find", slow)

    sample = sample_of(keycloak, population_of(20), clock)

    assert pytest.approx(0.01) == sample.search_s
    assert (18 / 20, False) == (sample.new_share, sample.is_username)


def test_a_sample_of_slow_searches_is_short(
    keycloak: InMemoryKeycloak, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They cost Keycloak seconds each where no index has the attribute, and come from all over the population."""
    clock, find, asked = FakeClock(), keycloak.find, []

    def slow(criteria: Sequence[MatchCriterion]) -> object:
        clock.advance(2.0)
        asked.append(criteria[0].value)
        return find(criteria)

    monkeypatch.setattr(keycloak, "find", slow)

    assert pytest.approx(2.0) == sample_of(keycloak, population_of(100), clock).search_s
    assert ["u-0", "u-5", "u-10"] == asked


def test_an_id_that_is_the_username_is_compared_as_keycloak_does(
    keycloak: InMemoryKeycloak,
) -> None:
    """Exactly, and a user whose username was changed is none."""
    for username, exact in (("u-7", "U-7"), ("renamed", "u-8"), ("u-9", "u-9")):
        attributes = {"bridgeUserId": [exact]}
        keycloak.add_user({"username": username, "enabled": True, "attributes": attributes})
    snapshot = RealmSnapshot(keycloak, keycloak.users(), "bridgeUserId", lambda _: True)

    for value in ("U-7", "u-7", "u-8", "u-9", "zoe", "nobody"):
        criteria = [MatchCriterion("attributes.bridgeUserId", value)]

        assert answer(keycloak, criteria, NOTHING_MORE) == answer(snapshot, criteria, NOTHING_MORE)


@pytest.mark.parametrize("there", [True, False])
def test_a_plan_of_many_users_costs_a_few_pages(
    monkeypatch: pytest.MonkeyPatch, there: bool
) -> None:
    """Whether they are in the realm or not: a sample of searches, the count, and the pages."""
    realm, clock, population = HttpRealm(), FakeClock(), Population(interpretation())
    monkeypatch.setattr(connections, "keycloak_admin", lambda _, clock: realm.admin(clock))
    # on a busy machine, the sample would end before its twentieth search
    monkeypatch.setattr(snapshot, "SystemClock", lambda: clock)
    for number in range(600):
        user_id, address = f"u-{number}", f"u-{number}@acme.example"
        population.take_in(record_of(event_of(user_id, data={"email": address})))
        own = user_id if there else f"other-{number}"
        realm.add({"username": own, "email": f"{own}@x.example", "attributes": {"userId": [own]}})

    users = users_to_plan_with(Settings(), population, "userId", lambda users, _: users)
    planner = Provisioner(users, lambda _: (), clock, policy=ProvisionPolicy())
    compared = list(Reconciliation(planner, users).compare_all(population, workers=4))

    finding = Finding.DIFFERING if there else Finding.MISSING
    assert {finding} == {one.finding for one in compared}
    calls = Counter(realm.calls)
    assert 2 <= calls.pop("GET /users") <= 2 + 3  # three pages are asked for ahead
    assert {"GET /users/count": 1, "GET /users?q": 20} == calls


def test_a_large_realm_has_its_names_listed(monkeypatch: pytest.MonkeyPatch) -> None:
    """In large pages without attributes; then a new user costs one search."""
    realm, population = HttpRealm(), Population(interpretation())
    monkeypatch.setattr(connections, "keycloak_admin", lambda _, clock: realm.admin(clock))
    monkeypatch.setattr(snapshot, "least_way", lambda *_: Way.NAMES)
    monkeypatch.setattr(snapshot, "FEW", 1)
    for number in range(600):
        realm.add({"username": f"name-{number}", "attributes": {}})
    population.take_in(record_of(event_of()))

    users = users_to_plan_with(Settings(), population, "userId", lambda users, _: users)
    realm.calls.clear()
    criteria = [(ID, "u-1"), (NAME, "new"), (EMAIL, "new@x.example")]
    absent = users.find([MatchCriterion(*one) for one in criteria])

    assert (None, ["GET /users?q"]) == (absent, realm.calls)
