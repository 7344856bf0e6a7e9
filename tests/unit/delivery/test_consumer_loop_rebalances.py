"""Partitions come, go and come back."""

import threading
from collections.abc import Callable, Sequence

import pytest
from delivery_harness import P0, TOPIC, Hand, policy

from keycloak_bridge.delivery.key_queues import Task
from keycloak_bridge.domain.errors import (
    BrokerUnavailableError,
    KeycloakUnavailableError,
    PartitionRevokedError,
)
from keycloak_bridge.domain.events import Message, Record, TopicPartition
from keycloak_bridge.testing.in_memory_broker import InMemoryBroker


def begun(hand: Hand) -> Task:
    """Turn once and take the first record, which then runs."""
    hand.turn()
    task = hand.delivery.try_take()
    assert task is not None
    return task


def test_records_that_came_with_the_rebalance_are_not_lost() -> None:
    """A poll can bring records of a partition that was taken away and given back inside it: they come again."""
    hand = Hand()
    hand.publish(0, 0)
    poll = hand.source.poll
    rebalances = [P0]

    def rebalancing_poll(
        timeout_s: float, held: Callable[[TopicPartition], bool]
    ) -> Sequence[Record]:
        while rebalances:
            partition = rebalances.pop()
            hand.source.revoke(partition)
            hand.source.assign(partition)
        return poll(timeout_s, held)

    hand.source.poll = rebalancing_poll  # type: ignore[method-assign]
    hand.handler.errors[0, 0] = [KeycloakUnavailableError("down")]

    hand.run()

    assert [(0, 0), (0, 1)] == hand.handler.handled
    assert {P0: 2} == hand.committed


def test_a_rebalance_in_a_poll_is_no_failure() -> None:
    """The next turn goes on, and no problem is reported."""
    hand = Hand()
    hand.publish(0)
    hand.source.poll_errors = [PartitionRevokedError("rebalancing")]
    hand.turn()
    shown = hand.problems()

    hand.run()

    assert () == shown
    assert ([(0, 0)], {P0: 1}) == (hand.handler.handled, hand.committed)


def test_a_partition_that_went_without_notice_is_not_committed() -> None:
    """What is not assigned any more is released, even without a revocation."""
    hand = Hand()
    hand.publish(0)
    hand.turn()
    hand.work()
    hand.source.when_revoked(lambda _partitions, _lost: {})
    hand.source.revoke(P0, lost=True)
    hand.turn(2.0)

    assert {P0: 0} == hand.committed
    assert frozenset() == hand.delivery.partitions()


def test_giving_up_a_partition_waits_for_what_is_being_written() -> None:
    """What ends in time is committed, so that the next owner does not write it again."""
    hand = Hand(delivery=policy(release_s=30.0))
    hand.publish(0, 0)
    task = begun(hand)

    def end() -> None:
        while not task.dropped:
            pass  # the release holds the lock by then, and lets go of it only to wait
        hand.worker_pool.do(task)

    thread = threading.Thread(target=end)
    thread.start()
    hand.source.revoke(P0)
    thread.join()

    assert [(0, 0)] == hand.handler.handled
    assert {P0: 1} == hand.committed


def test_dead_lettered_users_go_with_their_partition() -> None:
    """The next owner knows whose events are among the dead letters."""
    hand = Hand()
    hand.publish(0)
    hand.handler.after = lambda record: hand.lost.note(record.topic_partition, b"ada")
    hand.turn()
    hand.work()
    hand.source.revoke(P0)
    forgotten = not hand.lost.knows(P0, b"ada")
    other = Hand(broker=hand.broker)
    other.source.assign(P0)
    other.turn()

    assert forgotten
    assert other.lost.knows(P0, b"ada")


def test_a_partition_whose_commit_cannot_be_read_is_not_begun(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Without knowing where the group is, nothing is handled; a moment later it is."""
    hand = Hand()
    hand.publish(0)
    with monkeypatch.context() as outage:
        outage.setattr(hand.source, "commits", _unreachable)
        hand.turn()
        shown = hand.problems()
        begun_early = hand.work()
    hand.settle_all(1)

    assert (("provision: gone",), 0) == (shown, begun_early)
    assert [(0, 0)] == hand.handler.handled
    assert () == hand.problems()


@pytest.mark.parametrize("records", [1, 3])
def test_a_topic_that_was_created_again_is_read_from_its_beginning(records: int) -> None:
    """Offsets that begin again are other records: they are handled, and committed as what they are."""
    hand = Hand()
    hand.publish(0, 0, 0)
    hand.turn()
    hand.work()
    hand.turn(2.0)
    hand.source._broker = InMemoryBroker()  # the topic of the same name, created again
    for _ in range(records):
        hand.source._broker.publish(hand_message(0))
    hand.source.seek(P0, 0)
    hand.settle_all(1)

    assert 3 + records == len(hand.handler.handled)
    assert {P0: records} == hand.committed


def hand_message(key: int) -> Message:
    return Message(TOPIC, bytes([key]), b"{}")


def _unreachable(_: object) -> None:
    raise BrokerUnavailableError("gone")
