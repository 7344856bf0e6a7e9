"""`keycloak-bridge backfill`: the users of files into the realm, by the thousand.

One call of `keycloak-bridge backfill`: the dry run, or the run from its journal to its summary.

What a backfill was asked for, and where its journal and its rejects stand.

What a backfill would do, line by line, without writing anything.

How far a backfill is: a bar on a terminal, a line now and then elsewhere.

What a backfill says in the end, for people and for programs.
"""

import contextlib
import shlex
import signal
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from functools import partial
from pathlib import Path
from types import FrameType
from typing import Any, Self

import click
from rich.console import Console as RichConsole
from rich.progress import BarColumn, Progress, TaskID, TextColumn

from keycloak_bridge.app.bridge import direct_provisioner
from keycloak_bridge.app.interpretation import Interpretation
from keycloak_bridge.backfill import run as library
from keycloak_bridge.backfill.inputs import FileEvents, Input, Inputs
from keycloak_bridge.backfill.journal import Journal, is_other_beginning, read_journal
from keycloak_bridge.backfill.rejects import RejectFile, Rejects
from keycloak_bridge.backfill.run import Tally, broken_row, has_own_envelope
from keycloak_bridge.backfill.source import FileEventSource
from keycloak_bridge.cli.common import (
    INTERRUPTED,
    INVALID_EVENT,
    STOPPED,
    Invocation,
    examples,
    format_option,
    moment,
    pass_invocation,
    settings_options,
)
from keycloak_bridge.cli.console import Console
from keycloak_bridge.cli.plan_view import outcome_of, print_row, refused, totals_line
from keycloak_bridge.delivery.rate_limit import side_by_side
from keycloak_bridge.domain.errors import BrakeError, BridgeError, UnknownSchemaError
from keycloak_bridge.domain.events import USER_CREATED, Record
from keycloak_bridge.domain.times import format_time, parse_duration, parse_time
from keycloak_bridge.domain.users import OutOfScope
from keycloak_bridge.event_files.csv_rows import TableRules
from keycloak_bridge.event_files.json_events import BROKEN_HEADER, Line
from keycloak_bridge.pipeline.interpret import Skipped
from keycloak_bridge.provisioning.provisioner import Provisioner
from keycloak_bridge.settings import Settings

_JOURNAL_SUFFIX = ".backfill.json"


@dataclass(frozen=True, slots=True)
class Task:
    """The options that a run must share with the one that it goes on with, and where it notes how far it is.

    Of an age only the first run's is meant: the same words are another time each time.
    """

    event_type: str
    as_of: datetime | None
    as_of_is_age: bool
    columns: Mapping[str, str]
    delimiter: str
    journal: Path | None
    rejects: Path | None
    restart: bool

    def journal_file(self, inputs: Inputs) -> Path:
        """Return the journal's name: that of the first file with an ending of its own, unless it was given."""
        first = inputs.files[0]
        return self.journal or Path(f"{first.name}{_JOURNAL_SUFFIX}")

    def times(self, inputs: Inputs) -> list[datetime | None]:
        """Return of when the users of each file are: as was said, as the journal has it, or when it was written."""
        earlier = None if self.restart else read_journal(self.journal_file(inputs))
        noted = [] if earlier is None else earlier[0].get("asOf", [])
        told = self.as_of is not None and not self.as_of_is_age
        if not told and len(noted) == len(inputs.files):
            return [None if text is None else parse_time(text) for text in noted]
        return [self.as_of or one.modified for one in inputs.files]

    def open(self, inputs: Inputs, times: Sequence[datetime | None]) -> tuple[Journal, Rejects]:
        """Return journal and rejects, ready to go on with; raises ConfigError."""
        file = self.journal_file(inputs)
        rejects = Rejects([self._reject_file(one) for one in inputs.files])
        names = [one.file for one in rejects.files]
        if len(set(names)) < len(names):
            raise click.UsageError("two files have the same name: their rejects would be mixed")
        said = self._said(inputs, times)
        earlier = None if self.restart else read_journal(file)
        if earlier is None or is_other_beginning(earlier, said):
            rejects.begin()
        journal = Journal.open(file, said, restart=self.restart)
        rejects.go_on(journal.progress.rejects)
        return journal, rejects

    def _said(self, inputs: Inputs, times: Sequence[datetime | None]) -> Mapping[str, Any]:
        return {
            "files": [Path(one.name).name for one in inputs.files],
            "type": self.event_type,
            "asOf": [None if time is None else format_time(time) for time in times],
            "columns": dict(self.columns),
            "delimiter": self.delimiter,
        }

    def _reject_file(self, one: Input) -> RejectFile:
        name = Path(f"{one.name}.rejects{'.csv' if one.is_table else '.ndjson'}")
        file = name if self.rejects is None else self.rejects / name.name
        header = b"" if one.header is None else one.header.raw + b"\n"
        return RejectFile(file, one.name, lambda: header)


_WORDS = {
    "create": "would be created",
    "update": "would be updated",
    "unchanged": "unchanged",
    "refused": "would be refused",
}

Told = tuple[Line, dict[str, Any]]
"""A line, and what is told of it."""


def forecast(
    lines: Iterator[Line],
    record_of: Callable[[Line, int], Record],
    interpretation: Interpretation,
    provisioner: Provisioner,
) -> Iterator[Told]:
    """Yield what would become of each line, compared with the realm as it is now; few are in memory.

    Raises only what keeps every line from being looked at.
    """
    ask = partial(
        _told, record_of=record_of, interpretation=interpretation, provisioner=provisioner
    )
    yield from side_by_side(ask, enumerate(lines), interpretation.settings.delivery.workers)


def count(totals: Counter[str], told: dict[str, Any]) -> None:
    """Count one line by what would become of it."""
    outcome = told["outcome"]
    reason = f" ({told['reason']})" if outcome in ("skip", "ignored") else ""
    totals[_WORDS.get(outcome, "skipped") + reason] += 1


def _told(
    numbered: tuple[int, Line],
    record_of: Callable[[Line, int], Record],
    interpretation: Interpretation,
    provisioner: Provisioner,
) -> Told:

    offset, line = numbered
    try:
        return line, _planned(record_of(line, offset), interpretation, provisioner)
    except BridgeError as error:
        if not error.is_final:
            raise
        return line, refused(error)


def _planned(
    record: Record, interpretation: Interpretation, provisioner: Provisioner
) -> dict[str, Any]:

    broken = dict(record.headers).get(BROKEN_HEADER)
    if broken is not None:
        raise broken_row(broken.decode("ascii"))
    reading = interpretation.read(record)
    if isinstance(reading, Skipped):
        return {"outcome": "ignored", "reason": reading.reason}
    if isinstance(reading.desired, OutOfScope):
        return {"outcome": "skip", "reason": "out-of-scope"}
    return outcome_of(provisioner.plan(reading.event, reading.desired)[1])


_LINE_EVERY_S = 10.0
_BAR_EVERY_S = 0.2
_RATE_WINDOW_S = 10.0


@dataclass(frozen=True, slots=True)
class Standing:
    """How much is done: lines done, lines read, which part of the files was read, and how many rejects there are."""

    done: int
    read: int
    share_read: float | None
    rejected: int


@dataclass(slots=True)
class RateLimiter:
    """The rate of the last seconds, and when all will be done at that rate."""

    _seen: list[tuple[float, int]] = field(default_factory=list)

    def note(self, now_s: float, done: int) -> None:
        """Take in how much is done now."""
        self._seen.append((now_s, done))
        while len(self._seen) > 2 and self._seen[1][0] <= now_s - _RATE_WINDOW_S:
            self._seen.pop(0)

    @property
    def per_s(self) -> float:
        """Lines a second."""
        (from_s, first), (to_s, last) = self._seen[0], self._seen[-1]
        return (last - first) / (to_s - from_s) if to_s > from_s else 0.0

    def left_s(self, standing: Standing) -> float | None:
        """Return how many seconds it will take, None where nobody knows."""
        total = expected(standing)
        if total is None or not self.per_s:
            return None
        return max(0.0, total - standing.done) / self.per_s


def expected(standing: Standing) -> int | None:
    """Return how many lines there will be, from what the lines read until now took of the files."""
    if not standing.share_read or not standing.read:
        return None
    return max(standing.done, round(standing.read / standing.share_read))


def sentence(standing: Standing, pace: RateLimiter) -> str:
    """Return the line that tells how far it is."""
    total, left_s = expected(standing), pace.left_s(standing)
    parts = [f"{standing.done}{f' of about {total}' if total else ''} done"]
    parts.append(f"{pace.per_s:.0f}/s")
    if left_s is not None:
        parts.append(f"{span(left_s)} left")
    if standing.rejected:
        parts.append(f"{standing.rejected} rejected")
    return ", ".join(parts)


def span(seconds: float) -> str:
    """Return a duration for people."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return (
        f"{hours} h {minutes} min"
        if hours
        else f"{minutes} min {rest} s"
        if minutes
        else f"{rest} s"
    )


@contextlib.contextmanager
def shown(
    standing: Callable[[], Standing],
    *,
    quiet: bool,
    now: Callable[[], float] = time.monotonic,
) -> Iterator[Callable[[], None]]:
    """Lend a function to be called often, which shows on standard error how far it is; nothing when `quiet`."""
    if quiet:
        yield lambda: None
        return
    pace = RateLimiter()
    pace.note(now(), standing().done)
    if not sys.stderr.isatty():
        yield _every(_LINE_EVERY_S, now, lambda: _print(standing(), pace, now))
        return
    columns = (TextColumn("{task.description}"), BarColumn())
    with Progress(*columns, console=RichConsole(stderr=True), transient=True) as bar:
        task = bar.add_task("", total=None)
        yield _every(_BAR_EVERY_S, now, lambda: _draw(bar, task, standing(), pace, now))


def _every(
    every_s: float, now: Callable[[], float], show: Callable[[], None]
) -> Callable[[], None]:
    shown_at_s = now()

    def tick() -> None:
        nonlocal shown_at_s
        if now() - shown_at_s >= every_s:
            shown_at_s = now()
            show()

    return tick


def _print(standing: Standing, pace: RateLimiter, now: Callable[[], float]) -> None:
    pace.note(now(), standing.done)
    sys.stderr.write(f"backfill: {sentence(standing, pace)}\n")
    sys.stderr.flush()


def _draw(
    bar: Progress, task: TaskID, standing: Standing, pace: RateLimiter, now: Callable[[], float]
) -> None:
    pace.note(now(), standing.done)
    bar.update(
        task,
        description=sentence(standing, pace),
        completed=standing.done,
        total=expected(standing),
    )


@dataclass(frozen=True, slots=True)
class Summary:
    """How a run ended: lines done in all and by earlier runs, what became of those of this run, and the rejects."""

    done: int
    earlier: int
    complete: bool
    counts: Mapping[str, int]
    seconds: float
    rejects: Rejects
    as_of: datetime | None

    def print(self, console: Console, output: str) -> None:
        """Print it as sentences, or as one JSON object."""
        if output == "json":
            console.json(self._told(), indent=None)
            return
        console.line(totals_line(self.counts) or "nothing was left to do")
        already = f", {self.earlier} of them by earlier runs" if self.earlier else ""
        whole = "all lines are done" if self.complete else "stopped before the end"
        console.line(f"{whole}: {self.done} in {span(self.seconds)}{already}")
        for one in self.rejects.files:
            if one.offsets:
                console.line(
                    f"{len(one.offsets)} rejected: {one.file}, with reasons in {one.report}"
                )
        if len(self.rejects):
            console.line(f"mend them, then feed them: {self._again()}")

    def _again(self) -> str:
        files = [shlex.quote(str(one.file)) for one in self.rejects.files if one.offsets]
        time = f" --as-of {format_time(self.as_of)}" if self.as_of else ""
        return f"keycloak-bridge backfill{time} {' '.join(files)}"

    def _told(self) -> dict[str, Any]:
        return {
            "complete": self.complete,
            "done": self.done,
            "doneEarlier": self.earlier,
            "counts": dict(self.counts),
            "seconds": round(self.seconds, 1),
            "rejects": [
                {"file": str(one.file), "report": str(one.report), "count": len(one.offsets)}
                for one in self.rejects.files
                if one.offsets
            ],
        }


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


def _columns(
    _ctx: click.Context, _param: click.Parameter, texts: tuple[str, ...]
) -> dict[str, str]:
    named = {}
    for text in texts:
        header, equals, name = text.rpartition("=")
        if not equals or not header.strip():
            raise click.BadParameter("write HEADER=PROPERTY, or HEADER= to leave a column out")
        named[header.strip()] = name.strip()
    return named


def _as_of(
    _ctx: click.Context, _param: click.Parameter, text: str | None
) -> tuple[datetime, bool] | None:
    """Return the time, and whether it was told as an age, which names another one each time."""
    if text is None:
        return None
    with contextlib.suppress(ValueError):
        parse_duration(text)
        return moment(text), True
    return moment(text), False


@click.command(
    epilog=examples(
        "keycloak-bridge backfill --dry-run users.csv",
        "keycloak-bridge backfill --column 'E-Mail=email' --as-of 2026-11-06T18:00:00Z users.csv.gz",
        "export-users | keycloak-bridge backfill --as-of '5 minutes' -",
    ),
)
@click.argument("files", nargs=-1, required=True, metavar="FILE...")
@click.option("--type", "event_type", help=f"What rows, and objects that are no events, are the data of.  [default: {USER_CREATED}]")  # fmt: skip
@click.option("--as-of", callback=_as_of, metavar="TIME", help="Of when these are, ISO 8601 or an age: what changed later is left as it is. Else when each file was written.")  # fmt: skip
@click.option("--column", "columns", multiple=True, callback=_columns, metavar="HEADER=PROPERTY", help="Which property a column of a CSV file is, where they differ in name; may be repeated. Nothing behind = leaves it out.")  # fmt: skip
@click.option("--delimiter", default=",", show_default=True, help="What separates the cells of a CSV file.")  # fmt: skip
@click.option("--dry-run", is_flag=True, help="Say what would become of the users; write nothing at all.")  # fmt: skip
@click.option("--invite/--no-invite", default=False, show_default=True, help="Mail the invitations that are due, within invite.pace.")  # fmt: skip
@click.option("--journal", type=click.Path(dir_okay=False, path_type=Path), metavar="FILE", help="Where it is noted how far this is. Else the first FILE with .backfill.json behind its name.")  # fmt: skip
@click.option("--rejects", type=click.Path(exists=True, file_okay=False, path_type=Path), metavar="FOLDER", help="Where the refused lines go. Else beside their files.")  # fmt: skip
@click.option("--restart", is_flag=True, help="Begin anew, whatever the journal says.")
@click.option("--quiet", is_flag=True, help="Do not show how far it is.")
@format_option("the summary as one object")
@settings_options
@pass_invocation
def backfill(
    invocation: Invocation,
    files: tuple[str, ...],
    event_type: str | None,
    as_of: tuple[datetime, bool] | None,
    columns: Mapping[str, str],
    delimiter: str,
    dry_run: bool,
    invite: bool,
    journal: Path | None,
    rejects: Path | None,
    restart: bool,
    quiet: bool,
    output: str,
) -> int:
    """Bring the users of files into the realm: a whole population, or any number of events.

    A FILE holds CloudEvents or the data of users, one a line (NDJSON) or as a JSON array, or is a CSV file with a
    header (columns are named as the properties of the data, attributes.costCenter for one within another; lists are
    a;b). It may be packed with gzip; - is standard input. Everything is checked, mapped and written as `run` does it,
    under the same limits and the same brake; no Kafka is needed, and no mail is sent without --invite.

    It can be ended and killed at any moment: the same command goes on with what is left. What was refused stands in
    FILE.rejects.csv or FILE.rejects.ndjson, as it was, to be mended and fed again; the reasons are beside it.

    Exit code 1 when something was refused, 3 when it was stopped before the end.
    """
    if len(delimiter) != 1:
        raise click.UsageError("--delimiter is one character")
    if files.count("-") > 1:
        raise click.UsageError("standard input can be read once")
    settings = _settings(invocation, invite=invite)
    time, is_age = as_of or (None, False)
    kind = event_type or USER_CREATED
    task = Task(kind, time, is_age, columns, delimiter, journal, rejects, restart)
    # kafka-python, requests and JSON Schema take their time

    enveloped = has_own_envelope(settings) and event_type is None
    opened = BackfillRun(settings, task, files, Console(), output, enveloped=enveloped)
    with opened as run:
        if dry_run:
            return run.forecast(quiet=quiet)
        return run.execute(mails=invite, quiet=quiet)


def _settings(invocation: Invocation, *, invite: bool) -> Settings:
    # a line an event is too much for a terminal, unless it was asked for
    invocation = replace(invocation, overrides=("log.level=WARNING", *invocation.overrides))
    # a mail that waits for its pace would hold up its whole batch
    invocation = invocation.overriding("burst.mode=off" if invite else "invite.mode=none")
    settings = invocation.settings(require=("keycloak.realm", "keycloak.client_secret"))
    if invite and settings.invite.mode == "none":
        raise click.UsageError("--invite needs a bridge that invites: invite.mode is none")
    return settings
