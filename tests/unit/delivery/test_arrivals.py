"""Several acknowledgements are one."""

import threading

import pytest
from delivery_harness import Pending

from keycloak_bridge.delivery.scheduler import when_all
from keycloak_bridge.domain.errors import BridgeError, BrokerAccessError, BrokerUnavailableError

GONE = BrokerUnavailableError("gone")
REFUSED = BrokerAccessError("not allowed")


@pytest.mark.parametrize(
    ("notes", "told"),
    [
        ([None], None),
        ([None, None, None], None),
        ([GONE], GONE),
        ([None, GONE, None], GONE),
        ([REFUSED, None, GONE], REFUSED),
    ],
)
def test_the_last_one_reports_the_first_error(
    notes: list[BridgeError | None], told: BridgeError | None
) -> None:
    """Nothing is reported before all are in, and then once."""
    heard: list[BridgeError | None] = []
    answers = [Pending() for _ in notes]
    when_all(answers, heard.append)
    for answer, note in zip(answers[:-1], notes, strict=False):
        answer.arrive(note)
    early = list(heard)
    answers[-1].arrive(notes[-1])

    assert ([], [told]) == (early, heard)


def test_nothing_to_wait_for_is_done_at_once() -> None:
    """Without an acknowledgement nothing can fail."""
    heard: list[BridgeError | None] = []
    when_all([], heard.append)

    assert [None] == heard


def test_they_come_from_any_thread() -> None:
    """However they meet, one of them is the last."""
    heard: list[BridgeError | None] = []
    answers = [Pending() for _ in range(8)]
    when_all(answers, heard.append)
    threads = [threading.Thread(target=answer.arrive) for answer in answers]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert [None] == heard
