"""A dead letter is looked up where it may stand already, and nowhere else."""

import threading

import pytest

from keycloak_bridge.delivery.dead_letters import SentDeadLetters
from keycloak_bridge.domain.events import Record, TopicPartition

HERE = TopicPartition("user-events", 0)


def at(offset: int, partition: int = 0) -> Record:
    """Return a record at this position."""
    return Record("user-events", partition, offset, 0, b"u-1", b"{}")


@pytest.mark.parametrize(
    ("offset", "expected"), [(99, True), (100, True), (109, True), (110, False), (10_000, False)]
)
def test_an_earlier_owner_reached_so_far(offset: int, expected: bool) -> None:
    """What lies within its reach above the commit may be a dead letter; what was redelivered below it, too."""
    sent_dead_letters = SentDeadLetters(10)
    sent_dead_letters.begin(HERE, 100)

    assert expected is sent_dead_letters.covers(at(offset))


def test_without_an_earlier_owner_there_is_no_doubt() -> None:
    """Nor in another partition than the one that was taken over."""
    sent_dead_letters = SentDeadLetters(10)
    sent_dead_letters.begin(HERE, 100)

    assert not sent_dead_letters.covers(at(100, partition=1))
    assert not SentDeadLetters(10).covers(at(0))


def test_a_partition_that_comes_back_begins_anew() -> None:
    """Somebody else may have had it meanwhile, and got further."""
    sent_dead_letters = SentDeadLetters(10)
    sent_dead_letters.begin(HERE, 100)
    sent_dead_letters.begin(HERE, 200)

    assert (True, False) == (sent_dead_letters.covers(at(209)), sent_dead_letters.covers(at(210)))


def test_what_was_sent_may_stand() -> None:
    """Each position by itself, wherever the partition began."""
    sent_dead_letters = SentDeadLetters(0)
    sent_dead_letters.note(at(5))

    assert (True, False) == (sent_dead_letters.sent(at(5)), sent_dead_letters.sent(at(6)))
    assert (True, False) == (sent_dead_letters.covers(at(5)), sent_dead_letters.covers(at(6)))


def test_what_another_owner_sent_is_not_ours() -> None:
    """The doubt about it is no knowledge."""
    sent_dead_letters = SentDeadLetters(10)
    sent_dead_letters.begin(HERE, 0)

    assert (True, False) == (sent_dead_letters.covers(at(5)), sent_dead_letters.sent(at(5)))


def test_only_the_newest_are_remembered() -> None:
    """A storm of dead letters does not fill the memory."""
    sent_dead_letters = SentDeadLetters(0)
    for offset in range(10_001):
        sent_dead_letters.note(at(offset))

    assert (False, True, True) == (
        sent_dead_letters.sent(at(0)),
        sent_dead_letters.sent(at(1)),
        sent_dead_letters.sent(at(10_000)),
    )


def test_threads_share_it() -> None:
    """Whatever any of them sent, all know."""
    sent_dead_letters = SentDeadLetters(0)

    def send(first: int) -> None:
        for offset in range(first, first + 500):
            sent_dead_letters.note(at(offset))

    threads = [threading.Thread(target=send, args=(first,)) for first in range(0, 4000, 500)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert all(sent_dead_letters.sent(at(offset)) for offset in range(4000))
