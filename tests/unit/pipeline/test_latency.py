"""How long somebody waited for a user or a mail, from the event's time on, and whose time says nothing about that."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from stage_harness import Flow, event_of, interpretation, record_of

from keycloak_bridge.app.interpretation import Interpretation
from keycloak_bridge.domain.events import Record
from keycloak_bridge.settings.model import EventsSettings, Settings

STATED = datetime(2026, 11, 1, 8, tzinfo=UTC)
"""The time of the events here."""

SECOND, HOUR = timedelta(seconds=1), timedelta(hours=1)


def published(after: timedelta, event: dict[str, Any] | None = None, **record: Any) -> Record:
    """Return the record of an event, written so long after the event's time."""
    timestamp_ms = int((STATED + after).timestamp() * 1000)
    return replace(
        record_of(event_of() if event is None else event, **record), timestamp_ms=timestamp_ms
    )


def handled(flow: Flow, record: Record, at: timedelta) -> Flow:
    """Take a record through both stages so long after the time of its event."""
    flow.clock.advance((STATED + at - flow.clock.now()).total_seconds())
    flow.settle(flow.provision.handle(record))
    flow.clock.advance(30.0)
    for invitation in flow.invitations:
        flow.handle_invitation(
            replace(invitation, timestamp_ms=int(flow.clock.now().timestamp() * 1000))
        )
    return flow


def waited(flow: Flow, figure: str = "sum") -> dict[str, float]:
    """Return the sum of what each stage has observed, or their count."""
    found = flow.counted(f"end_to_end_latency_seconds_{figure}")
    return {stage: value for (stage,), value in found.items()}


@pytest.mark.parametrize("at", [2 * SECOND, 50 * HOUR], ids=["at once", "after an outage"])
def test_the_wait_begins_with_the_event(at: timedelta) -> None:
    """However long the record lay in its topic: the user came then, and the mail half a minute later."""
    flow = handled(Flow(), published(SECOND), at)

    assert {"provision": at.total_seconds(), "invite": at.total_seconds() + 30} == waited(flow)


def test_what_was_published_long_after_it_happened_counts_for_nothing() -> None:
    """A backfill is neither slow nor fast; an hour is what a producer may take."""
    assert {} == waited(handled(Flow(), published(HOUR + SECOND), 2 * HOUR))
    assert {"provision": 1.0, "invite": 1.0} == waited(
        handled(Flow(), published(HOUR), 2 * HOUR), "count"
    )


def test_a_time_in_the_future_counts_as_that_of_its_record() -> None:
    """The producer's clock is a second ahead; the user waits from the publication on."""
    flow = handled(Flow(), published(-SECOND), SECOND)

    assert 2.0 == waited(flow)["provision"]


def test_no_wait_is_negative() -> None:
    """The clocks of the producer and of the broker are both ahead of the bridge's."""
    flow = handled(Flow(), published(SECOND), -3 * SECOND)

    assert {"provision": 0.0, "invite": 27.0} == waited(flow)


def test_a_time_that_was_clamped_counts_for_nothing() -> None:
    """Nobody knows when that event happened."""
    known = Interpretation(Settings(events=EventsSettings(ahead="clamp")))
    flow = Flow(known=known)
    flow.clock.advance((STATED - flow.clock.now()).total_seconds())
    arrival = known.interpreter.arrival
    assert arrival is not None
    flow.provision._interpreter = replace(  # the flow's clock
        flow.provision._interpreter, arrival=replace(arrival, now=flow.clock.now)
    )

    handled(flow, published(-5 * HOUR), SECOND)

    assert ({}, 1) == (waited(flow), len(flow.keycloak.users()))


@pytest.mark.parametrize(
    "event",
    [event_of(time=...), event_of(data={"email": ...}), {}],
    ids=["without a time", "refused", "no event"],
)
def test_an_event_without_a_time_or_an_effect_counts_for_nothing(event: dict[str, Any]) -> None:
    """There is nothing to measure."""
    assert {} == waited(handled(Flow(), published(SECOND, event), 2 * SECOND))


def test_a_redelivery_and_a_replay_count_for_nothing() -> None:
    """The first finds the user as it should be, the second waited for an operator."""
    flow = handled(Flow(), published(SECOND), SECOND)
    flow.settle(flow.provision.handle(published(SECOND)))
    replayed = published(
        SECOND,
        event_of("u-2", data={"email": "u-2@acme.example"}),
        headers=(("kb-replay-of", b"0/1"),),
    )
    flow.confirm(replayed)
    flow.settle(flow.provision.handle(replayed))

    assert 1.0 == waited(flow, "count")["provision"]
    assert 2 == len(flow.keycloak.users())


def test_the_shipped_rules_are_those_of_these_tests() -> None:
    """Times are compared with those of records, as `run` does."""
    assert interpretation().interpreter.arrival is not None
