"""What becomes of a record that a worker takes."""

import logging

import pytest
from delivery_harness import Hand, policy

from keycloak_bridge.delivery.key_queues import Task
from keycloak_bridge.domain.errors import (
    BridgeError,
    BrokerUnavailableError,
    HoldError,
    InternalError,
    KeycloakUnavailableError,
    PartitionRevokedError,
)
from keycloak_bridge.domain.events import Record
from keycloak_bridge.domain.ports import Handled


def begun(hand: Hand) -> Task:
    """Publish a record and take it."""
    hand.publish(0)
    hand.turn()
    task = hand.delivery.try_take()
    assert task is not None
    return task


@pytest.mark.parametrize(
    ("error", "after_s", "retries"),
    [
        (KeycloakUnavailableError("down"), 60.0, 1),
        (BrokerUnavailableError("gone"), 60.0, 1),
        (HoldError("later", wait_s=2.0), 2.0, 0),
        (PartitionRevokedError("another member's"), 0.5, 0),
    ],
    ids=lambda value: getattr(value, "code", ""),
)
def test_a_record_that_was_not_done_is_taken_up_again(
    error: BridgeError, after_s: float, retries: int
) -> None:
    """After its time; only a failure is counted as one."""
    hand = Hand()
    task = begun(hand)
    hand.handler.errors[0, 0] = [error]
    hand.worker_pool.do(task)
    at_once = hand.work()
    hand.turn(after_s)
    later = hand.work()

    assert (0, 1) == (at_once, later)
    found = f'retries_total{{code="{error.code}",stage="provision"}} 1.0'
    assert bool(retries) == (found in hand.metrics.exposition().decode())


def test_the_record_decides_about_writing_while_it_is_handled() -> None:
    """Its thread may write while the record is ours, and afterwards nothing asks any more."""
    hand = Hand(delivery=policy())
    task = begun(hand)
    checks: list[str] = []

    def checked(_: Record) -> None:
        hand.fence.check()
        checks.append("ours")
        hand.source.revoke(hand.broker.partitions_of("user-events")[0])
        hand.fence.check()
        checks.append("written although it is another member's")

    hand.handler.before = checked
    hand.worker_pool.do(task)
    hand.fence.check()

    assert ["ours"] == checks
    assert [] == hand.handler.handled


def test_an_unexpected_error_becomes_one_of_the_bridge(caplog: pytest.LogCaptureFixture) -> None:
    """It is logged with the place of the record, and its reason names the type only."""
    hand = Hand(delivery=policy(max_attempts=1))
    task = begun(hand)
    hand.handler.errors[0, 0] = [ValueError("planted")]
    reasons: list[BridgeError] = []
    give_up = hand.handler.give_up

    def watched(record: Record, error: BridgeError) -> Handled:
        reasons.append(error)
        return give_up(record, error)

    hand.handler.give_up = watched  # type: ignore[method-assign]
    with caplog.at_level(logging.ERROR):
        hand.worker_pool.do(task)

    (reason,) = reasons
    assert isinstance(reason, InternalError)
    assert "ValueError" in reason.message
    assert "planted" not in f"{reason.message} {reason.remedy}"
    (line,) = caplog.records
    fields = _fields(line)
    assert ("internal-error", "user-events", 0, 0) == (
        fields["action"],
        fields["topic"],
        fields["partition"],
        fields["offset"],
    )


@pytest.mark.parametrize(
    "error",
    [HoldError("the brake is engaged", wait_s=0.1), BrokerUnavailableError("gone")],
    ids=lambda error: error.code,
)
def test_giving_up_waits_where_it_must(error: BridgeError) -> None:
    """The brake may hold it, and Kafka may not answer: it is tried again, and not done meanwhile."""
    hand = Hand(delivery=policy(max_attempts=1))
    task = begun(hand)
    hand.handler.errors[0, 0] = [ValueError("broken"), ValueError("broken")]
    hand.handler.give_up_errors = [error]
    hand.worker_pool.do(task)
    before = list(hand.handler.given_up)
    hand.turn(60.0)
    hand.work()

    assert ([], [((0, 0), "internal-error")]) == (before, hand.handler.given_up)


@pytest.mark.parametrize(
    ("level", "lines"), [(logging.DEBUG, ["retrying", "retrying"]), (logging.INFO, [])]
)
def test_attempts_are_logged_on_debug(
    caplog: pytest.LogCaptureFixture, level: int, lines: list[str]
) -> None:
    """Each failed attempt with its number, on level DEBUG only: an outage has thousands."""
    hand = Hand()
    hand.publish(0)
    hand.handler.errors[0, 0] = [KeycloakUnavailableError("down") for _ in range(2)]
    with caplog.at_level(level):
        hand.settle_all(3)

    found = [fields for line in caplog.records if (fields := _fields(line))["action"] == "retrying"]
    assert lines == [fields["action"] for fields in found]
    assert [1, 2][: len(lines)] == [fields["attempt"] for fields in found]


def _fields(line: logging.LogRecord) -> dict[str, object]:
    fields: dict[str, object] = line.__dict__["bridge_fields"]
    return fields
