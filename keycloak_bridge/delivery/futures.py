"""Futures of what becomes of a record: whoever has work left hangs it on one, and no thread waits for it."""

from collections.abc import Callable
from contextvars import copy_context
from typing import TypeVar

from keycloak_bridge.domain.errors import BridgeError
from keycloak_bridge.domain.future import Future

Before = TypeVar("Before")
After = TypeVar("After")


def completed(value: After) -> Future[After]:
    """Return a future that has this value."""
    return done_by(lambda: value)


def done_by(work: Callable[[], After]) -> Future[After]:
    """Return a future that is done: with what `work` returns, or with the exception that it raises."""
    future: Future[After] = Future()
    _settle(future, work)
    return future


def then(future: Future[Before], step: Callable[[Future[Before]], After]) -> Future[After]:
    """Return the future of what `step` makes of `future`, which it gets once that is done.

    `step` runs in the thread that ends `future`, or at once where it has ended, with the context variables of the caller,
    and what it raises is the exception of the future that is returned.
    """
    after: Future[After] = Future()
    context = copy_context()

    def follow(before: Future[Before]) -> None:
        context.run(_settle, after, lambda: step(before))
        _forget_frames(before.exception())  # which `step` may have raised again, and dealt with

    future.add_done_callback(follow)
    return after


def _settle(future: Future[After], work: Callable[[], After]) -> None:
    try:
        value = work()
    except Exception as error:  # noqa: BLE001 # whoever asks the future gets it
        _forget_frames(error)
        future.set_exception(error)
    else:
        future.set_result(value)


def _forget_frames(error: BaseException | None) -> None:
    """Let go of the frames of a BridgeError, which says all by itself.

    They hold the record, and the future that has the error: a cycle, which only the garbage collector would find.
    """
    known = isinstance(error, BridgeError)
    while known and error is not None:
        error.__traceback__ = None
        error = error.__cause__ or error.__context__
