"""The future of what becomes of a record.

`concurrent.futures.Future` lets threads wait for it, by a lock, a condition and a queue of its own: 1.6 KB. Nobody waits for
these: whoever has work left hangs it on them. A bridge with a thousand records in hand has two or three for each.
"""

from collections.abc import Callable
from concurrent.futures import InvalidStateError
from typing import Generic, TypeVar

Value = TypeVar("Value")


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
            callback(self)
