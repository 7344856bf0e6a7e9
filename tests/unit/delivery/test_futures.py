"""What hangs on a future."""

import gc
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar

import pytest
from threads import in_threads

from keycloak_bridge.delivery.futures import completed, done_by, then
from keycloak_bridge.domain.errors import BridgeError, KeycloakUnavailableError
from keycloak_bridge.domain.future import Future


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
