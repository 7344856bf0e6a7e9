from itertools import count

import pytest

from keycloak_bridge.delivery.key_order import Lanes, Task
from keycloak_bridge.domain.events import Record, TopicPartition

P0, P1 = TopicPartition("user-events", 0), TopicPartition("user-events", 1)
_offsets = count()


def event(
    partition: int = 0,
    value: bytes | None = b"12345",
    headers: tuple[tuple[str, bytes | None], ...] = (),
) -> Record:
    """Return a record of its own offset."""
    return Record("user-events", partition, next(_offsets), 0, b"key", value, headers)


def lanes_of(*names: bytes) -> Lanes:
    """Return lanes with a record for every name, in this order."""
    lanes = Lanes()
    for name in names:
        lanes.add(event(), name)
    return lanes


def taken(lanes: Lanes, now_s: float = 0.0) -> Task:
    """Return a task that must be there."""
    task = lanes.take(now_s)
    assert task is not None
    return task


def test_a_lane_runs_one_record_at_a_time() -> None:
    """The second of a user waits for the first."""
    lanes = lanes_of(b"ada", b"ada")
    first = taken(lanes)
    meanwhile = lanes.take(0.0)
    lanes.finish(first)

    assert meanwhile is None
    assert first.record.offset + 1 == taken(lanes).record.offset


def test_lanes_run_side_by_side_the_longest_ready_first() -> None:
    """A lane that just ran goes behind those that have not."""
    lanes = lanes_of(b"ada", b"ada", b"eve", b"joe")
    lanes.finish(taken(lanes))

    assert [b"eve", b"joe", b"ada"] == [taken(lanes).lane for _ in range(3)]


def test_one_name_in_two_partitions_is_two_lanes() -> None:
    """Order is promised within a partition only."""
    lanes = Lanes()
    lanes.add(event(0), b"ada")
    lanes.add(event(1), b"ada")

    assert [P0, P1] == [taken(lanes).record.topic_partition for _ in range(2)]


def test_a_record_put_back_holds_its_lane_only() -> None:
    """It comes again as the same task, so that its attempts are not forgotten."""
    lanes = lanes_of(b"ada", b"ada", b"eve")
    task = taken(lanes)
    task.failures = 3
    put_back = lanes.put_back(task, 5.0)
    others = [taken(lanes).lane, lanes.take(4.9)]

    assert put_back
    assert [b"eve", None] == others
    assert (5.0, False, True) == (lanes.next_at_s(), lanes.has_ready(4.9), lanes.has_ready(5.0))
    assert task is lanes.take(5.0)
    assert lanes.next_at_s() is None


def test_waiting_lanes_come_in_the_order_they_are_due() -> None:
    """Whatever the order they were put back in."""
    lanes = lanes_of(b"ada", b"eve", b"joe")
    tasks = [taken(lanes) for _ in range(3)]
    for task, until_s in zip(tasks, (3.0, 1.0, 2.0), strict=True):
        lanes.put_back(task, until_s)

    assert [b"eve", b"joe", b"ada"] == [taken(lanes, 9.0).lane for _ in range(3)]


def test_records_and_bytes_are_counted_until_finished() -> None:
    """Keys, values and headers; a running or waiting record still counts."""
    lanes = Lanes()
    lanes.add(event(0, b"12345", (("id", b"abc"), ("none", None))), b"ada")
    lanes.add(event(1, None), b"eve")
    held = (lanes.records, lanes.size_bytes, lanes.records_of(P0), lanes.records_of(P1))
    task = taken(lanes)
    lanes.put_back(task, 1.0)
    waiting = (lanes.records, lanes.size_bytes)
    taken(lanes)
    lanes.finish(taken(lanes, 1.0))

    assert (2, (3 + 5 + 2 + 3 + 4) + 3, 1, 1) == held
    assert (2, 20) == waiting
    assert (1, 3, 0, 1) == (
        lanes.records,
        lanes.size_bytes,
        lanes.records_of(P0),
        lanes.records_of(P1),
    )


def test_a_dropped_partition_is_forgotten_but_for_what_runs() -> None:
    """Ready, waiting and queued records go; running ones are told and still waited for."""
    lanes = lanes_of(b"running", b"waiting", b"queued", b"queued")
    running = taken(lanes)
    lanes.put_back(taken(lanes), 1.0)
    lanes.add(event(1), b"ada")
    lanes.drop(P0)

    assert running.dropped
    assert (1, 8, 0, 1) == (
        lanes.records,
        lanes.size_bytes,
        lanes.records_of(P0),
        lanes.records_of(P1),
    )
    assert (1, 1, 0) == (lanes.running(), lanes.running(P0), lanes.running(P1))
    assert (P1, None) == (taken(lanes, 9.0).record.topic_partition, lanes.take(9.0))
    assert lanes.next_at_s() is None


@pytest.mark.parametrize("how", ["finish", "put back"])
def test_a_dropped_task_ends_without_effect(how: str) -> None:
    """Its end counts down what runs, and nothing else."""
    lanes = lanes_of(b"ada")
    task = taken(lanes)
    lanes.drop(P0)
    kept = lanes.finish(task) if how == "finish" else lanes.put_back(task, 1.0)

    assert not kept
    assert (0, 0, None, None) == (
        lanes.running(P0),
        lanes.records,
        lanes.next_at_s(),
        lanes.take(9.0),
    )


def test_a_lane_that_comes_back_waits_for_its_dropped_task() -> None:
    """A partition lost and won again must not have two records of one user under way."""
    lanes = lanes_of(b"ada")
    dropped = taken(lanes)
    lanes.drop(P0)
    lanes.add(event(), b"ada")
    before = (lanes.has_ready(9.0), lanes.take(9.0))
    lanes.put_back(dropped, 99.0)
    task = taken(lanes)

    assert (False, None) == before
    assert not task.dropped
    assert lanes.finish(task)


def test_a_task_ends_once() -> None:
    """A second report of the same run changes nothing."""
    lanes = lanes_of(b"ada", b"ada")
    task = taken(lanes)
    lanes.finish(task)
    second = taken(lanes)

    assert not lanes.finish(task)
    assert not lanes.put_back(task, 1.0)
    assert (1, 1) == (lanes.running(), lanes.records)
    assert lanes.finish(second)
