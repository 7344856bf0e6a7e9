"""A lock that nobody sleeps in the queue of."""

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from keycloak_bridge.threads.brief_lock import BriefLock, condition

WAIT_S = 30


def test_one_thread_at_a_time() -> None:
    """However often the one inside gives way."""
    lock, inside, most = BriefLock(), [], []
    pause = threading.Event()

    def work(name: int) -> None:
        for _ in range(20):
            with lock:
                inside.append(name)
                most.append(len(inside))
                pause.wait(0.0001)
                inside.remove(name)

    with ThreadPoolExecutor(8) as threads:
        list(threads.map(work, range(8)))

    assert most == [1] * 160


def test_it_can_be_asked_for_without_waiting() -> None:
    """As a condition does."""
    lock = BriefLock()
    with lock:
        taken = lock.acquire(blocking=False)
    free = lock.acquire(blocking=False)

    assert (False, True) == (taken, free)


def test_an_error_lets_go() -> None:
    """Or nobody would ever get in again."""
    lock = BriefLock()
    with pytest.raises(ValueError, match="inside"), lock:
        raise ValueError("inside")

    assert lock.acquire(blocking=False)


def test_conditions_below_it() -> None:
    """Who waits for one lets others in, and has the lock again afterwards."""
    lock = BriefLock()
    filled, emptied = condition(lock), condition(lock)
    room: list[int] = []
    taken: list[int] = []

    def fill() -> None:
        for number in range(200):
            with lock:
                assert emptied.wait_for(lambda: not room, WAIT_S)
                room.append(number)
                filled.notify()

    def empty() -> None:
        for _ in range(200):
            with lock:
                assert filled.wait_for(lambda: room, WAIT_S)
                taken.append(room.pop())
                emptied.notify()

    with ThreadPoolExecutor(2) as threads:
        for done in [threads.submit(fill), threads.submit(empty)]:
            done.result(WAIT_S)

    assert taken == list(range(200))


def test_a_condition_needs_the_lock() -> None:
    """As one of the standard library does."""
    with pytest.raises(RuntimeError):
        condition(BriefLock()).notify()


def test_a_wait_ends_by_itself() -> None:
    """With the lock taken."""
    lock = BriefLock()
    with lock:
        told = condition(lock).wait(0.01)
        taken = lock.acquire(blocking=False)

    assert (False, False) == (told, taken)
