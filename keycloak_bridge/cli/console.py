"""Print for people on a terminal and for programs in a pipe; colours, boxes and progress bars only on a terminal."""

import contextlib
import json
import os
import sys
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from typing import Any, TextIO, TypeVar

from rich.cells import cell_len
from rich.console import Console as RichConsole
from rich.json import JSON
from rich.progress import Progress
from rich.table import Table
from rich.text import Text

_GAP = "  "

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
        """Print one line; `style` is rich's, such as `bold` or `red`."""
        if self._rich is None:
            self._stream.write(text + "\n")
        else:
            self._rich.print(Text(text, style=style or ""))

    def json(self, value: Any, *, indent: int | None = 2) -> None:
        """Print `value` as JSON; `indent=None` puts it on one line."""
        text = json.dumps(value, ensure_ascii=False, indent=indent)
        if self._rich is None or indent is None:
            self._stream.write(text + "\n")
        else:
            self._rich.print(JSON(text, indent=indent, ensure_ascii=False))

    def table(self, headers: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
        """Print a table; in a pipe its columns are aligned with spaces and nothing is cut or wrapped."""
        if self._rich is None:
            widths = _widths(headers, rows)
            for row in (headers, *rows):
                self._stream.write(_aligned(row, widths) + "\n")
            return
        table = Table(box=None, pad_edge=False)
        for header in headers:
            table.add_column(Text(header), overflow="fold")
        for row in rows:
            table.add_row(*(Text(cell) for cell in row))
        self._rich.print(table, soft_wrap=False)


def _widths(headers: Sequence[str], rows: Sequence[Sequence[str]]) -> list[int]:
    return [max(map(cell_len, column)) for column in zip(headers, *rows, strict=True)]


def _aligned(row: Sequence[str], widths: Sequence[int]) -> str:
    cells = (cell + " " * (width - cell_len(cell)) for cell, width in zip(row, widths, strict=True))
    return _GAP.join(cells).rstrip()


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
