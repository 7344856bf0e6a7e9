"""The future of what becomes of a record, and what hangs on it.

`concurrent.futures.Future` lets threads wait for it, by a lock, a condition and a queue of its own: 1.6 KB. Nobody waits for
these: whoever has work left hangs it on them. A bridge with a thousand records in hand has two or three for each.
"""

from collections.abc import Callable
from concurrent.futures import InvalidStateError
from contextvars import copy_context
from typing import Generic, TypeVar

from keycloak_bridge.domain.errors import BridgeError

Value = TypeVar("Value")
Before = TypeVar("Before")
After = TypeVar("After")


class Future(Generic[Value]):
    """A value or an exception, once somebody has set it. Safe to share between threads.

    The methods are those of `concurrent.futures.Future`, but for those that wait.
    """

    __slots__ = ("_callbacks", "_done", "_exception", "_value")

    _value: Value

    def __init__(self) -> None:
        self._done = False
        self._exception: BaseException | None = None
        self._callbacks: list[Callable[[Future[Value]], object]] = []

    def done(self) -> bool:
        """Say whether value or exception are set."""
        return self._done

    def result(self) -> Value:
        """Return the value; raises the exception, and InvalidStateError where neither is set yet."""
        error = self.exception()
        if error is None:
            return self._value
        try:
            raise error
        finally:
            del error, self  # which the frames of the exception would keep, in a cycle

    def exception(self) -> BaseException | None:
        """Return the exception, None where there is a value; raises InvalidStateError where neither is set yet."""
        if not self._done:
            raise InvalidStateError("nothing is set yet")
        return self._exception

    def set_result(self, value: Value) -> None:
        """Set the value, and call the callbacks; raises InvalidStateError where something is set."""
        self._refuse_second()
        self._value = value
        self._end()

    def set_exception(self, error: BaseException) -> None:
        """Set the exception, and call the callbacks; raises InvalidStateError where something is set."""
        self._refuse_second()
        self._exception = error
        self._end()

    def add_done_callback(self, callback: Callable[["Future[Value]"], object]) -> None:
        """Have `callback`, which raises nothing, called once: in the thread that sets something, or now where that is done."""
        self._callbacks.append(callback)
        if self._done:
            self._call()

    def _refuse_second(self) -> None:
        if self._done:
            raise InvalidStateError("something is set already")

    def _end(self) -> None:
        self._done = True
        self._call()

    def _call(self) -> None:
        """Call what is left: of two threads that come here at once, each callback is taken by one."""
        while self._callbacks:
            try:
                callback = self._callbacks.pop(0)
            except IndexError:  # the other one was faster
                return
            try:
                callback(self)
            except BaseException:
                self._call()  # a fault in one must keep no other from its turn
                raise


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
