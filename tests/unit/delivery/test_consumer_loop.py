"""A stage polls, has its records handled, and commits what is done."""

import threading
from collections.abc import Mapping

import pytest
from delivery_harness import P0, P1, Hand, policy

from keycloak_bridge.delivery.consumer_loop import BUSY_POLL_S, PollTimeout
from keycloak_bridge.delivery.stage import Backlog
from keycloak_bridge.domain.errors import (
    ConfigError,
    KeycloakUnavailableError,
)
from keycloak_bridge.domain.events import TopicPartition
from keycloak_bridge.ops.health import JOINING

DOWN = "Keycloak does not answer"
PATIENCE_S = 30.0
"""Only a hanging test waits so long."""


def down(times: int) -> list[Exception]:
    return [KeycloakUnavailableError(DOWN) for _ in range(times)]


def test_everything_is_handled_in_order_and_committed() -> None:
    """Each record once, the commit behind the last one, the group left."""
    hand = Hand()
    hand.publish(0, 0, 0)

    hand.run()

    assert [(0, 0), (0, 1), (0, 2)] == hand.handler.handled
    assert {P0: 3} == hand.committed
    assert hand.source.closed


def test_a_fatal_error_stops_after_committing_what_is_done() -> None:
    """The record before the fatal one is committed, the fatal one is not."""
    hand = Hand()
    hand.publish(0, 0)
    hand.handler.errors[0, 1] = [ConfigError("broken")]

    with pytest.raises(ConfigError):
        hand.run()

    assert {P0: 1} == hand.committed
    assert hand.source.closed


def test_the_commit_is_the_first_unfinished_record() -> None:
    """Whatever is finished above it is noted beside it, and a restart skips exactly that."""
    hand = Hand()
    hand.publish(0, 1, 0, 1)
    hand.handler.errors[0, 0] = down(1)
    hand.turn()
    hand.work()
    hand.turn(2.0)

    assert {P0: 0} == hand.committed

    hand.source.revoke(P0, lost=True)  # as if the process had died here
    again = Hand(broker=hand.broker)
    again.source.assign(P0)
    again.settle_all(1)

    assert [(0, 0), (0, 2)] == again.handler.handled
    assert {P0: 4} == again.committed


def test_commits_come_every_second() -> None:
    """Not with each record while more are in hand."""
    hand = Hand()
    hand.publish(0, 0, 0)
    hand.turn()
    hand.work(1)
    hand.turn(0.5)
    early = hand.committed
    hand.work(1)
    hand.turn(0.5)

    assert {P0: 0} == early
    assert {P0: 2} == hand.committed


def test_many_finished_records_are_committed_at_once() -> None:
    """So that a crash repeats a bounded number of them."""
    hand = Hand(delivery=policy(max_records=4000))
    hand.publish(*[0] * 600)
    hand.turn()
    hand.work(500)
    hand.turn()

    assert {P0: 500} == hand.committed


def test_a_run_to_the_end_counts_the_partitions_of_other_members() -> None:
    """It ends when the group is through, not when this member is."""
    other = Hand(partitions=2)
    hand = Hand(broker=other.broker)
    other.publish(0, 1)
    other.turn()
    asked: list[dict[TopicPartition, int]] = []
    ends = hand.source.end_offsets

    def watched() -> Mapping[TopicPartition, int]:
        asked.append(hand.committed)
        if hand.committed.get(P1) == 1:
            other.work()
            other.turn(2.0)
        return ends()

    hand.source.end_offsets = watched  # type: ignore[method-assign]

    hand.run()

    assert {P0: 0, P1: 1} in asked
    assert {P0: 1, P1: 1} == hand.committed
    assert [(1, 0)] == hand.handler.handled


def test_not_ready_before_the_group_is_settled() -> None:
    """A stage that only joins says so, and is ready after its first look at Kafka as a member."""
    hand = Hand()
    seen: list[tuple[str, ...]] = []
    settled = [False, False]

    def joined() -> bool:
        seen.append(hand.problems())
        return settled.pop() if settled else True

    hand.source.joined = joined  # type: ignore[method-assign]

    hand.run()

    assert (f"provision: {JOINING}",) == seen[0]
    assert () == hand.problems()


def test_keys_run_at_the_same_time() -> None:
    """As many records at once as there are workers, each of another user."""
    hand = Hand(workers=3, partitions=2)
    meeting = threading.Barrier(3)
    hand.handler.before = lambda _: _meet(meeting)
    hand.publish(0, 1, 2)

    hand.run()

    assert {P0: 2, P1: 1} == hand.committed
    assert not meeting.broken


def _meet(meeting: threading.Barrier) -> None:
    meeting.wait(PATIENCE_S)


@pytest.mark.parametrize(
    ("in_hand", "finished", "idle_s", "expected_s"),
    [
        (1, 0, 0.0, BUSY_POLL_S),
        (1, 0, 60.0, BUSY_POLL_S),
        (0, 0, 0.0, 0.5),
        (0, 0, 9.9, 0.5),
        (0, 0, 10.0, 1.0),
        (0, 3, 10.0, 0.5),
    ],
)
def test_a_poll_is_longer_the_longer_there_was_nothing_to_do(
    in_hand: int, finished: int, idle_s: float, expected_s: float
) -> None:
    """Short while records are in hand, long only after a while without any."""
    timeout = PollTimeout(100.0)

    assert expected_s == timeout.poll_s(in_hand, finished, 100.0 + idle_s)


def test_a_record_ends_the_quiet() -> None:
    """The time without records begins again."""
    timeout = PollTimeout(0.0)
    timeout.poll_s(1, 0, 60.0)

    assert [0.5, 1.0] == [timeout.poll_s(0, 0, at_s) for at_s in (69.9, 70.0)]


HERE = TopicPartition("user-events", 0)


def test_a_backlog_is_large_until_most_of_it_is_gone() -> None:
    """It comes at its size, and goes at a quarter of it, so that it does not flicker."""
    backlog = Backlog(200)
    seen = []
    for records in (0, 199, 200, 150, 50, 49, 199, 200):
        backlog.note(records)
        seen.append(backlog.is_large)

    assert seen == [False, False, True, True, True, False, False, True]


def test_a_partition_is_new_again_when_it_comes_back() -> None:
    """Another member may have created users of it in between."""
    backlog = Backlog(200)
    before = backlog.since_s(HERE)
    backlog.begin(HERE, 5.0)
    backlog.begin(HERE, 9.0)

    assert (before, backlog.since_s(HERE)) == (None, 9.0)
