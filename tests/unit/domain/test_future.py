"""The future that nobody waits for."""

import threading
from collections.abc import Callable
from concurrent.futures import InvalidStateError

import pytest
from threads import in_threads

from keycloak_bridge.domain.future import Future

Ended = Callable[[Future[str]], None]


def with_value(future: Future[str]) -> None:
    """End it well."""
    future.set_result("value")


def with_error(future: Future[str]) -> None:
    """End it badly."""
    future.set_exception(OSError("error"))


ENDS = pytest.mark.parametrize("end", [with_value, with_error])


def test_a_value_is_what_was_set() -> None:
    """From then on."""
    future: Future[str] = Future()
    before = future.done()
    with_value(future)

    assert (False, True) == (before, future.done())
    assert ("value", None) == (future.result(), future.exception())


def test_an_exception_is_raised_whenever_the_value_is_asked_for() -> None:
    """It is the same one, and asking for it raises nothing."""
    future: Future[str] = Future()
    with_error(future)

    for _ in range(2):
        with pytest.raises(OSError, match="error") as raised:
            future.result()
        assert future.exception() is raised.value


@pytest.mark.parametrize("ask", [Future.result, Future.exception])
def test_nothing_is_there_before_it_is_set(ask: Callable[[Future[str]], object]) -> None:
    """And nobody waits for it."""
    with pytest.raises(InvalidStateError):
        ask(Future())


@ENDS
@pytest.mark.parametrize("again", [with_value, with_error])
def test_it_is_set_once(end: Ended, again: Ended) -> None:
    """Whatever comes later is an error of the program, and changes nothing."""
    future: Future[str] = Future()
    end(future)
    first = future.exception()
    with pytest.raises(InvalidStateError):
        again(future)

    assert future.exception() is first


@ENDS
def test_each_callback_is_called_once_and_in_order(end: Ended) -> None:
    """In the thread that ends the future; one that comes later in its own, at once."""
    future: Future[str] = Future()
    calls: list[tuple[str, Future[str], threading.Thread]] = []

    def note(name: str) -> Callable[[Future[str]], None]:
        return lambda ended: calls.append((name, ended, threading.current_thread()))

    future.add_done_callback(note("first"))
    future.add_done_callback(note("second"))
    early = list(calls)
    in_threads(lambda: end(future))
    future.add_done_callback(note("late"))

    assert [] == early
    assert ["first", "second", "late"] == [name for name, ended, _ in calls if ended is future]
    first, second, late = (thread for _, _, thread in calls)
    assert first is second
    assert threading.current_thread() is late is not first


def test_a_callback_may_add_another() -> None:
    """Which is called, too."""
    future: Future[str] = Future()
    found: list[str] = []
    future.add_done_callback(
        lambda ended: ended.add_done_callback(lambda again: found.append(again.result()))
    )
    with_value(future)

    assert ["value"] == found


def test_a_callback_that_comes_while_it_ends_is_called_once() -> None:
    """Whichever of the two threads is faster."""
    for _ in range(300):
        future: Future[str] = Future()
        found: list[str] = []
        both = threading.Barrier(2)

        def add(
            future: Future[str] = future, found: list[str] = found, both: threading.Barrier = both
        ) -> None:
            both.wait()
            for _ in range(3):
                future.add_done_callback(lambda ended: found.append(ended.result()))

        def end(future: Future[str] = future, both: threading.Barrier = both) -> None:
            both.wait()
            with_value(future)

        in_threads(add, end)

        assert ["value"] * 3 == found
