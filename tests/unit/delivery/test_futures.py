"""What hangs on a future."""

from concurrent.futures import Future

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
