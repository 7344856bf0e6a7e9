"""What a stage remembers: users with a dead letter, records that may have become one already, its backlog."""

from functools import partial

import pytest
from threads import in_threads

from keycloak_bridge.delivery.stage_context import Backlog, DeadLetteredUsers, SentDeadLetters
from keycloak_bridge.domain.events import Record, TopicPartition
from keycloak_bridge.domain.fingerprint import fingerprint

HERE = TopicPartition("user-events", 0)
THERE = TopicPartition("user-events", 1)


def noted(*keys: bytes, limit: int = 100) -> DeadLetteredUsers:
    """Return what is known after these dead letters."""
    users = DeadLetteredUsers(limit)
    for key in keys:
        users.note(HERE, key)
    return users


def test_a_user_is_remembered_in_its_partition_only() -> None:
    """A key may mean another user in another topic."""
    users = noted(b"a")

    assert (True, False, False) == (
        users.knows(HERE, b"a"),
        users.knows(HERE, b"b"),
        users.knows(THERE, b"a"),
    )


@pytest.mark.parametrize(
    ("keys", "expected"),
    [
        ([], []),
        ([b"a", b"b"], [b"a", b"b"]),
        ([b"a", b"b", b"a"], [b"b", b"a"]),
        ([b"a", b"b", b"c", b"d"], [b"b", b"c", b"d"]),
        ([b"a", b"b", b"c", b"a", b"d"], [b"c", b"a", b"d"]),
    ],
)
def test_the_newest_are_remembered(keys: list[bytes], expected: list[bytes]) -> None:
    """In order and each once; the oldest beyond the limit is forgotten."""
    users = noted(*keys, limit=3)

    assert tuple(map(fingerprint, expected)) == users.of(HERE)


@pytest.mark.parametrize(("key", "left"), [(b"a", [b"b"]), (b"c", [b"a", b"b"])])
def test_a_user_is_forgotten_alone(key: bytes, left: list[bytes]) -> None:
    """Also one that was never users."""
    users = noted(b"a", b"b")

    users.forget(HERE, key)
    users.forget(THERE, key)

    assert tuple(map(fingerprint, left)) == users.of(HERE)


@pytest.mark.parametrize(
    ("fingerprints", "expected"),
    [((), ()), ((7, 8), (7, 8)), ((6, 7, 8, 9), (7, 8, 9)), ((7, 8, 9, 8, 7, 7), (9, 8, 7))],
)
def test_the_next_owner_knows_what_the_earlier_one_left(
    fingerprints: tuple[int, ...], expected: tuple[int, ...]
) -> None:
    """And nothing that it knew itself when it last had the partition."""
    users = noted(b"a", limit=3)

    users.take_over(HERE, fingerprints)

    assert expected == users.of(HERE)


def at(offset: int) -> Record:
    """Return a record at this position."""
    return Record(*HERE, offset, 0, b"u-1", b"{}")


@pytest.mark.parametrize("earlier", [[], [50]])
@pytest.mark.parametrize(
    ("offset", "expected"), [(99, True), (100, True), (109, True), (110, False), (10_000, False)]
)
def test_an_earlier_owner_reached_so_far(earlier: list[int], offset: int, expected: bool) -> None:
    """What lies within its reach above the last commit may be a dead letter; what was redelivered below it, too."""
    sent_dead_letters = SentDeadLetters(10)
    for committed in (*earlier, 100):
        sent_dead_letters.begin(HERE, committed)

    assert expected is sent_dead_letters.covers(at(offset))


def test_what_was_sent_may_stand() -> None:
    """Each position by itself, wherever the partition began."""
    sent_dead_letters = SentDeadLetters(0)
    sent_dead_letters.note(at(5))

    assert (True, False) == (sent_dead_letters.sent(at(5)), sent_dead_letters.sent(at(6)))
    assert (True, False) == (sent_dead_letters.covers(at(5)), sent_dead_letters.covers(at(6)))


def test_threads_lose_no_note_of_each_other() -> None:
    """Workers note dead letters at the same time."""
    users = DeadLetteredUsers(limit=10_000)
    keys = [[b"%d-%d" % (thread, one) for one in range(200)] for thread in range(4)]

    def note_all(mine: list[bytes]) -> None:
        for key in mine:
            users.note(HERE, key)

    in_threads(*[partial(note_all, mine) for mine in keys])

    assert {fingerprint(key) for mine in keys for key in mine} == set(users.of(HERE))


def test_a_backlog_is_large_until_most_of_it_is_gone() -> None:
    """It comes at its size, and goes at a quarter of it, so that it does not flicker."""
    backlog = Backlog(200)
    seen = []
    for records in (0, 199, 200, 150, 50, 49, 199, 200):
        backlog.note(records)
        seen.append(backlog.is_large)

    assert seen == [False, False, True, True, True, False, False, True]


def test_a_backlog_counts_what_kafka_still_has() -> None:
    """As far as is known: what is in hand is there in any case."""
    backlog = Backlog(200)
    seen = []
    for in_hand, lag in ((0, 0), (10, 0), (10, 5000), (10, 3)):
        backlog.note(in_hand, lag)
        seen.append(backlog.records)

    assert [0, 10, 5000, 10] == seen


def test_a_partition_is_new_again_when_it_comes_back() -> None:
    """Another member may have created users of it in between."""
    backlog = Backlog(200)
    before = backlog.since_s(HERE)
    backlog.begin(HERE, 5.0)
    backlog.begin(HERE, 9.0)

    assert (before, backlog.since_s(HERE)) == (None, 9.0)
