"""The threads that do the work of one stage, each one record at a time."""

import logging
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import copy_context
from functools import partial

from keycloak_bridge.delivery.delivery import Delivery
from keycloak_bridge.delivery.key_queues import Task
from keycloak_bridge.delivery.stage_context import StageContext
from keycloak_bridge.domain.errors import BridgeError, Disposition, HoldError
from keycloak_bridge.domain.events import Record
from keycloak_bridge.domain.future import Future
from keycloak_bridge.domain.ports import Handled, RecordHandler
from keycloak_bridge.ops import tracing
from keycloak_bridge.ops.logs import internal_error, log_event
from keycloak_bridge.threads.brief_lock import BriefLock

logger = logging.getLogger(__name__)

_JOIN_S = 1.0
_MOST_NAMED = 3


class WorkerPool:
    """`size` threads that take tasks from the delivery until it ends."""

    def __init__(
        self, context: StageContext, size: int, delivery: Delivery, handler: RecordHandler
    ) -> None:
        self._context = context
        self._delivery = delivery
        self._handler = handler
        self._begun: dict[object, tuple[float, Record]] = {}
        self._lock = BriefLock()
        # daemons: a call that hangs must not keep the process from ending
        self._threads = [
            threading.Thread(target=self._work, name=f"{context.name}-{number}", daemon=True)
            for number in range(1, size + 1)
        ]

    def start(self) -> None:
        """Begin to take tasks."""
        for thread in self._threads:
            thread.start()

    def join(self) -> None:
        """Wait for the idle threads to end; the delivery must have ended."""
        for thread in self._threads:
            thread.join(_JOIN_S if not self._delivery.running() else 0)

    def stuck(self, longer_than_s: float) -> BridgeError | None:
        """Return what is wrong when every worker has been busy with one record for so long, the oldest records named.

        Nothing else is done meanwhile, however quickly it could be.
        """
        latest_s = self._context.clock.monotonic() - longer_than_s
        with self._lock:
            begun = sorted(self._begun.values(), key=lambda one: one[0])
        if not self._threads or len(begun) < len(self._threads) or begun[-1][0] > latest_s:
            return None
        places = [f"{one.topic}/{one.partition}@{one.offset}" for _, one in begun[:_MOST_NAMED]]
        more = len(begun) - len(places)
        return BridgeError(
            f"each of {len(begun)} workers has been busy with one record for more than {longer_than_s:g} s: "
            f"{', '.join(places)}{f' and {more} more' if more else ''}",
            code="workers-stuck",
        )

    def _work(self) -> None:
        try:
            while self._do_next():
                pass
        except BaseException as error:  # noqa: BLE001 # the poll thread raises it
            self._delivery.fail(error)

    def _do_next(self) -> bool:
        """Wait for a task and do it; False when there will be none. A worker that waits keeps no record in memory."""
        task = self._delivery.take()
        if task is None:
            return False
        self.do(task)
        return True

    def do(self, task: Task) -> None:
        """Have the stage handle one record, and report to the delivery what became of it, now or later."""
        with (
            self._busy_with(task.record),
            self._context.fence.around(partial(self._delivery.may_write, task)),
            tracing.active(self._context.tracer.process(task.record)),
        ):
            try:
                handled = self._handler.handle(task.record)
            except Exception as error:  # noqa: BLE001 # one record must not take the others with it
                self._failed(task, error)
            else:
                context = copy_context()  # of the span, for whichever thread ends it
                handled.add_done_callback(lambda ended: context.run(self._end, task, ended))

    def _end(self, task: Task, handled: Future[Handled]) -> None:
        """Report what became of a record; called from the thread that ends it."""
        try:
            error = handled.exception()
            if error is None:
                tracing.current().end()
                self._delivery.settle(task, handled.result())
            else:
                self._failed(task, error)
        except BaseException as fault:  # noqa: BLE001 # the poll thread raises it
            self._delivery.fail(fault)

    @contextmanager
    def _busy_with(self, record: Record) -> Iterator[None]:
        work = object()
        with self._lock:
            self._begun[work] = (self._context.clock.monotonic(), record)
        try:
            yield
        finally:
            with self._lock:
                del self._begun[work]

    def _failed(self, task: Task, cause: BaseException) -> None:
        record = task.record
        error = (
            cause
            if isinstance(cause, BridgeError)
            else internal_error(logger, cause, record, self._context.name)
        )
        span = tracing.current()
        span.fail(error.code)
        given_up = self._delivery.failed(task, error)
        if error.disposition is Disposition.RETRY:
            self._context.metrics.retried(self._context.name, error.code)
            log_event(
                logger,
                "retrying",
                # what holds up all is said once, by the readiness of the stage; alone, the pauses grow
                level=logging.WARNING if task.alone and not given_up else logging.DEBUG,
                message=error.message,
                stage=self._context.name,
                topic=record.topic,
                partition=record.partition,
                offset=record.offset,
                reason=error.code,
                attempt=task.failures + given_up,
            )
        if not given_up:
            span.end(unless_unused=isinstance(error, HoldError))
            return
        try:
            handled = self._handler.give_up(record, error)
        except BridgeError as again:
            self._delivery.postpone(task, again)
        else:
            self._delivery.settle(task, handled)
        finally:
            span.end()
