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


ROW = "{} dead letters in a row"
SHARE = "{} of the last 10 records became dead letters"
BRAKES: dict[str, tuple[Brake, list[int | str], list[int], str | None]] = {
    "no more than the limit in a row": (Brake(3, 0, 200), [9, 9], [3, 0], ROW.format(3)),
    "one in a row": (Brake(1, 0, 200), [3], [1], ROW.format(1)),
    "a good record begins a new row": (
        Brake(3, 0, 200),
        [2, "good", 2, "good", 2, "good", 9],
        [2, 2, 2, 3],
        ROW.format(3),
    ),
    "good records do not disengage it": (
        Brake(2, 0, 10),
        [3, *["good"] * 100, 1],
        [2, 0],
        ROW.format(2),
    ),
    "half of a full window": (Brake(0, 50, 10), [*["good"] * 6, 100], [5], SHARE.format(5)),
    "however many came before": (Brake(0, 50, 10), [*["good"] * 100, 100], [5], SHARE.format(5)),
    "more than half when it fills": (
        Brake(0, 50, 10),
        [*["good"] * 4, 100],
        [6],
        SHARE.format(6),
    ),
    "bad ones only": (Brake(0, 50, 10), [100], [10], SHARE.format(10)),
    "what left the window is forgotten": (
        Brake(0, 50, 10),
        [4, *["good"] * 8] * 20,
        [4] * 20,
        None,
    ),
    "0 is no limit": (Brake(0, 0, 10), [1000], [1000], None),
    "the rest of the bad records passes after a release": (
        Brake(3, 50, 10),
        [4, "release", 50, "good", "good", 50, *["good"] * 3, 50],
        [3, 50, 50, 3],
        ROW.format(3),
    ),
    "twenty good records after a release without a limit in a row": (
        Brake(0, 50, 10),
        [11, "release", *["good"] * 19, 30, *["good"] * 20, 30],
        [10, 30, 10],
        SHARE.format(10),
    ),
    "releasing what is not engaged keeps the limits": (
        Brake(3, 0, 10),
        ["release", 10],
        [3],
        ROW.format(3),
    ),
}


@pytest.mark.parametrize(("brake", "steps", "through", "reason"), BRAKES.values(), ids=BRAKES)
def test_when_the_brake_engages(
    brake: Brake, steps: list[int | str], through: list[int], reason: str | None
) -> None:
    """A number asks for so many dead letters; those that get through are counted. Only a release disengages it."""
    passed = []
    for step in steps:
        match step:
            case "good":
                brake.good()
            case "release":
                brake.release()
            case int():
                passed.append(dead_letters(brake, step))

    assert (through, reason) == (passed, brake.reason)


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
    assert [True, True, False] == [admitted(one, key, 0.0) for key in "bac"]


def test_what_was_not_done_is_taken_back() -> None:
    """A mail that turned out not to be wanted."""
    one = limits(brake(), count=1)
    admitted(one, "a", 0.0)
    one.take_back(LimitedAction.DISABLE, "a")
    one.take_back(LimitedAction.MAIL, "a")

    assert admitted(one, "b", 0.0)


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
    "enabled": (_update(Change("enabled", False, True)), Intent.ENABLE, {LimitedAction.ENABLE}),
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
    """Only what takes something from a user that was there, or lets one in again."""
    assert expected == limited_actions(Plan("kc-1", (operation,)), intent)


def test_what_has_no_limit_is_always_admitted() -> None:
    """Even while the brake holds: the delivery itself holds the flow then."""
    braked = brake()
    one = limits(braked, count=1)

    assert all(admitted(one, str(number), 0.0, LimitedAction.MAIL) for number in range(99))
    assert braked.reason is None
