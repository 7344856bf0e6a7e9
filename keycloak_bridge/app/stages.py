"""Run the stages side by side, each in a thread of its own, and end together."""

import logging
import random
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

from keycloak_bridge.delivery.breaker import RetryPolicy, delay_s
from keycloak_bridge.delivery.consumer_loop import ConsumerLoop, ConsumerOptions
from keycloak_bridge.delivery.stage_context import StageContext
from keycloak_bridge.domain.errors import BridgeError, Disposition
from keycloak_bridge.domain.events import TopicPartition
from keycloak_bridge.domain.ports import Clock, RecordConsumer, RecordHandler
from keycloak_bridge.ops.logs import log_event
from keycloak_bridge.ops.metrics import Metrics
from keycloak_bridge.ops.status import JOINING, Status

logger = logging.getLogger(__name__)

STARTING = "startup"
"""The component that is not ready until the stages run."""

Found = TypeVar("Found")


@dataclass(frozen=True, slots=True)
class RuntimeContext:
    """What all stages of the process share."""

    clock: Clock
    status: Status
    metrics: Metrics
    retry: RetryPolicy
    stop: threading.Event

    def wait_for(
        self, component: str, attempt: Callable[[], Found], *, then: str | None = None
    ) -> Found | None:
        """Try until `attempt` raises no more errors of disposition RETRY, and return its outcome; None when stopped.

        Any other error is raised at once. `then` is the problem that the component has after it.
        """
        failures = 0
        while not self.stop.is_set():
            try:
                found = attempt()
            except BridgeError as error:
                if error.disposition is not Disposition.RETRY:
                    raise
                failures += 1
                is_new = self.status.set_problem(component, error.message, error.code)
                log_event(
                    logger,
                    "waiting",
                    level=logging.WARNING if is_new else logging.DEBUG,
                    message=f"{error.message}; waiting for it",
                    stage=component,
                    reason=error.code,
                )
                self.stop.wait(delay_s(self.retry, failures, random.random()))  # noqa: S311 # jitter
            else:
                self.status.set_problem(component, then)
                return found
        return None


@dataclass(frozen=True, slots=True)
class Stage:
    """One stage: what its parts share, how to join its topic, and what to do with a record."""

    context: StageContext
    join: Callable[[], RecordConsumer]
    handler: RecordHandler
    options: ConsumerOptions
    close: Callable[[], None] = lambda: None

    @property
    def name(self) -> str:
        """The name of the stage in logs, metrics and reasons."""
        return self.context.name


def run_stages(stages: Sequence[Stage], runtime: RuntimeContext, *, until_caught_up: bool) -> None:
    """Run `stages` until stopped, or until each has done what its topic had.

    With `until_caught_up` the first stage ends at what its topic had when it joined; each later one at what its topic has
    when the stage before has ended. The first error of any stage stops all and is raised.
    """
    errors: list[BaseException] = []
    ended = [threading.Event() for _ in stages]

    def run(number: int) -> None:
        try:
            before = ended[number - 1] if number else None
            _run_stage(stages[number], runtime, before, until_caught_up=until_caught_up)
        except BaseException as error:  # noqa: BLE001 # the main thread raises it
            errors.append(error)
            runtime.stop.set()
        finally:
            ended[number].set()

    threads = [
        threading.Thread(target=run, args=(number,), name=stage.name)
        for number, stage in enumerate(stages)
    ]
    for stage in stages:
        runtime.status.set_problem(stage.name, JOINING)
    runtime.status.set_problem(STARTING, None)
    for thread in threads:
        thread.start()
    for thread in threads:
        while thread.is_alive():
            thread.join(timeout=0.5)  # so that signals reach the main thread in between
    if errors:
        raise errors[0]


def _run_stage(
    stage: Stage,
    runtime: RuntimeContext,
    before: threading.Event | None,
    *,
    until_caught_up: bool,
) -> None:
    consumer = runtime.wait_for(stage.name, stage.join, then=JOINING)
    if consumer is None:
        return
    ends: Mapping[TopicPartition, int] | None = None

    def targets() -> Mapping[TopicPartition, int] | None:
        """Return the end of the topic, read once: when this stage has joined, or when the stage before has ended."""
        nonlocal ends
        if ends is None and (before is None or before.is_set()):
            ends = consumer.end_offsets()
        return ends

    loop = ConsumerLoop(stage.context, consumer, stage.handler, stage.options)
    try:
        loop.run(runtime.stop, targets if until_caught_up else None)
    finally:
        stage.close()
