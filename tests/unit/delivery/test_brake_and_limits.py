"""The brake and the limits stop the flow before more harm is done."""

from itertools import accumulate

import pytest
from hypothesis import given
from hypothesis import strategies as st
from threads import in_threads

from keycloak_bridge.delivery.guards import Brake, LimitedAction, Limits, limited_actions
from keycloak_bridge.domain.errors import HoldError
from keycloak_bridge.domain.operations import (
    Change,
    CreateUser,
    DeleteUser,
    Operation,
    Plan,
    UpdateUser,
)
from keycloak_bridge.domain.times import Limit, parse_limit
from keycloak_bridge.domain.users import Intent


def dead_letters(brake: Brake, asked: int) -> int:
    """Return how many of so many dead letters in a row get through."""
    return sum(brake.admits() for _ in range(asked))


@pytest.mark.parametrize("in_a_row", [1, 3, 20])
def test_exactly_so_many_get_through_in_a_row(in_a_row: int) -> None:
    """The one after them is held, and so is everything later."""
    brake = Brake(in_a_row, 0, 200)

    assert in_a_row == dead_letters(brake, in_a_row * 3)
    assert f"{in_a_row} dead letters in a row" == brake.reason


def test_a_good_record_begins_a_new_row() -> None:
    """Bad records between good ones are exceptions."""
    brake = Brake(3, 0, 200)
    for _ in range(50):
        dead_letters(brake, 2)
        brake.good()

    assert brake.reason is None
    assert 3 == dead_letters(brake, 10)


@pytest.mark.parametrize(
    ("good", "through", "share"), [(100, 5, 5), (6, 5, 5), (5, 5, 5), (4, 6, 6), (0, 10, 10)]
)
def test_the_share_holds_once_the_window_is_full(good: int, through: int, share: int) -> None:
    """Half of the last ten, however many came before them; fewer than ten records are no share."""
    brake = Brake(0, 50, 10)
    for _ in range(good):
        brake.good()

    assert through == dead_letters(brake, 100)
    assert f"{share} of the last 10 records became dead letters" == brake.reason


def test_the_share_forgets_what_left_the_window() -> None:
    """Old dead letters do not add up with new ones."""
    brake = Brake(0, 50, 10)
    for _ in range(20):
        dead_letters(brake, 4)
        for _ in range(8):
            brake.good()

    assert brake.reason is None


def test_without_limits_everything_passes() -> None:
    """0 is no limit."""
    brake = Brake(0, 0, 10)

    assert 1000 == dead_letters(brake, 1000)


def test_good_records_do_not_disengage_it() -> None:
    """An operator has to look; records that were under way meanwhile change nothing."""
    brake = Brake(2, 0, 10)
    dead_letters(brake, 3)
    for _ in range(100):
        brake.good()

    assert not brake.admits()
    assert "2 dead letters in a row" == brake.reason


def test_a_release_lets_the_rest_of_the_bad_records_pass() -> None:
    """The limits do not apply until as many good records came in a row, then apply as from the start."""
    brake = Brake(3, 50, 10)
    dead_letters(brake, 4)
    brake.release()
    passed = dead_letters(brake, 50)
    brake.good()
    brake.good()
    passed += dead_letters(brake, 50)  # two good ones are not three
    for _ in range(3):
        brake.good()

    assert 100 == passed
    assert 3 == dead_letters(brake, 50)
    assert "3 dead letters in a row" == brake.reason


def test_the_share_alone_does_not_apply_for_twenty_good_records() -> None:
    """Without a limit in a row, twenty is the number."""
    brake = Brake(0, 50, 10)
    dead_letters(brake, 11)
    brake.release()
    for _ in range(19):
        brake.good()
    passed = dead_letters(brake, 30)
    for _ in range(20):
        brake.good()

    assert 30 == passed
    assert 10 == dead_letters(brake, 30)


def test_a_release_of_what_is_not_engaged_keeps_the_limits() -> None:
    """Releasing it twice does not switch it off."""
    brake = Brake(3, 0, 10)
    brake.release()

    assert 3 == dead_letters(brake, 10)


def test_threads_share_one_count() -> None:
    """However many ask at once, exactly the limit gets through."""
    brake, through = Brake(100, 0, 10), []
    in_threads(*[lambda: through.append(dead_letters(brake, 100))] * 8)

    assert 100 == sum(through)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("500/1 h", Limit(500, 3600)),
        (" 50 / 10 minutes ", Limit(50, 600)),
        ("3/PT1M", Limit(3, 60)),
        ("none", None),
        ("None", None),
    ],
)
def test_a_limit_is_read_as_people_write_it(text: str, expected: Limit | None) -> None:
    """A number and a length of time."""
    assert expected == parse_limit(text)


@pytest.mark.parametrize(
    "text", ["", "500", "/1 h", "0/1 h", "5/0 s", "5/h", "-1/1 h", "5/1 parsec"]
)
def test_what_is_no_limit_is_refused_with_a_sentence(text: str) -> None:
    """The sentence says what to write instead or what is wrong with the time."""
    with pytest.raises(ValueError, match=r"write for example|unit of time|longer than nothing"):
        parse_limit(text)


def brake() -> Brake:
    """A brake that engages by itself for nothing."""
    return Brake(0, 0, 10)


def limits(brake: Brake, count: int = 2, window_s: float = 60.0) -> Limits:
    """Limit one action and no other."""
    return Limits(brake, {LimitedAction.DISABLE: Limit(count, window_s), LimitedAction.MAIL: None})


def admitted(
    limits: Limits, key: str, now_s: float, action: LimitedAction = LimitedAction.DISABLE
) -> bool:
    """Say whether it may be done."""
    try:
        limits.admit((action,), key, now_s)
    except HoldError:
        return False
    return True


def test_one_too_many_engages_the_brake_with_the_numbers() -> None:
    """The operator reads what was done, how often, and which setting stopped it."""
    braked = brake()
    one = limits(braked)

    assert [True, True, False] == [admitted(one, key, 0.0) for key in "abc"]
    assert "2 users were disabled within 1 minute ([limits] disables)" == braked.reason


def test_a_release_empties_the_window() -> None:
    """The flow goes on instead of being stopped again at once."""
    braked = brake()
    one = limits(braked)
    for key in "abc":
        admitted(one, key, 0.0)
    braked.release()

    assert [True, True, False] == [admitted(one, key, 0.0) for key in "cde"]


def test_while_the_brake_holds_nothing_is_done() -> None:
    """Whatever engaged it, and also what was admitted before."""
    braked = brake()
    one = limits(braked)
    admitted(one, "a", 0.0)
    braked.engage("by hand")

    assert [False, False] == [admitted(one, key, 0.0) for key in "ab"]


def test_another_attempt_counts_once() -> None:
    """An outage of Keycloak must not look like mass changes."""
    one = limits(brake())

    assert all(admitted(one, "a", 0.0) for _ in range(9))
    assert [True, False] == [admitted(one, key, 0.0) for key in "bc"]


def test_what_was_not_done_is_taken_back() -> None:
    """A mail that turned out not to be wanted."""
    one = limits(brake(), count=1)
    admitted(one, "a", 0.0)
    one.take_back(LimitedAction.DISABLE, "a")
    one.take_back(LimitedAction.MAIL, "a")

    assert admitted(one, "b", 0.0)


def test_what_has_no_limit_is_always_admitted() -> None:
    """Even while the brake holds: the delivery itself holds the flow then."""
    braked = brake()
    one = limits(braked, count=1)

    assert all(admitted(one, str(number), 0.0, LimitedAction.MAIL) for number in range(99))
    assert braked.reason is None


@given(st.integers(1, 5), st.lists(st.integers(0, 40), max_size=60))
def test_no_window_holds_more_than_its_count(count: int, pauses: list[int]) -> None:
    """Wherever one begins to count, however often it is released."""
    window_s = 60
    braked = brake()
    one = limits(braked, count, window_s)
    done_s: list[int] = []
    for number, now_s in enumerate(accumulate(pauses)):
        if admitted(one, str(number), now_s):
            done_s.append(now_s)
        else:
            assert sum(at > now_s - window_s for at in done_s) == count
            done_s.clear()
            braked.release()
        assert sum(at > now_s - window_s for at in done_s) <= count


def _update(*changes: Change) -> UpdateUser:
    return UpdateUser({}, changes)


ACTIONS: dict[str, tuple[Operation, Intent, set[LimitedAction]]] = {
    "disabled": (_update(Change("enabled", True, False)), Intent.DISABLE, {LimitedAction.DISABLE}),
    "enabled": (_update(Change("enabled", False, True)), Intent.ENABLE, set()),
    "another address": (
        _update(Change("email", "a@x", "b@x")),
        Intent.UPDATE,
        {LimitedAction.EMAIL_CHANGE},
    ),
    "first address": (_update(Change("email", None, "b@x")), Intent.UPDATE, set()),
    "both": (
        _update(Change("email", "a@x", None), Change("enabled", True, False)),
        Intent.UPDATE,
        {LimitedAction.EMAIL_CHANGE, LimitedAction.DISABLE},
    ),
    "anonymised": (
        _update(Change("email", "a@x", None), Change("enabled", True, False)),
        Intent.ANONYMISE,
        {LimitedAction.DELETE},
    ),
    "deleted": (DeleteUser(), Intent.DELETE, {LimitedAction.DELETE}),
    "created disabled": (CreateUser({"enabled": False}), Intent.PROVISION, set()),
}


@pytest.mark.parametrize(("operation", "intent", "expected"), ACTIONS.values(), ids=ACTIONS)
def test_a_plan_is_counted_for_the_harm_that_it_does(
    operation: Operation, intent: Intent, expected: set[LimitedAction]
) -> None:
    """Only what takes something from a user that was there."""
    assert expected == limited_actions(Plan("kc-1", (operation,)), intent)
