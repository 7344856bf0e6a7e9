"""Many questions asked by several threads at once, and their answers in order."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

_Question = TypeVar("_Question")
_Answer = TypeVar("_Answer")

_AHEAD = 4
"""Questions of a worker that may be ahead of the answers that were taken."""


def side_by_side(
    ask: Callable[[_Question], _Answer], questions: Iterable[_Question], workers: int
) -> Iterator[_Answer]:
    """Yield what `ask` returns for each of `questions`, in their order; raises what it raises.

    Questions are drawn by the caller's thread, a few for each worker ahead of the answers.
    """
    waiting: deque[Future[_Answer]] = deque()
    pool = ThreadPoolExecutor(workers)
    try:
        for question in questions:
            waiting.append(pool.submit(ask, question))
            if len(waiting) >= workers * _AHEAD:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:
        pool.shutdown(cancel_futures=True)
