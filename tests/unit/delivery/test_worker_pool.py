"""What becomes of a record that a worker takes."""

import logging

import pytest
from delivery_harness import Hand, policy

from keycloak_bridge.domain.errors import (
    BridgeError,
    BrokerUnavailableError,
    HoldError,
    InternalError,
    KeycloakUnavailableError,
)
from keycloak_bridge.domain.events import Record
from keycloak_bridge.domain.ports import Handled


def test_an_unexpected_error_becomes_one_of_the_bridge(caplog: pytest.LogCaptureFixture) -> None:
    """It is logged with the place of the record, and its reason names the type only."""
    hand = Hand(0, delivery=policy(max_attempts=1))
    task = hand.begun()
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
    place = {"action": "internal-error", "topic": "user-events", "partition": 0, "offset": 0}
    assert place.items() <= _fields(line).items()


@pytest.mark.parametrize(
    "error",
    [HoldError("the brake is engaged", wait_s=0.1), BrokerUnavailableError("gone")],
    ids=lambda error: error.code,
)
def test_giving_up_waits_where_it_must(error: BridgeError) -> None:
    """The brake may hold it, and Kafka may not answer: it is tried again, and not done meanwhile."""
    hand = Hand(0, delivery=policy(max_attempts=1))
    task = hand.begun()
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
def test_attempts_are_counted_and_logged_on_debug(
    caplog: pytest.LogCaptureFixture, level: int, lines: list[str]
) -> None:
    """Each failed attempt (waiting is none) with its number, on level DEBUG only: an outage has thousands."""
    hand = Hand(0)
    held = HoldError("later", wait_s=1.0)
    hand.handler.errors[0, 0] = [held, *(KeycloakUnavailableError("down") for _ in range(2))]
    with caplog.at_level(level):
        hand.settle_all(4)

    found = [fields for line in caplog.records if (fields := _fields(line))["action"] == "retrying"]
    retries = 'retries_total{code="keycloak-unavailable",stage="provision"} 2.0'
    assert retries in hand.metrics.exposition().decode()
    assert lines == [fields["action"] for fields in found]
    assert [1, 2][: len(lines)] == [fields["attempt"] for fields in found]


def _fields(line: logging.LogRecord) -> dict[str, object]:
    fields: dict[str, object] = line.__dict__["bridge_fields"]
    return fields
