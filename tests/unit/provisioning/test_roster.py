"""The roster never says no about somebody who is in it."""

from concurrent.futures import ThreadPoolExecutor

from hypothesis import given
from hypothesis import strategies as st

from keycloak_bridge.provisioning.known_users import Roster


@given(st.sets(st.text(st.characters(codec=None), max_size=30), max_size=200))
def test_whoever_was_added_may_be_there(texts: set[str]) -> None:
    """Whatever its characters, half surrogate pairs included."""
    roster = Roster(len(texts))
    for text in texts:
        roster.add(text)

    assert all(map(roster.may_hold, texts))


def test_an_empty_roster_holds_nobody() -> None:
    """So a realm without users needs no search at all."""
    assert not Roster(0).may_hold("u-1")


def test_few_are_taken_for_somebody_else() -> None:
    """One in a hundred at the size that the roster was made for."""
    roster = Roster(20_000)
    for number in range(20_000):
        roster.add(f"there-{number}")

    mistaken = sum(roster.may_hold(f"absent-{number}") for number in range(10_000))

    assert mistaken < 200


def test_it_grows_with_many_more_than_it_was_made_for() -> None:
    """A realm that was empty when it was listed, in the middle of a migration."""
    roster = Roster(0)
    for number in range(100_000):
        roster.add(f"there-{number}")

    mistaken = sum(roster.may_hold(f"absent-{number}") for number in range(10_000))

    assert all(roster.may_hold(f"there-{number}") for number in range(0, 100_000, 97))
    assert mistaken < 600


def test_nobody_is_lost_when_many_are_added_at_once() -> None:
    """Two bits of one byte are set by two threads."""
    roster = Roster(0)
    texts = [f"user-{number}" for number in range(4000)]
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(roster.add, texts))

    assert all(map(roster.may_hold, texts))
