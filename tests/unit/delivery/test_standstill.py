from keycloak_bridge.delivery.scheduler import OldestUnfinished
from keycloak_bridge.domain.events import TopicPartition

P0 = TopicPartition("user-events", 0)
P1 = TopicPartition("user-events", 1)


def test_nothing_in_hand_stands_still() -> None:
    """No age without a record."""
    assert 0.0 == OldestUnfinished().oldest_s({}, 10.0)


def test_the_age_counts_from_the_first_look() -> None:
    """As long as the same record is the first unfinished one."""
    standstill = OldestUnfinished()
    ages = [standstill.oldest_s({P0: 3}, now_s) for now_s in (10.0, 12.0, 40.0)]

    assert [0.0, 2.0, 30.0] == ages


def test_progress_begins_anew() -> None:
    """Also backwards (a topic that was made anew), and after the partition was away."""
    standstill = OldestUnfinished()
    ages = [
        standstill.oldest_s(first, now_s)
        for now_s, first in [
            (10.0, {P0: 3}),
            (20.0, {P0: 4}),
            (30.0, {P0: 1}),
            (40.0, {}),
            (50.0, {P0: 1}),
            (51.0, {P0: 1}),
        ]
    ]

    assert [0.0, 0.0, 0.0, 0.0, 0.0, 1.0] == ages


def test_the_most_patient_partition_counts() -> None:
    """Whatever the others do."""
    standstill = OldestUnfinished()
    ages = [
        standstill.oldest_s(first, now_s)
        for now_s, first in [(0.0, {P0: 3}), (5.0, {P0: 3, P1: 9}), (8.0, {P0: 4, P1: 9})]
    ]

    assert [0.0, 5.0, 3.0] == ages
