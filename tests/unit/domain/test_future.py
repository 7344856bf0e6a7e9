"""The future that nobody waits for, and what hangs on it."""

import gc
import threading
import weakref
from collections.abc import Callable, Iterator
from concurrent.futures import InvalidStateError
from contextlib import contextmanager
from contextvars import ContextVar

import pytest
from threads import in_threads

from keycloak_bridge.domain.errors import BridgeError, KeycloakUnavailableError
from keycloak_bridge.domain.future import Future, completed, done_by, then

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


def half(future: Future[int]) -> float:
    """Return half of it."""
    return future.result() / 2


@pytest.mark.parametrize("late", [False, True], ids=["done", "done later"])
def test_a_step_gets_what_the_future_has(late: bool) -> None:
    """Value or exception, at once or in the thread that ends it."""
    whole: Future[int] = completed(3) if not late else Future()
    after = then(whole, half)
    before = after.done()
    if late:
        in_threads(lambda: whole.set_result(3))

    assert (not late, 1.5) == (before, after.result())


@pytest.mark.parametrize("step", [half, lambda _: 1 / 0], ids=["before", "in the step"])
def test_an_exception_is_that_of_what_follows(step: object) -> None:
    """Whichever raised it; nothing is raised where the step hangs on it."""
    broken: Future[int] = done_by(lambda: 1 // 0)
    after = then(then(broken, step), half)  # type: ignore[arg-type]

    assert isinstance(after.exception(), ZeroDivisionError)


def test_a_step_has_the_context_of_whoever_waits() -> None:
    """Whatever that of the thread is which ends the future; that thread's own stays as it is."""
    variable = ContextVar("variable", default="of the thread")
    whole: Future[int] = Future()
    variable.set("of the caller")
    after = then(whole, lambda _: variable.get())
    variable.set("later")
    in_threads(lambda: whole.set_result(3))

    assert ("of the caller", "later") == (after.result(), variable.get())


class Held:
    """Something large that a step has in hand."""


@contextmanager
def without_collector() -> Iterator[None]:
    """Have nothing look for cycles."""
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


def failing(held: Held) -> None:
    """Fail as a call of Keycloak does, with `held` in hand."""
    try:
        raise OSError(str(held))  # noqa: TRY301 # so that it has frames of its own
    except OSError as error:
        raise KeycloakUnavailableError("no answer") from error


def caught(before: Future[None]) -> str:
    """Turn a failure into a value, as a dead letter does."""
    try:
        before.result()
    except BridgeError as error:
        return error.code
    return ""


@pytest.mark.parametrize("step", [half, caught], ids=["handed on", "dealt with"])
def test_a_failure_keeps_nothing_in_memory(step: Callable[[Future[None]], object]) -> None:
    """Its frames would, in a cycle that lasts until the collector comes."""

    def fail() -> weakref.ref[Held]:
        held = Held()
        then(done_by(lambda: failing(held)), step)
        return weakref.ref(held)

    with without_collector():
        assert fail()() is None


@ENDS
def test_a_callback_that_fails_keeps_no_other_from_its_turn(end: Ended) -> None:
    """It should raise nothing; whoever ends the future gets it, once all were called."""
    future: Future[str] = Future()
    called: list[str] = []

    def failing(_: Future[str]) -> None:
        called.append("failing")
        raise ZeroDivisionError

    for callback in (failing, lambda _: called.append("next"), failing):
        future.add_done_callback(callback)
    with pytest.raises(ZeroDivisionError):
        end(future)

    assert ["failing", "next", "failing"] == called
    assert future.done()
