"""What a stage does while Keycloak, Kafka, the bridge itself or a single record fails."""

import logging
from collections.abc import Callable, Sequence

import pytest
from delivery_harness import LETTERS, P0, TOPIC, At, Hand, at_of, policy

from keycloak_bridge.delivery.breaker import BreakerState
from keycloak_bridge.delivery.guards import Brake
from keycloak_bridge.domain.errors import (
    BrokerUnavailableError,
    Dependency,
    KeycloakUnavailableError,
    MailDeliveryError,
    PartitionRevokedError,
    UndecidedMailError,
)
from keycloak_bridge.domain.events import Record, TopicPartition

DOWN = "Keycloak does not answer"
GONE = "Kafka does not answer"


def failing(hand: Hand, at: At, error: Callable[[], Exception], times: int = 1000) -> None:
    hand.handler.errors[at] = [error() for _ in range(times)]


def keycloak_down() -> Exception:
    return KeycloakUnavailableError(DOWN)


def outage(hand: Hand) -> None:
    """Have the first events of five users fail: enough to be an outage."""
    hand.publish(0, 1, 2, 3, 4)
    for record in hand.broker.records(TOPIC):
        failing(hand, at_of(record), keycloak_down, 1)
    hand.turn()
    hand.work()


# Keycloak


def test_an_outage_shows_while_it_lasts(caplog: pytest.LogCaptureFixture) -> None:
    """The status names it until a record is through; the log has one warning, and one line when it is over."""
    hand = Hand()
    with caplog.at_level(logging.INFO):
        outage(hand)
        failing(hand, (0, 0), keycloak_down, 3)
        during = (hand.turn().breaker, hand.problems())
        hand.settle_all(10)
        after = (hand.turn().breaker, hand.problems())

    assert (BreakerState.OPEN, (f"provision: {DOWN}",)) == during
    assert (BreakerState.CLOSED, ()) == after
    assert ["ready", "waiting", "ready"] == [
        vars(line)["bridge_fields"]["action"] for line in caplog.records
    ]


def test_a_partition_that_cannot_be_read_shows_and_holds_up_no_other() -> None:
    """The status names the position; what comes of other partitions is handled and committed."""
    hand = Hand(0)
    hand.source.troubled = BrokerUnavailableError("the record at user-events/1@4 cannot be read")
    hand.turn()
    hand.work()
    hand.turn(2.0)

    assert ("provision: the record at user-events/1@4 cannot be read",) == hand.problems()
    assert 1 == hand.committed[P0]
    hand.source.troubled = None
    hand.turn()
    assert () == hand.problems()


def not_mailed(greets: bool | None) -> Exception:
    error = MailDeliveryError("the mail was not taken", status=500)
    error.server_greets = greets
    return error


@pytest.mark.parametrize(("greets", "mails"), [(None, 1), (None, 7), (True, 7)])
def test_a_run_with_an_end_does_not_wait_for_mails_that_nothing_tells_from_an_outage(
    greets: bool | None, mails: int
) -> None:
    """Each was tried as often as any record, in ever longer pauses; none is given up, and the next run begins with them."""
    hand = Hand(0, *range(mails), delivery=policy(max_attempts=3))
    for record in hand.broker.records(TOPIC)[1:]:
        failing(hand, at_of(record), lambda: not_mailed(greets))
    hand.publish(1)

    with pytest.raises(UndecidedMailError, match=rf"are left to do \({mails}\)"):
        hand.run()

    tried = [1000 - len(hand.handler.errors[0, at]) for at in range(1, mails + 1)]
    assert min(tried) >= 9  # 0.2 s doubled eight times is more than the 30 s of the retry policy
    assert ([], {P0: 1}) == (hand.handler.given_up, hand.committed)


@pytest.mark.parametrize("other", [None, DOWN], ids=["the server is away", "other work"])
def test_a_run_with_an_end_waits_for_an_outage_and_for_other_work(other: str | None) -> None:
    """Of the mail server, as long as it is seen; or of what another record needs."""
    hand = Hand(0, 1)
    failing(hand, (0, 0), lambda: not_mailed(None if other else False), 60)
    failing(hand, (0, 1), keycloak_down, 80 if other else 0)

    hand.run()

    assert ({(0, 0), (0, 1)}, {P0: 2}) == (set(hand.handler.handled), hand.committed)


def test_a_run_without_an_end_waits_for_mails_for_ever() -> None:
    """An operator sees the problem, and may mend it."""
    hand = Hand(0, delivery=policy(max_attempts=3))
    failing(hand, (0, 0), lambda: not_mailed(None), 60)
    hand.settle_all(70)

    assert [(0, 0)] == hand.handler.handled


@pytest.mark.parametrize("bad", [1, 4, 7])
@pytest.mark.parametrize("error", [lambda: not_mailed(None), keycloak_down], ids=["mail", "user"])
def test_records_that_fail_keep_no_later_one_from_being_read(
    bad: int, error: Callable[[], Exception]
) -> None:
    """They opened the breaker when nothing else was there to do; what comes later closes it."""
    hand = Hand(*range(bad))
    hand.handler.dependency = Dependency.KEYCLOAK | Dependency.MAIL
    for record in hand.broker.records(TOPIC):
        failing(hand, at_of(record), error)
    hand.settle_all(100)
    before = hand.turn().breaker
    hand.publish(100)
    for _ in range(100):
        if hand.handler.handled:
            break
        hand.turn(60.0)
        hand.work(1)

    assert (BreakerState.OPEN, BreakerState.CLOSED) == (before, hand.turn().breaker)
    assert ([(0, bad)], 0) == (hand.handler.handled, hand.delivery.undecided_mails())


def test_an_outage_does_not_fill_the_memory() -> None:
    """As long as something in hand was not tried yet, nothing more is read."""
    hand = Hand(*range(5))
    for offset in range(300):
        failing(hand, (0, offset), keycloak_down)
    hand.turn()
    hand.work()
    hand.publish(*range(10, 30))
    in_hand = [hand.turn(60.0).records]
    hand.publish(*range(30, 250))
    for _ in range(10):
        hand.work(1)
        in_hand.append(hand.turn(60.0).records)

    assert [25] * 11 == in_hand


def test_a_record_that_fails_while_others_succeed_becomes_a_dead_letter() -> None:
    """After the limit, once; the flow never waited for it, and the commit goes past it."""
    hand = Hand(0, delivery=policy(max_attempts=3))
    failing(hand, (0, 0), keycloak_down)
    hand.turn()
    for _ in range(8):
        hand.work()
        hand.publish(*range(1, 10))
        hand.turn(60.0)
    hand.work()
    hand.turn(2.0)

    assert [((0, 0), "keycloak-unavailable")] == hand.handler.given_up
    assert 1 == len(hand.broker.records(LETTERS))
    assert {P0: 73} == hand.committed


# Kafka


def test_only_an_answer_of_kafka_ends_its_outage() -> None:
    """Polls that bring nothing, and records that end, prove nothing about Kafka."""
    hand = Hand()
    hand.turn()
    hand.source.commit_errors = [BrokerUnavailableError(GONE)]
    hand.turn(2.0)
    shown = [hand.problems()]
    hand.publish(0)
    hand.handler.answer = lambda _: ()
    hand.turn(0.1)
    hand.work()
    hand.turn(0.1)
    shown.append(hand.problems())
    hand.turn(2.0)
    shown.append(hand.problems())

    assert [(f"provision: {GONE}",), (f"provision: {GONE}",), ()] == shown
    assert {P0: 1} == hand.committed


def test_kafka_is_left_alone_for_a_moment_after_it_failed() -> None:
    """A broken connection is not asked a thousand times a second."""
    hand = Hand()
    hand.turn()
    hand.source.commit_errors = [BrokerUnavailableError(GONE)] * 10
    for _ in range(5):
        hand.turn(2.0)
        hand.turn()
        hand.turn(0.1)

    assert 5 == len(hand.source.commit_errors)


def test_records_that_a_failed_poll_brought_are_read_again() -> None:
    """The consumer stands behind them, and no commit may pass them over."""
    hand = Hand(0)
    hand.settle_all()
    hand.publish(0, 0, 0)
    real = hand.source.poll

    def poll(timeout_s: float, held: Callable[[TopicPartition], bool]) -> Sequence[Record]:
        records = real(timeout_s, held)
        if not records:
            return records
        hand.source.poll = real  # type: ignore[method-assign]
        raise BrokerUnavailableError(GONE)

    hand.source.poll = poll  # type: ignore[method-assign]
    hand.turn(2.0)
    hand.turn(2.0)
    passed_over = hand.committed
    hand.settle_all()

    assert {P0: 1} == passed_over
    assert [(0, 0), (0, 1), (0, 2), (0, 3)] == hand.handler.handled
    assert {P0: 4} == hand.committed


def test_a_poll_that_cannot_be_accepted_commits_nothing_of_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Whatever ends the process between reading and accepting, the next one begins there."""
    hand = Hand(0)
    hand.settle_all()
    hand.publish(0, 0)
    monkeypatch.setattr(hand.delivery, "accept", lambda _: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        hand.run()

    assert {P0: 1} == hand.committed


def test_a_record_whose_ordering_key_cannot_be_told_is_handled(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Its worker meets the fault and says what to do; the records around it go on."""
    hand = Hand(0, 0, 0)
    real = hand.handler.ordering_key

    def ordering_key(record: Record) -> bytes:
        if record.offset == 1:
            raise MemoryError
        return real(record)

    monkeypatch.setattr(hand.handler, "ordering_key", ordering_key)
    hand.settle_all()

    assert [(0, 0), (0, 1), (0, 2)] == sorted(hand.handler.handled)
    assert {P0: 3} == hand.committed


# the membership


def test_a_member_that_was_frozen_begins_nothing() -> None:
    """Its session may have ended, and others may have its partitions; a commit that is taken says otherwise."""
    hand = Hand(0)
    hand.turn()
    hand.clock.advance(5.0)
    frozen = hand.work()
    hand.source.commit_errors = [PartitionRevokedError("fenced")]
    hand.turn()
    refused = hand.work()
    hand.turn()

    assert (0, 0, 1) == (frozen, refused, hand.work())


def test_an_idle_member_keeps_its_membership_proven() -> None:
    """It commits what was committed before, often enough that a record that comes now may be written at once."""
    hand = Hand()
    for _ in range(20):
        hand.turn(0.5)
    hand.publish(0)
    hand.turn(0.5)

    assert 1 == hand.work()


# the brake


def test_the_brake_holds_the_flow() -> None:
    """Nothing is begun and nothing fetched; the status says why and what to do."""
    brake = Brake(0, 0, 20)
    hand = Hand(0, brake=brake)
    hand.turn()
    brake.engage("3 dead letters in a row")
    hand.publish(1)
    look = hand.turn()

    assert (0, 1) == (hand.work(), look.records)
    (sentence,) = hand.problems()
    assert sentence.startswith("provision: the brake holds the flow: 3 dead letters in a row; ")
    assert "keycloak-bridge guard release" in sentence


def test_the_brake_keeps_the_membership() -> None:
    """However long an operator takes to look at the dead letters, the partitions stay and no session ends."""
    brake = Brake(0, 0, 20)
    hand = Hand(brake=brake)
    hand.turn()
    brake.engage("too many")
    for _ in range(100):
        hand.turn(1.0)
    brake.release()
    hand.publish(0)
    hand.turn(1.0)

    assert 1 == hand.work()
