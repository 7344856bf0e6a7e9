"""A stage polls, has its records handled, and commits what is done."""

import threading
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import pytest
from delivery_harness import P0, P1, TOPIC, Hand, Pending, policy
from stage_harness import counted

from keycloak_bridge.delivery.consumer_loop import BUSY_POLL_S, PollTimeout
from keycloak_bridge.domain.errors import (
    BrakeError,
    BridgeError,
    BrokerAccessError,
    BrokerUnavailableError,
    ConfigError,
    DeadLetterError,
    HoldError,
    KeycloakUnavailableError,
    PartitionRevokedError,
)
from keycloak_bridge.domain.events import Message, Record, TopicPartition
from keycloak_bridge.domain.ports import Acknowledgement
from keycloak_bridge.ops.status import JOINING
from keycloak_bridge.testing.in_memory_broker import InMemoryBroker

DOWN = "Keycloak does not answer"
PATIENCE_S = 30.0
"""Only a hanging test waits so long."""


def down(times: int) -> list[Exception]:
    return [KeycloakUnavailableError(DOWN) for _ in range(times)]


def test_a_fatal_error_stops_after_committing_what_is_done() -> None:
    """The record before the fatal one is committed, the fatal one is not."""
    hand = Hand(0, 0)
    hand.handler.errors[0, 1] = [ConfigError("broken")]

    with pytest.raises(ConfigError):
        hand.run()

    assert {P0: 1} == hand.committed
    assert hand.source.closed


def test_the_commit_is_the_first_unfinished_record() -> None:
    """Whatever is finished above it is noted beside it, and a restart skips exactly that."""
    hand = Hand(0, 1, 0, 1)
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
    hand = Hand(0, 0, 0)
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
    hand = Hand(*[0] * 600, delivery=policy(max_records=4000))
    hand.turn()
    hand.work(500)
    hand.turn()

    assert {P0: 500} == hand.committed


def test_a_backlog_is_known_in_the_turn_that_fetches_its_first_records() -> None:
    """With what Kafka still has: whether to list the realm for it is decided then."""
    hand = Hand(0, 0)
    hand.source.end_offsets = lambda: {P0: 5000}  # type: ignore[method-assign]
    hand.turn()

    assert 5000 == hand.context.backlog.records


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
    """A stage that only joins says so; one that has ended is not expected to turn or to be ready any more."""
    hand = Hand()
    seen: list[tuple[str, ...]] = []
    settled = [False, False]

    def joined() -> bool:
        seen.append(hand.problems())
        return settled.pop() if settled else True

    hand.source.joined = joined  # type: ignore[method-assign]

    hand.run()

    assert (f"provision: {JOINING}",) == seen[0]
    assert ({}, {}) == (hand.status.beats, hand.status.problems)


def test_keys_run_at_the_same_time() -> None:
    """As many records at once as there are workers, each of another user; no thread outlives the stage."""
    hand = Hand(workers=3, partitions=2)
    meeting = threading.Barrier(3)
    hand.handler.before = lambda _: meeting.wait(PATIENCE_S)
    hand.publish(0, 1, 2)

    hand.run()

    assert {P0: 2, P1: 1} == hand.committed
    assert not meeting.broken
    assert [] == [one for one in threading.enumerate() if one.name.startswith("provision-")]


@pytest.mark.parametrize(
    ("turns", "expected_s"),
    [
        ([(1, 0, 0.0)], [BUSY_POLL_S]),
        ([(0, 0, 0.0), (0, 0, 9.9), (0, 0, 10.0)], [0.5, 0.5, 1.0]),
        ([(0, 3, 10.0)], [0.5]),
        ([(1, 0, 60.0), (0, 0, 69.9), (0, 0, 70.0)], [BUSY_POLL_S, 0.5, 1.0]),
    ],
)
def test_a_poll_is_longer_the_longer_there_was_nothing_to_do(
    turns: list[tuple[int, int, float]], expected_s: list[float]
) -> None:
    """Short while records are in hand, long only after a while without any, which a record ends."""
    timeout = PollTimeout(100.0)

    assert expected_s == [
        timeout.poll_s(in_hand, finished, 100.0 + idle_s) for in_hand, finished, idle_s in turns
    ]


# how a stage ends, or does not


Held = Callable[[TopicPartition], bool]


def polling(hand: Hand, during: Callable[[], None]) -> None:
    """Have `during` called at each poll."""
    poll = hand.source.poll

    def watched(timeout_s: float, held: Held) -> Sequence[Record]:
        during()
        return poll(timeout_s, held)

    hand.source.poll = watched  # type: ignore[method-assign]


def test_stop_ends_after_the_record_in_hand() -> None:
    """What is done is committed, the rest is left to the next run."""
    hand = Hand(0, 0, 0)
    hand.handler.after = lambda _: hand.stop.set()

    hand.run(per_poll=1, to_the_end=False)

    assert [(0, 0)] == hand.handler.handled
    assert {P0: 1} == hand.committed
    assert hand.source.closed


def test_a_run_that_ends_by_itself_does_not_wait_for_the_brake() -> None:
    """What is done is committed, and the error says why the others are not."""
    hand = Hand(0, 0, 0)
    hand.handler.after = lambda _: hand.brake.engage("20 dead letters in a row")

    with pytest.raises(BrakeError, match="20 dead letters in a row"):
        hand.run(per_poll=1)

    assert {P0: 1} == hand.committed
    assert hand.source.closed


def test_the_membership_is_proven_while_the_stage_drains() -> None:
    """What is being written could not be written to its end without that."""
    hand = Hand(0, drain_s=60.0)
    answer = Pending()
    hand.handler.answer = lambda _: (answer,)
    task = hand.begun()
    hand.worker_pool.do(task)
    hand.stop.set()
    allowed: list[bool] = []

    def during() -> None:
        allowed.append(hand.delivery.may_write(task))
        if hand.clock.monotonic() > 30.0:
            answer.arrive()

    polling(hand, during)

    hand.run(to_the_end=False)

    assert all(allowed)
    assert {P0: 1} == hand.committed


@pytest.mark.parametrize("kafka_answers", [True, False], ids=["Kafka up", "Kafka down"])
def test_draining_ends_at_its_deadline(kafka_answers: bool) -> None:
    """A call that hangs does not hold up the end; its record is not committed."""
    hand = Hand(0, drain_s=5.0)
    hand.handler.answer = lambda _: (Pending(),)

    def begin_to_stop(_: Record) -> None:
        hand.stop.set()
        if not kafka_answers:
            hand.source.poll_errors += [BrokerUnavailableError("gone")] * 20

    hand.handler.after = begin_to_stop

    hand.run(to_the_end=False)

    assert {P0: 0} == hand.committed
    assert 5.0 <= hand.clock.monotonic() < 10.0
    assert hand.source.closed


def test_an_error_that_comes_again_while_draining_does_not_replace_the_end() -> None:
    """What ended the run may be there still; what is done is committed all the same."""
    hand = Hand(0, 1, drain_s=5.0)
    hand.handler.answer = lambda record: (Pending(),) if record.offset else ()

    def during() -> None:
        if hand.delivery.look().done:
            raise ConfigError("a file cannot be written")

    polling(hand, during)

    with pytest.raises(ConfigError, match="cannot be written"):
        hand.run()

    assert {P0: 1} == hand.committed
    assert hand.source.closed


def test_what_is_being_written_may_end_although_kafka_is_away() -> None:
    """Keycloak's answer is worth waiting for all the same."""
    hand = Hand(0, workers=1, drain_s=PATIENCE_S)
    begun, go = threading.Event(), threading.Event()

    def slowly(_: Record) -> None:
        begun.set()
        go.wait(PATIENCE_S)

    def during() -> None:
        if begun.is_set():
            hand.stop.set()
        if hand.delivery._stopping and not go.is_set():
            go.set()
            raise BrokerUnavailableError("gone")

    hand.handler.before = slowly
    hand.handler.answer = lambda _: ()
    polling(hand, during)

    hand.run(to_the_end=False)

    assert [(0, 0)] == hand.handler.handled
    assert {P0: 1} == hand.committed


def test_what_is_fetched_while_draining_is_not_skipped() -> None:
    """A poll that brings a record all the same moves the position, but not the commit."""
    hand = Hand(0)
    answer = Pending()
    hand.handler.answer = lambda _: (answer,)
    hand.handler.after = lambda _: hand.stop.set()
    poll = hand.source.poll

    def greedy(timeout_s: float, held: Held) -> Sequence[Record]:
        if not hand.stop.is_set():
            return poll(timeout_s, held)
        hand.publish(1)
        answer.arrive()
        return poll(timeout_s, lambda _: False)

    hand.source.poll = greedy  # type: ignore[method-assign]

    hand.run(to_the_end=False)

    assert [(0, 0)] == hand.handler.handled
    assert {P0: 1} == hand.committed


@pytest.mark.parametrize("question", ["begin_offsets", "commits", "end_offsets"])
def test_an_outage_while_looking_for_the_end_is_waited_for(question: str) -> None:
    """It shows; the run goes on until Kafka answers, and then ends as ever."""
    hand = Hand(0)
    answer: Callable[..., Any] = getattr(hand.source, question)
    errors = [PartitionRevokedError("rebalancing"), BrokerUnavailableError("gone")]

    shown: list[tuple[str, ...]] = []

    def failing(*asked: Any) -> Any:
        shown.append(hand.problems())
        if errors and hand.committed.get(P0):
            raise errors.pop()
        return answer(*asked)

    setattr(hand.source, question, failing)

    hand.run()

    assert ([], [(0, 0)], {P0: 1}) == (errors, hand.handler.handled, hand.committed)
    assert ("provision: gone",) in shown
    assert hand.source.closed


def test_an_outage_of_kafka_is_noticed_while_idle(monkeypatch: pytest.MonkeyPatch) -> None:
    """A poll that brings nothing does not show that Kafka is gone, so it is asked now and then."""
    hand = Hand()
    hand.turn()
    with monkeypatch.context() as outage:
        outage.setattr(hand.source, "end_offsets", _unreachable)
        hand.turn(5.0)
        shown = hand.problems()
    hand.turn(5.0)

    assert (("provision: gone",), ()) == (shown, hand.problems())


def test_a_kafka_that_is_away_at_the_end_is_no_failure(monkeypatch: pytest.MonkeyPatch) -> None:
    """What was done is done; the next member handles it once more."""
    hand = Hand(0)
    monkeypatch.setattr(hand.source, "close", _unreachable)

    def stopping(_: Record) -> Sequence[Acknowledgement]:
        hand.source.commit_errors = [BrokerUnavailableError("gone")] * 100
        hand.stop.set()
        return ()

    hand.handler.answer = stopping

    hand.run()

    assert [(0, 0)] == hand.handler.handled
    assert {P0: 0} == hand.committed


@pytest.mark.parametrize(
    "error", [DeadLetterError("nowhere"), BrokerAccessError("not allowed")], ids=lambda e: e.code
)
def test_an_acknowledgement_that_never_can_come_stops_before_the_commit(
    error: BridgeError,
) -> None:
    """The record is not committed past, and the error is the one that is raised."""
    hand = Hand(0, 0, 0)
    refused = Pending()
    hand.handler.answer = lambda record: (refused,) if record.offset == 1 else ()
    polling(hand, lambda: refused.arrive(error))

    with pytest.raises(BridgeError) as caught:
        hand.run()

    assert error is caught.value
    assert {P0: 1} == hand.committed
    assert [(0, 0), (0, 1)] == hand.handler.handled
    assert hand.source.closed


def test_a_consumer_that_is_refused_ends_the_stage() -> None:
    """No waiting helps against missing rights."""
    hand = Hand()
    hand.source.poll_errors = [BrokerAccessError("not allowed")]

    with pytest.raises(BrokerAccessError):
        hand.run()

    assert hand.source.closed


def test_a_broken_worker_ends_the_stage() -> None:
    """A fault outside of any record comes out of the poll thread, and no record is passed over."""
    hand = Hand(0, workers=1)
    fault = RuntimeError("broken")
    hand.handler.errors[0, 0] = [ValueError("x")] * 100
    hand.handler.give_up_errors = [fault]

    with pytest.raises(RuntimeError) as caught:
        hand.run()

    assert fault is caught.value
    assert {P0: 0} == hand.committed


# partitions come, go and come back


def test_records_that_came_with_the_rebalance_are_not_lost() -> None:
    """A poll can bring records of a partition that was taken away and given back inside it: they come again."""
    hand = Hand(0, 0)
    rebalances = [P0]

    def during() -> None:
        while rebalances:
            partition = rebalances.pop()
            hand.source.revoke(partition)
            hand.source.assign(partition)

    polling(hand, during)
    hand.handler.errors[0, 0] = [KeycloakUnavailableError("down")]

    hand.run()

    assert [(0, 0), (0, 1)] == hand.handler.handled
    assert {P0: 2} == hand.committed


def test_a_rebalance_in_a_poll_is_no_failure() -> None:
    """The next turn goes on, and no problem is reported."""
    hand = Hand(0)
    hand.source.poll_errors = [PartitionRevokedError("rebalancing")]
    hand.turn()
    shown = hand.problems()

    hand.run()

    assert () == shown
    assert ([(0, 0)], {P0: 1}) == (hand.handler.handled, hand.committed)


def test_a_partition_that_went_without_notice_is_not_committed() -> None:
    """What is not assigned any more is released, even without a revocation."""
    hand = Hand(0)
    hand.turn()
    hand.work()
    hand.source.when_revoked(lambda _partitions, _lost: {})
    hand.source.revoke(P0, lost=True)
    hand.turn(2.0)

    assert {P0: 0} == hand.committed
    assert frozenset() == hand.delivery.partitions()


def test_giving_up_a_partition_waits_for_what_is_being_written() -> None:
    """What ends in time is committed, so that the next owner does not write it again."""
    hand = Hand(0, 0, delivery=policy(release_s=30.0))
    task = hand.begun()

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
    hand = Hand(0)
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
    hand = Hand(0)
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
    hand = Hand(0, 0, 0)
    hand.turn()
    hand.work()
    hand.turn(2.0)
    hand.source._broker = InMemoryBroker()  # the topic of the same name, created again
    for _ in range(records):
        hand.source._broker.publish(Message(TOPIC, b"\0", b"{}"))
    hand.source.seek(P0, 0)
    hand.settle_all(1)

    assert 3 + records == len(hand.handler.handled)
    assert {P0: records} == hand.committed


def _unreachable(*_: object) -> None:
    raise BrokerUnavailableError("gone")


def test_a_new_partition_is_read_from_its_commit() -> None:
    """Wherever its position is: one that was lost and came back in one poll is past records that were dropped."""
    hand = Hand(0, 0)
    hand.source.seek(P0, 1)
    hand.settle_all(1)

    assert [(0, 0), (0, 1)] == hand.handler.handled


@pytest.mark.parametrize("lost", [True, False])
def test_the_lag_of_a_partition_that_moved_away_is_not_reported(lost: bool) -> None:
    """Its new owner reports it; what the old one knew last would stand there for ever."""
    hand = Hand(0, 1, 1, partitions=2)
    hand.turn()
    both = counted(hand.metrics, "lag_records")
    hand.source.revoke(P1, lost=lost)
    hand.turn()
    report = hand.status.reports.get("provision")

    assert report is not None
    assert {("0", "provision"): 1.0, ("1", "provision"): 2.0} == both
    assert {("0", "provision"): 1.0} == counted(hand.metrics, "lag_records")
    assert {0: 1} == dict(report.lag)


def test_a_stage_that_ended_reports_no_lag() -> None:
    """Another stage of the process may go on, and nothing would ever correct it."""
    hand = Hand(0)
    hand.run()

    assert {} == counted(hand.metrics, "lag_records")


def test_what_a_stage_waits_for_is_reported() -> None:
    """So that a rule can tell a bridge that waits on purpose from one that hangs."""
    hand = Hand(0)
    hand.handler.errors[0, 0] = [
        HoldError("the user is not there yet", wait_s=5.0, code="unknown-user")
    ]
    hand.turn()
    hand.work()
    hand.turn()
    waiting = counted(hand.metrics, "held_records")
    hand.turn(5.0)
    hand.work()
    hand.turn()

    assert {("unknown-user", "provision"): 1.0} == waiting
    assert {("unknown-user", "provision"): 0.0} == counted(hand.metrics, "held_records")
