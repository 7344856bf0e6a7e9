"""What the page remembers, and what it forgets."""

from dataclasses import fields
from datetime import UTC, datetime, timedelta

import pytest

from keycloak_bridge.messages.results import PastOutcome
from keycloak_bridge.outcome_log.log import EVERYTHING, OutcomeFilter
from keycloak_bridge.ui import recent
from keycloak_bridge.ui.plot import HEIGHT, plot_of
from keycloak_bridge.ui.recent import BUCKET, BUCKETS, RecentOutcomes

NOW = datetime(2026, 11, 28, 12, 5, tzinfo=UTC)


def an_outcome(number: int = 0, **given: object) -> PastOutcome:
    """Return an outcome with an id of its own."""
    values = {"time": NOW, "outcome": "provisioned", "action": "created", "id": f"r{number}"}
    return PastOutcome(**{**values, "user_id": f"u{number}", **given})  # type: ignore[arg-type]


def test_the_newest_are_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    """And found with the newest first, whatever the order in which partitions are read."""
    monkeypatch.setattr(recent, "MOST_OUTCOMES", 3)
    known = RecentOutcomes()
    for number in (3, 1, 2, 4):
        known.add(an_outcome(number, time=NOW + timedelta(seconds=number)))

    found = known.find(EVERYTHING, 2)
    assert (["u4", "u2"], 3) == ([one.user_id for one in found.outcomes], found.total)


def test_a_repetition_counts_once() -> None:
    """Consumers tell it by its id, which is made of event and outcome."""
    known = RecentOutcomes()
    for _ in range(3):
        known.add(an_outcome())

    assert 1 == known.find(EVERYTHING, 10).total
    assert (1, 0, 0) == known.by_time(NOW)[-1].counts


def test_no_outcome_takes_much_memory() -> None:
    """Whoever wrote it."""
    known = RecentOutcomes()
    texts = {one.name: "x" * 5000 for one in fields(PastOutcome)}
    known.add(PastOutcome(**{**texts, "time": NOW, "changed": ("x" * 600, "y" * 600)}))  # type: ignore[arg-type]

    (kept,) = known.find(EVERYTHING, 1).outcomes
    assert all(len(getattr(kept, name)) <= 512 for name in texts if name != "time")


def test_outcomes_are_counted_by_time() -> None:
    """Users that were written, mails, dead letters; what is older than the plot or did nothing is left out."""
    known = RecentOutcomes()
    known.add(an_outcome(1))
    known.add(an_outcome(2, action="unchanged"))
    known.add(an_outcome(3, outcome="skipped", action=None))
    known.add(an_outcome(4, outcome="invited", action=None, time=NOW - BUCKET))
    known.add(an_outcome(5, outcome="rejected", action=None, time=NOW - BUCKET))
    known.add(an_outcome(6, time=NOW - BUCKET * BUCKETS))
    known.add(an_outcome(7, time=None))

    buckets = known.by_time(NOW)

    assert BUCKETS == len(buckets)
    assert [(0, 1, 1), (1, 0, 0)] == [one.counts for one in buckets[-2:]]
    assert not any(any(one.counts) for one in buckets[:-2])


def test_counts_of_old_times_are_forgotten() -> None:
    """However long the bridge runs."""
    known = RecentOutcomes()
    for number in range(10 * BUCKETS):
        known.add(an_outcome(number, time=NOW + number * BUCKET))

    assert 2 * BUCKETS >= len(known._buckets)
    assert all(any(one.counts) for one in known.by_time(NOW + (10 * BUCKETS - 1) * BUCKET))


def test_each_person_has_one_state_of_invitation(monkeypatch: pytest.MonkeyPatch) -> None:
    """The newest, in whatever order they come; in bounded memory."""
    monkeypatch.setattr(recent, "MOST_USERS", 3)
    known = RecentOutcomes()
    later = NOW + timedelta(minutes=1)
    known.add(an_outcome(1, outcome="activated", user_id="ada", time=later))
    known.add(an_outcome(2, outcome="invited", user_id="ada"))
    known.add(an_outcome(3, outcome="invited", user_id="bob"))
    known.add(an_outcome(4, outcome="invitation-expired", user_id="cai"))
    assert {"sent": 1, "activated": 1, "expired": 1} == known.invitations()

    known.add(an_outcome(5, outcome="invited", user_id="dee"))
    assert {"sent": 2, "activated": 0, "expired": 1} == known.invitations()

    known.add(an_outcome(6, outcome="provisioned", action="deleted", user_id="dee", time=later))
    assert {"sent": 1, "activated": 0, "expired": 1} == known.invitations()


@pytest.mark.parametrize("seconds", [-30, 0, 30])
def test_who_is_in_is_in(seconds: float) -> None:
    """Whichever clock is ahead, and whatever is said about the mail afterwards; until the user is made anew."""
    known = RecentOutcomes()
    known.add(an_outcome(1, outcome="invited", user_id="ada"))
    known.add(
        an_outcome(2, outcome="activated", user_id="ada", time=NOW + timedelta(seconds=seconds))
    )
    known.add(
        an_outcome(3, outcome="invitation-expired", user_id="ada", time=NOW + timedelta(days=3))
    )
    assert {"sent": 0, "activated": 1, "expired": 0} == known.invitations()

    later = NOW + timedelta(days=4)
    known.add(an_outcome(4, user_id="ada", time=later))
    known.add(an_outcome(5, outcome="invited", user_id="ada", time=later))
    assert {"sent": 1, "activated": 0, "expired": 0} == known.invitations()


def test_a_mail_counts_of_which_only_a_later_process_said_something() -> None:
    """A process that was killed between the mail and its result leaves `already-invited` to the next one."""
    known = RecentOutcomes()
    again = {"outcome": "skipped", "action": None, "reason": "already-invited"}
    known.add(an_outcome(1, user_id="ada", **again))
    known.add(an_outcome(2, outcome="invitation-expired", user_id="bob"))
    known.add(an_outcome(3, user_id="bob", **again))
    assert {"sent": 1, "activated": 0, "expired": 1} == known.invitations()


def test_each_of_many_people_is_in_one_state() -> None:
    """A third is in, a third's link ended, and results were repeated after crashes."""
    known = RecentOutcomes()
    last = {0: "activated", 1: "invitation-expired"}
    results = [
        an_outcome(
            number, id=f"{number}/{outcome}", outcome=outcome, time=NOW + timedelta(minutes=at)
        )
        for at, outcome in enumerate(("invited", "last"))
        for number in range(2000)
        for outcome in (
            [outcome] if outcome == "invited" else [last[number % 3]] if number % 3 in last else []
        )
    ]
    for one in [*results, *results[1000:2500]]:
        known.add(one)

    assert {"sent": 666, "activated": 667, "expired": 667} == known.invitations()
    assert len(results) == known.find(EVERYTHING, 1).total


def test_what_can_be_asked_for_is_what_was_seen() -> None:
    """The most frequent first."""
    known = RecentOutcomes()
    known.add(an_outcome(1, outcome="rejected", reason="not-json", event_type=None))
    for number in (2, 3):
        known.add(an_outcome(number, event_type="user.created"))

    assert {
        "outcome": ["provisioned", "rejected"],
        "type": ["user.created"],
        "code": ["not-json"],
    } == known.seen()
    assert 1 == known.find(OutcomeFilter(codes=frozenset(("not-json",))), 10).total


def test_a_plot_says_the_same_in_words() -> None:
    """Every bar is in the picture, and the smallest can be seen."""
    known = RecentOutcomes()
    for number in range(1000):
        known.add(an_outcome(number))
    known.add(an_outcome(1000, time=NOW - BUCKET))

    plot = plot_of(known.by_time(NOW))

    users, mails, _ = plot.rows
    assert (
        "1001 users in the time shown, at most 1000 in 10 minutes, from 12:00 UTC on" == users.words
    )
    assert ("0 mails in the time shown", ()) == (mails.words, mails.bars)
    assert [(BUCKETS - 2, 1.5), (BUCKETS - 1, HEIGHT)] == [
        (bar.x, bar.height) for bar in users.bars
    ]
    assert 2 == len(plot.buckets)


def test_an_empty_plot_is_a_plot() -> None:
    """Before anything happened."""
    plot = plot_of(RecentOutcomes().by_time(NOW))

    assert [0, 0, 0] == [row.total for row in plot.rows]
    assert () == plot.buckets
