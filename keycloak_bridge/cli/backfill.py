"""`keycloak-bridge backfill`: users and events of files into the realm, in large numbers."""

import contextlib
import shlex
import signal
import sys
import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from types import FrameType
from typing import Any

import click
from rich.console import Console as RichConsole
from rich.progress import BarColumn, Progress, TextColumn

from keycloak_bridge.backfill.run import (
    BackfillFiles,
    BackfillOptions,
    BackfillRun,
    RunState,
    opened,
)
from keycloak_bridge.cli.common import (
    INVALID_EVENT,
    STOPPED,
    Invocation,
    bridge_command,
    format_option,
    moment,
)
from keycloak_bridge.cli.console import Console, print_row, refused, totals_line
from keycloak_bridge.cli.interruption import INTERRUPTED
from keycloak_bridge.domain.errors import BrakeError, BridgeError
from keycloak_bridge.domain.events import USER_CREATED
from keycloak_bridge.domain.times import format_time, parse_duration
from keycloak_bridge.pipeline.preview import Preview, PreviewOutcome
from keycloak_bridge.settings.loading import KEYCLOAK_ACCESS
from keycloak_bridge.settings.model import Settings

_REFUSALS_SHOWN = 20
_LINE_INTERVAL_S = 10.0
_BAR_INTERVAL_S = 0.2
_RATE_WINDOW_S = 10.0

_PREVIEW_WORDS = {
    PreviewOutcome.CREATE: "would be created",
    PreviewOutcome.UPDATE: "would be updated",
    PreviewOutcome.UNCHANGED: "unchanged",
    PreviewOutcome.REFUSED: "would be refused",
}


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
    """Return the time, and whether it was given as an age, which is another time at each call."""
    if text is None:
        return None
    with contextlib.suppress(ValueError):
        parse_duration(text)
        return moment(text), True
    return moment(text), False


@bridge_command(
    "keycloak-bridge backfill --dry-run users.csv",
    "keycloak-bridge backfill --column 'E-Mail=email' --as-of 2026-11-06T18:00:00Z users.csv.gz",
    "export-users | keycloak-bridge backfill --as-of '5 minutes' -",
)
@click.argument("files", nargs=-1, required=True, metavar="FILE...")
@click.option("--type", "event_type", help=f"The event type of rows, and of objects that are not events.  [default: {USER_CREATED}]")  # fmt: skip
@click.option("--as-of", callback=_as_of, metavar="TIME", help='When the export was taken (ISO 8601, or an age such as "2 hours"). Users changed later are not overwritten. Default: the time when each file was written.')  # fmt: skip
@click.option("--column", "columns", multiple=True, callback=_columns, metavar="HEADER=PROPERTY", help="The property that a column of a CSV file is, where the names differ; may be repeated. Nothing after = leaves the column out.")  # fmt: skip
@click.option("--delimiter", default=",", show_default=True, help="What separates the cells of a CSV file.")  # fmt: skip
@click.option("--dry-run", is_flag=True, help="Show what would become of the users; write nothing at all.")  # fmt: skip
@click.option("--invite/--no-invite", "mails", default=False, show_default=True, help="Mail the invitations that are due, within invite.pace.")  # fmt: skip
@click.option("--journal", type=click.Path(dir_okay=False, path_type=Path), metavar="FILE", help="The file that records the progress. Default: the name of the first FILE with .backfill.json added.")  # fmt: skip
@click.option("--rejects", type=click.Path(exists=True, file_okay=False, path_type=Path), metavar="FOLDER", help="Where the refused lines go. Default: beside their files.")  # fmt: skip
@click.option("--restart", is_flag=True, help="Begin again, whatever the journal says.")
@click.option("--quiet", is_flag=True, help="Do not show the progress.")
@format_option("the summary as one object")
def backfill(
    invocation: Invocation,
    /,
    files: tuple[str, ...],
    as_of: tuple[datetime, bool] | None,
    delimiter: str,
    dry_run: bool,
    mails: bool,
    quiet: bool,
    output: str,
    **options: Any,
) -> int:
    """Bring the users of files into the realm: a whole population, or any number of events.

    A FILE holds CloudEvents or the data of users, one a line (NDJSON) or as a JSON array, or is a CSV file with a
    header (columns are named as the properties of the data, attributes.costCenter for one within another; lists are
    a;b). It may be compressed with gzip; - is standard input. Every event is checked, mapped and written as `run` does
    it, under the same limits and the same brake. No Kafka is needed, and no mail is sent without --invite.

    It can be stopped or killed at any moment: the same command continues with what is left. Refused lines go to
    FILE.rejects.csv or FILE.rejects.ndjson unchanged, to be fixed and fed again; the reasons are beside them.

    Exit code 1 when something was refused, 3 when it was stopped before the end.
    """
    if len(delimiter) != 1 or delimiter in '"\r\n':
        raise click.UsageError("--delimiter is one character, no quotation mark and no line break")
    if files.count("-") > 1:
        raise click.UsageError("standard input can be read once")
    settings = _settings(invocation, mails=mails)
    time_of_all, is_age = as_of or (None, False)
    wanted = BackfillOptions(
        as_of=time_of_all, as_of_is_age=is_age, delimiter=delimiter, mails=mails, **options
    )
    with opened(settings, files, wanted) as inputs:
        command = _dry_run if dry_run else _run
        return command(inputs, Console(), output, quiet=quiet)


def _settings(invocation: Invocation, *, mails: bool) -> Settings:
    # a log line for each event is too much for a terminal, unless it was asked for
    invocation = replace(invocation, overrides=("log.level=WARNING", *invocation.overrides))
    # a mail that waits for its pace would delay its whole batch
    invocation = invocation.overriding("burst.mode=off" if mails else "invite.mode=none")
    settings = invocation.settings(KEYCLOAK_ACCESS)
    if mails and settings.invite.mode == "none":
        raise click.UsageError("--invite needs a bridge that invites: invite.mode is none")
    return settings


def _dry_run(files: BackfillFiles, console: Console, output: str, *, quiet: bool) -> int:
    """Print what would become of the lines; return the exit code."""
    totals: Counter[str] = Counter()
    done = rejected = 0

    def state() -> RunState:
        return RunState(done, done, files.inputs.share_read(), rejected)

    with progress_shown(state, quiet=quiet) as tick:
        for line, found in files.previews():
            done += 1
            totals[_preview_word(found)] += 1
            if found.error is not None:
                rejected += 1
                if output == "text" and rejected <= _REFUSALS_SHOWN:
                    place = f"{files.inputs.files[line.file].name}:{line.number}"
                    print_row(console, place, refused(found.error))
                elif output == "text" and rejected == _REFUSALS_SHOWN + 1:
                    console.line("more would be refused; they are counted only")
            tick()
    if output == "json":
        console.json({"lines": done, "counts": dict(sorted(totals.items()))}, indent=None)
    else:
        console.line(totals_line(totals) or "the files have no rows")
    return INVALID_EVENT if rejected else 0


def _preview_word(found: Preview) -> str:
    skipped = found.outcome in (PreviewOutcome.SKIP, PreviewOutcome.IGNORED)
    return f"skipped ({found.reason})" if skipped else _PREVIEW_WORDS[found.outcome]


def _run(files: BackfillFiles, console: Console, output: str, *, quiet: bool) -> int:
    run = files.start()
    stop = threading.Event()
    try:
        with _stopping(stop) as signals, progress_shown(run.state, quiet=quiet) as tick:
            run.execute(stop, tick)
    except BridgeError as error:
        _print_summary(run, files.as_of, console, output)
        if isinstance(error, BrakeError):
            raise BrakeError(
                error.message,
                remedy="look at the reasons beside the rejects and fix the cause; the same command continues, "
                "and --set brake.in_a_row=0 or --set limits.… lets more through",
            ) from error
        raise
    _print_summary(run, files.as_of, console, output)
    if signals:
        return INTERRUPTED if signals[0] == signal.SIGINT else STOPPED
    return INVALID_EVENT if len(run.rejects) else 0


@contextlib.contextmanager
def _stopping(stop: threading.Event) -> Iterator[list[int]]:
    """Set `stop` at SIGTERM or SIGINT, and list which came; a second one ends the process at once."""
    before = {one: signal.getsignal(one) for one in (signal.SIGTERM, signal.SIGINT)}
    received: list[int] = []

    def end(number: int, _frame: FrameType | None) -> None:
        received.insert(0, number)
        stop.set()
        signal.signal(number, before[signal.Signals(number)])

    for one in before:
        signal.signal(one, end)
    try:
        yield received
    finally:
        for one, handler in before.items():
            signal.signal(one, handler)


def _print_summary(run: BackfillRun, as_of: datetime | None, console: Console, output: str) -> None:
    summary = run.summary()
    if output == "json":
        console.json(summary, indent=None)
        return
    console.line(totals_line(summary["counts"]) or "nothing was left to do")
    before = summary["doneEarlier"]
    earlier = f", {before} of them by earlier runs" if before else ""
    end = "all lines are done" if summary["complete"] else "stopped before the end"
    console.line(f"{end}: {summary['done']} in {span(summary['seconds'])}{earlier}")
    for one in summary["rejects"]:
        console.line(f"{one['count']} rejected: {one['file']}, with reasons in {one['report']}")
    if summary["rejects"]:
        time_option = f" --as-of {format_time(as_of)}" if as_of else ""
        names = " ".join(shlex.quote(one["file"]) for one in summary["rejects"])
        console.line(f"fix them, then feed them: keycloak-bridge backfill{time_option} {names}")


@contextlib.contextmanager
def progress_shown(
    state: Callable[[], RunState], *, quiet: bool, now: Callable[[], float] = time.monotonic
) -> Iterator[Callable[[], None]]:
    """Return a function, to be called often, that shows the progress on standard error; nothing when `quiet`.

    On a terminal it is a bar, elsewhere a line every ten seconds.
    """
    if quiet:
        yield lambda: None
        return
    progress = ProgressSentence(now(), state().done)
    if not sys.stderr.isatty():

        def print_line() -> None:
            sys.stderr.write(f"backfill: {progress.update(now(), state())}\n")
            sys.stderr.flush()

        yield _at_intervals(_LINE_INTERVAL_S, now, print_line)
        return
    columns = (TextColumn("{task.description}"), BarColumn())
    with Progress(*columns, console=RichConsole(stderr=True), transient=True) as bar:
        task = bar.add_task("", total=None)

        def draw() -> None:
            found = state()
            text = progress.update(now(), found)
            bar.update(task, description=text, completed=found.done, total=expected_lines(found))

        yield _at_intervals(_BAR_INTERVAL_S, now, draw)


def _at_intervals(
    interval_s: float, now: Callable[[], float], show: Callable[[], None]
) -> Callable[[], None]:
    shown_at_s = now()

    def tick() -> None:
        nonlocal shown_at_s
        if now() - shown_at_s >= interval_s:
            shown_at_s = now()
            show()

    return tick


class ProgressSentence:
    """The progress in words; rate and time left are those of the last seconds."""

    def __init__(self, now_s: float, done: int) -> None:
        self._seen = deque([(now_s, done)])

    def update(self, now_s: float, state: RunState) -> str:
        """Return the sentence about `state`, which is that of now."""
        self._seen.append((now_s, state.done))
        while len(self._seen) > 2 and self._seen[1][0] <= now_s - _RATE_WINDOW_S:
            self._seen.popleft()
        (from_s, first), (to_s, last) = self._seen[0], self._seen[-1]
        per_s = (last - first) / (to_s - from_s) if to_s > from_s else 0.0
        total = expected_lines(state)
        parts = [f"{state.done}{f' of about {total}' if total else ''} done", f"{per_s:.0f}/s"]
        if total is not None and per_s:
            parts.append(f"{span(max(0.0, total - state.done) / per_s)} left")
        if state.rejected:
            parts.append(f"{state.rejected} rejected")
        return ", ".join(parts)


def expected_lines(state: RunState) -> int | None:
    """Return how many lines there will be, estimated from the part of the files that was read."""
    if not state.share_read or not state.read:
        return None
    return max(state.done, round(state.read / state.share_read))


def span(seconds: float) -> str:
    """Return a duration in at most two units, such as `2 h 1 min`."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours} h {minutes} min"
    return f"{minutes} min {rest} s" if minutes else f"{rest} s"
