"""The threads that do the work of one stage, each one record at a time."""

import logging
import threading

from keycloak_bridge.delivery.fencing import Fence
from keycloak_bridge.delivery.key_order import Task
from keycloak_bridge.delivery.scheduler import Delivery
from keycloak_bridge.domain.errors import BridgeError, Disposition, InternalError
from keycloak_bridge.domain.ports import RecordHandler
from keycloak_bridge.ops.logs import log_event
from keycloak_bridge.ops.metrics import Metrics

logger = logging.getLogger(__name__)

_LEAVE_S = 1.0


class WorkerPool:
    """`size` threads that take tasks from the delivery until it ends."""

    def __init__(
        self,
        stage: str,
        size: int,
        delivery: Delivery,
        handler: RecordHandler,
        fence: Fence,
        metrics: Metrics,
    ) -> None:
        self._stage = stage
        self._delivery = delivery
        self._handler = handler
        self._fence = fence
        self._metrics = metrics
        # daemons: a call that hangs must not keep the process from ending
        self._threads = [
            threading.Thread(target=self._work, name=f"{stage}-{number}", daemon=True)
            for number in range(1, size + 1)
        ]

    def start(self) -> None:
        """Begin to take tasks."""
        for thread in self._threads:
            thread.start()

    def leave(self) -> None:
        """Let the threads end that have nothing in hand; the delivery must have ended."""
        for thread in self._threads:
            thread.join(_LEAVE_S if not self._delivery.running() else 0)

    def _work(self) -> None:
        try:
            while (task := self._delivery.take()) is not None:
                self.do(task)
        except BaseException as error:  # noqa: BLE001 # the poll thread raises it
            self._delivery.fail(error)

    def do(self, task: Task) -> None:
        """Have the stage handle one record, and tell the delivery what became of it."""

        def may_write() -> bool:
            return self._delivery.may_write(task)

        with self._fence.around(may_write):
            try:
                handled = self._handler.handle(task.record)
            except BridgeError as error:
                self._failed(task, error)
            except Exception as error:  # noqa: BLE001 # one record must not take the others with it
                self._failed(task, self._internal(task, error))
            else:
                self._delivery.settle(task, handled)

    def _failed(self, task: Task, error: BridgeError) -> None:
        self._tell(task, error)
        if not self._delivery.failed(task, error):
            return
        try:
            handled = self._handler.give_up(task.record, error)
        except BridgeError as again:
            self._delivery.postpone(task, again)
        else:
            self._delivery.settle(task, handled)

    def _internal(self, task: Task, error: Exception) -> InternalError:
        record = task.record
        log_event(
            logger,
            "internal-error",
            level=logging.ERROR,
            error=error,
            stage=self._stage,
            topic=record.topic,
            partition=record.partition,
            offset=record.offset,
        )
        return InternalError(
            f"the bridge failed on this record ({type(error).__name__})",
            remedy="report it with the log line `internal-error`; then replay the dead letter",
        )

    def _tell(self, task: Task, error: BridgeError) -> None:
        if error.disposition is not Disposition.RETRY:
            return
        self._metrics.retried(self._stage, error.code)
        record = task.record
        log_event(
            logger,
            "retrying",
            level=logging.DEBUG,
            message=error.message,
            stage=self._stage,
            topic=record.topic,
            partition=record.partition,
            offset=record.offset,
            reason=error.code,
            attempt=task.failures + 1,
        )
