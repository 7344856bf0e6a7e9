"""A disable or a deletion counts unless a newer event lets the user in; the order of data is another matter."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from typing import cast

import pytest
from hypothesis import given
from hypothesis import strategies as st
from plan_cases import (
    CREATED,
    LATER,
    NOON,
    apply_plan,
    changed,
    desired,
    done,
    event,
    updating,
    wanting,
)

from keycloak_bridge.domain.events import UserEvent
from keycloak_bridge.domain.operations import DeleteUser, EndSessions, Plan
from keycloak_bridge.domain.users import (
    Access,
    DesiredUser,
    FoundUser,
    Intent,
    UserRepresentation,
)
from keycloak_bridge.planning.fold import fold, plan_folded
from keycloak_bridge.planning.order import (
    Applied,
    Moment,
    applied_to,
    format_applied,
    is_before,
)
from keycloak_bridge.planning.plan import plan_user

Step = tuple[UserEvent, DesiredUser]
SECOND = timedelta(seconds=1)


def ms(count: int) -> datetime:
    """Return a time so many milliseconds after noon."""
    return NOON + timedelta(milliseconds=count)


def one_by_one(steps: Sequence[Step], found: FoundUser | None = None) -> FoundUser:
    for one, want in steps:
        found = apply_plan(plan_user(one, want, found), found, new_id="42")
    assert found is not None
    return found


def at_once(steps: Sequence[Step], found: FoundUser | None = None) -> FoundUser:
    folded = fold(None, *steps[0])
    for step in steps[1:]:
        folded = fold(folded, *step)
    user = apply_plan(plan_folded(folded, found, reserved=()), found, new_id="42")
    assert user is not None
    return user


CREATING = (event("create", NOON), desired())
DISABLE, ENABLE = wanting(Intent.DISABLE), wanting(Intent.ENABLE)
UPDATE = updating(firstName="Eve")

OUT_IN_THE_END: dict[str, list[Step]] = {
    "the same second, in whole seconds": [
        (event("create", ms(500)), desired()),
        (event("update", NOON), UPDATE),
        (event("disable", NOON), DISABLE),
    ],
    "an update within the second": [
        CREATING,
        (event("update", ms(1050)), UPDATE),
        (event("disable", ms(1000)), DISABLE),
    ],
    "an update in the far future": [
        CREATING,
        (event("update", NOON + timedelta(days=3650)), UPDATE),
        (event("disable", LATER), DISABLE),
    ],
    "a newer disable before": [
        CREATING,
        (event("disable2", LATER), DISABLE),
        (event("disable1", NOON + SECOND), DISABLE),
    ],
    "enabled before, read later": [
        CREATING,
        (event("disable", LATER), DISABLE),
        (event("enable", NOON + SECOND), ENABLE),
    ],
    "one id for every event of a user": [
        CREATING,
        (event("1", NOON + SECOND), DISABLE),
        (event("2", NOON + 2 * SECOND), ENABLE),
        (event("1", NOON + 3 * SECOND), DISABLE),
    ],
    "one id, and whole seconds": [
        CREATING,
        (event("1", ms(1500)), updating(enabled=True)),
        (event("1", ms(1000)), updating(enabled=False)),
    ],
    "one id, older than the data": [
        CREATING,
        (event("1", LATER), UPDATE),
        (event("1", NOON + SECOND), updating(enabled=False)),
    ],
    "one id and one time": [
        CREATING,
        (event("1", LATER), UPDATE),
        (event("1", LATER), updating(enabled=True)),
        (event("1", LATER), updating(enabled=False)),
    ],
    "one id, no times": [
        (event("create", None), desired()),
        (event("1", None), updating(enabled=True)),
        (event("1", None), updating(enabled=False)),
    ],
    "created without a time": [
        (event("create", None), desired()),
        (event("disable", NOON), DISABLE),
    ],
    "enabled without a time": [
        CREATING,
        (event("enable", None), ENABLE),
        (event("disable", NOON), DISABLE),
    ],
    "enabled without a time, and older than the data": [
        CREATING,
        (event("update", LATER), UPDATE),
        (event("enable", None), ENABLE),
        (event("disable", NOON + SECOND), DISABLE),
    ],
    "more older enables than are kept": [
        CREATING,
        (event("disable", LATER), DISABLE),
        *((event(f"enable{at}", NOON + at * SECOND), ENABLE) for at in range(1, 70)),
    ],
    "inactive by a complete event, older than the data": [
        CREATING,
        (event("update", LATER), UPDATE),
        (event("complete", NOON + SECOND), desired(enabled=False)),
    ],
}


@pytest.mark.parametrize("steps", OUT_IN_THE_END.values(), ids=OUT_IN_THE_END)
def test_who_is_put_out_is_out(steps: list[Step]) -> None:
    """One by one and at once; reading it all again changes nothing."""
    user = one_by_one(steps)

    assert user.representation["enabled"] is False
    assert at_once(steps).representation["enabled"] is False
    assert one_by_one(steps, user).representation["enabled"] is False
    assert at_once(steps, user).representation["enabled"] is False


def test_who_is_let_in_by_a_newer_event_is_in() -> None:
    """The disable that comes late is stale, and says so, since nobody was to hear of it otherwise."""
    steps = [CREATING, (event("enable", LATER), ENABLE)]
    user = one_by_one(steps)
    plan = plan_user(event("disable", NOON + SECOND), DISABLE, user)

    assert (plan.skipped, plan.operations, plan.overruled) == ("stale", (), True)
    assert plan_user(event("update", NOON + SECOND), UPDATE, user).overruled is False


def test_the_clock_of_a_record_makes_no_disable_stale() -> None:
    """The producer says a newer time; the machine that wrote the record was behind."""
    disable = replace(event("disable", NOON - SECOND), stated_time=NOON + SECOND)
    steps = [CREATING, (disable, DISABLE)]
    user = one_by_one(steps)

    for found in (user, at_once(steps), one_by_one(steps, user), at_once(steps, user)):
        assert found.representation["enabled"] is False
    enable = (event("enable", NOON + 2 * SECOND), ENABLE)
    assert one_by_one([enable], user).representation["enabled"] is True
    earlier = (event("enable", NOON - SECOND), ENABLE)
    assert one_by_one([earlier], user).representation["enabled"] is False
    stale = replace(disable, stated_time=NOON - SECOND)
    assert one_by_one([CREATING, (stale, DISABLE)]).representation["enabled"] is True


def test_a_newer_event_of_the_same_id_lets_in() -> None:
    """It is another one, since its time is."""
    steps = [
        CREATING,
        (event("1", NOON + SECOND), updating(enabled=False)),
        (event("1", NOON + 2 * SECOND), updating(enabled=True)),
    ]

    assert one_by_one(steps).representation["enabled"] is True
    assert at_once(steps).representation["enabled"] is True


def test_a_late_disable_takes_nothing_of_the_newer_data() -> None:
    """It switches off and ends the sessions; time, data and the last event stay."""
    newer = one_by_one([CREATING, (event("update", LATER), UPDATE)])
    found = replace(newer, sessions=2)
    plan = plan_user(event("disable", NOON + SECOND), DISABLE, found)
    user = done(plan, found)

    before, after = found.representation, user.representation
    assert (after["enabled"], after["firstName"]) == (False, "Eve")
    assert before["attributes"]["bridgeEventId"] == after["attributes"]["bridgeEventId"]
    assert applied_to(before).time == applied_to(after).time == LATER
    assert plan.operations[-1] == EndSessions()
    left = replace(user, sessions=1)
    again = plan_user(event("disable", NOON + SECOND), DISABLE, left)
    assert again == Plan("42", (EndSessions(),))


def test_a_late_enable_switches_on_and_nothing_else() -> None:
    """A complete event that is older than the data, and newer than what put the user out."""
    steps = [
        CREATING,
        (event("disable", NOON + SECOND), DISABLE),
        (event("update", LATER), UPDATE),
        (event("complete", NOON + 2 * SECOND), desired(firstName="Augusta")),
    ]
    user = one_by_one(steps).representation

    assert (user["enabled"], user["firstName"]) == (True, "Eve")
    assert at_once(steps).representation["enabled"] is True


@pytest.mark.parametrize("intent", [Intent.DELETE, Intent.ANONYMISE])
def test_a_late_deletion_deletes(intent: Intent) -> None:
    """An update does not bring anybody back."""
    user = one_by_one([CREATING, (event("update", LATER), UPDATE)])
    plan = plan_user(event("delete", NOON + SECOND), wanting(intent), user)

    after = apply_plan(plan, user)
    if intent is Intent.DELETE:
        assert plan.operations == (DeleteUser(),)
    else:
        assert after is not None
        assert after.representation["username"] == "anonymous-42"
        assert after.representation.get("firstName") is None
        assert applied_to(after.representation).time == LATER


def test_a_deletion_of_an_earlier_life_is_stale() -> None:
    """A user that was created since is another, even one that was created disabled or was disabled since."""
    for want in (desired(), desired(enabled=False)):
        user = done(plan_user(event("create", LATER), want, None), None)
        for found in (user, one_by_one([(event("d", LATER + SECOND), DISABLE)], user)):
            plan = plan_user(event("delete", NOON), wanting(Intent.DELETE), found)
            assert (plan.skipped, plan.operations) == ("stale", ())


def test_a_redelivered_event_turns_no_switch() -> None:
    """Neither on for whom somebody switched off since, nor off for whom a newer event switched on, in the same second."""
    steps = [CREATING, (event("off", LATER), DISABLE), (event("on", LATER), ENABLE)]
    user = one_by_one(steps)
    by_hand = changed(user, enabled=False)

    for again in steps:
        assert one_by_one([again], user).representation["enabled"] is True
        assert one_by_one([again], by_hand).representation["enabled"] is False


LEGACY = {"bridgeEventId": ["e1"], "bridgeEventTime": ["2026-11-01T13:00:00.000000Z"]}


@pytest.mark.parametrize("enabled", [True, False])
def test_a_time_of_an_earlier_version(enabled: bool) -> None:
    """It let the user in if it may log in now; an update keeps that."""
    found = changed(CREATED, LEGACY, enabled=enabled)
    late = (event("disable", NOON), DISABLE)
    updated = one_by_one([(event("u", LATER + SECOND), UPDATE)], found)

    for user in (found, updated):
        assert one_by_one([late], user).representation["enabled"] is enabled
        off = (event("disable", LATER), DISABLE)
        assert one_by_one([off], user).representation["enabled"] is False


@pytest.mark.parametrize(
    "steps",
    [
        [(event("complete", NOON), desired(enabled=False))],
        [(event("off", NOON + SECOND), updating(enabled=False)), (event("c", NOON), desired())],
        [(event("update", LATER), UPDATE), (event("off", NOON + SECOND), DISABLE)],
    ],
    ids=[
        "of the time of the newest",
        "before one that would create",
        "before an update read again",
    ],
)
def test_a_disable_among_events_at_once_is_not_lost(steps: list[Step]) -> None:
    """Neither where part of them was applied already nor where none was."""
    for seen in ([CREATING], [CREATING, steps[0]]):
        assert at_once(steps, one_by_one(seen)).representation["enabled"] is False


# the rule, over sequences, precisions and redeliveries

TIMES = st.builds(
    lambda seconds, micros: NOON + timedelta(seconds=seconds, microseconds=micros),
    st.integers(0, 3),
    st.sampled_from([0, 0, 50_000, 500_000, 500_001]),
)
LETTING_IN = st.sampled_from([ENABLE, desired(), updating(enabled=True)])
PUTTING_OUT = st.sampled_from([DISABLE, desired(enabled=False), updating(enabled=False)])
STEPS = st.lists(
    st.tuples(TIMES, LETTING_IN | PUTTING_OUT | st.just(UPDATE)), min_size=1, max_size=3
).map(lambda pairs: [(event(f"e{at}", time), want) for at, (time, want) in enumerate(pairs)])


def access(want: DesiredUser) -> Access | None:
    enabled = want.representation.get("enabled")
    if enabled is None:
        return None
    return Access.IN if enabled else Access.OUT


def must_be(wanted: Access, steps: Sequence[Step]) -> bool:
    """Whether an event wants this access, no newer one before it the other, and none behind it that is not older."""
    other = Access.IN if wanted is Access.OUT else Access.OUT
    for at, (one, want) in enumerate(steps):
        if access(want) is wanted:
            before = [each for each, its in steps[:at] if access(its) is other]
            behind = [each for each, its in steps[at:] if access(its) is other]
            newer = any(is_before(one.time, each.time) for each in before)
            if not newer and all(is_before(each.time, one.time) for each in behind):
                return True
    return False


@given(STEPS, st.integers(0, 3))
def test_the_rule(steps: list[Step], applied: int) -> None:
    """Whatever the order, the precision and what was applied before: one by one, at once, and read again from anywhere.

    Of more events of one second than are remembered, those that are read again may leave the user out, never bring it back.
    """
    steps = [CREATING, *steps]
    whole = one_by_one(steps)
    seen = one_by_one(steps[: applied + 1])
    results = [
        whole,
        at_once(steps),
        one_by_one(steps[applied + 1 :], seen),
    ]
    again = [
        one_by_one(steps[applied:], whole),
        at_once(steps, whole),
        at_once(steps, seen),
    ]
    ends = [one.representation["enabled"] for one in results]

    assert ends == [ends[0]] * len(ends)
    assert {one.representation["enabled"] for one in again} <= {ends[0], False}
    if must_be(Access.OUT, steps):
        assert ends[0] is False
    if must_be(Access.IN, steps):
        assert ends[0] is True


OCCURRENCES = st.sampled_from([(), ("0123456789abcdef",), ("fedcba9876543210",) * 3])


@given(
    st.builds(
        Applied,
        TIMES,
        st.sampled_from(Access),
        st.builds(Moment, TIMES, OCCURRENCES),
        st.builds(Moment, TIMES, OCCURRENCES),
        st.none() | st.builds(Moment, TIMES, st.just(("0000000000000000",))),
    )
)
def test_what_is_remembered_is_read_back(applied: Applied) -> None:
    """In one attribute, which the shipped user profile lets have 255 characters."""
    text = format_applied(applied, "e1~0")
    assert text is not None
    assert len(text) <= 255
    user = {"attributes": {"bridgeEventId": ["e1~0"], "bridgeEventTime": [text]}}

    assert applied == applied_to(cast("UserRepresentation", user))


@given(st.text())
def test_any_text_is_read(text: str) -> None:
    """Somebody may have edited the attribute."""
    applied_to({"attributes": {"bridgeEventTime": [text]}})
    applied_to({"attributes": {"bridgeEventTime": [f"2026-11-01T12:00:00Z {text}"]}})


SOME_WITHOUT_TIMES = st.lists(
    st.tuples(st.none() | TIMES, LETTING_IN | PUTTING_OUT | st.just(UPDATE), st.integers(0, 5)),
    min_size=1,
    max_size=4,
).map(lambda drawn: [(event(f"e{number}", time), want) for time, want, number in drawn])


def ends_out(steps: Sequence[Step]) -> bool:
    """Whether the last event puts the user out, is not one of before again, and no newer one before it lets in."""
    (last, want), before = steps[-1], [one for one, _ in steps[:-1]]
    again = last.occurrence in {one.occurrence for one in before}
    newer = any(is_before(last.time, one.time) for one, its in steps if access(its) is Access.IN)
    return access(want) is Access.OUT and not again and not newer


@given(SOME_WITHOUT_TIMES, st.integers(0, 4), st.none() | st.just(NOON))
def test_the_rule_where_times_are_missing(
    steps: list[Step], applied: int, born: datetime | None
) -> None:
    """Also where ids are used once more: who is put out last is out, however often it all is read again."""
    steps = [(event("create", born), desired()), *steps]
    if not ends_out(steps):
        return
    seen = one_by_one(steps[: applied + 1])
    whole = one_by_one(steps)
    ends = [
        whole,
        at_once(steps),
        one_by_one(steps[applied:], seen),
        one_by_one(steps, whole),
        one_by_one(steps[applied:], whole),
        at_once(steps, whole),
    ]
    assert [one.representation["enabled"] for one in ends] == [False] * len(ends)
