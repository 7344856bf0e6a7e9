"""What the page of the running bridge reads, and how much of it."""

import itertools
import threading
from collections.abc import Iterator, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import partial

import pytest

from keycloak_bridge.app import page as module
from keycloak_bridge.app.page import UserViews, followed_dead_letters, followed_outcomes
from keycloak_bridge.domain.errors import BrokerUnavailableError, BusyError
from keycloak_bridge.domain.events import Record
from keycloak_bridge.events.decode import EnvelopeRules
from keycloak_bridge.messages.results import PastOutcome
from keycloak_bridge.outcome_log.log import OutcomeFilter
from keycloak_bridge.settings.model import Settings
from keycloak_bridge.testing.fake_clock import FakeClock
from keycloak_bridge.testing.in_memory_keycloak import InMemoryKeycloak
from keycloak_bridge.ui.recent import BUCKET, BUCKETS, MOST_DEAD_LETTERS, OpenDeadLetters

WAIT_S = 60
NOW = datetime(2026, 11, 1, tzinfo=UTC)


class StubLog:
    """The outcome log of a topic; it notes what it was asked for."""

    def __init__(
        self, outcomes: Sequence[PastOutcome], asked: list[object], *_: object, **more: object
    ) -> None:
        self.outcomes, self.asked, self.more = outcomes, asked, more

    def newest(self, count: int) -> Sequence[PastOutcome]:
        return self.outcomes[-count:]

    def read(self, chosen: OutcomeFilter) -> Iterator[PastOutcome]:
        self.asked.append(chosen.since)
        return iter(self.outcomes)

    def follow(self) -> Iterator[PastOutcome | None]:
        return iter((None, None))

    def of_user(self, user_id: str) -> Sequence[PastOutcome]:
        self.asked.append(user_id)
        return [one for one in self.outcomes if one.user_id == user_id]

    def close(self) -> None:
        self.asked.append("closed")


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[object]:
    """What the log is asked for."""
    return []


def with_log(monkeypatch: pytest.MonkeyPatch, asked: list[object], *outcomes: PastOutcome) -> None:
    monkeypatch.setattr(module, "OutcomeLog", partial(StubLog, outcomes, asked))


def outcomes_of(user_id: str = "u1", count: int = 1) -> list[PastOutcome]:
    return [
        PastOutcome(NOW - timedelta(seconds=count - at), "provisioned", "updated", event_id=f"e{at}", user_id=user_id, changed=("email",))
        for at in range(count)
    ]  # fmt: skip


def test_the_newest_outcomes_come_first_and_then_what_comes(
    monkeypatch: pytest.MonkeyPatch, asked: list[object]
) -> None:
    """The end is said; the connection is closed."""
    newest = outcomes_of(count=3)
    with_log(monkeypatch, asked, *newest)

    assert [*newest, None, None, None] == list(followed_outcomes(Settings(), FakeClock(NOW)))
    assert ["closed"] == asked


def test_after_a_burst_all_of_the_time_that_is_shown_is_read(
    monkeypatch: pytest.MonkeyPatch, asked: list[object]
) -> None:
    """The plot counts it, although not all of it is kept."""
    monkeypatch.setattr(module, "_NEWEST", 2)
    with_log(monkeypatch, asked, *outcomes_of(count=5))

    assert 5 + 3 == len(list(followed_outcomes(Settings(), FakeClock(NOW))))
    assert [NOW - BUCKET * BUCKETS, "closed"] == asked


def test_of_dead_letters_only_the_newest_are_read(monkeypatch: pytest.MonkeyPatch) -> None:
    """However many there are."""
    record = Record("letters", 0, 7, 0, None, b"{}", ())
    seen: list[object] = []

    class Reader:
        def __init__(self, *_: object) -> None:
            pass

        def begin_near_end(self, count: int) -> None:
            seen.append(count)

        def read(self) -> Iterator[Record]:
            return iter((record,))

        def follow(self) -> Iterator[Sequence[Record]]:
            return iter(((), (record, record)))

        def close(self) -> None:
            seen.append("closed")

    monkeypatch.setattr(module, "DeadLetterReader", Reader)

    assert [record, None, None, record, record] == list(followed_dead_letters(Settings()))
    assert [MOST_DEAD_LETTERS, "closed"] == seen


@pytest.fixture
def keycloak() -> InMemoryKeycloak:
    return InMemoryKeycloak()


@pytest.fixture
def views(keycloak: InMemoryKeycloak) -> UserViews:
    return UserViews(Settings(), "userId", keycloak, OpenDeadLetters(EnvelopeRules()))


def test_a_user_is_shown_without_a_value(
    monkeypatch: pytest.MonkeyPatch,
    asked: list[object],
    keycloak: InMemoryKeycloak,
    views: UserViews,
) -> None:
    """By its id in user management or in Keycloak; its username and its address are no ids."""
    keycloak_id = keycloak.create(
        {
            "username": "ada",
            "email": "ada@acme.example",
            "firstName": "Ada",
            "enabled": True,
            "requiredActions": ["UPDATE_PASSWORD"],
            "attributes": {
                "userId": ["u1"],
                "bridgeEventId": ["e1"],
                "bridgeEventTime": ["2026-11-01T08:00:00.000000Z"],
                "bridgeInvitation": ["sent-until:1793779200:e1"],
            },
        }
    )
    with_log(monkeypatch, asked, *outcomes_of(count=3))

    found = [views.view(one) for one in ("u1", keycloak_id)]
    view = found[0]

    assert view is not None
    assert found[0] == found[1]
    assert {
        "User id": "u1",
        "Keycloak id": keycloak_id,
        "Enabled": "yes",
        "Last event": "e1 of 2026-11-01 08:00:00 UTC",
        "Invitation": "the mail was handed to Keycloak, caused by e1; its link ends 2026-11-04 08:00:00 UTC",
        "Credentials": "none yet",
        "Required actions": "UPDATE_PASSWORD",
        "Open dead letters": "0",
    } == dict(view.facts)
    assert ["e2", "e1", "e0"] == [one.event_id for one in view.outcomes]
    assert {"username", "email", "attributes.userId"} <= view.targets.keys()
    setter = view.targets["email"]
    assert setter is not None
    assert "e2" == setter.event_id
    assert "Ada" not in repr(view)
    assert "acme.example" not in repr(view)
    with_log(monkeypatch, asked)
    assert [None, None] == [views.view(one) for one in ("ada", "ada@acme.example")]


def test_a_user_that_keycloak_does_not_have_has_outcomes_all_the_same(
    monkeypatch: pytest.MonkeyPatch, asked: list[object], views: UserViews
) -> None:
    """It was deleted, or its events were refused."""
    with_log(monkeypatch, asked, *outcomes_of())

    view = views.view("u1")

    assert view is not None
    assert ("Keycloak id", "the realm has no such user") in view.facts
    assert views.view("u2") is None


def test_a_topic_that_is_too_long_is_left_to_the_command(
    monkeypatch: pytest.MonkeyPatch, asked: list[object], views: UserViews
) -> None:
    """The page names it instead of keeping its reader waiting."""
    with_log(monkeypatch, asked)
    monkeypatch.setattr(
        "keycloak_bridge.app.page.time.monotonic", partial(next, itertools.count(0, 10))
    )
    record = Record("results", 0, 0, 0, b"u1", b"{}", ())

    class SlowLog(StubLog):
        def of_user(self, user_id: str) -> Sequence[PastOutcome]:
            list(self.more["watched"]([record], 1))  # type: ignore[operator]
            return super().of_user(user_id)

    monkeypatch.setattr(module, "OutcomeLog", partial(SlowLog, (), asked))

    view = views.view("u1; reboot")

    assert view is not None
    assert view.cut is not None
    assert view.cut.endswith("keycloak-bridge explain 'u1; reboot'")
    assert ["closed"] == asked


def test_one_user_is_read_at_a_time(
    monkeypatch: pytest.MonkeyPatch, asked: list[object], views: UserViews
) -> None:
    """And after a failure the next one can be."""
    monkeypatch.setattr(module, "_QUEUE_S", 0.0)
    with_log(monkeypatch, asked, *outcomes_of())
    with views._one_at_a_time, pytest.raises(BusyError, match="another user is being read"):
        views.view("u1")

    def away(_: str) -> None:
        raise BrokerUnavailableError("no broker answers")

    with monkeypatch.context() as broken:
        broken.setattr(views, "_user", away)
        with pytest.raises(BrokerUnavailableError):
            views.view("u1")
    assert views.view("u1") is not None


def test_nobody_waits_for_ever(
    monkeypatch: pytest.MonkeyPatch, asked: list[object], views: UserViews
) -> None:
    """Where Keycloak keeps an answer back; as long as that lasts, others are told so too."""
    monkeypatch.setattr(module, "_QUEUE_S", 0.0)
    monkeypatch.setattr(module, "_ANSWER_S", 0.0)
    with_log(monkeypatch, asked)
    answered = threading.Event()
    monkeypatch.setattr(views, "_user", lambda _: answered.wait(WAIT_S) and None)

    for reason in ("did not answer within 0 s", "another user is being read"):
        with pytest.raises(BusyError, match=reason):
            views.view("u1")
    answered.set()
    assert views._one_at_a_time.acquire(timeout=WAIT_S)


def test_outcomes_of_a_user_are_bounded(
    monkeypatch: pytest.MonkeyPatch, asked: list[object], views: UserViews
) -> None:
    """The page stays a page."""
    with_log(monkeypatch, asked, *(replace(one, event_id=None) for one in outcomes_of(count=300)))

    view = views.view("u1")

    assert view is not None
    assert 200 == len(view.outcomes)
