"""What hangs on a future."""

from concurrent.futures import Future
from contextvars import ContextVar

import pytest
from threads import in_threads

from keycloak_bridge.delivery.futures import completed, done_by, then


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

    assert (not late, 1.5) == (before, after.result(0))


@pytest.mark.parametrize("step", [half, lambda _: 1 / 0], ids=["before", "in the step"])
def test_an_exception_is_that_of_what_follows(step: object) -> None:
    """Whichever raised it; nothing is raised where the step hangs on it."""
    broken: Future[int] = done_by(lambda: 1 // 0)
    after = then(then(broken, step), half)  # type: ignore[arg-type]

    assert isinstance(after.exception(0), ZeroDivisionError)


def test_a_step_has_the_context_of_whoever_waits() -> None:
    """Whatever that of the thread is which ends the future; that thread's own stays as it is."""
    variable = ContextVar("variable", default="of the thread")
    whole: Future[int] = Future()
    variable.set("of the caller")
    after = then(whole, lambda _: variable.get())
    variable.set("later")
    in_threads(lambda: whole.set_result(3))

    assert ("of the caller", "later") == (after.result(0), variable.get())
