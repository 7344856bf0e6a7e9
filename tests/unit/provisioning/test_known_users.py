"""Which external ids certainly no user of the realm has."""

import logging
import threading
import tracemalloc
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

import pytest
from hypothesis import given
from hypothesis import strategies as st

from keycloak_bridge.delivery.stage_context import Backlog
from keycloak_bridge.domain.errors import HoldError, KeycloakUnavailableError
from keycloak_bridge.domain.events import TopicPartition
from keycloak_bridge.domain.users import DesiredUser, MatchCriterion, UserRepresentation
from keycloak_bridge.keycloak.lookup_times import LISTED_S
from keycloak_bridge.provisioning.known_users import KnownUsers, pays_to_list
from keycloak_bridge.testing.fake_clock import FakeClock

HERE = TopicPartition("user-events", 0)


def wanted(external_id: str, **fields: str) -> DesiredUser:
    """Return a desired user with this external id."""
    user = UserRepresentation(attributes={"userId": [external_id]})
    user.update(fields)  # type: ignore[typeddict-item]  # names of the test's own
    return DesiredUser(user, (MatchCriterion("attributes.userId", external_id),))


def stored(external_id: str, **fields: str) -> UserRepresentation:
    """Return a user of the realm."""
    return wanted(external_id, **fields).representation


@dataclass
class Realm:
    """A realm to be listed, which can be held up in the middle."""

    users: list[UserRepresentation] = field(default_factory=list)
    error: Exception | None = None
    listings: int = 0
    counts: int = 0
    during: Callable[[], None] = lambda: None
    counting: Callable[[], None] = lambda: None

    def list_users(self) -> Iterator[UserRepresentation]:
        """Yield the users that were there at the start."""
        self.listings += 1
        if self.error is not None:
            raise self.error
        found: Sequence[UserRepresentation] = list(self.users)
        self.during()
        yield from found

    def count(self) -> int:
        """Return how many there are."""
        self.counts += 1
        self.counting()
        return len(self.users)


class Scene:
    """Known users of a realm, with a partition that was assigned to this member in second 1."""

    def __init__(
        self,
        monkeypatch: pytest.MonkeyPatch,
        *users: UserRepresentation,
        most: int = 1000,
        saved_s: float = 1.0,
    ) -> None:
        # the listing runs within the call that begins it
        monkeypatch.setattr(threading.Thread, "start", threading.Thread.run)
        self.clock = FakeClock()
        self.realm = Realm(list(users))
        self.backlog = Backlog(1)
        self.saved_s = saved_s
        self.known_users = KnownUsers(
            self.realm.list_users,
            self.realm.count,
            "userId",
            self.backlog,
            self.clock,
            most=most,
            listed_s=LISTED_S,
            saved_s=lambda: self.saved_s,
        )
        self.take_over()
        self.backlog.note(1)

    def take_over(self) -> None:
        """Have the partition assigned to this member now."""
        self.backlog.begin(HERE, self.clock.monotonic())
        self.clock.advance(1.0)

    def listed(self) -> "Scene":
        """Have the realm listed."""
        assert not self.excludes("another")
        return self

    def excludes(self, external_id: str, partition: TopicPartition = HERE) -> bool:
        """Ask about a user."""
        return self.known_users.excludes(partition, wanted(external_id))


@pytest.fixture
def scene(monkeypatch: pytest.MonkeyPatch) -> Scene:
    """A realm with the user u-1."""
    return Scene(monkeypatch, stored("u-1", username="ada"))


def test_a_user_that_is_not_in_the_realm_is_excluded(scene: Scene) -> None:
    """Once the realm is listed, which the question itself begins; without a backlog every user is searched for."""
    scene.backlog.note(0)
    assert (scene.excludes("u-2"), scene.realm.listings) == (False, 0)
    scene.backlog.note(1)
    assert (scene.excludes("u-2"), scene.realm.listings) == (False, 1)

    assert [scene.excludes("u-1"), scene.excludes("u-2")] == [False, True]
    assert not scene.excludes("u-2", TopicPartition("user-events", 7))  # was never assigned


@given(listed=st.sets(st.text()), announced=st.sets(st.text()))
def test_no_known_user_is_excluded(listed: set[str], announced: set[str]) -> None:
    """Whether the realm had it, or it was created since."""
    with pytest.MonkeyPatch.context() as monkeypatch:
        scene = Scene(monkeypatch, *map(stored, listed)).listed()
        for external_id in announced:
            with scene.known_users.creating(wanted(external_id)):
                pass

        assert not any(map(scene.excludes, listed | announced))


def test_a_partition_that_came_later_needs_another_listing(scene: Scene) -> None:
    """Its earlier owner may have created users since the first."""
    scene.listed()
    scene.take_over()
    scene.realm.users.append(stored("u-2"))

    first = scene.excludes("u-2")

    assert (first, scene.excludes("u-2"), scene.excludes("u-3")) == (False, False, True)
    assert scene.realm.listings == 2


def test_a_realm_is_not_listed_again_and_again(scene: Scene) -> None:
    """What takes a minute is done again ten minutes later at the earliest, however often partitions come."""
    scene.realm.during = lambda: scene.clock.advance(60.0)
    scene.listed()
    for _ in range(9):
        scene.take_over()
        assert not scene.excludes("u-2")
        scene.clock.advance(60.0)

    assert 1 == scene.realm.listings
    scene.clock.advance(60.0)
    assert not scene.excludes("u-2")
    assert (True, 2) == (scene.excludes("u-2"), scene.realm.listings)


@pytest.mark.parametrize("moment", ["before the listing", "during the listing"])
def test_a_user_that_is_created_while_the_realm_is_listed_is_known(
    scene: Scene, moment: str
) -> None:
    """It may be missing from the page that it belongs to."""
    if moment == "before the listing":
        with scene.known_users.creating(wanted("u-2")):
            scene.listed()
    else:

        def create() -> None:
            with scene.known_users.creating(wanted("u-2")):
                pass

        scene.realm.during = create
        scene.listed()

    assert not scene.excludes("u-2")


def test_only_one_event_of_a_user_may_be_in_progress_once_one_is_in_a_batch(scene: Scene) -> None:
    """A batch holds no lock of its user, so that other events wait for it."""
    scene.listed()
    claimed = scene.known_users.claim(wanted("u-2"))
    again = scene.known_users.claim(wanted("u-2"))
    with pytest.raises(HoldError), scene.known_users.creating(wanted("u-2")):
        pass
    assert claimed is not None
    scene.known_users.end(claimed)

    assert again is None
    with scene.known_users.creating(wanted("u-2")) as first:
        assert not first


def test_a_user_that_is_being_created_goes_into_no_batch(scene: Scene) -> None:
    """Neither one that is being written by itself, nor one that the list has by now."""
    scene.listed()
    with scene.known_users.creating(wanted("u-2")) as first:
        meanwhile = scene.known_users.claim(wanted("u-2"))

    assert (first, meanwhile) == (True, None)
    assert scene.known_users.claim(wanted("u-2")) is None
    assert scene.known_users.claim(wanted("u-1")) is None


@pytest.mark.parametrize(("rest_s", "listings"), [(59.0, 1), (61.0, 2)])
def test_a_later_backlog_is_listed_again(scene: Scene, rest_s: float, listings: int) -> None:
    """One that comes soon uses the same list."""
    scene.listed()
    scene.clock.advance(rest_s)
    scene.excludes("u-2")

    assert listings == scene.realm.listings


def test_a_listing_that_fails_is_tried_again_later(scene: Scene) -> None:
    """Until then every user is searched for."""
    scene.realm.error = KeycloakUnavailableError("Keycloak is down")
    first = [scene.excludes("u-2"), scene.excludes("u-2")]
    scene.realm.error = None
    scene.clock.advance(61.0)
    scene.listed()

    assert (first, scene.realm.listings) == ([False, False], 2)
    assert scene.excludes("u-2")


def test_a_realm_of_too_many_is_not_listed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Keycloak would spend hours; after one it is asked again how many they are."""
    scene = Scene(monkeypatch, stored("u-1"), stored("u-2"), most=1)
    found = [scene.excludes("u-3"), scene.excludes("u-3")]
    scene.realm.users.pop()
    scene.clock.advance(3601.0)
    scene.listed()

    assert (found, scene.realm.listings) == ([False, False], 1)
    assert scene.excludes("u-3")


@pytest.mark.parametrize(
    ("users", "records", "saved_s", "expected"),
    [
        (0, 1, 0.001, True),
        (10_000, 250, 0.001, False),
        (10_000, 250, 0.1, True),  # no index: a search reads every user
        (1_000_000, 100_000, 0.0016, False),
        (1_000_000, 600_000, 0.0016, True),
        (1000, 100_000, 0.0, False),  # nobody is searched for, and there are no batches
        (0, 1, 0.0, True),  # an empty list costs nothing
    ],
)
def test_a_realm_is_listed_where_that_saves_more_than_it_costs(
    users: int, records: int, saved_s: float, expected: bool
) -> None:
    """A list costs a millisecond for each user of the realm; what it saves depends on how much there is to do."""
    assert expected == pays_to_list(users, records, listed_s=LISTED_S, saved_s=saved_s)


def test_a_large_realm_is_listed_for_a_large_backlog_alone(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Until then every user is searched for, which is said once; the backlog is looked at again some seconds later."""
    caplog.set_level(logging.INFO)
    scene = Scene(monkeypatch, *(stored(f"u-{n}") for n in range(900)), saved_s=0.001)
    scene.backlog.note(200, 250)
    for _ in range(3):
        assert not scene.excludes("new")
        scene.clock.advance(5.0)
    before = scene.realm.listings
    said = [record.getMessage() for record in caplog.records]
    scene.backlog.note(200, 5000)
    scene.excludes("new")

    assert (0, 1) == (before, scene.realm.listings)
    assert 1 == len(said)
    assert (True, False) == (scene.excludes("new"), scene.excludes("u-1"))


def test_an_empty_realm_is_listed_without_a_further_question(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """What a list saves may take Keycloak's answer, for which the first users would not wait."""

    def ask() -> float:
        raise AssertionError("nobody need ask")

    scene = Scene(monkeypatch)
    scene.known_users = KnownUsers(
        scene.realm.list_users, scene.realm.count, "userId", scene.backlog, scene.clock, saved_s=ask
    )

    assert (False, True) == (scene.excludes("new"), scene.excludes("new"))


def test_a_realm_that_takes_long_to_count_is_counted_seldom(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """What takes two seconds is done again after twenty."""
    scene = Scene(monkeypatch, *(stored(f"u-{n}") for n in range(900)), saved_s=0.001)
    scene.realm.counting = lambda: scene.clock.advance(2.0)
    for _ in range(10):
        scene.excludes("new")
        scene.clock.advance(5.0)

    assert (3, 0) == (scene.realm.counts, scene.realm.listings)


def test_a_realm_is_listed_once_searches_turn_out_to_be_slow(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """There is no index, which the first of them show."""
    scene = Scene(monkeypatch, *(stored(f"u-{n}") for n in range(900)), saved_s=0.001)
    scene.backlog.note(200, 250)
    assert not scene.excludes("new")
    scene.saved_s = 0.08
    scene.clock.advance(5.0)

    assert not scene.excludes("new")
    assert scene.excludes("new")


@pytest.mark.parametrize("external_id", ["", "a\\b", "\ud800"])
def test_what_keycloak_cannot_search_is_searched(scene: Scene, external_id: str) -> None:
    """Only the search refuses it; a user with it could never be found again."""
    scene.listed()

    assert not scene.excludes(external_id)


@pytest.mark.parametrize(
    ("username", "email", "expected"),
    [
        ("ada@acme.example", "lovelace@acme.example", True),
        ("ada@acme.example", "ada@acme.example", False),
        ("ada", "lovelace@acme.example", False),
    ],
)
def test_a_username_that_may_be_anothers_address_is_known(
    monkeypatch: pytest.MonkeyPatch, username: str, email: str, expected: bool
) -> None:
    """A username that is its own address is found by the address."""
    scene = Scene(monkeypatch, stored("u-1", username=username, email=email)).listed()

    assert scene.known_users.holds_name(username.upper()) is expected


def test_a_list_that_nobody_asks_is_dropped(scene: Scene) -> None:
    """Although users go on being announced: it would grow for as long as the process lives."""
    scene.listed()
    known = [scene.known_users.holds_name("another@acme.example")]
    for waited_s in (59.0, 2.0):
        scene.clock.advance(waited_s)
        with scene.known_users.creating(wanted("u-2")):
            known.append(scene.known_users.holds_name("another@acme.example"))

    assert [False, False, True] == known  # without a list, any name may be somebody's


def test_the_events_of_one_user_are_one_entry(scene: Scene) -> None:
    """However many there are."""
    scene.listed()
    tracemalloc.start()
    try:
        before, _ = tracemalloc.get_traced_memory()
        for _ in range(10_000):
            with scene.known_users.creating(wanted("u-1")):
                pass
        after, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()

    assert after - before < 20_000


def test_a_listing_whose_thread_cannot_begin_is_tried_again_later(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As one that fails; until then every user is searched for."""

    def start(_: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as failing:
        failing.setattr(threading.Thread, "start", start)
        first = scene.excludes("u-2")
    scene.clock.advance(61.0)
    scene.listed()

    assert not first
    assert scene.excludes("u-2")
