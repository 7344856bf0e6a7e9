"""Records that retention deleted before they were read are reported, counted, and stop the flow where that is wanted."""

import logging
from typing import Any

import pytest
from delivery_harness import GROUP, P0, TOPIC, Hand
from stage_harness import counted

from keycloak_bridge.delivery.lost_records import LostRecords
from keycloak_bridge.domain.errors import BrokerUnavailableError
from keycloak_bridge.domain.events import Commit

LOST = f"{TOPIC}/0 lost offsets 2 to 6 before they were read, by retention or deletion"


def hand_of(*, brakes: bool, read: bool = False) -> Hand:
    """Return a stage whose group has committed offset 2 of a partition that begins at 7; `read`: it was assigned before."""
    hand = Hand(*[0] * 9)
    hand.worker._lost = LostRecords(hand.context, brakes=brakes)
    hand.broker.commits[GROUP][P0] = Commit(2)
    if read:
        hand.turn()  # begins with the partition, and fetches nothing of it
    hand.broker.delete_before(P0, 7)
    hand.turn()
    return hand


def lines(caplog: pytest.LogCaptureFixture) -> list[dict[str, Any]]:
    """Return the fields of the warnings."""
    return [vars(one)["bridge_fields"] for one in caplog.records]


def handled(hand: Hand) -> list[int]:
    """Work until all is done, and return the offsets that were handled."""
    hand.settle_all()
    return [offset for _, offset in hand.handler.handled]


@pytest.mark.parametrize("read", [False, True])
def test_what_was_deleted_unread_is_reported(caplog: pytest.LogCaptureFixture, read: bool) -> None:
    """At the start, and while the stage runs; the rest is handled and committed."""
    with caplog.at_level(logging.WARNING):
        hand = hand_of(brakes=False)

    (line,) = lines(caplog)
    assert ("records-lost", 0, 2, 5) == tuple(
        line[name] for name in ("action", "partition", "offset", "count")
    )
    assert {("provision",): 5.0} == counted(hand.metrics, "lost_records_total")
    assert (f"provision: {LOST}",) == hand.status.noted()
    assert hand.brake.reason is None
    assert [7, 8] == handled(hand)
    assert {P0: 9} == hand.committed


def test_the_brake_holds_the_flow_where_that_is_wanted() -> None:
    """Until an operator has looked; then the rest is handled."""
    hand = hand_of(brakes=True)

    assert LOST == hand.brake.reason
    assert [] == handled(hand)
    hand.brake.release()
    assert [7, 8] == handled(hand)


def test_nothing_is_reported_of_a_group_that_is_new(caplog: pytest.LogCaptureFixture) -> None:
    """What a topic lost before anybody wanted to read it was nobody's."""
    hand = Hand(*[0] * 9)
    hand.broker.delete_before(P0, 7)

    with caplog.at_level(logging.WARNING):
        assert [7, 8] == handled(hand)

    assert [] == lines(caplog)
    assert {("provision",): 0.0} == counted(hand.metrics, "lost_records_total")


def test_a_loss_is_not_forgotten_while_kafka_does_not_answer(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Where the partition begins now may have to be asked again."""
    hand = hand_of(brakes=False)
    hand.source._set_back[P0] = 7
    hand.broker.delete_before(P0, 8)
    begin_offsets, failures = hand.source.begin_offsets, [BrokerUnavailableError("gone")]

    def failing(partitions: Any) -> Any:
        if failures:
            raise failures.pop()
        return begin_offsets(partitions)

    hand.source.begin_offsets = failing  # type: ignore[method-assign]
    hand.turn()
    hand.turn()

    assert {("provision",): 6.0} == counted(hand.metrics, "lost_records_total")


def test_a_topic_that_was_made_anew_is_said(caplog: pytest.LogCaptureFixture) -> None:
    """Nothing is lost that could be counted; an operator should know that reading began anew."""
    hand = Hand(0)
    with caplog.at_level(logging.WARNING):
        LostRecords(hand.context, brakes=True).note(P0, 500, 0)

    (line,) = lines(caplog)
    assert ("position-reset", 500) == (line["action"], line["offset"])
    assert hand.brake.reason is None
