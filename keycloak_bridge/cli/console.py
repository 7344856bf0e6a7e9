"""Print for people on a terminal and for programs in a pipe; colours, boxes and progress bars only on a terminal.

Previews and comparisons are printed as rows, one for each event or user, with the totals in the end.
"""

import contextlib
import json
import os
import sys
from collections import Counter
from collections.abc import Callable, Collection, Generator, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict
from itertools import islice
from typing import Any, TextIO, TypeVar

from rich.console import Console as RichConsole
from rich.highlighter import JSONHighlighter
from rich.progress import Progress
from rich.text import Text

from keycloak_bridge.cli.common import CHANGES, INVALID_EVENT, violation_text
from keycloak_bridge.cli.tables import Table, facts, packed
from keycloak_bridge.domain.errors import BridgeError, Violation
from keycloak_bridge.domain.operations import Plan, visible_changes
from keycloak_bridge.domain.unicode_text import printable, printable_json

_STYLES = {
    "create": "green",
    "missing": "green",
    "update": "yellow",
    "differing": "yellow",
    "orphaned": "yellow",
    "refused": "red",
    "conflict": "red",
}
_CHANGING = ("create", "update", "missing", "differing", "orphaned")

Item = TypeVar("Item")


class Console:
    """One output stream: drawn by `rich` on a terminal, plain lines elsewhere; NO_COLOR is respected."""

    def __init__(self, stream: TextIO | None = None) -> None:
        self._stream = sys.stdout if stream is None else stream
        self._rich: RichConsole | None = None
        if self._stream.isatty():
            # without a colour system there is no bold either
            plain = bool(os.environ.get("NO_COLOR"))
            self._rich = RichConsole(
                file=self._stream,
                highlight=False,
                color_system=None if plain else "auto",
                soft_wrap=True,
            )

    def line(self, text: str = "", style: str | None = None) -> None:
        """Print one line, or several; `style` is rich's, such as `bold` or `red`."""
        text = "\n".join(map(printable, text.split("\n")))
        if self._rich is None:
            self._stream.write(text + "\n")
        else:
            self._rich.print(Text(text, style=style or ""))

    def json(self, value: Any, *, indent: int | None = 2) -> None:
        """Print `value` as JSON; `indent=None` puts it on one line."""
        text = printable_json(json.dumps(value, ensure_ascii=False, indent=indent))
        try:
            text.encode(self._stream.encoding or "utf-8")
        except UnicodeEncodeError:  # the stream's own escapes are not JSON's
            text = json.dumps(value, indent=indent)
        if self._rich is None or indent is None:
            self._stream.write(text + "\n")
        else:
            # rich.json would write the text anew, with characters that are not printable
            self._rich.print(JSONHighlighter()(text))

    def table(self, headers: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
        """Print a table as wide as the terminal at most; in a pipe nothing is shortened or wrapped."""
        self.stream(headers)(rows)

    def stream(self, headers: Sequence[str]) -> Callable[[Sequence[Sequence[str]]], None]:
        """Return a function that prints rows of a table as they come, the first time below `headers`."""
        table = Table(headers, self.width)
        is_begun = False

        def add(rows: Sequence[Sequence[str]]) -> None:
            nonlocal is_begun
            if not is_begun:
                self.line(table.header(rows), "bold")
                is_begun = True
            self._lines(table.lines(rows))

        return add

    def facts(
        self,
        rows: Sequence[tuple[str, str]],
        *,
        indent: int = 2,
        whole: bool = False,
        style: str | None = None,
    ) -> None:
        """Print names and texts, the texts in one column; `whole` shortens no word."""
        self._lines(facts(rows, self.width, indent=indent, whole=whole), style)

    def packed(
        self, items: Collection[str], *, indent: int = 4, gap: str = "  ", style: str | None = None
    ) -> None:
        """Print `items` in as few lines as they fit into."""
        self._lines(packed(items, self.width, indent=indent, gap=gap), style)

    @property
    def width(self) -> int | None:
        """The columns of the terminal, None elsewhere."""
        return None if self._rich is None else self._rich.width

    def _lines(self, lines: Iterable[str], style: str | None = None) -> None:
        for line in lines:
            self.line(line, style)


@contextlib.contextmanager
def progress_bar(label: str, total: int) -> Iterator[Callable[[int], None]]:
    """Provide a function that advances a bar on standard error by a count; the bar disappears at the end."""
    if not sys.stderr.isatty():
        yield lambda _: None
        return
    with Progress(console=RichConsole(stderr=True), transient=True) as bar:
        task = bar.add_task(label, total=total)
        yield lambda count: bar.advance(task, count)


def with_progress(label: str, items: Iterable[Item], total: int) -> Generator[Item, None, None]:
    """Yield `items` while a progress bar shows how many of `total` have come."""
    with progress_bar(label, total) as advance:
        for item in items:
            advance(1)
            yield item


def in_batches(items: Iterable[Item], size: int) -> Iterator[Sequence[Item]]:
    """Yield `items` in lists of at most `size`, for a table whose rows come one by one."""
    left = iter(items)
    while batch := list(islice(left, size)):
        yield batch


class Report:
    """Prints rows as they come, and counts them by outcome and by what was written."""

    def __init__(self, output: str, *, summary_only: bool) -> None:
        self.console = Console()
        self.totals: Counter[str] = Counter()
        self._written: Counter[str] = Counter()
        self._output = output
        self._summary_only = summary_only

    def add(self, row: Mapping[str, Any], place: str = "", *, prints: bool = True) -> None:
        """Count a row, and print it unless only the totals are asked for."""
        self.totals[row["outcome"]] += 1
        if row.get("action"):
            self._written[row["action"]] += 1
        if self._summary_only or not prints:
            return
        if self._output == "json":
            self.console.json({"place": place, **row} if place else row, indent=None)
        else:
            print_row(self.console, place, row)

    def print_totals(self, *, writes: bool = False, if_empty: str) -> None:
        """Print the totals, with `writes` also what was written."""
        written = dict(sorted(self._written.items())) if writes else {}
        if self._output == "json":
            totals = {name: count for name, count in sorted(self.totals.items()) if count}
            self.console.json(
                {"totals": totals, **({"written": written} if writes else {})}, indent=None
            )
            return
        self.console.line(totals_line(self.totals) or if_empty)
        if written:
            self.console.line(f"written: {totals_line(written)}")

    def exit_code(self, *, detailed_exit_code: bool) -> int:
        """Return 1 after a refusal or a conflict, 4 for changes where that was asked for, else 0."""
        if self.totals["refused"] or self.totals["conflict"]:
            return INVALID_EVENT
        return CHANGES if detailed_exit_code and any(self.totals[one] for one in _CHANGING) else 0


def changes_of(plan: Plan) -> list[dict[str, Any]]:
    """Return what a plan changes, target by target, without the bridge's own bookkeeping."""
    return [
        {"operation": verb, "target": target, "before": before, "after": after}
        for verb, target, before, after in visible_changes(plan)
    ]


def refused(error: BridgeError) -> dict[str, Any]:
    """Return what a row says of a refused event."""
    row = {"outcome": "refused", "reason": error.code, "message": error.message}
    return {**row, "violations": [asdict(violation) for violation in error.violations]}


def print_row(console: Console, place: str, row: Mapping[str, Any]) -> None:
    """Print a row for people: a headline, broken rules, and a table of changes."""
    who = f" user {row['user']}" if row.get("user") and place else ""
    reason = f" ({row['reason']})" if row.get("reason") else ""
    headline = f"{place or row.get('user')}: {row['outcome']}{who}{reason}"
    console.line(headline, style=_STYLES.get(row["outcome"]))
    if row.get("message"):
        console.line(f"  {row['message']}")
    for violation in row.get("violations", []):
        console.line(f"  {violation_text(Violation(**violation))}")
    if row.get("changes"):
        rows = [
            (f"  {c['operation']}", c["target"], cell(c["before"]), cell(c["after"]))
            for c in row["changes"]
        ]
        console.table(("  what", "target", "now", "then"), rows)


def totals_line(totals: Mapping[str, int]) -> str:
    """Return how many there are of each outcome, by name."""
    counted = sorted((name, count) for name, count in totals.items() if count)
    return ", ".join(f"{count} {name}" for name, count in counted)


def cell(value: Any) -> str:
    """Return a value of JSON as people read it in a table."""
    if value is None:
        return "-"
    if isinstance(value, list | tuple):
        return ", ".join(map(cell, value))
    return str(value).lower() if isinstance(value, bool) else str(value)
