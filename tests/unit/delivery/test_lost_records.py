"""Records that retention deleted before they were read are reported, counted, and stop the flow where that is wanted."""

import logging
from dataclasses import replace
from typing import Any
from uuid import UUID

import pytest
from delivery_harness import GROUP, P0, TOPIC, Hand
from stage_harness import counted

from keycloak_bridge.delivery.catch_up import CatchUp
from keycloak_bridge.delivery.group_stamp import GroupStamp, topic_of
from keycloak_bridge.delivery.lost_records import LostRecords
from keycloak_bridge.delivery.offsets import CommitNotes, write_notes
from keycloak_bridge.domain.errors import BrokerUnavailableError
from keycloak_bridge.domain.events import Commit
from keycloak_bridge.domain.fingerprint import fingerprint

STAMP = GroupStamp(GROUP, "http://keycloak/realms/acme", "0123456789ab")
OLD, NEW = str(UUID(int=1)), str(UUID(int=2))
MADE_ANEW = f"{TOPIC} was deleted and made anew, so it is read from its beginning; what was unread of the old one is lost"
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
    """Return the fields of the warnings, but for what the brake says of itself."""
    fields = [vars(one)["bridge_fields"] for one in caplog.records]
    return [one for one in fields if one["action"] != "brake-engaged"]


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
    hand.source._offset_resets[P0] = 7
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


# a topic that was deleted and made anew


@pytest.mark.parametrize("brakes", [False, True])
def test_a_log_that_ends_before_the_commit_is_read_from_its_beginning(
    caplog: pytest.LogCaptureFixture, brakes: bool
) -> None:
    """How much of the old one was unread cannot be known, so the operator may want to look first here too."""
    hand = Hand(0, 0)
    hand.worker._lost = LostRecords(hand.context, brakes=brakes)
    hand.broker.commits[GROUP][P0] = Commit(500)

    with caplog.at_level(logging.WARNING):
        seen = handled(hand)

    (line,) = lines(caplog)
    assert ("position-reset", 500) == (line["action"], line["offset"])
    assert {("provision",): 1.0} == counted(hand.metrics, "position_resets_total")
    assert ([] if brakes else [0, 1], brakes) == (seen, hand.brake.reason is not None)


def hand_of_recreated_topic(*, stays: bool, brakes: bool) -> Hand:
    """Return a stage that had read four events when the topic was deleted, and has six now; `stays`: it ran meanwhile."""
    hand = Hand(0, 0, 0, 0, stamp=STAMP)
    hand.broker.topic_ids[TOPIC] = OLD
    handled(hand)
    assert OLD == topic_of(hand.broker.commits[GROUP][P0].metadata)
    if not stays:
        hand.source.close()
    hand.broker.recreate_topic(TOPIC, NEW)
    if not stays:
        hand = Hand(broker=hand.broker, stamp=STAMP)
    hand.handler.handled.clear()
    hand.worker._lost = LostRecords(hand.context, brakes=brakes)
    hand.publish(*[0] * 6)
    return hand


@pytest.mark.parametrize("brakes", [False, True])
@pytest.mark.parametrize("stays", [True, False], ids=["runs", "starts"])
def test_a_commit_of_another_topic_skips_nothing(
    caplog: pytest.LogCaptureFixture, stays: bool, brakes: bool
) -> None:
    """Its offset lies within the log that is there now, and means nothing there."""
    hand = hand_of_recreated_topic(stays=stays, brakes=brakes)

    with caplog.at_level(logging.WARNING):
        seen = handled(hand)

    assert ["topic-made-anew"] == [line["action"] for line in lines(caplog)]
    assert {("provision",): 1.0} == counted(hand.metrics, "position_resets_total")
    assert (f"provision: {MADE_ANEW}",) == hand.status.noted()
    if brakes:
        assert ([], MADE_ANEW) == (seen, hand.brake.reason)
        hand.brake.release()
        seen = handled(hand)
    assert [0, 1, 2, 3, 4, 5] == seen
    assert {P0: 6} == hand.committed
    assert NEW == topic_of(hand.broker.commits[GROUP][P0].metadata)


def test_what_was_in_hand_of_the_deleted_topic_is_not_written() -> None:
    """Its records are not those that stand at their offsets now; what runs is fenced off, and nothing is committed for it."""
    hand = Hand(0, 1, 2, stamp=STAMP)
    hand.broker.topic_ids[TOPIC] = OLD
    task = hand.begun()
    hand.broker.recreate_topic(TOPIC, NEW)
    hand.publish(7)
    hand.turn()

    assert not hand.delivery.may_write(task)
    assert [0] == handled(hand)
    assert {P0: 1} == hand.committed


def test_of_a_commit_of_another_topic_the_users_with_a_dead_letter_stay() -> None:
    """What a user misses is still missing; offsets that were finished mean nothing any more."""
    notes = CommitNotes((range(3, 6),), (fingerprint(b"u-1"),))
    hand = Hand(0, 0, 0, 0, 0, 0, stamp=STAMP)
    hand.broker.topic_ids[TOPIC] = NEW
    hand.broker.commits[GROUP][P0] = Commit(2, STAMP.on(write_notes(2, notes), OLD))

    assert [0, 1, 2, 3, 4, 5] == handled(hand)
    assert hand.lost.knows(P0, b"u-1")


@pytest.mark.parametrize("written", [None, NEW], ids=["old stamp", "this topic"])
@pytest.mark.parametrize("now", [None, NEW], ids=["no id", "an id"])
def test_a_commit_counts_where_nothing_says_that_it_is_of_another_topic(
    caplog: pytest.LogCaptureFixture, written: str | None, now: str | None
) -> None:
    """Commits of an older version name no topic, and an old Kafka gives no ids."""
    hand = Hand(0, 0, 0, stamp=STAMP)
    if now is not None:
        hand.broker.topic_ids[TOPIC] = now
    hand.broker.commits[GROUP][P0] = Commit(2, STAMP.on("", written))

    with caplog.at_level(logging.WARNING):
        assert [2] == handled(hand)

    assert [] == lines(caplog)


def test_mails_wait_where_the_topic_is_made_anew_while_the_bridge_runs() -> None:
    """The users whom its events create may be deleted further on."""
    hand = Hand(0, stamp=STAMP)
    hand.broker.topic_ids[TOPIC] = OLD
    catch_up = CatchUp(hand.clock)
    hand.worker._options = replace(hand.worker._options, catch_up=catch_up)
    handled(hand)
    seen = [catch_up.done]
    hand.broker.recreate_topic(TOPIC, NEW)
    hand.publish(*[0] * 9)
    hand.turn(2.0)
    seen.append(catch_up.done)
    handled(hand)

    assert [True, False, True] == [*seen, catch_up.done]


def test_a_run_to_the_end_does_not_end_at_a_commit_of_another_topic() -> None:
    """It would have read nothing, and say that all is done."""
    for topic_id, offset in ((OLD, 3), (None, 500)):
        hand = Hand(0, 0, 0, stamp=STAMP)
        hand.broker.topic_ids[TOPIC] = NEW
        hand.broker.commits[GROUP][P0] = Commit(offset, STAMP.on("", topic_id))
        hand.run()

        assert [(0, 0), (0, 1), (0, 2)] == hand.handler.handled
