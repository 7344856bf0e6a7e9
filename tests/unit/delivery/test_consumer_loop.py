"""A stage polls, has its records handled, and commits what is done."""

import threading
from collections.abc import Mapping

import pytest
from delivery_harness import P0, P1, RESULTS, TOPIC, Hand, at_of, policy

from keycloak_bridge.delivery.consumer_loop import BUSY_POLL_S, PollTimeout
from keycloak_bridge.delivery.stage import Backlog
from keycloak_bridge.domain.errors import (
    BrokerUnavailableError,
    ConfigError,
    KeycloakUnavailableError,
    PartitionRevokedError,
)
from keycloak_bridge.domain.events import Message, Record, TopicPartition
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


def test_an_error_that_can_pass_is_tried_until_it_works() -> None:
    """The record stays the first of its key, nothing is skipped, and no later one of the key comes first."""
    hand = Hand()
    hand.publish(0, 0)
    hand.handler.errors[0, 0] = down(12)

    hand.run()

    assert [(0, 0), (0, 1)] == hand.handler.handled
    assert {P0: 2} == hand.committed
    assert [] == hand.handler.given_up


def test_a_fatal_error_stops_after_committing_what_is_done() -> None:
    """The record before the fatal one is committed, the fatal one is not."""
    hand = Hand()
    hand.publish(0, 0)
    hand.handler.errors[0, 1] = [ConfigError("broken")]

    with pytest.raises(ConfigError):
        hand.run()

    assert {P0: 1} == hand.committed
    assert hand.source.closed


def test_done_means_acknowledged() -> None:
    """A record whose result Kafka did not take is handled again, and is not committed before."""
    hand = Hand()
    hand.publish(0, 0)
    hand.broker.publish_errors = [BrokerUnavailableError("gone")]
    hand.turn()
    hand.work(1)
    hand.turn(2.0)

    assert {P0: 0} == hand.committed

    hand.settle_all()

    assert [(0, 0), (0, 0), (0, 1)] == hand.handler.handled
    assert {P0: 2} == hand.committed
    assert 2 == len(hand.broker.records(RESULTS))


def test_markers_are_stepped_over() -> None:
    """An offset without a record does not keep a run from its end, nor the commit from the end of the log."""
    hand = Hand()
    hand.broker.burn(TOPIC)
    hand.publish(0)
    hand.broker.burn(TOPIC)

    hand.run()

    assert [(0, 1)] == hand.handler.handled
    assert {P0: 3} == hand.committed


def test_a_record_that_waits_holds_only_its_key() -> None:
    """The user's later event waits for it; those of all others do not, even in the same partition."""
    hand = Hand()
    hand.publish(0, 1, 0, 1)
    hand.handler.errors[0, 0] = down(1)
    hand.turn()
    hand.work()

    assert [(0, 1), (0, 3)] == hand.handler.handled

    hand.settle_all(1)

    assert [(0, 1), (0, 3), (0, 0), (0, 2)] == hand.handler.handled


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


def test_fetching_pauses_while_enough_is_in_hand() -> None:
    """A full hand fetches nothing; it goes on when half of it is free, and the partition is at its end at last."""
    hand = Hand(delivery=policy(max_records=4))
    hand.publish(0, 1, 2, 3)
    hand.turn()
    hand.publish(4, 5)
    seen = [(look.records, look.full) for look in (hand.turn(), hand.turn())]
    hand.work(1)
    seen.append((hand.turn().records, hand.turn().full))
    hand.work(3)
    hand.turn()
    hand.settle_all()

    assert [(4, True), (4, True), (3, True)] == seen
    assert [(0, offset) for offset in range(6)] == hand.handler.handled
    assert {P0: 6} == hand.committed


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


def test_a_commit_in_a_rebalance_is_repeated() -> None:
    """A refused commit loses nothing and repeats nothing while the partition stays ours."""
    hand = Hand()
    hand.publish(0)
    hand.source.commit_errors = [PartitionRevokedError("rebalancing")]

    hand.run()

    assert [(0, 0)] == hand.handler.handled
    assert {P0: 1} == hand.committed
    assert () == hand.problems()


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


def test_records_of_a_key_never_overlap_and_never_swap() -> None:
    """Whatever the threads do: one record of a user at a time, in their order."""
    hand = Hand(workers=4)
    busy: set[bytes | None] = set()
    overlaps: list[Record] = []

    def begin(record: Record) -> None:
        if record.key in busy:
            overlaps.append(record)
        busy.add(record.key)

    hand.handler.before = begin
    hand.handler.after = lambda record: busy.discard(record.key)
    hand.publish(*[number % 3 for number in range(300)])

    hand.run()

    assert [] == overlaps
    assert 300 == len(hand.handler.handled)
    for user in range(3):
        mine = [at for at in hand.handler.handled if at[1] % 3 == user]
        assert sorted(mine) == mine


def test_real_workers_wait_for_work_and_for_time() -> None:
    """Threads that found nothing to do are woken by what is published later, and by the end of a back-off."""
    hand = Hand(workers=2)
    handled = threading.Event()
    hand.handler.errors[0, 0] = down(1)
    hand.handler.after = lambda record: handled.set() if at_of(record) == (0, 0) else None
    thread = threading.Thread(target=hand.run, kwargs={"to_the_end": False})
    thread.start()
    hand.broker.publish(Message(TOPIC, b"late", b"{}"))
    handled.wait(PATIENCE_S)
    hand.stop.set()
    thread.join(PATIENCE_S)

    assert [(0, 0)] == hand.handler.handled
    assert {P0: 1} == hand.committed


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
