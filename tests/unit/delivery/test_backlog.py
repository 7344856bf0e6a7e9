"""When a backlog stands, and since when a partition is worked on."""

from keycloak_bridge.delivery.stage import Backlog
from keycloak_bridge.domain.events import TopicPartition

HERE = TopicPartition("user-events", 0)


def test_a_backlog_stands_until_most_of_it_is_gone() -> None:
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
