"""One call of `keycloak-bridge backfill`: the dry run, or the run from its journal to its summary."""

import contextlib
import signal
import threading
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from datetime import datetime
from types import FrameType
from typing import Any, Self

import click

from keycloak_bridge import backfill as library
from keycloak_bridge.backfill_outlets import Tally
from keycloak_bridge.backfill_source import FileEventSource
from keycloak_bridge.bridge import direct_provisioner
from keycloak_bridge.cli.backfill_events import FileEvents
from keycloak_bridge.cli.backfill_forecast import count, forecast
from keycloak_bridge.cli.backfill_inputs import Inputs
from keycloak_bridge.cli.backfill_progress import Standing, shown
from keycloak_bridge.cli.backfill_report import Summary
from keycloak_bridge.cli.backfill_tables import TableRules
from keycloak_bridge.cli.backfill_task import Task
from keycloak_bridge.cli.console import Console
from keycloak_bridge.cli.errors import INTERRUPTED, INVALID_EVENT, STOPPED
from keycloak_bridge.cli.plan_view import print_row, totals_line
from keycloak_bridge.core.errors import BrakeError, BridgeError, UnknownSchemaError
from keycloak_bridge.interpretation import Interpretation
from keycloak_bridge.settings import Settings

_REFUSALS_SHOWN = 20


class BackfillRun:
    """The files of one call, opened, and what is done with them; raises ConfigError for what cannot be read."""

    def __init__(
        self,
        settings: Settings,
        task: Task,
        files: Sequence[str],
        console: Console,
        output: str,
        *,
        enveloped: bool,
    ) -> None:
        self._task = task
        self._console = console
        self._output = output
        self._enveloped = enveloped
        known = Interpretation(library.backfill_settings(settings, data=not enveloped))
        known.check()
        self._interpretation = known
        try:
            event_type = known.rules.types.get(task.event_type, task.event_type)
            self._schema = known.catalog.document(event_type)
        except UnknownSchemaError as error:
            raise click.UsageError(f"--type: {task.event_type} has no schema") from error
        rules = TableRules(task.delimiter, task.columns, self._schema, settings.events.max_bytes)
        self._inputs = Inputs.open(files, rules)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._inputs.close()

    def _refuse_rows_in_envelopes(self) -> None:
        if self._enveloped and any(one.is_table for one in self._inputs.files):
            raise click.UsageError("say with --type what rows are: [envelope] describes no rows")

    def forecast(self, *, quiet: bool) -> int:
        """Say what would become of every line; return the exit code."""
        self._refuse_rows_in_envelopes()
        totals: Counter[str] = Counter()
        done = refused = 0

        def standing() -> Standing:
            return Standing(done, done, self._inputs.share_read(), refused)

        events = self._events(self._task.times(self._inputs))
        provisioner = direct_provisioner(self._interpretation, mails=False)
        foreseen = forecast(self._inputs.lines(), events.record, self._interpretation, provisioner)
        with shown(standing, quiet=quiet) as tick:
            for line, told in foreseen:
                done += 1
                count(totals, told)
                if told["outcome"] == "refused":
                    refused += 1
                    self._show_refused(
                        self._inputs.files[line.file].name, line.number, told, refused
                    )
                tick()
        if self._output == "json":
            self._console.json({"lines": done, "counts": dict(sorted(totals.items()))}, indent=None)
        else:
            self._console.line(totals_line(totals) or "there is nothing in it")
        return INVALID_EVENT if refused else 0

    def _show_refused(self, name: str, number: int, told: dict[str, Any], refused: int) -> None:
        if self._output == "json":
            return
        if refused <= _REFUSALS_SHOWN:
            print_row(self._console, f"{name}:{number}", told)
        elif refused == _REFUSALS_SHOWN + 1:
            self._console.line("more would be refused; they are counted only")

    def execute(self, *, mails: bool, quiet: bool) -> int:
        """Bring every line into the realm; return the exit code."""
        self._refuse_rows_in_envelopes()
        times = self._task.times(self._inputs)
        events = self._events(times)
        journal, rejects = self._task.open(self._inputs, times)
        earlier = journal.progress.commit.offset
        directory, realm, clock = library.realm_of(self._interpretation)
        tally = Tally()
        source = FileEventSource(self._inputs.lines, events.record, journal, rejects)
        work = library.Backfill(
            self._interpretation, directory, source, rejects, clock, tally, realm, mails
        )
        stopped = _Stopped()
        begun_s = time.monotonic()

        def standing() -> Standing:
            done = earlier + tally.done
            return Standing(done, source.read_lines, self._inputs.share_read(), len(rejects))

        def summary() -> Summary:
            done = journal.progress.commit.offset
            return Summary(
                done,
                earlier,
                source.end == done,
                tally.snapshot(),
                time.monotonic() - begun_s,
                rejects,
                times[0] if len(set(times)) == 1 else None,
            )

        try:
            with stopped.by_signals(), shown(standing, quiet=quiet) as tick:
                work.run(stopped.event, tick)
        except BridgeError as error:
            summary().print(self._console, self._output)
            if isinstance(error, BrakeError):
                raise _braked(error) from error
            raise
        summary().print(self._console, self._output)
        if stopped.number is not None:
            return INTERRUPTED if stopped.number == signal.SIGINT else STOPPED
        return INVALID_EVENT if len(rejects) else 0

    def _events(self, times: list[datetime | None]) -> FileEvents:

        return FileEvents(
            self._interpretation,
            self._task.event_type,
            times,
            [one.header for one in self._inputs.files],
            self._schema,
            self._enveloped,
        )


class _Stopped:
    """Whether somebody ended the run, and by which signal; the second one ends it at once."""

    def __init__(self) -> None:
        self.event = threading.Event()
        self.number: int | None = None

    @contextlib.contextmanager
    def by_signals(self) -> Iterator[None]:
        """Listen to SIGTERM and SIGINT meanwhile."""
        before = {one: signal.getsignal(one) for one in (signal.SIGTERM, signal.SIGINT)}

        def end(number: int, _frame: FrameType | None) -> None:
            self.number = number
            self.event.set()
            signal.signal(number, before[signal.Signals(number)])

        for one in before:
            signal.signal(one, end)
        try:
            yield
        finally:
            for one, handler in before.items():
                signal.signal(one, handler)


def _braked(error: BrakeError) -> BridgeError:
    return BrakeError(
        error.message,
        remedy="look at the reasons beside the rejects and mend the cause; the same command goes on, "
        "and --set brake.in_a_row=0 or --set limits.… lets more through",
    )
