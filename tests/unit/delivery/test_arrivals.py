"""Several acknowledgements are one."""

import threading

import pytest

from keycloak_bridge.delivery.scheduler import AllAcknowledged
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
def test_the_last_one_tells_the_first_error(
    notes: list[BridgeError | None], told: BridgeError | None
) -> None:
    """Nothing is told before all are in, and then once."""
    heard: list[BridgeError | None] = []
    arrivals = AllAcknowledged(len(notes), heard.append)
    for note in notes[:-1]:
        arrivals.note(note)
    early = list(heard)
    arrivals.note(notes[-1])

    assert ([], [told]) == (early, heard)


def test_they_come_from_any_thread() -> None:
    """However they meet, one of them is the last."""
    heard: list[BridgeError | None] = []
    arrivals = AllAcknowledged(8, heard.append)
    threads = [threading.Thread(target=arrivals.note, args=(None,)) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert [None] == heard
