"""Run the stages side by side, each in a thread of its own, and end together."""

import logging
import random
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

from keycloak_bridge.delivery.consumer_loop import ConsumerLoop, ConsumerOptions
from keycloak_bridge.delivery.retry import RetryPolicy, delay_s
from keycloak_bridge.delivery.stage import StageContext
from keycloak_bridge.domain.errors import BridgeError, Disposition
from keycloak_bridge.domain.events import TopicPartition
from keycloak_bridge.domain.ports import Clock, RecordConsumer, RecordHandler
from keycloak_bridge.ops.health import JOINING, Status
from keycloak_bridge.ops.logs import log_event
from keycloak_bridge.ops.metrics import Metrics

logger = logging.getLogger(__name__)

STARTING = "startup"
"""The component that is not ready until the stages stand."""

Found = TypeVar("Found")


@dataclass(frozen=True, slots=True)
class RuntimeContext:
    """What everything that runs shares."""

    clock: Clock
    status: Status
    metrics: Metrics
    retry: RetryPolicy
    stop: threading.Event

    def patiently(
        self, component: str, attempt: Callable[[], Found], *, then: str | None = None
    ) -> Found | None:
        """Return what `attempt` returns once it stops raising errors that can pass; None when told to stop.

        Any other error comes through at once. `then` is what the component still waits for after it.
        """
        failures = 0
        while not self.stop.is_set():
            try:
                found = attempt()
            except BridgeError as error:
                if error.disposition is not Disposition.RETRY:
                    raise
                failures += 1
                self._note(component, error)
                self.stop.wait(delay_s(self.retry, failures, random.random()))  # noqa: S311 # jitter
            else:
                self.status.set_problem(component, then)
                return found
        return None

    def _note(self, component: str, error: BridgeError) -> None:
        news = self.status.set_problem(component, error.message)
        log_event(
            logger,
            "waiting",
            level=logging.WARNING if news else logging.DEBUG,
            message=f"{error.message}; waiting for it",
            stage=component,
            reason=error.code,
        )


def nothing() -> None:
    """Leave nothing behind."""


@dataclass(frozen=True, slots=True)
class Stage:
    """One stage: what its parts share, how to join its topic, and what to do with a record."""

    context: StageContext
    join: Callable[[], RecordConsumer]
    handler: RecordHandler
    options: ConsumerOptions
    close: Callable[[], None] = nothing

    @property
    def name(self) -> str:
        """The name of the stage in logs, metrics and reasons."""
        return self.context.name


def run_stages(
    stages: Sequence[Stage], surroundings: RuntimeContext, *, until_caught_up: bool
) -> None:
    """Run `stages` until told to stop, or until each has done what its topic held.

    With `until_caught_up` the first stage ends at what its topic held when it joined; each later one at what its topic
    holds when the stage before has ended. The first error of any stage stops all and is raised.
    """
    errors: list[BaseException] = []
    threads: list[threading.Thread] = []
    before: threading.Event | None = None
    for stage in stages:
        ended = threading.Event()
        runner = _Runner(stage, surroundings, before, ended, until_caught_up, errors)
        threads.append(threading.Thread(target=runner, name=stage.name))
        before = ended
    for stage in stages:
        surroundings.status.set_problem(stage.name, JOINING)
    surroundings.status.set_problem(STARTING, None)
    for thread in threads:
        thread.start()
    for thread in threads:
        while thread.is_alive():
            thread.join(timeout=0.5)  # so that signals reach the main thread in between
    if errors:
        raise errors[0]


class _Runner:
    """The life of one stage's thread."""

    def __init__(
        self,
        stage: Stage,
        surroundings: RuntimeContext,
        before: threading.Event | None,
        ended: threading.Event,
        until_caught_up: bool,
        errors: list[BaseException],
    ) -> None:
        self._stage = stage
        self._surroundings = surroundings
        self._before = before
        self._ended = ended
        self._until_caught_up = until_caught_up
        self._errors = errors

    def __call__(self) -> None:
        try:
            self._run()
        except BaseException as error:  # noqa: BLE001 # handed to the main thread, which raises it
            self._errors.append(error)
            self._surroundings.stop.set()
        finally:
            self._ended.set()

    def _run(self) -> None:
        around = self._surroundings
        source = around.patiently(self._stage.name, self._stage.join, then=JOINING)
        if source is None:
            return
        stage = self._stage
        worker = ConsumerLoop(stage.context, source, stage.handler, stage.options)
        until = _Targets(source, self._before) if self._until_caught_up else None
        try:
            worker.run(around.stop, until)
        finally:
            self._stage.close()


class _Targets:
    """The end of the topic, read once: when this stage has joined, or when the stage before has ended."""

    def __init__(self, source: RecordConsumer, after: threading.Event | None) -> None:
        self._source = source
        self._after = after
        self._ends: Mapping[TopicPartition, int] | None = None

    def __call__(self) -> Mapping[TopicPartition, int] | None:
        if self._ends is None and (self._after is None or self._after.is_set()):
            self._ends = self._source.end_offsets()
        return self._ends
